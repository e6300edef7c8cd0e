"""Tokens are trusted for their signature, never for what they say of it."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest

from app.errors import Unauthorized
from app.times import now
from app.tokens import Identity, Tokens

SECRET = "s" * 48
TOKENS = Tokens(SECRET, 60)


def signed(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    usual = {"sub": str(uuid4()), "exp": now() + timedelta(minutes=1)}
    given = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    return jwt.encode(given, secret if algorithm != "none" else None, algorithm)


def test_a_token_speaks_for_whom_it_was_issued() -> None:
    ann = Identity(uuid4(), "ann@example.com", "ADMIN")
    assert TOKENS.read(TOKENS.issue(ann)) == ann


def test_the_user_is_userid_else_sub() -> None:
    one, other = uuid4(), uuid4()
    assert TOKENS.read(signed(sub=str(one))).id == one
    assert TOKENS.read(signed(sub=str(one), userId=str(other))).id == other


def test_an_audience_that_was_not_configured_is_not_checked() -> None:
    one = uuid4()
    assert TOKENS.read(signed(sub=str(one), aud="another service")).id == one


def test_without_a_role_or_email_it_is_a_plain_user() -> None:
    identity = TOKENS.read(signed(role="ROOT"))
    assert (identity.role, identity.email) == ("USER", None)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        signed(secret="t" * 32),
        signed(algorithm="none"),
        signed(algorithm="HS384"),
        signed(exp=now() - timedelta(seconds=6)),
        signed(exp=None),
        signed(sub="ann"),
        signed(sub=None),
    ],
)
def test_any_other_token_is_refused(token: str) -> None:
    with pytest.raises(Unauthorized):
        TOKENS.read(token)
