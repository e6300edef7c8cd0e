"""What is set for Kafka's TLS and login is used whole, or the worker does not start."""

from pathlib import Path

import pytest

from app.config import load_settings
from app.kafka.broker_access import load_brokers


@pytest.mark.parametrize(
    ("protocol", "others", "named"),
    [
        ("SASL_SSL", {}, "KAFKA_SASL_USERNAME"),
        ("SASL_PLAINTEXT", {"KAFKA_SASL_USERNAME": "orders"}, "KAFKA_SASL_USERNAME"),
        ("SSL", {"KAFKA_SASL_USERNAME": "orders"}, "KAFKA_SECURITY_PROTOCOL"),
        ("PLAINTEXT", {"KAFKA_SASL_PASSWORD": "secret"}, "KAFKA_SECURITY_PROTOCOL"),
        ("PLAINTEXT", {"KAFKA_CA_FILE": "ca.pem"}, "KAFKA_SECURITY_PROTOCOL"),
        ("PLAINTEXT", {"KAFKA_CERTIFICATE_FILE": "worker.pem"}, "KAFKA_SECURITY_PROTOCOL"),
    ],
)
def test_kafka_is_not_reached_with_less_security_than_was_meant(
    monkeypatch: pytest.MonkeyPatch, protocol: str, others: dict[str, str], named: str
) -> None:
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", protocol)
    for name, value in others.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=rf"^{named}: [^\n]+$"):
        load_brokers(load_settings())


@pytest.mark.parametrize("name", ["KAFKA_CA_FILE", "KAFKA_CERTIFICATE_FILE"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_of_kafka_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, content: str | None
) -> None:
    file = tmp_path / "certificate.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SSL")
    monkeypatch.setenv(name, str(file))
    with pytest.raises(SystemExit, match=rf"^{name}: must be a PEM file of [^\n]+$"):
        load_brokers(load_settings())


def test_kafka_s_password_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "orders")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "s3cret")
    settings = load_settings()
    assert "s3cret" not in f"{settings!r} {load_brokers(settings)!r}"
