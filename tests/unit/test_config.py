"""The worker does not start with a setting that is missing or malformed, and says which."""

import pytest

from app.config import load_settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JWT_SECRET", "too short"),
        ("PORT", "eighty"),
        ("KAFKA_BROKERS", " , "),
        ("STRIPE_CURRENCY", "jpy"),
        ("STRIPE_CURRENCY", "zloty"),
        ("LOG_LEVEL", "loud"),
        ("KAFKA_BROKERS", "localhost"),
        ("KAFKA_BROKERS", "localhost:port"),
        ("DB_URL", "nonsense"),
        ("DB_URL", "postgresql://localhost:port/orders"),
        ("REDIS_URL", "localhost:6379"),
        ("SMTP_URL", "smtp://localhost:99999"),
        ("SMTP_URL", "http://localhost:25"),
    ],
)
def test_a_malformed_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"^{name}: [^\n]+$"):
        load_settings()


def test_a_missing_database_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DB_URL")
    with pytest.raises(SystemExit, match=r"^DB_URL: "):
        load_settings()


def test_the_names_of_both_seeds_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_currency_is_upper_cased(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_CURRENCY", "eur")
    assert load_settings().currency == "EUR"
