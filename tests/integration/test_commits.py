"""Batches of several agents share a transaction, and none delays or fails another."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from time import time
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY

from agents import commits, loop
from agents.commits import Batch
from agents.gate import Gate
from app import orders, payments, stock
from app.db.pools import FEW_ROWS, SHORT_WAITS, Database
from app.db.transaction import Transaction
from app.errors import UnknownOrder
from app.handlers import Handle, Handler
from app.kafka.decoding import read_event
from app.order_locks import Reads
from app.parked import State, page, park
from app.topics import (
    Event,
    OrderCancelled,
    OrderPaid,
    PaymentFailed,
    PaymentRequested,
    PaymentSucceeded,
)
from tests.chaos.waiting import until
from tests.integration.hops import ANN, cancel, deliver, new_order, request_payment, status, topics
from tests.integration.test_parked import message

WAITING = """
    select exists (
        select from pg_stat_activity
        where application_name = 'pipeline' and wait_event_type = 'Lock'
    )
"""

READS = {
    payments.capture: Reads.MONEY,
    orders.mark_paid: Reads.MONEY,
    orders.cancel_unpaid: Reads.MONEY,
    stock.reserve: Reads.STOCK,
}
MOVE_STOCK = (stock.reserve, stock.release)
LEFT = "select available from products join order_items on id = product_id where order_id = $1"


class Commits:
    """The orders of each committed transaction, shared or alone."""

    def __init__(self) -> None:
        self.shared: list[set[UUID]] = []
        self.alone: list[set[UUID]] = []


async def waits(database: Database) -> bool:
    """Return whether a batch that is committed alone waits for a lock."""
    async with database.connection() as connection:
        return bool(await connection.fetchval(WAITING))


async def note(found: list[set[UUID]], transaction: Transaction) -> None:
    found.append(set(transaction.orders))


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let statements of pools that are opened from here on take half a second at most."""
    monkeypatch.setattr("app.db.pools.COMMAND_SECONDS", 0.5)


@pytest.fixture
async def committed(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Commits]:
    """The commits of the agents' own pools; a batch that is committed alone waits for locks."""
    committed = Commits()
    shared = Database(database._dsn, 2, "shared", **FEW_ROWS, **SHORT_WAITS)
    pipeline = Database(database._dsn, 4, "pipeline", **FEW_ROWS, lock_timeout="60s")
    shared.after_commit.append(partial(note, committed.shared))
    pipeline.after_commit.append(partial(note, committed.alone))
    for pool in (shared, pipeline):
        await pool.open()
    monkeypatch.setattr(commits, "agent_batch_pool", shared)
    monkeypatch.setattr(commits, "agent_pool", pipeline)
    yield committed
    for pool in (shared, pipeline):
        await pool.close()


def batch(handle: Handle, *events: Event, offset: int = 0) -> Batch:
    """Return the batch that the handler's agent would get."""
    name = f"{handle.__name__}-{uuid4()}"  # type: ignore[attr-defined]
    messages = [
        message(event, UUID(event.orderId), offset + n, name)  # type: ignore[arg-type]
        for n, event in enumerate(events)
    ]
    reads, moves_stock = READS.get(handle, Reads.ORDERS), handle in MOVE_STOCK
    return Batch(Handler(name, type(events[0]), handle, reads, moves_stock), Gate(name), messages)


async def concurrently(*batches: Batch) -> list[Any]:
    """Return the results of batches that are ready at once."""
    work = (commits.commits.do(one) for one in batches)
    return list(await asyncio.gather(*work, return_exceptions=True))


async def last(database: Database, order_id: UUID, record: type[Event]) -> Any:
    """Return the order's last event of that type."""
    async with database.connection() as connection:
        query = "select payload from outbox where order_id = $1 and topic = $2 order by id desc"
        payload = await connection.fetchval(query, order_id, record.topic_name)
    return read_event(record, payload.encode())


async def asked(database: Database) -> tuple[UUID, PaymentRequested]:
    """Return an order whose payment is requested, and its event."""
    order_id = await new_order(database)
    await request_payment(database, order_id)
    return order_id, await last(database, order_id, PaymentRequested)


async def captured(database: Database) -> tuple[UUID, PaymentSucceeded]:
    """Return an order whose payment is captured, and its event."""
    order_id, _ = await asked(database)
    await deliver(database, payments.capture, PaymentRequested, order_id)
    return order_id, await last(database, order_id, PaymentSucceeded)


async def test_batches_of_two_handlers_are_one_transaction(
    database: Database, committed: Commits
) -> None:
    (one, requested), (two, succeeded) = await asked(database), await captured(database)
    capture, mark_paid = batch(payments.capture, requested), batch(orders.mark_paid, succeeded)
    assert await concurrently(capture, mark_paid) == [capture.messages, mark_paid.messages]
    assert (committed.shared, committed.alone) == ([{one, two}], [])
    assert (await topics(database, one))[-1] == "payment.succeeded"
    assert (await topics(database, two))[-1] == "order.paid"
    assert await status(database, two) == "PAID"


async def test_a_batch_that_comes_alone_waits_for_no_company(
    database: Database, committed: Commits
) -> None:
    one, requested = await asked(database)
    capture = batch(payments.capture, requested)
    assert await concurrently(capture) == [capture.messages]
    assert (committed.shared, committed.alone) == ([{one}], [])


async def test_of_two_batches_of_one_order_the_second_sees_the_money_that_the_first_captured(
    database: Database, committed: Commits
) -> None:
    order_id = await new_order(database)
    too_little = payments.PayOrder(ANN, order_id, 1, None, None, "a request")
    await payments.request_payment(database, too_little)
    await deliver(database, payments.capture, PaymentRequested, order_id)
    await request_payment(database, order_id)
    capture = batch(payments.capture, await last(database, order_id, PaymentRequested))
    cancel = batch(orders.cancel_unpaid, await last(database, order_id, PaymentFailed))
    assert await concurrently(capture, cancel) == [capture.messages, cancel.messages]
    assert (committed.shared, committed.alone) == ([{order_id}], [{order_id}])
    assert (await topics(database, order_id))[-1] == "payment.succeeded"
    assert await status(database, order_id) == "CREATED"


async def test_of_two_batches_of_one_order_neither_is_lost(
    database: Database, committed: Commits
) -> None:
    order_id, succeeded = await captured(database)
    stamp = {**succeeded.asdict(), "eventId": str(uuid4())}
    shared = ("eventId", "orderId", "sequence", "occurredAt", "requestId", "paymentId", "currency")
    paid = OrderPaid(
        userId=str(ANN.id), totalAmount=succeeded.amount, **{name: stamp[name] for name in shared}
    )
    mark_paid, reserve = batch(orders.mark_paid, succeeded), batch(stock.reserve, paid)
    other, requested = await asked(database)
    capture = batch(payments.capture, requested)
    answers = await concurrently(mark_paid, capture, reserve)
    assert answers == [mark_paid.messages, capture.messages, reserve.messages]
    assert (committed.shared, committed.alone) == ([{order_id, other}], [{order_id}])
    assert (await topics(database, order_id))[-2:] == ["order.paid", "inventory.reserved"]
    assert (await topics(database, other))[-1] == "payment.succeeded"


async def test_an_unknown_order_keeps_no_neighbour_from_committing(
    database: Database, committed: Commits
) -> None:
    (one, requested), (two, succeeded) = await asked(database), await captured(database)
    capture, mark_paid = batch(payments.capture, requested), batch(orders.mark_paid, succeeded)
    unknown = batch(orders.mark_paid, succeeded.derive(orderId=str(uuid4())))
    answers = await concurrently(capture, unknown, mark_paid)
    assert isinstance(answers[1], UnknownOrder)
    assert answers[::2] == [capture.messages, mark_paid.messages]
    assert committed.shared == []
    assert sorted(committed.alone, key=sorted) == sorted([{one}, {two}], key=sorted)
    assert (await topics(database, one)).count("payment.succeeded") == 1
    assert (await topics(database, two)).count("order.paid") == 1


async def test_a_bug_of_one_handler_keeps_no_neighbour_from_committing(
    database: Database, committed: Commits
) -> None:
    async def crash(transaction: Transaction, events: Sequence[Event]) -> None:
        raise RuntimeError("a bug")

    (one, requested), (two, succeeded) = await asked(database), await captured(database)
    capture, mark_paid = batch(payments.capture, requested), batch(orders.mark_paid, succeeded)
    answers = await concurrently(capture, batch(crash, succeeded), mark_paid)
    assert isinstance(answers[1], RuntimeError)
    assert answers[::2] == [capture.messages, mark_paid.messages]
    assert (await topics(database, one)).count("payment.succeeded") == 1
    assert (await topics(database, two)).count("order.paid") == 1


async def test_what_takes_too_long_together_is_done_in_parts_and_holds_up_no_neighbour(
    hurried: None, database: Database, committed: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[list[UUID]] = []

    async def toil(transaction: Transaction, events: Sequence[Event]) -> None:
        await transaction.connection.execute("select pg_sleep($1)", 0.2 * len(events))
        transaction.notices.append(partial(done.append, [event.order_id for event in events]))

    acknowledged: list[Any] = []

    async def acknowledge(message: Any) -> None:
        acknowledged.append(message)

    _, succeeded = await captured(database)
    many = [succeeded.derive(orderId=str(uuid4())) for _ in range(4)]
    one, requested = await asked(database)
    slow, capture = batch(toil, *many), batch(payments.capture, requested)
    for each in (*slow.messages, *capture.messages):
        each.message.timestamp = time()
    monkeypatch.setattr(loop, "is_marked", lambda *_: False)
    monkeypatch.setattr(loop, "mark", lambda *_: None)
    both = (loop.Loop(one.handler, acknowledge).process(one.messages) for one in (slow, capture))
    await asyncio.gather(*both)
    assert [order_id for part in done for order_id in part] == [one.order_id for one in many]
    assert [one for one in acknowledged if one not in capture.messages] == slow.messages
    assert (await topics(database, one))[-1] == "payment.succeeded"
    assert {one} in committed.alone, "it does not share a transaction with the slow one again"


async def test_what_an_operator_has_parked_is_not_handled_when_it_comes(
    database: Database, committed: Commits
) -> None:
    one, requested = await asked(database)
    capture = batch(payments.capture, requested)
    (message,) = capture.messages
    assert await park(database, message.message, capture.handler.name, "it crashes", 0, one)
    assert await park(database, message.message, capture.handler.name, "once more", 0, one) is None
    assert await concurrently(capture) == [[]]
    (held, _), *more = await page(database, None, one, None, None, 10)
    assert (held["state"], held["offset"], more) == (State.PARKED, message.message.offset, [])


async def test_an_order_that_somebody_has_locked_holds_up_no_neighbour(
    database: Database, committed: Commits
) -> None:
    (one, requested), (two, succeeded) = await asked(database), await captured(database)
    capture, mark_paid = batch(payments.capture, requested), batch(orders.mark_paid, succeeded)
    async with database.connection() as connection, connection.transaction():
        await connection.execute("select from orders where id = $1 for update", one)
        held_up = asyncio.ensure_future(commits.commits.do(capture))
        assert await commits.commits.do(mark_paid) == mark_paid.messages
        assert await status(database, two) == "PAID"
        assert not held_up.done()
    assert await held_up == capture.messages
    assert (committed.shared, committed.alone) == ([], [{two}, {one}])
    assert (await topics(database, one))[-1] == "payment.succeeded"


async def test_an_order_that_somebody_has_locked_holds_up_nobody_who_comes_later(
    database: Database, committed: Commits
) -> None:
    (one, requested), (two, succeeded) = await asked(database), await captured(database)
    capture = batch(payments.capture, requested)
    async with database.connection() as connection, connection.transaction():
        await connection.execute("select from orders where id = $1 for update", one)
        held_up = asyncio.ensure_future(commits.commits.do(capture))
        await until(partial(waits, database), "it waits for the lock")
        async with asyncio.timeout(4):
            await commits.commits.do(batch(orders.mark_paid, succeeded))
        assert not held_up.done()
    await held_up
    assert await status(database, two) == "PAID"
    assert (await topics(database, one))[-1] == "payment.succeeded"


async def test_what_comes_behind_a_parked_message_waits_while_a_neighbour_commits(
    database: Database, committed: Commits
) -> None:
    (one, requested), (two, succeeded) = await asked(database), await captured(database)
    bad, behind = batch(payments.capture, requested, requested, offset=5).messages
    behind_it = batch(payments.capture, requested, offset=6)
    mark_paid = batch(orders.mark_paid, succeeded)
    await park(database, bad.message, behind_it.handler.name, "it was refused", 1, one)
    assert await concurrently(behind_it, mark_paid) == [[], mark_paid.messages]
    assert (committed.shared, committed.alone) == ([{one, two}], [])
    assert "payment.succeeded" not in await topics(database, one)
    waiting = await page(database, None, one, State.WAITING, None, 10)
    assert [told["offset"] for told, _ in waiting] == [behind.message.offset]
    counted = {"handler": behind_it.handler.name}
    assert REGISTRY.get_sample_value("orders_held_back_total", counted) == 1


async def test_who_waits_for_a_parked_message_holds_no_order(
    database: Database, committed: Commits
) -> None:
    """A replay locks the parked message and then the order; the reverse order would deadlock."""
    one, requested = await asked(database)
    capture = batch(payments.capture, requested)
    await park(
        database, capture.messages[0].message, capture.handler.name, "it was refused", 1, one
    )
    async with database.connection() as connection, connection.transaction():
        await connection.execute("select from parked_messages where order_id = $1 for update", one)
        held_up = asyncio.ensure_future(commits.commits.do(capture))
        await until(partial(waits, database), "it waits for the message")
        await connection.execute("select from orders where id = $1 for update nowait", one)
    assert await held_up == []


async def paid(database: Database) -> tuple[UUID, OrderPaid]:
    """Return a paid order, and its event."""
    order_id, _ = await captured(database)
    await deliver(database, orders.mark_paid, PaymentSucceeded, order_id)
    return order_id, await last(database, order_id, OrderPaid)


async def test_what_is_set_aside_is_read_and_written_with_a_neighbour(
    database: Database, committed: Commits
) -> None:
    (one, requested), (two, is_paid) = await asked(database), await paid(database)
    reserve, capture = batch(stock.reserve, is_paid, is_paid), batch(payments.capture, requested)
    assert await concurrently(reserve, capture) == [reserve.messages, capture.messages]
    assert (committed.shared, committed.alone) == ([{one, two}], [])
    assert (await topics(database, two))[-1] == "inventory.reserved"
    async with database.connection() as connection:
        assert await connection.fetchval(LEFT, two) == 9


async def test_two_batches_of_inventory_do_not_share(
    database: Database, committed: Commits
) -> None:
    """A reservation must not decide before the other batch has released its stock."""
    one, is_paid = await paid(database)
    two = await new_order(database)
    await cancel(database, two)
    first = batch(stock.reserve, is_paid)
    second = batch(stock.release, await last(database, two, OrderCancelled))
    assert await concurrently(first, second) == [first.messages, second.messages]
    assert (committed.shared, committed.alone) == ([{one}], [{two}])
