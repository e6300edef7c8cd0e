"""Concurrent requests share a transaction, and each gets the answer it would get alone."""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from app import idempotency, orders, payments, placing
from app.db.batching import Batcher
from app.db.pools import Database
from app.db.transaction import Transaction
from app.errors import (
    Forbidden,
    IdempotencyKeyReused,
    NotEnoughStock,
    OrderNotFound,
    PaymentInProgress,
    ProductNotFound,
)
from app.identity.tokens import USER, Identity
from app.payments import PayOrder
from app.placing import Basket, PlaceOrder
from app.times import now
from tests.integration.batchers import done, key_of, paying_in, placing_in
from tests.integration.hops import ANN, add_product

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


async def test_many_orders_that_come_at_once_are_placed_in_one_transaction(counted: Any) -> None:
    database, committed = counted
    basket = Basket({await add_product(database): 1, await add_product(database): 2}, None)
    committed.clear()
    commands = [PlaceOrder(ANN, basket, key_of(b"%d" % n), f"request {n}") for n in range(50)]
    answers = await done(placing_in(database), *commands)
    assert len(committed) == 1
    stored = [(await orders.get(database, UUID(order["id"])))[1] for order, _ in answers]
    assert [order for order, _ in answers] == stored
    assert not any(duplicate for _, duplicate in answers)
    again = [await placing.place(database, one) for one in commands]
    assert again == [(order, True) for order, _ in answers]


async def test_one_bad_order_fails_none_of_its_neighbours(database: Database) -> None:
    product, scarce = await add_product(database), await add_product(database, 1)
    good = PlaceOrder(ANN, Basket({product: 1}, None), None, "good")
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


async def test_a_key_of_another_request_is_told_apart_from_its_neighbours(
    database: Database,
) -> None:
    basket = Basket({await add_product(database): 1}, None)
    one = PlaceOrder(ANN, basket, key_of(b"one"), "one")
    order, _ = await placing.place(database, one)
    keys = [one.key, replace(one.key, fingerprint=b"other"), key_of(b"unused")]
    recalled = await idempotency.recall_together(database, keys)
    assert recalled == [order, None, {}]


async def test_whether_a_key_was_answered_is_told_without_its_request(database: Database) -> None:
    basket = Basket({await add_product(database): 1}, None)
    answered, expired = key_of(b"answered"), replace(key_of(b"expired"), expires_at=now())
    for key in (answered, expired):
        await placing.place(database, PlaceOrder(ANN, basket, key, "one"))
    others = [(answered.user_id, "unused"), (BOB.id, answered.key)]
    asked = [answered.id, expired.id, *others]
    assert await idempotency.are_known(database, asked) == [True, False, False, False]
    assert await idempotency.is_known(database, answered.id)
    assert not await idempotency.is_known(database, expired.id)


async def test_a_refused_order_leaves_its_key_free(database: Database) -> None:
    product = await add_product(database)
    good = PlaceOrder(ANN, Basket({product: 1}, None), None, "good")
    refused = replace_basket(good, {uuid4(): 1})._replace(key=key_of(b"x"))
    answers = await done(placing_in(database), *[good] * 3, refused, good)
    assert isinstance(answers[3], ProductNotFound)
    order, is_duplicate = await placing.place(database, good._replace(key=refused.key))
    assert not is_duplicate
    assert order["id"]


async def test_of_one_key_that_comes_at_once_one_order_is_made(database: Database) -> None:
    one = PlaceOrder(ANN, Basket({await add_product(database): 1}, None), key_of(b"x"), "one")
    answers = await done(placing_in(database), *[one] * 50)
    assert len({order["id"] for order, _ in answers}) == 1
    assert [duplicate for _, duplicate in answers].count(False) == 1


async def test_each_payment_gets_its_own_answer(database: Database) -> None:
    basket = Basket({await add_product(database): 1}, None)
    placed = await done(placing_in(database), *[PlaceOrder(ANN, basket, None, "x")] * 6)
    ids = [UUID(order["id"]) for order, _ in placed]
    pay = [PayOrder(ANN, id, None, None, None, "pay") for id in ids]
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
    placed = await done(placing_in(database), *[PlaceOrder(ANN, basket, None, "x")] * 5)
    pay = [PayOrder(ANN, UUID(order["id"]), None, None, None, "pay") for order, _ in placed]
    payings = Batcher(
        partial(payments.request_payments_together, hasty),
        partial(payments.request_payment, database),
    )
    async with database.connection() as connection, connection.transaction():
        await connection.execute("select from orders where id = $1 for update", pay[2].order_id)
        # A single request waits two seconds for a lock.
        async with asyncio.timeout(3.5):
            answers = await done(payings, *pay)
    kinds = [type(answer) for answer in answers]
    assert kinds == [dict, dict, asyncpg.LockNotAvailableError, dict, dict]


def replace_basket(command: PlaceOrder, pieces: dict[UUID, int]) -> PlaceOrder:
    """Return the same request with another basket."""
    return command._replace(basket=Basket(pieces, None))
