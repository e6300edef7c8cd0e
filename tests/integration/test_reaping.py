"""Idempotency-Keys are forgotten once their time is over."""

from uuid import uuid4

import pytest

from app import background
from app.db import Database
from app.queries import sql

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
