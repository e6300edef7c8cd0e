"""Bearer tokens that another identity provider issues with the shared secret."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt

from tests.conftest import SECRET


def in_an_hour() -> datetime:
    """When the tokens of these tests expire."""
    return datetime.now(UTC) + timedelta(hours=1)


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """A valid customer's token but for the `claims` given; a claim of None is left out."""
    usual = {"userId": str(uuid4()), "role": "USER", "exp": in_an_hour()}
    told = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    return jwt.encode(told, secret, algorithm)
