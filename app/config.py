"""Settings, read once from the environment (else from a `.env` file) and frozen."""

import os
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from limits import parse
from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.config_values import (
    UNSET_IF_BLANK,
    Brokers,
    Currency,
    Host,
    Limit,
    NotEmpty,
    Origins,
    PostgresUrl,
    RedisUrl,
    Secret,
    Secrets,
    Sender,
    SmtpUrl,
    WebUrl,
)

ORDER_TTL_SECONDS = 1_800


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

    db_url: PostgresUrl | None = None
    db_host: Host = "localhost"
    db_port: int = Field(5432, ge=1, le=65535)
    db_name: str | None = None
    db_user: str | None = None
    db_password: str | None = None
    db_pool_size: int = Field(12, ge=4)

    redis_url: RedisUrl = "redis://localhost:6379/0"

    kafka_brokers: Brokers
    kafka_partitions: int = Field(4, ge=1)
    kafka_replication: int = Field(1, ge=1)
    kafka_fetch_wait_ms: int = Field(100, ge=1)
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_ca_file: NotEmpty | None = None
    kafka_certificate_file: NotEmpty | None = None
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_sasl_username: NotEmpty | None = None
    kafka_sasl_password: NotEmpty | None = Field(None, repr=False)

    faust_pages: bool = False
    shutdown_grace_seconds: int = Field(30, ge=1, le=3600)

    jwt_secret: Secret | None = Field(
        None, validation_alias=AliasChoices("JWT_SECRET", "SECRET_KEY"), repr=False
    )
    jwt_other_secret: Secret | None = Field(None, repr=False)
    jwt_public_key: NotEmpty | None = None
    jwt_jwks_file: NotEmpty | None = None
    jwt_issuer: NotEmpty | None = None
    jwt_audience: NotEmpty | None = None
    jwt_ttl_seconds: int = Field(3600, ge=1, le=315_360_000)
    auth_local: bool = True
    auth_rate_limit: Limit = parse("300/minute")
    login_failures_limit: Limit = parse("10/15 minutes")

    trusted_proxies: int = Field(0, ge=0)
    cors_origins: Origins = []

    smtp_url: SmtpUrl | None = None
    mail_from: Sender = "orders@localhost"

    order_ttl_seconds: int = Field(ORDER_TTL_SECONDS, ge=1, le=31_536_000)
    outbox_retention_days: int = Field(90, ge=1, le=36_500)
    idempotency_ttl_seconds: int = Field(86_400, ge=1, le=315_360_000)

    internal_payments: Annotated[bool | None, UNSET_IF_BLANK] = None
    currency: Currency = Field("pln", validation_alias="STRIPE_CURRENCY")
    stripe_secret_key: Annotated[str | None, UNSET_IF_BLANK] = Field(
        None, pattern="^[!-~]+$", repr=False
    )
    stripe_webhook_secrets: Secrets = Field(
        (), validation_alias="STRIPE_WEBHOOK_SECRET", repr=False
    )
    stripe_success_url: Annotated[WebUrl | None, UNSET_IF_BLANK] = None
    stripe_cancel_url: Annotated[WebUrl | None, UNSET_IF_BLANK] = None
    stripe_api_base: WebUrl = "https://api.stripe.com"

    @property
    def stripe_is_live(self) -> bool:
        """Whether Stripe moves real money for the key: https://docs.stripe.com/keys."""
        return "_live_" in (self.stripe_secret_key or "")

    @property
    def pays_internally(self) -> bool:
        """Whether the internal provider, which moves no money, pays orders that have a price."""
        asked = self.internal_payments
        return not self.stripe_is_live if asked is None else asked

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
