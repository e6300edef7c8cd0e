"""Requests that come at once share a transaction, and each gets the answer it would get alone."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from app import order_rows, orders, payments, placing
from app.db import SHORT_WAITS, Database
from app.errors import (
    Forbidden,
    IdempotencyKeyReused,
    NotEnoughStock,
    NotPayable,
    OrderNotFound,
    PaymentInProgress,
    ProductNotFound,
)
from app.gathering import Gathering
from app.idempotency import Key
from app.orders import Placing
from app.payments import Paying
from app.placing import Basket
from app.times import now
from app.tokens import USER, Identity
from app.transaction import Transaction
from tests.integration.hops import ANN, add_product, order_of

BOB = Identity(uuid4(), "bob@example.com", USER)


@pytest.fixture
async def counted(database: Database) -> Any:
    """A database, and the transactions that it has committed."""
    watched = Database(database._dsn, 4)
    committed: list[Transaction] = []

    async def note(transaction: Transaction) -> None:
        committed.append(transaction)

    watched.after_commit.append(note)
    await watched.open()
    yield watched, committed
    await watched.close()


@pytest.fixture
async def hasty(database: Database) -> AsyncIterator[Database]:
    """A pool for what is done together, which waits for no lock for long."""
    hasty = Database(database._dsn, 2, "hasty", **SHORT_WAITS)
    await hasty.open()
    yield hasty
    await hasty.close()


def placing_in(database: Database) -> Gathering[Placing, Any]:
    return Gathering(partial(orders.place_together, database), partial(orders.place, database))


def paying_in(database: Database) -> Gathering[Paying, Any]:
    return Gathering(
        partial(payments.request_payments, database), partial(payments.request_payment, database)
    )


def key_of(request: bytes) -> Key:
    """A key that nobody has used, for that request."""
    return Key(ANN.id, str(uuid4()), request, now() + timedelta(hours=1))


async def done(gathering: Gathering[Any, Any], *wanted: Any) -> list[Any]:
    """What comes of requests that arrive at once."""
    work = (gathering.do(one) for one in wanted)
    return list(await asyncio.gather(*work, return_exceptions=True))


async def test_many_orders_that_come_at_once_are_placed_in_one_transaction(counted: Any) -> None:
    database, committed = counted
    basket = Basket({await add_product(database): 1, await add_product(database): 2}, None)
    committed.clear()
    wanted = [Placing(ANN, basket, key_of(b"%d" % n), f"request {n}") for n in range(50)]
    answers = await done(placing_in(database), *wanted)
    assert len(committed) == 1
    stored = [(await orders.get(database, UUID(order["id"])))[1] for order, _ in answers]
    assert [order for order, _ in answers] == stored
    assert not any(duplicate for _, duplicate in answers)
    again = [await orders.place(database, one) for one in wanted]
    assert again == [(order, True) for order, _ in answers]


async def test_one_bad_order_fails_none_of_its_neighbours(database: Database) -> None:
    product, scarce = await add_product(database), await add_product(database, 1)
    good = Placing(ANN, Basket({product: 1}, None), None, "good")
    unknown = replace_basket(good, {uuid4(): 1})
    too_much = replace_basket(good, {scarce: 2})
    repeated = good._replace(key=key_of(b"first"))
    first, *_ = await done(placing_in(database), repeated)
    other_body = repeated._replace(key=replace(repeated.key, fingerprint=b"second"))
    answers = await done(
        placing_in(database), *[good] * 4, unknown, repeated, too_much, other_body, good
    )
    kinds = [type(answer) for answer in answers]
    assert kinds == [tuple] * 4 + [
        *(ProductNotFound, tuple, NotEnoughStock, IdempotencyKeyReused, tuple)
    ]
    assert answers[5] == (first[0], True)
    assert len({answer[0]["id"] for answer in answers if isinstance(answer, tuple)}) == 6


async def test_a_refused_order_leaves_its_key_free(database: Database) -> None:
    product = await add_product(database)
    good = Placing(ANN, Basket({product: 1}, None), None, "good")
    refused = replace_basket(good, {uuid4(): 1})._replace(key=key_of(b"x"))
    answers = await done(placing_in(database), *[good] * 3, refused, good)
    assert isinstance(answers[3], ProductNotFound)
    order, is_duplicate = await orders.place(database, good._replace(key=refused.key))
    assert not is_duplicate
    assert order["id"]


async def test_of_one_key_that_comes_at_once_one_order_is_made(database: Database) -> None:
    one = Placing(ANN, Basket({await add_product(database): 1}, None), key_of(b"x"), "one")
    answers = await done(placing_in(database), *[one] * 50)
    assert len({order["id"] for order, _ in answers}) == 1
    assert [duplicate for _, duplicate in answers].count(False) == 1


async def test_each_payment_gets_its_own_answer(database: Database) -> None:
    basket = Basket({await add_product(database): 1}, None)
    placed = await done(placing_in(database), *[Placing(ANN, basket, None, "x")] * 6)
    ids = [UUID(order["id"]) for order, _ in placed]
    pay = [Paying(ANN, id, None, None, None, "pay") for id in ids]
    keyed = pay[3]._replace(key=key_of(b"pay"))
    foreign, unknown = pay[4]._replace(user=BOB), pay[0]._replace(order_id=uuid4())
    answers = await done(
        paying_in(database), *pay[:3], keyed, foreign, unknown, keyed, pay[0], pay[5]
    )
    assert [answer["id"] for answer in answers[:4]] == [str(id) for id in ids[:4]]
    assert [type(answer) for answer in answers[4:6]] == [Forbidden, OrderNotFound]
    assert answers[6] == answers[3]
    assert isinstance(answers[7], PaymentInProgress)
    assert answers[8]["id"] == str(ids[5])
    async with database.connection() as connection:
        query = "select count(*) from payments where order_id = any($1)"
        assert await connection.fetchval(query, ids) == 5


async def test_a_locked_order_holds_up_no_other(database: Database, hasty: Database) -> None:
    basket = Basket({await add_product(database): 1}, None)
    placed = await done(placing_in(database), *[Placing(ANN, basket, None, "x")] * 5)
    pay = [Paying(ANN, UUID(order["id"]), None, None, None, "pay") for order, _ in placed]
    payings = Gathering(
        partial(payments.request_payments, hasty), partial(payments.request_payment, database)
    )
    async with database.connection() as connection, connection.transaction():
        await connection.execute("select from orders where id = $1 for update", pay[2].order_id)
        # Alone, the database waits for two seconds.
        async with asyncio.timeout(3.5):
            answers = await done(payings, *pay)
    kinds = [type(answer) for answer in answers]
    assert kinds == [dict, dict, asyncpg.LockNotAvailableError, dict, dict]


def replace_basket(wanted: Placing, pieces: dict[UUID, int]) -> Placing:
    """The same, for something else."""
    return wanted._replace(basket=Basket(pieces, None))


def first(function: Any, and_then: Any) -> Any:
    """The function, behind whose first result something else happens before its caller goes on."""
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
    placed = await done(placing_in(database), *[Placing(ANN, basket, None, "x")] * 3)
    ids = [UUID(order["id"]) for order, _ in placed]

    async def cancel() -> None:
        await orders.request_cancel(database, ANN, ids[1], None, None, None, "cancel")
        # Sequences are unique in each month's partition: at its turn, only the version tells.
        async with database.connection() as connection:
            move = (
                "update outbox set occurred_at = occurred_at - interval '1 y' where order_id = $1"
            )
            await connection.execute(move, ids[1])

    monkeypatch.setattr(order_rows, "read_whole", first(order_rows.read_whole, cancel))
    pay = [Paying(ANN, id, None, None, key_of(b"pay"), "pay") for id in ids]
    answers = await done(paying_in(database), *pay)
    assert [type(answer) for answer in answers] == [dict, NotPayable, dict]
    async with database.connection() as connection:
        query = "select order_id from payments where order_id = any($1)"
        paid = {row["order_id"] for row in await connection.fetch(query, ids)}
    assert paid == {ids[0], ids[2]}


async def test_a_key_that_is_used_behind_the_read_makes_no_second_order(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Placing(ANN, Basket({await add_product(database): 1}, None), key_of(b"x"), "one")
    other = one._replace(key=key_of(b"y"))
    made: list[Any] = []

    async def place() -> None:
        made.append(await orders.place(database, one))

    monkeypatch.setattr(placing, "catalogue", first(placing.catalogue, place))
    again, different = await done(placing_in(database), one, other)
    assert again == (made[0][0], True)
    assert different[0]["id"] != made[0][0]["id"]
    assert not different[1]


async def paying_of_a_new_order(database: Database) -> Paying:
    """A request to pay, all of it."""
    order_id = await order_of(database, {await add_product(database): 1})
    return Paying(ANN, order_id, None, None, None, "pay")


async def waits_for_a_lock(database: Database) -> None:
    """Until a connection of a hasty pool waits for a lock."""
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
    """The statement has begun, and goes on with the row that it waited for."""
    patient = Database(database._dsn, 2, "hasty", lock_timeout="10s")
    await patient.open()
    pay = await paying_of_a_new_order(database)
    async with database.connection() as connection:
        async with connection.transaction():
            await connection.execute(
                "select from orders where id = $1 for no key update", pay.order_id
            )
            paying = asyncio.create_task(payments._request_those(patient, [pay], [None], [None]))
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
    """Both are about to write the order's next event: the payment gives up, and is done alone."""
    pay = await paying_of_a_new_order(database)
    payings = Gathering(
        partial(payments.request_payments, hasty), partial(payments.request_payment, database)
    )
    async with database.transaction("a cancel") as transaction:
        held, _ = await order_rows.lock_one(transaction, pay.order_id)
        paying = asyncio.create_task(done(payings, pay))
        await waits_for_a_lock(database)
        orders.cancel(transaction, held, "first", "cancel")
    assert [type(answer) for answer in await paying] == [NotPayable]
