"""Settings, read once from the environment (else from a `.env` file) and frozen."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

# ISO 4217 currencies whose minor unit is not a hundredth: amounts here always have two decimals.
NOT_TWO_DECIMALS = (
    "BHD BIF CLF CLP DJF GNF IQD ISK JOD JPY KMF KRW KWD LYD MGA MRU "
    "OMR PYG RWF TND UGX UYI UYW VND VUV XAF XOF XPF"
)


class Settings(BaseSettings):
    """What an operator can set. Names are the environment's, in lower case."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True
    )

    port: int = Field(8080, ge=1, le=65535)
    log_level: str = Field("INFO", pattern="^(?i:debug|info|warn|warning|error|critical)$")

    db_url: str | None = Field(None, pattern="^postgres(ql)?://")
    db_host: str = "localhost"
    db_port: int = 5432
    db_name: str | None = None
    db_user: str | None = None
    db_password: str | None = None
    db_pool_size: int = Field(12, ge=4)

    redis_url: str = Field("redis://localhost:6379/0", pattern="^(rediss?|unix)://")

    kafka_brokers: Annotated[list[str], NoDecode] = Field(min_length=1)
    kafka_partitions: int = Field(4, ge=1)
    kafka_replication: int = Field(1, ge=1)
    kafka_fetch_wait_ms: int = Field(100, ge=1)

    jwt_secret: str = Field(
        min_length=32, validation_alias=AliasChoices("JWT_SECRET", "SECRET_KEY")
    )
    jwt_ttl_seconds: int = Field(3600, ge=1)

    smtp_url: str | None = Field(None, pattern=r"^smtps?://[^/?#]+:[0-9]+/?$")
    mail_from: str = "orders@localhost"

    order_ttl_seconds: int = Field(1800, ge=1, le=31_536_000)
    idempotency_ttl_seconds: int = Field(86_400, ge=1)
    currency: str = Field("pln", validation_alias="STRIPE_CURRENCY")

    @field_validator("kafka_brokers", mode="before")
    @classmethod
    def split_brokers(cls, value: object) -> object:
        """`host:port,host:port` as a list."""
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("kafka_brokers")
    @classmethod
    def brokers_have_ports(cls, value: list[str]) -> list[str]:
        """Each is `host:port`."""
        if any(re.fullmatch(r"[^:/\s]+:[0-9]{1,5}", broker) is None for broker in value):
            raise ValueError("must be host:port, several separated by commas")
        return value

    @field_validator("db_url", "redis_url", "smtp_url")
    @classmethod
    def port_is_a_number(cls, value: str | None) -> str | None:
        """The port of a URL, where it has one, is a number from 0 to 65535."""
        if value is not None:
            _ = urlsplit(value).port
        return value

    @field_validator("currency")
    @classmethod
    def currency_has_two_decimals(cls, value: str) -> str:
        """Upper-cased; a currency whose minor unit is not a hundredth is refused."""
        code = value.upper()
        if len(code) != 3 or not code.isalpha() or not code.isascii() or code in NOT_TWO_DECIMALS:
            raise ValueError("must be an ISO 4217 currency with two decimals")
        return code

    @property
    def database_dsn(self) -> dict[str, str | int | None]:
        """Connection arguments for asyncpg: DB_URL, else its parts."""
        if self.db_url:
            return {"dsn": self.db_url}
        return {
            "host": self.db_host,
            "port": self.db_port,
            "database": self.db_name,
            "user": self.db_user,
            "password": self.db_password,
        }


def load_settings() -> Settings:
    """The settings, or the end of the process with one line that names each bad variable."""
    try:
        settings = Settings()  # type: ignore[call-arg]
    except ValidationError as error:
        raise SystemExit(_one_line(error)) from None
    if not settings.db_url and not (settings.db_name and settings.db_user):
        raise SystemExit("DB_URL: set it, or DB_NAME and DB_USER (and DB_PASSWORD, DB_HOST)")
    return settings


def _one_line(error: ValidationError) -> str:
    return "; ".join(
        f"{str(problem['loc'][0]).upper()}: {problem['msg']}" for problem in error.errors()
    )
