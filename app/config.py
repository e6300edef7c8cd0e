"""Settings, read once from the environment (else from a `.env` file) and frozen."""

import os
import re
from email.message import EmailMessage
from ipaddress import IPv6Address
from typing import Annotated, Any, Literal, cast
from urllib.parse import parse_qs, unquote, urlsplit

from iso4217 import Currency
from limits import RateLimitItem, parse_many
from pydantic import AliasChoices, BeforeValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
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
        *("any", "primary", "standby", "read-write", "read-only", "prefer-standby"),
    ),
}
"""Options of DB_URL, and their values; others would be rejected at each connection."""

ORDER_TTL_SECONDS = 1_800

ORIGIN = r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?"
USUAL_PORT = r"(http://.*:80|https://.*:443)"
"""An origin with the port that browsers leave out."""
WEB_ADDRESS = r"^https?://\S+$"


def _limit(value: object) -> object:
    """Parse one limit, like `10/15 minutes`. Raises ValueError."""
    if not isinstance(value, str):
        return value
    first, *more = parse_many(value)
    # `limits` reads 0 minutes as one.
    if more or first.amount < 1 or re.search(r"(/|per)\s*0+\s*[a-z]", value.lower()):
        raise ValueError("must be one limit of at least 1, like 10/15 minutes")
    return first


Limit = Annotated[RateLimitItem, BeforeValidator(_limit)]


class Settings(BaseSettings):
    """The settings, named after the environment variables in lower case."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        arbitrary_types_allowed=True,
    )

    port: int = Field(8080, ge=1, le=65535)
    log_level: str = Field("INFO", pattern="^(?i:debug|info|warn|warning|error|critical)$")
    log_format: Literal["text", "json"] = "text"

    db_url: str | None = Field(None, pattern="^postgres(ql)?://")
    db_host: str = "localhost"
    db_port: int = Field(5432, ge=1, le=65535)
    db_name: str | None = None
    db_user: str | None = None
    db_password: str | None = None
    db_pool_size: int = Field(12, ge=4)

    redis_url: str = Field("redis://localhost:6379/0", pattern="^(rediss?|unix)://")

    kafka_brokers: Annotated[list[str], NoDecode] = Field(min_length=1)
    kafka_partitions: int = Field(4, ge=1)
    kafka_replication: int = Field(1, ge=1)
    kafka_fetch_wait_ms: int = Field(100, ge=1)
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_ca_file: str | None = Field(None, min_length=1)
    kafka_certificate_file: str | None = Field(None, min_length=1)
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_sasl_username: str | None = Field(None, min_length=1)
    kafka_sasl_password: str | None = Field(None, min_length=1, repr=False)

    faust_pages: bool = False
    shutdown_grace_seconds: int = Field(30, ge=1, le=3600)

    jwt_secret: str | None = Field(
        None, validation_alias=AliasChoices("JWT_SECRET", "SECRET_KEY"), repr=False
    )
    jwt_other_secret: str | None = Field(None, repr=False)
    jwt_public_key: str | None = Field(None, min_length=1)
    jwt_jwks_file: str | None = Field(None, min_length=1)
    jwt_issuer: str | None = Field(None, min_length=1)
    jwt_audience: str | None = Field(None, min_length=1)
    jwt_ttl_seconds: int = Field(3600, ge=1, le=315_360_000)
    auth_local: bool = True
    auth_rate_limit: Limit = parse_many("300/minute")[0]
    login_failures_limit: Limit = parse_many("10/15 minutes")[0]

    trusted_proxies: int = Field(0, ge=0)
    cors_origins: Annotated[list[str], NoDecode] = []

    smtp_url: str | None = Field(None, pattern=r"^smtps?://[^/?#]+:[0-9]+/?$")
    mail_from: str = "orders@localhost"

    order_ttl_seconds: int = Field(ORDER_TTL_SECONDS, ge=1, le=31_536_000)
    outbox_retention_days: int = Field(90, ge=1, le=36_500)
    idempotency_ttl_seconds: int = Field(86_400, ge=1, le=315_360_000)

    currency: str = Field("pln", validation_alias="STRIPE_CURRENCY")
    stripe_secret_key: str | None = Field(None, pattern="^[!-~]+$", repr=False)
    stripe_webhook_secrets: Annotated[tuple[str, ...], NoDecode] = Field(
        (), validation_alias="STRIPE_WEBHOOK_SECRET", repr=False
    )
    stripe_success_url: str | None = Field(None, pattern=WEB_ADDRESS)
    stripe_cancel_url: str | None = Field(None, pattern=WEB_ADDRESS)
    stripe_api_base: str = Field("https://api.stripe.com", pattern=WEB_ADDRESS)

    @field_validator("stripe_secret_key", "stripe_success_url", "stripe_cancel_url", mode="before")
    @classmethod
    def blank_is_unset(cls, value: object) -> object:
        """Treat an empty value as unset: `STRIPE_SECRET_KEY=` means not to use Stripe."""
        return None if value == "" else value

    @field_validator("kafka_brokers", "cors_origins", "stripe_webhook_secrets", mode="before")
    @classmethod
    def split_list(cls, value: object) -> object:
        """Split `one,other` into a list. Raises ValueError."""
        if isinstance(value, str):
            parts = [part.strip() for part in value.split(",")]
            if value.strip() and not any(parts):
                raise ValueError("must not be commas alone")
            return [part for part in parts if part]
        return value

    @field_validator("kafka_brokers")
    @classmethod
    def brokers_have_ports(cls, value: list[str]) -> list[str]:
        """Require `host:port` for each broker. Raises ValueError."""
        if any(re.fullmatch(r"[^:/?#@\s]+:[0-9]+", broker) is None for broker in value):
            raise ValueError("must be host:port, several separated by commas")
        for broker in value:
            _check_hosts_and_ports(f"kafka://{broker}")
        return value

    @field_validator("db_host")
    @classmethod
    def host_is_possible(cls, value: str) -> str:
        """Refuse a host name that cannot have an address. Raises ValueError."""
        return _checked_host(value)

    @field_validator("jwt_secret", "jwt_other_secret")
    @classmethod
    def secret_is_one(cls, value: str | None) -> str | None:
        """Require at least 32 bytes (RFC 7518, section 3.2), and no PEM text. Raises ValueError."""
        if value is not None and len(value.encode()) < 32:
            raise ValueError("must have at least 32 bytes")
        if value is not None and "-----BEGIN" in value:
            raise ValueError("must be a secret, not a PEM text")
        return value

    @field_validator("cors_origins")
    @classmethod
    def origins_are_origins(cls, value: list[str]) -> list[str]:
        """Require origins as browsers send them (scheme, host, optional port), or `*` for all.

        Raises ValueError.
        """
        if value != ["*"] and any(re.fullmatch(ORIGIN, origin) is None for origin in value):
            raise ValueError("must be `*`, or origins like https://shop.example.com")
        for origin in value:
            _check_hosts_and_ports(origin)
            if re.fullmatch(USUAL_PORT, origin):
                raise ValueError(f"must have {origin} without its port, which browsers leave out")
        return value

    @field_validator("stripe_success_url", "stripe_cancel_url", "stripe_api_base")
    @classmethod
    def address_has_a_host(cls, value: str | None) -> str | None:
        """Require a host. Raises ValueError."""
        if value is not None and not urlsplit(value).hostname:
            raise ValueError("must have a host, like https://shop.example.com/paid")
        return value

    @field_validator(
        "db_url",
        "redis_url",
        "smtp_url",
        "stripe_success_url",
        "stripe_cancel_url",
        "stripe_api_base",
    )
    @classmethod
    def host_and_port_are_possible(cls, value: str | None) -> str | None:
        """Refuse a host like `a..b`, which cannot have an address, and a port outside 1 to 65535.

        Raises ValueError.
        """
        if value is not None:
            _check_hosts_and_ports(value)
        return value

    @field_validator("db_url")
    @classmethod
    def options_are_possible(cls, value: str | None) -> str | None:
        """Refuse an option with a value that DB_OPTIONS does not have. Raises ValueError."""
        asked = parse_qs(urlsplit(value or "").query)
        for option, known in DB_OPTIONS.items():
            if not set(asked.get(option, ())) <= set(known):
                raise ValueError(f"must have a {option} of {', '.join(known)}")
        return value

    @field_validator("redis_url")
    @classmethod
    def redis_can_be_asked(cls, value: str) -> str:
        """Require a URL that redis-py understands, without REDIS_SET_HERE. Raises ValueError."""
        url = urlsplit(value)
        if url.scheme != "unix" and re.fullmatch("/?|/[0-9]+", url.path) is None:
            raise ValueError("must have a number as its database, or none")
        if taken := REDIS_SET_HERE & parse_qs(url.query).keys():
            raise ValueError(f"must leave {', '.join(sorted(taken))} out")
        try:
            _ = cast(Any, ConnectionPool.from_url(value)).make_connection()
        except Exception as error:
            raise ValueError(f"must be a URL that redis-py understands: {error}") from error
        return value

    @field_validator("smtp_url")
    @classmethod
    def login_is_ascii(cls, value: str | None) -> str | None:
        """Require an ASCII user and password: smtplib takes no others. Raises ValueError."""
        login, _, _ = urlsplit(value or "").netloc.rpartition("@")
        if not unquote(login).isascii():
            raise ValueError("must have a user and a password of ASCII characters alone")
        return value

    @field_validator("mail_from")
    @classmethod
    def sender_is_an_address(cls, value: str) -> str:
        """Require one address, with a display name or without. Raises ValueError."""
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

    @field_validator("currency")
    @classmethod
    def currency_has_two_decimals(cls, value: str) -> str:
        """Return the code in upper case. Raises ValueError if its minor unit is not a hundredth."""
        known = {currency.code: currency.exponent for currency in Currency}
        code = value.upper()
        if known.get(code) != 2 or code in FIFTHS:
            raise ValueError("must be an ISO 4217 currency with two decimals")
        return code

    @property
    def stripe_is_live(self) -> bool:
        """Whether Stripe moves real money for the key: https://docs.stripe.com/keys."""
        return "_live_" in (self.stripe_secret_key or "")

    @property
    def checkout_return_urls(self) -> tuple[str, str]:
        """The URLs to which Stripe sends the customer after paying, and after leaving."""
        page = f"http://localhost:{self.port}/swagger-ui/index.html"
        return self.stripe_success_url or page, self.stripe_cancel_url or page

    @property
    def database_dsn(self) -> dict[str, str | int | None]:
        """Connection arguments for asyncpg, from DB_URL or, without it, from DB_HOST etc."""
        if self.db_url:
            # What the URL says of it counts, not the service's own choice.
            asked = parse_qs(urlsplit(self.db_url).query).get("target_session_attrs")
            return {"dsn": self.db_url, **({"target_session_attrs": asked[0]} if asked else {})}
        return {
            "host": self.db_host,
            "port": self.db_port,
            "database": self.db_name,
            "user": self.db_user,
            "password": self.db_password,
        }


def _checked_host(host: str) -> str:
    """Return the host or socket folder. Raises ValueError if the host cannot have an address."""
    if not host.startswith("/"):
        try:
            host.encode("idna")
            if re.search(r"[\s,:/?#@]", host):  # no name has one of these
                IPv6Address(host)
        except ValueError as error:
            raise ValueError("must have a host that can have an address") from error
    return host


def _check_hosts_and_ports(url: str) -> None:
    """Raise ValueError if a host of the URL cannot have an address, or a port is invalid.

    A URL of PostgreSQL may have several hosts, separated by commas.
    """
    places = urlsplit(url).netloc.rpartition("@")[2].split(",")
    for place in places:
        parts = urlsplit(f"//{place}")
        if not parts.hostname and len(places) > 1:
            raise ValueError("must have a host on each side of a comma")
        _checked_host(unquote(parts.hostname or ""))
        try:
            port = parts.port
        except ValueError:
            port = 0
        # The port is not quoted: it is part of the password if that has one of these characters.
        if port == 0:
            raise ValueError("must have a port of 1 to 65535, and `/?#` of a password escaped")


def load_settings() -> Settings:
    """Load the settings, or exit with one line that names each bad variable, or the file."""
    try:
        settings = Settings(**_without_db_url_of_file())
    except ValidationError as error:
        raise SystemExit(_one_line(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f".env: must be a file of UTF-8 that can be read ({error})") from None
    if not settings.db_url and not (settings.db_name and settings.db_user):
        raise SystemExit("DB_URL: set it, or DB_NAME and DB_USER (and DB_PASSWORD, DB_HOST)")
    if not (settings.jwt_secret or settings.jwt_public_key or settings.jwt_jwks_file):
        raise SystemExit("JWT_SECRET: set it, or JWT_PUBLIC_KEY or JWT_JWKS_FILE")
    if settings.jwt_other_secret and not settings.jwt_secret:
        raise SystemExit("JWT_SECRET: set it, since JWT_OTHER_SECRET signs no tokens")
    if settings.auth_local and not settings.jwt_secret:
        raise SystemExit("AUTH_LOCAL: must be false, since without JWT_SECRET no token is issued")
    return settings


def _without_db_url_of_file() -> dict[str, Any]:
    """Return what makes DB_HOST etc. of the environment override DB_URL of the `.env` file."""
    named = {name.upper() for name in os.environ}
    parts = named & {"DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD"}
    return {"db_url": None} if parts and "DB_URL" not in named else {}


def _one_line(error: ValidationError) -> str:
    names = {"JWT_SECRET": "JWT_SECRET (or SECRET_KEY)"}
    messages = [(str(problem["loc"][0]).upper(), problem["msg"]) for problem in error.errors()]
    line = "; ".join(f"{names.get(name, name)}: {problem}" for name, problem in messages)
    return " ".join(line.split())  # a message may quote a value of several lines
