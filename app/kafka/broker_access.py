"""How the brokers are reached: their addresses, and TLS and a login where they ask for these."""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from aiokafka import AIOKafkaConsumer
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from faust.types.auth import CredentialsT

from app.config import Settings

METADATA_SECONDS = 20
"""How often a worker asks unprompted which topics there are, and which brokers lead them: a topic
that was missing, and is made, is read from then on, and a broker that stands still is not asked for
what another one leads. With aiokafka's five minutes, orders would stand still that long."""


@dataclass(frozen=True, slots=True)
class Brokers:
    """Addresses (`host:port`) of brokers; without credentials, connections are in plain text."""

    addresses: Sequence[str]
    credentials: CredentialsT | None = None

    def client_arguments(self) -> dict[str, Any]:
        """Return the arguments by which any of aiokafka's clients reaches the brokers."""
        reached = credentials_to_aiokafka_auth(self.credentials)
        return {"bootstrap_servers": list(self.addresses), **reached}


async def partition_counts(consumer: AIOKafkaConsumer) -> Mapping[str, int]:
    """Return how many partitions each topic has.

    For commands: an operator's shell may lack the KAFKA_PARTITIONS of the workers.
    """
    cluster = await cast(Any, consumer)._client.fetch_all_metadata()
    return {topic: len(cluster.partitions_for_topic(topic)) for topic in cluster.topics()}


def load_brokers(settings: Settings) -> Brokers:
    """Load the files that the settings name, or exit with one line that names a bad variable."""
    protocol = settings.kafka_security_protocol
    has_tls, has_login = protocol.endswith("SSL"), protocol.startswith("SASL_")
    _check(settings, has_tls, has_login)
    context = _tls(settings) if has_tls else None
    return Brokers(settings.kafka_brokers, _credentials(settings, has_login, context))


def _check(settings: Settings, has_tls: bool, has_login: bool) -> None:
    """Exit if settings of TLS or of a login are missing, or would be ignored."""
    login = (settings.kafka_sasl_username, settings.kafka_sasl_password)
    if has_login and not all(login):
        raise SystemExit(
            "KAFKA_SASL_USERNAME: set it and KAFKA_SASL_PASSWORD, since KAFKA_SECURITY_PROTOCOL"
            f" is {settings.kafka_security_protocol}"
        )
    if any(login) and not has_login:
        raise SystemExit("KAFKA_SECURITY_PROTOCOL: must be SASL_SSL or SASL_PLAINTEXT for a login")
    if (settings.kafka_ca_file or settings.kafka_certificate_file) and not has_tls:
        raise SystemExit("KAFKA_SECURITY_PROTOCOL: must be SSL or SASL_SSL for certificates")


def _credentials(
    settings: Settings, has_login: bool, context: ssl.SSLContext | None
) -> CredentialsT | None:
    if has_login:
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
