"""Bearer tokens: JWT, RFC 7519, HS256."""

import base64
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from time import time
from typing import Any
from uuid import UUID, uuid4

import jwt

from app.errors import Unauthorized
from app.text import flaw
from app.times import now

ALGORITHM = "HS256"
USER, ADMIN = "USER", "ADMIN"
TOKENS_REMEMBERED = 4096
LEEWAY_SECONDS = 5
"""How far the clock of whoever issued a token may be off."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a valid token speaks for. `email` is None where the token has none."""

    id: UUID
    email: str | None
    role: str

    @property
    def is_admin(self) -> bool:
        """Whether the token carries the administrator's role."""
        return self.role == ADMIN


class Tokens:
    """Issues and reads tokens of one secret; the algorithm is fixed here, never by the token."""

    def __init__(self, secret: str, ttl_seconds: int) -> None:
        # Prepared once: PyJWT would examine a plain secret for PEM and DER at each use.
        encoded = base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")
        self._key = jwt.PyJWK({"kty": "oct", "k": encoded}, ALGORITHM)
        self.ttl_seconds = ttl_seconds
        # A client sends its token with each request; the signature need be checked once.
        self._verified = lru_cache(TOKENS_REMEMBERED)(self._verify)

    def issue(self, identity: Identity) -> str:
        """A token that speaks for `identity` for `ttl_seconds`."""
        moment = now()
        claims = {
            "sub": str(identity.id),
            "userId": str(identity.id),
            "email": identity.email,
            "role": identity.role,
            "iat": moment,
            "exp": moment + timedelta(seconds=self.ttl_seconds),
            "jti": str(uuid4()),
        }
        return jwt.encode(claims, self._key, ALGORITHM)

    def read(self, token: str) -> Identity:
        """Who the token speaks for. Raises Unauthorized when it is not valid."""
        identity, expires_at = self._verified(token)
        if expires_at + LEEWAY_SECONDS <= time():
            raise Unauthorized
        return identity

    def _verify(self, token: str) -> tuple[Identity, float]:
        try:
            claims = jwt.decode(
                token,
                self._key,
                [ALGORITHM],
                options={"require": ["exp"], "verify_aud": False},
                leeway=LEEWAY_SECONDS,
            )
            return _identity(claims), float(claims["exp"])
        except (jwt.InvalidTokenError, ValueError):
            raise Unauthorized from None


def _identity(claims: dict[str, Any]) -> Identity:
    """Raises ValueError when the user is not a UUID."""
    email = claims.get("email")
    return Identity(
        id=UUID(str(claims.get("userId") or claims.get("sub"))),
        email=email if isinstance(email, str) and not flaw(email) else None,
        role=ADMIN if claims.get("role") == ADMIN else USER,
    )
