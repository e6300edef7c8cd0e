"""Accounts: register, log in, and the command that makes an administrator."""

import asyncio
from unicodedata import normalize

import asyncpg
import email_validator
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from app.db.pools import Database
from app.db.queries import sql
from app.errors import EmailTaken, InvalidCredentials
from app.identity.tokens import USER, Identity
from app.ids import new_id
from app.metrics import FAILED_LOGINS
from app.resilience.bulkhead import Bulkhead
from app.resilience.rate_limits import RateLimits
from app.times import now

_hasher = PasswordHasher()
_NO_ONES_HASH = _hasher.hash("the password of an account that does not exist")
_bulkhead = Bulkhead(concurrent=2, waiting=20)
"""Argon2id takes 64 MiB and a core for each password, for some tenths of a second."""


# Domains of intranets and of test systems (RFC 6762, appendix G; RFC 6761, section 6).
email_validator.SPECIAL_USE_DOMAIN_NAMES = [
    name
    for name in email_validator.SPECIAL_USE_DOMAIN_NAMES
    if name not in ("local", "localhost", "test")
]


def canonical_email(text: str) -> str:
    """Return the address as accounts store it: normalised and in lower case.

    Raises ValueError if the text is anything but an address.
    """
    try:
        valid = email_validator.validate_email(text, check_deliverability=False)
    except email_validator.EmailNotValidError as error:
        raise ValueError(f"value is not a valid email address: {error}") from None
    # Some letters have one character only in lower case, as the Greek iota with two accents.
    return normalize("NFC", valid.normalized.lower())


async def _hash(password: str) -> str:
    async with _bulkhead.enter():
        return await asyncio.to_thread(_hasher.hash, password)


async def _matches(password_hash: str, password: str) -> bool:
    async with _bulkhead.enter():
        try:
            return await asyncio.to_thread(_hasher.verify, password_hash, password)
        except VerifyMismatchError:
            return False


async def register(database: Database, email: str, password: str) -> Identity:
    """Create an account for a canonical email. Raises EmailTaken, Overloaded."""
    identity = Identity(new_id(), email, USER)
    password_hash = await _hash(password)
    try:
        async with database.transaction("accounts.register") as transaction:
            await sql.insert_user(
                transaction.connection,
                id=identity.id,
                email=identity.email,
                password_hash=password_hash,
                role=identity.role,
                now=now(),
            )
    except asyncpg.UniqueViolationError:
        raise EmailTaken from None
    return identity


async def log_in(database: Database, limits: RateLimits, email: str, password: str) -> Identity:
    """Return the account with this email and password.

    An unknown email costs the same hashing as a known one, so that timing does not reveal accounts.
    Raises InvalidCredentials, TooManyRequests, Overloaded.
    """
    email = _looked_up(email)
    async with limits.login(email):
        async with database.connection() as connection:
            row = await sql.user_by_email(connection, email=email)
        if not await _matches(row["password_hash"] if row else _NO_ONES_HASH, password) or not row:
            FAILED_LOGINS.inc()
            raise InvalidCredentials
        return Identity(row["id"], row["email"], row["role"])


def _looked_up(email: str) -> str:
    """Return the canonical email. Other text is returned as it is, and matches no account."""
    try:
        return canonical_email(email)
    except ValueError:
        return email


async def make_admin(database: Database, email: str, password: str) -> None:
    """Create an administrator, or make an existing account one and set its password."""
    password_hash = await _hash(password)
    async with database.transaction("accounts.make_admin") as transaction:
        await sql.make_admin(
            transaction.connection,
            id=new_id(),
            email=email,
            password_hash=password_hash,
            now=now(),
        )
