"""How the brokers are reached: their addresses, and TLS and a login where they ask for these."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from faust.types.auth import CredentialsT

from app.config import Settings


@dataclass(frozen=True, slots=True)
class Brokers:
    """Addresses (`host:port`) of brokers; without credentials they are asked in plain text."""

    addresses: Sequence[str]
    credentials: CredentialsT | None = None

    def client_arguments(self) -> dict[str, Any]:
        """Return the arguments by which any of aiokafka's clients reaches the brokers."""
        reached = credentials_to_aiokafka_auth(self.credentials)
        return {"bootstrap_servers": list(self.addresses), **reached}


def load_brokers(settings: Settings) -> Brokers:
    """Load the files that the settings name, or exit with one line that names a bad variable."""
    return Brokers(settings.kafka_brokers, _credentials(settings))


def _credentials(settings: Settings) -> CredentialsT | None:
    context = _tls(settings) if settings.kafka_has_tls else None
    if settings.kafka_has_login:
        return SASLCredentials(
            username=settings.kafka_sasl_username,
            password=settings.kafka_sasl_password,
            ssl_context=context,
            mechanism=settings.kafka_sasl_mechanism,
        )
    return SSLCredentials(context) if context else None


def _tls(settings: Settings) -> ssl.SSLContext:
    """Return a context that checks the brokers' certificates and host names."""
    variable, content = "KAFKA_CA_FILE", "certificates"
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ca_file)
        variable, content = "KAFKA_CERTIFICATE_FILE", "a key without a password and its certificate"
        if settings.kafka_certificate_file:
            # Without a password, OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(settings.kafka_certificate_file, password="")
    except (OSError, ValueError) as error:
        raise SystemExit(f"{variable}: must be a PEM file of {content} ({error})") from None
    return context
