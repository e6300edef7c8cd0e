"""Tokens are trusted for their signature, never for what they claim about it."""

import base64
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest

from app.errors import TokenExpired, Unauthorized
from app.identity.token_keys import TokenKeys, secret_key
from app.identity.tokens import Identity, Tokens
from app.times import now
from tests.unit.ids import MISWRITTEN_IDS

SECRET = "s" * 48
TOKENS = Tokens(TokenKeys(secret_key(SECRET)), 60)


def signed(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    usual = {"sub": str(uuid4()), "exp": now() + timedelta(minutes=1)}
    given = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    return jwt.encode(given, secret if algorithm != "none" else None, algorithm)


def odd(header: str) -> str:
    """Return an unsigned token of JSON that no library would write."""
    parts = (
        base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in (header, "{}")
    )
    return ".".join([*parts, ""])


def signed_text(payload: str) -> str:
    """Return a correctly signed token of this text."""
    return jwt.api_jws.encode(payload.encode(), SECRET, "HS256")


def test_a_token_speaks_for_whom_it_was_issued() -> None:
    ann = Identity(uuid4(), "ann@example.com", "ADMIN")
    assert TOKENS.read(TOKENS.issue(ann)) == ann


def test_the_user_is_userid_else_sub() -> None:
    one, other = uuid4(), uuid4()
    assert TOKENS.read(signed(sub=str(one))).id == one
    for sub in (str(one), "ann", 42, None):
        assert TOKENS.read(signed(sub=sub, userId=str(other), jti=7)).id == other


def test_a_user_s_id_may_be_in_either_case() -> None:
    one = uuid4()
    assert TOKENS.read(signed(sub=str(one).upper())).id == one


def test_an_audience_that_was_not_configured_is_not_checked() -> None:
    one = uuid4()
    assert TOKENS.read(signed(sub=str(one), aud="another service")).id == one


def test_a_moment_may_have_a_fraction() -> None:
    past, later = now().timestamp() - 0.5, now().timestamp() + 60.5
    assert TOKENS.read(signed(iat=past, nbf=past, exp=later)).until == later


def test_an_issuer_s_clock_may_be_ahead_by_less_than_the_leeway() -> None:
    later = now() + timedelta(seconds=3)
    TOKENS.read(signed(nbf=later, iat=later))


@pytest.mark.parametrize("seconds", [1, 3, 6])
def test_a_token_ends_with_its_expiry(seconds: int) -> None:
    with pytest.raises(TokenExpired):
        TOKENS.read(signed(exp=now() - timedelta(seconds=seconds)))


@pytest.mark.parametrize("email", ["ann\x00@example.com", "\ud800@example.com", 42])
def test_an_email_is_a_text_that_postgresql_can_store(email: object) -> None:
    assert TOKENS.read(signed(email=email)).email is None


def test_without_a_role_or_email_it_is_a_plain_user() -> None:
    identity = TOKENS.read(signed(role="ROOT"))
    assert (identity.role, identity.email) == ("USER", None)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        "\udcff.b.c",
        signed(secret="t" * 32),
        signed(algorithm="none"),
        signed(algorithm="HS384"),
        signed(exp=now() - timedelta(seconds=6)),
        signed(exp=None),
        signed(nbf=now() + timedelta(days=1)),
        signed(exp="9999999999"),
        signed(exp=[9999999999]),
        signed(nbf="0"),
        signed(nbf=False),
        signed(iat="0"),
        signed(iat=True),
        signed(sub="ann"),
        signed(sub=None),
        signed(userId=""),
        signed(userId=["00000000-0000-4000-8000-000000000000"]),
        *(signed(sub=id) for id in MISWRITTEN_IDS),
        odd('{"alg": ["HS256"]}'),
        odd('{"alg": "HS256", "kid": {}}'),
        odd("[" * 5000),
        signed_text("[" * 5000),
        signed_text(json.dumps({"sub": str(uuid4())})[:-1] + ', "exp": 1e999}'),
        signed(exp=10**400),
    ],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_any_other_token_is_refused(token: str) -> None:
    with pytest.raises(Unauthorized):
        TOKENS.read(token)


def test_a_token_that_was_read_before_ends_when_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    token = signed()
    TOKENS.read(token)
    later = (now() + timedelta(seconds=61)).timestamp()
    monkeypatch.setitem(Tokens.read.__globals__, "time", lambda: later)
    with pytest.raises(TokenExpired):
        TOKENS.read(token)


def test_that_a_token_has_expired_is_told_to_who_has_one_that_was_signed() -> None:
    late = now() - timedelta(minutes=1)
    with pytest.raises(TokenExpired):
        TOKENS.read(signed(exp=late))
    with pytest.raises(Unauthorized) as refused:
        TOKENS.read(signed(secret="t" * 32, exp=late))
    assert type(refused.value) is Unauthorized


def test_issuer_and_audience_are_issued_and_checked_where_they_are_configured() -> None:
    tokens = Tokens(
        TokenKeys(secret_key(SECRET)), 60, issuer="https://id.example.com", audience="orders"
    )
    ann = Identity(uuid4(), None, "USER")
    assert tokens.read(tokens.issue(ann)) == ann
    right = {"iss": "https://id.example.com", "aud": ["orders", "invoices"]}
    tokens.read(signed(**right))
    for wrong in ({"iss": "https://other.example.com"}, {"aud": "invoices"}):
        with pytest.raises(Unauthorized):
            tokens.read(signed(**{**right, **wrong}))
    for missing in right:
        with pytest.raises(Unauthorized):
            tokens.read(signed(**{**right, missing: None}))
