"""Bearer tokens of another identity provider, signed with the shared secret or its own key."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from tests.conftest import SECRET


def in_an_hour() -> datetime:
    """Return the time at which the tokens of these tests expire."""
    return datetime.now(UTC) + timedelta(hours=1)


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """Return a customer's token, valid unless `claims` say otherwise; None removes a claim."""
    return jwt.encode(_told(claims), secret, algorithm)


def signed_by(key: EllipticCurvePrivateKey, algorithm: str, kid: str, **claims: Any) -> str:
    """Return a token of an issuer that has its own key."""
    return jwt.encode(_told(claims), key, algorithm, headers={"kid": kid})


def _told(claims: dict[str, Any]) -> dict[str, Any]:
    usual = {"userId": str(uuid4()), "role": "USER", "exp": in_an_hour()}
    return {name: value for name, value in {**usual, **claims}.items() if value is not None}
