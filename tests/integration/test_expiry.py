"""An order that is not paid by its deadline is cancelled once, by the first worker to see it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from app import background, expiry, orders, payments
from app.db.pools import Database
from app.db.queries import sql
from app.expiry import RETRY_AFTER, expire_due
from app.resilience.quarantine import Quarantine
from app.times import now
from app.topics import PaymentRequested, PaymentSucceeded
from tests.integration.hops import (
    add_product,
    cancel,
    deliver,
    new_order,
    order_of,
    pay,
    request_payment,
    status,
    topics,
)


@pytest.fixture(autouse=True)
async def no_other_deadlines(database: Database) -> None:
    """Remove deadlines of other tests."""
    async with database.connection() as connection:
        await connection.execute("delete from order_deadlines")


async def deadline(database: Database, order_id: UUID) -> datetime | None:
    async with database.connection() as connection:
        due_at: datetime | None = await connection.fetchval(
            "select due_at from order_deadlines where order_id = $1", order_id
        )
    return due_at


def after_the_deadline() -> datetime:
    return now() + timedelta(seconds=1801)


async def test_an_unpaid_order_expires_at_its_deadline_and_not_before(database: Database) -> None:
    order_id = await new_order(database)
    assert await expire_due(database, now() + timedelta(seconds=1700)) == 0
    assert await expire_due(database, after_the_deadline()) == 1
    _, order = await orders.get(database, order_id)
    assert (order["status"], order["cancelReason"]) == ("CANCELLED", "expired")
    assert await topics(database, order_id) == ["order.created", "order.cancelled"]
    assert await deadline(database, order_id) is None
    assert await expire_due(database, after_the_deadline()) == 0


async def test_an_order_that_went_on_keeps_its_state_and_loses_its_deadline(
    database: Database,
) -> None:
    product = await add_product(database)
    paid, gone = await order_of(database, {product: 1}), await order_of(database, {product: 1})
    await pay(database, paid)
    await cancel(database, gone)
    assert await expire_due(database, after_the_deadline()) == 2
    assert [await status(database, id) for id in (paid, gone)] == ["PAID", "CANCELLED"]
    assert (await topics(database, gone)).count("order.cancelled") == 1
    assert await deadline(database, paid) is None


async def test_a_payment_under_way_is_waited_for(database: Database) -> None:
    order_id = await new_order(database)
    await request_payment(database, order_id)
    late = after_the_deadline()
    await expire_due(database, late)
    assert (await status(database, order_id), await deadline(database, order_id)) == (
        "CREATED",
        late + RETRY_AFTER,
    )
    await deliver(database, payments.capture, PaymentRequested, order_id)
    await expire_due(database, late + RETRY_AFTER)
    assert await status(database, order_id) == "CREATED", "the money is captured already"
    await deliver(database, orders.mark_paid, PaymentSucceeded, order_id)
    await expire_due(database, late + 2 * RETRY_AFTER)
    assert (await status(database, order_id), await deadline(database, order_id)) == ("PAID", None)


async def test_a_deadline_that_was_moved_counts_as_it_stands(database: Database) -> None:
    order_id = await new_order(database)
    later = after_the_deadline() + timedelta(hours=1)
    async with database.connection() as connection:
        await connection.execute(
            "update order_deadlines set due_at = $2 where order_id = $1", order_id, later
        )
    assert await expire_due(database, after_the_deadline()) == 0
    assert await expire_due(database, later) == 1


async def test_a_deadline_that_moves_while_its_order_is_being_locked_counts_as_it_stands(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_ids = [await new_order(database) for _ in range(2)]
    await request_payment(database, order_ids[0])
    later = after_the_deadline() + timedelta(hours=1)

    async def lock_and_move(connection: Any, **wanted: Any) -> Any:
        locked = await sql.lock_due_orders(connection, **wanted)
        async with database.connection() as other:
            await other.execute("update order_deadlines set due_at = $1", later)
        return locked

    queries = SimpleNamespace(lock_due_orders=lock_and_move, settle_deadlines=sql.settle_deadlines)
    monkeypatch.setattr(expiry, "sql", queries)
    assert await expire_due(database, after_the_deadline()) == 2
    for order_id in order_ids:
        assert await status(database, order_id) == "CREATED"
        assert await deadline(database, order_id) == later


async def test_an_order_that_someone_works_on_is_left_for_later(database: Database) -> None:
    order_id = await new_order(database)
    async with database.connection() as connection, connection.transaction():
        await connection.fetch("select from orders where id = $1 for no key update", order_id)
        assert await expire_due(database, after_the_deadline()) == 0
    assert await expire_due(database, after_the_deadline()) == 1


async def test_many_workers_expire_each_order_once(database: Database) -> None:
    product = await add_product(database, quantity=100)
    order_ids = [await order_of(database, {product: 1}) for _ in range(40)]
    late = after_the_deadline()

    async def work() -> int:
        done = 0
        while taken := await expire_due(database, late, 3):
            done += taken
        return done

    assert sum(await asyncio.gather(*(work() for _ in range(4)))) >= len(order_ids)
    while await expire_due(database, late):
        pass
    for order_id in order_ids:
        assert await topics(database, order_id) == ["order.created", "order.cancelled"]


@pytest.fixture
async def stuck(database: Database) -> AsyncIterator[UUID]:
    """An unpaid order that PostgreSQL lets nobody cancel; it is due before all others."""
    order_id = await new_order(database)
    async with database.connection() as connection:
        await connection.execute(
            "update order_deadlines set due_at = due_at - interval '1 min' where order_id = $1",
            order_id,
        )
        await connection.execute(
            "alter table orders add constraint stuck"
            f" check (id <> '{order_id}' or cancel_reason is null)"
        )
        yield order_id
        await connection.execute("alter table orders drop constraint if exists stuck")


async def test_an_order_that_postgres_refuses_to_cancel_holds_up_no_other(
    database: Database, stuck: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    product = await add_product(database)
    others = [await order_of(database, {product: 1}) for _ in range(3)]
    due_at = await deadline(database, stuck)
    assert await expire_due(database, after_the_deadline()) == 4
    for order_id in others:
        assert await topics(database, order_id) == ["order.created", "order.cancelled"]
    assert (await status(database, stuck), await deadline(database, stuck)) == ("CREATED", due_at)
    [told] = [record for record in caplog.records if record.name == "app.expiry"]
    assert str(stuck) in told.getMessage() and told.exc_info


async def test_orders_in_quarantine_fill_no_batch(database: Database, stuck: UUID) -> None:
    other, quarantine = await new_order(database), Quarantine()
    late = after_the_deadline()
    assert await expire_due(database, late, 1, quarantine) == 1, "a full batch: more may be due"
    assert quarantine.ids() == [stuck]
    assert await expire_due(database, late, 1, quarantine) == 1
    assert await status(database, other) == "CANCELLED"
    assert await expire_due(database, late, 1, quarantine) == 0


async def test_postgres_that_is_away_or_refuses_to_look_puts_no_order_into_quarantine(
    database: Database, hasty: Database
) -> None:
    order_id, quarantine = await new_order(database), Quarantine()
    async with database.connection() as connection, connection.transaction():
        await connection.execute("lock table outbox in exclusive mode")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await expire_due(hasty, after_the_deadline(), quarantine=quarantine)
    with pytest.raises(asyncpg.DataError, match="LIMIT must not be negative"):
        await expire_due(database, after_the_deadline(), -1, quarantine)
    assert await expire_due(database, after_the_deadline(), quarantine=quarantine) == 1
    assert await status(database, order_id) == "CANCELLED"


async def test_an_order_is_tried_again_after_its_quarantine(
    database: Database, stuck: UUID
) -> None:
    quarantine = Quarantine(seconds=0)
    assert await expire_due(database, after_the_deadline(), quarantine=quarantine) == 1
    assert await status(database, stuck) == "CREATED"
    async with database.connection() as connection:
        await connection.execute("alter table orders drop constraint stuck")
    assert await expire_due(database, after_the_deadline(), quarantine=quarantine) == 1
    assert await status(database, stuck) == "CANCELLED"


async def test_the_timer_goes_on_without_orders_in_quarantine(
    database: Database,
    stuck: UUID,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = await new_order(database)
    monkeypatch.setattr(background, "timer_pool", database)
    async with database.connection() as connection:
        await connection.execute("update order_deadlines set due_at = 'epoch'")
    for _ in range(2):
        await background._expire_orders()
    assert await status(database, other) == "CANCELLED"
    told = [record for record in caplog.records if str(stuck) in record.getMessage()]
    assert len(told) == 1, "it was tried once"
