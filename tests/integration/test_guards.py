"""What is read without a lock changes before it is written: then the statement writes nothing."""

import asyncio
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from app import order_locks, orders, payments, placing
from app.db.batching import Batcher
from app.db.errors import AWAY
from app.db.pools import Database
from app.errors import NotPayable
from app.payments import PayOrder
from app.placing import Basket, PlaceOrder
from tests.integration.batchers import done, key_of, paying_in, placing_in
from tests.integration.hops import ANN, add_product, new_order


def first(function: Any, and_then: Any) -> Any:
    """Wrap the function so that `and_then` runs once, between its result and its caller."""
    due = [and_then]

    async def wrapped(*arguments: Any) -> Any:
        result = await function(*arguments)
        if due:
            await due.pop()()
        return result

    return wrapped


async def test_an_order_that_is_cancelled_behind_its_read_is_not_paid(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    basket = Basket({await add_product(database): 1}, None)
    placed = await done(placing_in(database), *[PlaceOrder(ANN, basket, None, "x")] * 3)
    ids = [UUID(order["id"]) for order, _ in placed]

    async def cancel() -> None:
        command = orders.CancelOrder(ANN, ids[1], None, None, None, "cancel")
        await orders.cancel_on_request(database, command)
        # Sequences are unique per monthly partition, so across months only the version decides.
        async with database.connection() as connection:
            move = (
                "update outbox set occurred_at = occurred_at - interval '1 y' where order_id = $1"
            )
            await connection.execute(move, ids[1])

    monkeypatch.setattr(order_locks, "read_whole", first(order_locks.read_whole, cancel))
    pay = [PayOrder(ANN, id, None, None, key_of(b"pay"), "pay") for id in ids]
    answers = await done(paying_in(database), *pay)
    assert [type(answer) for answer in answers] == [dict, NotPayable, dict]
    async with database.connection() as connection:
        query = "select order_id from payments where order_id = any($1)"
        paid = {row["order_id"] for row in await connection.fetch(query, ids)}
    assert paid == {ids[0], ids[2]}


async def test_a_key_that_is_used_behind_the_read_makes_no_second_order(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = PlaceOrder(ANN, Basket({await add_product(database): 1}, None), key_of(b"x"), "one")
    other = one._replace(key=key_of(b"y"))
    made: list[Any] = []

    async def place() -> None:
        made.append(await placing.place(database, one))

    monkeypatch.setattr(placing, "products_of", first(placing.products_of, place))
    again, different = await done(placing_in(database), one, other)
    assert again == (made[0][0], True)
    assert different[0]["id"] != made[0][0]["id"]
    assert not different[1]


async def paying_of_a_new_order(database: Database) -> PayOrder:
    """Return a request to pay the full total of a new order."""
    order_id = await new_order(database)
    return PayOrder(ANN, order_id, None, None, None, "pay")


async def waits_for_a_lock(database: Database) -> None:
    """Wait until a connection of the hasty pool waits for a lock."""
    query = """
        select count(*) from pg_stat_activity
        where application_name = 'hasty' and wait_event_type = 'Lock'
    """
    async with database.connection() as connection, asyncio.timeout(5):
        while not await connection.fetchval(query):
            await asyncio.sleep(0)


async def test_an_order_that_moves_while_its_payment_waits_for_it_is_not_paid(
    database: Database,
) -> None:
    """The statement has begun, and continues with the row that it waited for."""
    patient = Database(database._dsn, 2, "hasty", lock_timeout="10s")
    await patient.open()
    pay = await paying_of_a_new_order(database)
    async with database.connection() as connection:
        async with connection.transaction():
            await connection.execute(
                "select from orders where id = $1 for no key update", pay.order_id
            )
            paying = asyncio.create_task(payments._request_those(patient, [pay], [None]))
            await waits_for_a_lock(database)
            await connection.execute(
                "update orders set version = version + 1 where id = $1", pay.order_id
            )
        with pytest.raises(asyncpg.NotNullViolationError):
            await paying
        query = "select count(*) from payments where order_id = $1"
        assert await connection.fetchval(query, pay.order_id) == 0
    await patient.close()


async def test_whoever_holds_an_order_goes_ahead_of_a_payment_that_waits_for_it(
    database: Database, hasty: Database
) -> None:
    """Both want to write the order's next event: the payment gives up, and is retried alone."""
    pay = await paying_of_a_new_order(database)
    payings = Batcher(
        partial(payments.request_payments_together, hasty),
        partial(payments.request_payment, database),
    )
    async with database.transaction("a cancel") as transaction:
        held, _ = await order_locks.lock_one(transaction, pay.order_id)
        paying = asyncio.create_task(done(payings, pay))
        await waits_for_a_lock(database)
        orders.cancel(transaction, held, "first", "cancel")
    assert [type(answer) for answer in await paying] == [NotPayable]


async def test_a_database_that_lets_nobody_in_is_away(database: Database) -> None:
    nowhere = Database({**database._dsn, "database": "nowhere"}, 1)
    await nowhere.open()
    with pytest.raises(AWAY):
        async with nowhere.connection():
            pass
    await nowhere.close()
