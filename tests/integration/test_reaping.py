"""Idempotency-Keys and resolved messages are forgotten once their time is over."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from app import background, idempotency, placing
from app.db.pools import Database
from app.db.queries import sql
from app.parked import RETENTION
from app.placing import Basket
from app.times import now
from tests.integration.batchers import key_of
from tests.integration.hops import ANN, add_product

KEYS = """
    insert into idempotency_keys (user_id, key, fingerprint, answer, expires_at)
    select $1, n::text, '', '{}', now() + case when n = 3 then interval '1 hour' else '-1 s' end
    from generate_series(1, 6) n
"""


async def test_expired_keys_are_deleted_batch_by_batch(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "timer_pool", database)
    monkeypatch.setattr(background, "REAP_BATCH", 2)
    user = uuid4()
    async with database.connection() as connection:
        await connection.execute(KEYS, user)
        await background._reap("Expired keys", sql.reap_keys)
        left = await connection.fetch("select key from idempotency_keys where user_id = $1", user)
        expired = "select count(*) from idempotency_keys where expires_at <= now()"
        assert await connection.fetchval(expired) == 0
    assert [row["key"] for row in left] == ["3"]


async def test_an_expired_key_is_free_before_it_is_deleted(database: Database) -> None:
    key = replace(key_of(b"a request"), expires_at=now())
    basket = Basket({await add_product(database): 1}, None)
    command = placing.PlaceOrder(ANN, basket, key, "a request")
    first, _ = await placing.place(database, command)
    assert not await idempotency.recall(database, key)
    second, is_replayed = await placing.place(database, command)
    assert second["id"] != first["id"] and not is_replayed


RESOLVED = """
    insert into parked_messages (
        handler, topic, partition, "offset", order_id, state, holds_order, headers, error,
        attempts, parked_at, resolved_at
    )
    select handler, topic, partition, id, order_id, state, true, '{}', 'too large', 1,
        now() - interval '32 days', now() - interval '31 days'
    from outbox, (
        values ('relay', -1, 'DISCARDED'), ('relay', -2, 'REPLAYED'),
            ('stock.reserve', 0, 'DISCARDED')
    ) as resolved (handler, partition, state)
    where order_id = $1
"""
LEFT = "select handler, state from parked_messages where order_id = $1"


async def test_a_discarded_event_is_known_for_as_long_as_the_outbox_has_it(
    database: Database, order_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "timer_pool", database)
    async with database.connection() as connection:
        await connection.execute(RESOLVED, order_id)
        await background._reap("Resolved messages", sql.reap_parked, kept=RETENTION)
        [left] = await connection.fetch(LEFT, order_id)
        assert tuple(left) == ("relay", "DISCARDED")
        await connection.execute("delete from outbox where order_id = $1", order_id)
        await background._reap("Resolved messages", sql.reap_parked, kept=RETENTION)
        assert await connection.fetch(LEFT, order_id) == []
