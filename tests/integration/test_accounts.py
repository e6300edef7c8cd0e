"""What a login costs, and whose it is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from uuid import uuid4

import pytest

from app.db.pools import Database
from app.errors import InvalidCredentials
from app.identity import accounts
from app.identity.accounts import log_in, register
from app.resilience.rate_limits import RateLimits

PASSWORD = "correct horse"


class Unlimited(RateLimits):
    """Counts nothing."""

    def __init__(self) -> None:
        pass

    @asynccontextmanager
    async def login(self, email: str) -> AsyncIterator[None]:
        yield


@pytest.mark.parametrize("known", [True, False])
async def test_a_wrong_login_hashes_once_whether_or_not_there_is_such_an_account(
    database: Database, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """Argon2id takes all of the time; who measures it must not learn whose accounts there are."""
    email = f"ann-{uuid4()}@example.com"
    if known:
        await register(database, email, PASSWORD)
    hashes = []
    verify = accounts._hasher.verify
    monkeypatch.setattr(
        "app.identity.accounts._hasher",
        SimpleNamespace(verify=lambda *asked: hashes.append(asked) or verify(*asked)),
    )
    with pytest.raises(InvalidCredentials):
        await log_in(database, Unlimited(), email, "another password")
    [(hashed, tried)] = hashes
    assert tried == "another password"
    assert parameters(hashed) == parameters(accounts._NO_ONES_HASH)


def parameters(hashed: str) -> str:
    """What a hash costs: `$argon2id$v=19$m=65536,t=3,p=4`."""
    return hashed.rsplit("$", 2)[0]
