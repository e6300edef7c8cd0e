"""The values that settings may have: types whose checks raise ValueError and say what is wanted."""

import re
from email.message import EmailMessage
from ipaddress import IPv6Address
from typing import Annotated, Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from iso4217 import Currency as KnownCurrency
from limits import RateLimitItem, parse_many
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode
from redis.asyncio import ConnectionPool

FIFTHS = ("MGA", "MRU")
"""Currencies whose minor unit is a fifth, although ISO 4217 gives them two decimals."""

REDIS_SET_HERE = {
    "socket_timeout",
    "socket_connect_timeout",
    "decode_responses",
    "host",
    "port",
}
"""Options that a Redis URL must not have: they are set elsewhere, or would break the cache."""

DB_OPTIONS = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": (
        "any",
        "primary",
        "standby",
        "read-write",
        "read-only",
        "prefer-standby",
    ),
}
"""Options of DB_URL, and their values; others would be rejected at each connection."""

ORIGIN = r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?"
USUAL_PORT = r"(http://.*:80|https://.*:443)"
"""An origin with the port that browsers leave out."""


def _limit(value: object) -> object:
    if not isinstance(value, str):
        return value
    first, *more = parse_many(value)
    # `limits` reads 0 minutes as one.
    if more or first.amount < 1 or re.search(r"(/|per)\s*0+\s*[a-z]", value.lower()):
        raise ValueError("must be one limit of at least 1, like 10/15 minutes")
    return first


def _blank_is_unset(value: object) -> object:
    return None if value == "" else value


def _split(value: object) -> object:
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
        if value.strip() and not any(parts):
            raise ValueError("must not consist of commas alone")
        return [part for part in parts if part]
    return value


def _possible_host(host: str) -> str:
    """Refuse a host like `a..b`, which cannot have an address; a socket's folder is accepted."""
    if not host.startswith("/"):
        try:
            host.encode("idna")
            if re.search(r"[\s,:/?#@]", host):  # no name has one of these
                IPv6Address(host)
        except ValueError as error:
            raise ValueError("must have a host that can have an address") from error
    return host


def _possible_places(url: str) -> str:
    """Refuse a host that cannot have an address, and a port outside 1 to 65535.

    A URL of PostgreSQL may have several hosts, separated by commas.
    """
    places = urlsplit(url).netloc.rpartition("@")[2].split(",")
    for place in places:
        parts = urlsplit(f"//{place}")
        if not parts.hostname and len(places) > 1:
            raise ValueError("must have a host on each side of a comma")
        _possible_host(unquote(parts.hostname or ""))
        try:
            port = parts.port
        except ValueError:
            port = 0
        # The port is not quoted: it is part of the password if that has one of these characters.
        if port == 0:
            raise ValueError("must have a port of 1 to 65535, and `/?#` of a password escaped")
    return url


def _has_host(url: str) -> str:
    if not urlsplit(url).hostname:
        raise ValueError("must have a host, like https://shop.example.com/paid")
    return url


def _possible_options(url: str) -> str:
    asked = parse_qs(urlsplit(url).query)
    for option, known in DB_OPTIONS.items():
        if not set(asked.get(option, ())) <= set(known):
            raise ValueError(f"must have a {option} of {', '.join(known)}")
    return url


def _understood_by_redis(value: str) -> str:
    url = urlsplit(value)
    if url.scheme != "unix" and re.fullmatch("/?|/[0-9]+", url.path) is None:
        raise ValueError("must have a number as its database, or none")
    if taken := REDIS_SET_HERE & parse_qs(url.query).keys():
        raise ValueError(f"must not have {', '.join(sorted(taken))}")
    try:
        _ = cast(Any, ConnectionPool.from_url(value)).make_connection()
    except Exception as error:
        raise ValueError(f"must be a URL that redis-py understands: {error}") from error
    return value


def _ascii_login(url: str) -> str:
    """Require an ASCII user and password: smtplib takes no others."""
    login, _, _ = urlsplit(url).netloc.rpartition("@")
    if not unquote(login).isascii():
        raise ValueError("must have a user and a password of ASCII characters alone")
    return url


def _with_ports(brokers: list[str]) -> list[str]:
    if any(re.fullmatch(r"[^:/?#@\s]+:[0-9]+", broker) is None for broker in brokers):
        raise ValueError("must be host:port, several separated by commas")
    for broker in brokers:
        _possible_places(f"kafka://{broker}")
    return brokers


def _origins(origins: list[str]) -> list[str]:
    if origins != ["*"] and any(re.fullmatch(ORIGIN, origin) is None for origin in origins):
        raise ValueError("must be `*`, or origins like https://shop.example.com")
    for origin in origins:
        _possible_places(origin)
        if re.fullmatch(USUAL_PORT, origin):
            raise ValueError(f"must have {origin} without its port, which browsers leave out")
    return origins


def _secret(value: str) -> str:
    if len(value.encode()) < 32:
        raise ValueError("must have at least 32 bytes")
    if "-----BEGIN" in value:
        raise ValueError("must be a secret, not a PEM text")
    return value


def _sender(value: str) -> str:
    mail = EmailMessage()
    try:
        mail["From"] = value
        addresses = mail["From"].addresses
    except Exception:
        # Python's parser raises exceptions of many types.
        addresses = ()
    if len(addresses) != 1 or not (addresses[0].username and addresses[0].domain):
        raise ValueError("must be an address, like `Shop <shop@example.com>`")
    return value


def _two_decimals(value: str) -> str:
    known = {currency.code: currency.exponent for currency in KnownCurrency}
    code = value.upper()
    if known.get(code) != 2 or code in FIFTHS:
        raise ValueError("must be an ISO 4217 currency with two decimals")
    return code


NotEmpty = Annotated[str, Field(min_length=1)]
UNSET_IF_BLANK = BeforeValidator(_blank_is_unset)
POSSIBLE_PLACES = AfterValidator(_possible_places)

Limit = Annotated[RateLimitItem, BeforeValidator(_limit)]
"""One rate limit, like `10/15 minutes`."""
Host = Annotated[str, AfterValidator(_possible_host)]
"""A host name, an address, or the folder of a socket."""
Brokers = Annotated[
    list[str], NoDecode, BeforeValidator(_split), Field(min_length=1), AfterValidator(_with_ports)
]
"""`host:port` of each broker."""
Origins = Annotated[list[str], NoDecode, BeforeValidator(_split), AfterValidator(_origins)]
"""Origins as browsers send them (scheme, host, optional port), or `*` for all."""
Secrets = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Secrets, of which any may have signed."""
Secret = Annotated[str, AfterValidator(_secret)]
"""A secret of at least 32 bytes (RFC 7518, section 3.2), and no PEM text."""
PostgresUrl = Annotated[
    str, Field(pattern="^postgres(ql)?://"), POSSIBLE_PLACES, AfterValidator(_possible_options)
]
"""A URL of PostgreSQL whose options have values that DB_OPTIONS knows."""
RedisUrl = Annotated[
    str, Field(pattern="^(rediss?|unix)://"), POSSIBLE_PLACES, AfterValidator(_understood_by_redis)
]
"""A URL that redis-py understands, without REDIS_SET_HERE."""
SmtpUrl = Annotated[
    str,
    Field(pattern=r"^smtps?://[^/?#]+:[0-9]+/?$"),
    POSSIBLE_PLACES,
    AfterValidator(_ascii_login),
]
WebUrl = Annotated[
    str, Field(pattern=r"^https?://\S+$"), AfterValidator(_has_host), POSSIBLE_PLACES
]
Sender = Annotated[str, AfterValidator(_sender)]
"""One address of mail, with a display name or without."""
Currency = Annotated[str, AfterValidator(_two_decimals)]
"""The code of a currency whose minor unit is a hundredth, in upper case."""
