"""The worker does not start with a setting that is missing or malformed, and says which."""

import re
from pathlib import Path

import pytest
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from app.config import Settings, load_settings
from app.kafka.broker_access import load_brokers
from app.kafka.faust_app import OrderApp


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JWT_SECRET", "too short"),
        ("JWT_SECRET", "ł" * 15),
        ("JWT_SECRET", "-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYI"),
        ("JWT_OTHER_SECRET", "too short"),
        ("JWT_PUBLIC_KEY", ""),
        ("JWT_JWKS_FILE", ""),
        ("JWT_TTL_SECONDS", "99999999999999"),
        ("IDEMPOTENCY_TTL_SECONDS", "99999999999999"),
        ("JWT_ISSUER", ""),
        ("JWT_AUDIENCE", ""),
        ("AUTH_LOCAL", "perhaps"),
        ("AUTH_RATE_LIMIT", "often"),
        ("AUTH_RATE_LIMIT", "0/minute"),
        ("AUTH_RATE_LIMIT", "5/fortnight"),
        ("AUTH_RATE_LIMIT", "10/0 minutes"),
        ("AUTH_RATE_LIMIT", "often\nor so"),
        ("LOGIN_FAILURES_LIMIT", "10 per 0 hours"),
        ("LOGIN_FAILURES_LIMIT", "10/minute;100/hour"),
        ("TRUSTED_PROXIES", "-1"),
        ("CORS_ORIGINS", "shop.example.com"),
        ("CORS_ORIGINS", "https://shop.example.com/"),
        ("CORS_ORIGINS", "https://shop.example.com,*"),
        ("CORS_ORIGINS", "https://shop.example.com:99999"),
        ("CORS_ORIGINS", "https://shop.example.com:0"),
        ("CORS_ORIGINS", "https://shop.example.com:08080"),
        ("CORS_ORIGINS", "https://shop..example.com"),
        ("PORT", "eighty"),
        ("KAFKA_BROKERS", " , "),
        ("STRIPE_CURRENCY", "jpy"),
        ("STRIPE_CURRENCY", "zloty"),
        ("STRIPE_CURRENCY", "xyz"),
        ("STRIPE_CURRENCY", "xau"),
        ("STRIPE_CURRENCY", "mga"),
        ("LOG_LEVEL", "loud"),
        ("SHUTDOWN_GRACE_SECONDS", "0"),
        ("OUTBOX_RETENTION_DAYS", "0"),
        ("KAFKA_BROKERS", "localhost"),
        ("KAFKA_BROKERS", "localhost:port"),
        ("KAFKA_BROKERS", "localhost:99999"),
        ("KAFKA_BROKERS", "localhost:0"),
        ("DB_URL", "nonsense"),
        ("DB_URL", "postgresql://localhost:port/orders"),
        ("DB_URL", "postgresql://localhost/orders?sslmode=perhaps"),
        ("DB_URL", "postgresql://one,two/orders?target_session_attrs=writable"),
        ("DB_URL", "postgresql://one:5432,/orders"),
        ("DB_URL", "postgresql://one:5432,:5433/orders"),
        ("DB_PORT", "99999"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "redis://localhost:6379/orders"),
        ("REDIS_URL", "redis://localhost:6379/0?socket_timeout=5"),
        ("REDIS_URL", "redis://localhost:6379/0?db=first"),
        ("REDIS_URL", "redis://localhost:6379/0?decode_responses=true"),
        ("DB_URL", "postgresql://one:5432,two..example.com:5432/orders"),
        ("DB_URL", "postgresql://one:5432,two:0/orders"),
        ("REDIS_URL", "redis://localhost:6379/0?shop=1"),
        ("REDIS_URL", "redis://localhost:6379/0?ssl_cert_reqs=none"),
        ("SMTP_URL", "smtp://localhost:99999"),
        ("SMTP_URL", "smtp://mail..example.com:25"),
        ("DB_HOST", "db..example.com"),
        ("DB_HOST", "localhost:5432"),
        ("DB_HOST", "postgresql://localhost"),
        ("DB_HOST", "one,two"),
        ("DB_HOST", "local host"),
        ("REDIS_URL", "redis://local host:6379"),
        ("KAFKA_BROKERS", "kafka..example.com:9092"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("KAFKA_SECURITY_PROTOCOL", "ssl"),
        ("KAFKA_SASL_MECHANISM", "GSSAPI"),
        ("KAFKA_CA_FILE", ""),
        ("KAFKA_CERTIFICATE_FILE", ""),
        ("REDIS_URL", f"redis://{'a' * 64}.example.com"),
        ("SMTP_URL", "http://localhost:25"),
        ("SMTP_URL", "smtp://shop:złoty@localhost:587"),
        ("SMTP_URL", "smtp://shop:z%C5%82oty@localhost:587"),
        ("SMTP_URL", "smtps://%C5%82@localhost:465"),
        ("MAIL_FROM", "the shop"),
        ("MAIL_FROM", "shop@example.com\nBcc: all@example.com"),
        ("MAIL_FROM", ".:"),
        ("INTERNAL_PAYMENTS", "perhaps"),
        ("STRIPE_SECRET_KEY", "sk_test_\n"),
        ("STRIPE_WEBHOOK_SECRET", " ,"),
        ("STRIPE_API_BASE", "localhost:12111"),
        ("STRIPE_SUCCESS_URL", "/paid"),
        *(
            (name, url)
            for name in ("STRIPE_SUCCESS_URL", "STRIPE_CANCEL_URL", "STRIPE_API_BASE")
            for url in (
                "https://",
                "http:///paid",
                "https://?paid",
                "https://:443/paid",
                "https://me@/paid",
                "https://a b/",
                "https://shop.example.com/a page",
                "https://shop.example.com/paid\n",
                "https://shop.example.com:99999/paid",
                "https://shop..example.com/paid",
                "https://[::1/paid",
            )
        ),
    ],
)
def test_a_malformed_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=rf"^{name}( \(or SECRET_KEY\))?: [^\n]+$"):
        load_settings()


def test_a_mail_server_s_password_may_be_percent_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "smtp://shop%40example.com:p%25%3A@localhost:587"
    monkeypatch.setenv("SMTP_URL", url)
    assert load_settings().smtp_url == url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_URL", "postgresql://me:s%40cret@one:5432,two:5433/orders?target_session_attrs=any"),
        ("DB_URL", "postgresql://me@[::1]:5432/orders?sslmode=verify-full"),
        ("DB_URL", "postgresql:///orders?host=/var/run/postgresql"),
        ("REDIS_URL", "redis://:secret@localhost:6379/3?retry_on_timeout=true"),
        ("REDIS_URL", "rediss://me:secret@[::1]:6380?ssl_cert_reqs=none"),
        ("REDIS_URL", "unix:///run/redis.sock?db=1"),
        ("DB_URL", "postgresql://me@%2Frun%2Fpostgresql/orders?target_session_attrs=read-write"),
        ("DB_HOST", "/run/postgresql"),
        ("DB_HOST", "::1"),
        ("DB_HOST", "fe80::1%eth0"),
    ],
)
def test_addresses_may_have_many_forms(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(load_settings(), name.lower()) == value


def test_a_missing_database_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DB_URL")
    with pytest.raises(SystemExit, match=r"^DB_URL: "):
        load_settings()


def test_a_worker_without_any_key_names_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JWT_SECRET")
    with pytest.raises(SystemExit, match=r"^JWT_SECRET: [^\n]+$"):
        load_settings()


def test_a_worker_whose_only_secret_is_the_other_names_the_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("JWT_SECRET")
    monkeypatch.setenv("JWT_PUBLIC_KEY", "a file")
    monkeypatch.setenv("AUTH_LOCAL", "false")
    monkeypatch.setenv("JWT_OTHER_SECRET", "s" * 32)
    with pytest.raises(SystemExit, match=r"^JWT_SECRET: [^\n]+$"):
        load_settings()


@pytest.mark.parametrize("name", ["JWT_PUBLIC_KEY", "JWT_JWKS_FILE"])
def test_a_worker_that_can_only_verify_must_be_told_so(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("JWT_SECRET")
    monkeypatch.setenv(name, "a file")
    with pytest.raises(SystemExit, match=r"^AUTH_LOCAL: [^\n]+$"):
        load_settings()
    monkeypatch.setenv("AUTH_LOCAL", "false")
    assert not load_settings().auth_local


def test_a_secret_is_measured_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", "ł" * 16)
    assert load_settings().jwt_secret == "ł" * 16


def test_limits_and_origins_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGIN_FAILURES_LIMIT", "3 per 2 hours")
    monkeypatch.setenv("CORS_ORIGINS", "https://shop.example.com, http://[::1]:3000")
    settings = load_settings()
    limits = [settings.auth_rate_limit, settings.login_failures_limit]
    assert [(limit.amount, limit.get_expiry()) for limit in limits] == [(300, 60), (3, 7200)]
    assert settings.cors_origins == ["https://shop.example.com", "http://[::1]:3000"]


@pytest.mark.parametrize(
    "origin", ["https://shop.example.com:443", "http://localhost:80", "https://[::1]:443"]
)
def test_an_origin_with_the_port_that_browsers_leave_out_is_told(
    monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    monkeypatch.setenv("CORS_ORIGINS", f"http://localhost:443, https://localhost:80, {origin}")
    with pytest.raises(SystemExit) as refused:
        load_settings()
    told = str(refused.value)
    assert told.startswith("CORS_ORIGINS: ")
    assert f"{origin} without its port" in told


def test_stripe_may_send_customers_to_any_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_SUCCESS_URL", "https://[::1]:8443/?paid={CHECKOUT_SESSION_ID}#top")
    monkeypatch.setenv("STRIPE_CANCEL_URL", "http://localhost")
    monkeypatch.setenv("STRIPE_API_BASE", "http://stripe:12111")
    assert load_settings().checkout_return_urls == (
        "https://[::1]:8443/?paid={CHECKOUT_SESSION_ID}#top",
        "http://localhost",
    )


def test_the_names_that_older_systems_know_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DB_URL")
    monkeypatch.delenv("JWT_SECRET")
    for name, value in {
        "SECRET_KEY": "s" * 32,
        "DB_NAME": "orders",
        "DB_USER": "me",
        "DB_PASSWORD": "secret",
        "DB_PORT": "5433",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.jwt_secret == "s" * 32
    assert settings.database_dsn == {
        "host": "localhost",
        "port": 5433,
        "database": "orders",
        "user": "me",
        "password": "secret",
    }


def test_the_environment_s_database_beats_that_of_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("DB_URL=postgresql://of-the-file/orders\nDB_USER=shop\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DB_URL")
    assert load_settings().database_dsn == {"dsn": "postgresql://of-the-file/orders"}
    monkeypatch.setenv("DB_NAME", "of_the_environment")
    told = load_settings().database_dsn
    assert (told["database"], told["user"]) == ("of_the_environment", "shop")


def test_a_file_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".env"
    file.write_bytes("DB_PASSWORD=złość".encode("latin2"))
    with pytest.raises(SystemExit, match=r"^\.env: [^\n]+$"):
        load_settings()
    file.unlink()
    file.symlink_to("/proc/self/mem")  # not even root can read its beginning
    with pytest.raises(SystemExit, match=r"^\.env: [^\n]+$"):
        load_settings()


def test_the_currency_is_upper_cased(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_CURRENCY", "eur")
    assert load_settings().currency == "EUR"


def test_mail_may_come_from_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().mail_from == "orders@localhost"
    monkeypatch.setenv("MAIL_FROM", "Shop <shop@example.com>")
    assert load_settings().mail_from == "Shop <shop@example.com>"


def test_stripe_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_SUCCESS_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PORT", "9090")
    settings = load_settings()
    assert (settings.stripe_secret_key, settings.stripe_webhook_secrets) == (None, ())
    page = "http://localhost:9090/swagger-ui/index.html"
    assert settings.checkout_return_urls == (page, page)


def test_several_webhook_secrets_are_good_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", "whsec_old, whsec_new")
    assert load_settings().stripe_webhook_secrets == ("whsec_old", "whsec_new")


@pytest.mark.parametrize(
    ("key", "is_live"),
    [
        ("sk_live_x", True),
        ("rk_live_x", True),
        ("sk_test_x", False),
        ("rk_test_x", False),
        ("", False),
    ],
)
def test_the_key_tells_whether_money_is_real(
    monkeypatch: pytest.MonkeyPatch, key: str, is_live: bool
) -> None:
    monkeypatch.setenv("STRIPE_SECRET_KEY", key)
    assert load_settings().stripe_is_live is is_live


@pytest.mark.parametrize(
    ("key", "asked", "pays"),
    [
        ("sk_live_x", None, False),
        ("sk_live_x", "true", True),
        ("sk_test_x", None, True),
        ("sk_test_x", "false", False),
        ("", None, True),
        ("", "false", False),
        ("sk_live_x", "", False),
    ],
)
def test_beside_real_money_nothing_is_paid_without_any_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, key: str, asked: str | None, pays: bool
) -> None:
    monkeypatch.setenv("STRIPE_SECRET_KEY", key)
    if asked is not None:
        monkeypatch.setenv("INTERNAL_PAYMENTS", asked)
    assert load_settings().pays_internally is pays


def new_app() -> OrderApp:
    """An app without modules."""
    settings = load_settings()
    return OrderApp(settings, load_brokers(settings), [])


def test_what_the_environment_has_for_other_programs_does_not_change_faust(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = new_app().conf
    for name, value in (
        ("BROKER_URL", "kafka://elsewhere:9092"),
        ("WEB_PORT", "9"),
        ("STREAM_WAIT_EMPTY", "true"),
        ("PRODUCER_ACKS", "0"),
    ):
        monkeypatch.setenv(name, value)
    conf = new_app().conf
    assert (conf.broker, conf.web_port, conf.producer_acks) == (own.broker, own.web_port, -1)
    assert conf.stream_wait_empty is False


def test_every_setting_stands_in_the_example() -> None:
    example = Path(".env.example").read_text()
    told = set(re.findall("^#?([A-Z_]+)=", example, re.MULTILINE))
    assert told >= {name for field in Settings.model_fields.items() for name in names(*field)}


def names(name: str, field: FieldInfo) -> list[str]:
    """What a setting is called in the environment."""
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias or name.upper()]
    return [str(choice) for choice in choices]


@pytest.mark.parametrize("name, scheme", [("DB_URL", "postgresql"), ("REDIS_URL", "redis")])
@pytest.mark.parametrize("character", "#/?")
def test_a_password_that_is_not_escaped_is_not_told(
    monkeypatch: pytest.MonkeyPatch, name: str, scheme: str, character: str
) -> None:
    monkeypatch.setenv(name, f"{scheme}://orders:s3cret{character}word@db:5432/0")
    with pytest.raises(SystemExit) as refused:
        load_settings()
    assert name in str(refused.value)
    assert "s3cret" not in str(refused.value)
