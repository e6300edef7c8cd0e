"""Bearer tokens: JWT (RFC 7519)."""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from math import inf
from time import time
from typing import Any
from uuid import UUID, uuid4

import jwt

from app.errors import Forbidden, TokenExpired, Unauthorized
from app.identity.token_keys import HS256, TokenKeys
from app.ids import read_id
from app.text import flaw
from app.times import now

USER, ADMIN = "USER", "ADMIN"
TOKENS_REMEMBERED = 4096
LEEWAY_SECONDS = 5
"""How far the clock of an issuer may be ahead of ours: a new token is valid at once."""
MOMENTS = ("exp", "nbf", "iat")
"""Claims that are numbers of seconds (RFC 7519, section 2); PyJWT takes texts and booleans too."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The user of a valid token. `email` is None if the token has none.

    `until` is when the token expires, in seconds of `time.time()`.
    """

    id: UUID
    email: str | None
    role: str
    until: float = field(default=inf, compare=False)

    @property
    def is_admin(self) -> bool:
        """Whether the user has the administrator's role."""
        return self.role == ADMIN

    def require_owner(self, owner: UUID) -> None:
        """Raise Forbidden unless the order's owner is this user."""
        if owner != self.id:
            raise Forbidden("You are not allowed to access this order")

    def require_owner_or_admin(self, owner: UUID) -> None:
        """Raise Forbidden unless the order's owner is this user, or the user an administrator."""
        if not self.is_admin:
            self.require_owner(owner)


class Tokens:
    """Issues tokens with the secret, and reads tokens signed by one of the keys.

    If `issuer` or `audience` is given, tokens are issued with it, and must have it to be valid.
    """

    def __init__(
        self,
        keys: TokenKeys,
        ttl_seconds: int,
        *,
        issuer: str | None = None,
        audience: str | None = None,
    ) -> None:
        self._keys = keys
        self.ttl_seconds = ttl_seconds
        self._issuer, self._audience = issuer, audience
        # A client sends the same token with each request; its signature is checked once.
        self._verified = lru_cache(TOKENS_REMEMBERED)(self._verify)

    def issue(self, identity: Identity) -> str:
        """Issue a token for `identity` that is valid for `ttl_seconds`. Needs the secret."""
        assert self._keys.secret, "without a secret, AUTH_LOCAL is false"
        moment = now()
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(identity.id),
            "userId": str(identity.id),
            "email": identity.email,
            "role": identity.role,
            "iat": moment,
            "exp": moment + timedelta(seconds=self.ttl_seconds),
            "jti": str(uuid4()),
        }
        told = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(told, self._keys.secret, HS256)

    def read(self, token: str) -> Identity:
        """Return the token's user. Raises Unauthorized, TokenExpired.

        Nothing but its signature is checked of a token that has expired.
        """
        identity = self._verified(token)
        if identity.until <= time():
            raise TokenExpired
        return identity

    def _verify(self, token: str) -> Identity:
        try:
            return _identity(self._claims(token))
        except jwt.ExpiredSignatureError:
            # Raised only after the signature was verified.
            raise TokenExpired from None
        except (jwt.PyJWTError, ValueError, OverflowError):
            # The last is raised for an `exp` of 400 digits.
            raise Unauthorized from None

    def _claims(self, token: str) -> dict[str, Any]:
        for key in self._keys.of(jwt.get_unverified_header(token)):
            with suppress(jwt.InvalidSignatureError):
                return self._decode(token, key)
        raise jwt.InvalidKeyError("none of the keys has signed this token")

    def _decode(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        return jwt.decode(
            token,
            key,
            [key.algorithm_name],
            options={
                "require": ["exp"],
                "verify_aud": self._audience is not None,
                # Who has a `userId` may have any `sub`; `_identity` looks at what it takes.
                "verify_sub": False,
                "verify_jti": False,
            },
            issuer=self._issuer,
            audience=self._audience,
            leeway=LEEWAY_SECONDS,
        )


def _identity(claims: dict[str, Any]) -> Identity:
    """Read the user from the claims. Raises ValueError for a bad id or moment."""
    if any(type(claims.get(name, 0)) not in (int, float) for name in MOMENTS):
        raise ValueError("exp, nbf and iat must be numbers")
    email, user = claims.get("email"), claims.get("userId")
    if user is None:
        user = claims.get("sub")
    if not isinstance(user, str):
        raise ValueError("the user must be a UUID")
    return Identity(
        id=read_id(user),
        email=email if isinstance(email, str) and not flaw(email) else None,
        role=ADMIN if claims.get("role") == ADMIN else USER,
        until=float(claims["exp"]),
    )
