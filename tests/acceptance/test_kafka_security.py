"""The commands and the worker reach brokers that ask for TLS, for a certificate, or for a login."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from devstack.kafka import Kafka
from devstack.ports import free_port
from devstack.stack import Stack
from devstack.worker import Worker
from tests.acceptance.certificates import Authority
from tests.acceptance.client import Api
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.tokens import token
from tests.conftest import SECRET, run_command, run_in_vain

USER, PASSWORD = "orders", "the password of orders"

Ways = Mapping[str, dict[str, str]]
"""What a worker is told for each security protocol."""


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """Servers whose broker also listens with TLS: once for certificates, once for logins."""
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority(folder)
    stack = Stack(folder)
    assert isinstance(stack.broker, Kafka)
    secure(stack.broker, authority)
    ports = stack.broker.secured_ports
    with stack:
        common = {
            **stack.environment,
            "JWT_SECRET": SECRET,
            "KAFKA_CA_FILE": str(authority.file),
        }
        certificate = {"KAFKA_CERTIFICATE_FILE": str(authority.issue("worker"))}
        login = {"KAFKA_SASL_USERNAME": USER, "KAFKA_SASL_PASSWORD": PASSWORD}
        yield {
            protocol: {
                **common,
                **own,
                "KAFKA_SECURITY_PROTOCOL": protocol,
                "KAFKA_BROKERS": f"127.0.0.1:{ports[protocol]}",
            }
            for protocol, own in (("SSL", certificate), ("SASL_SSL", login))
        }


def secure(broker: Kafka, authority: Authority) -> None:
    """Have the broker listen for clients with a certificate, and for those with a password."""
    broker.secured_ports = {"SSL": free_port(), "SASL_SSL": free_port()}
    broker.scram_users = {USER: PASSWORD}
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    broker.security = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": authority.issue("broker"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": authority.file,
        "listener.name.ssl.ssl.client.auth": "required",
        "listener.name.sasl_ssl.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
    }


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
async def test_an_order_is_completed_through_brokers_that_ask_who_is_there(
    ways: Ways, protocol: str, tmp_path: Path
) -> None:
    environment = {**ways[protocol], "PORT": str(free_port())}
    assert "migrations applied" in run_command(environment, "migrate")
    with Worker(environment, tmp_path / "data", tmp_path / "worker.log") as worker:
        worker.wait_ready()
        async with aiohttp.ClientSession() as session:
            api = Api(session, worker.url)
            admin = Admin(api, token(role="ADMIN"), str(uuid4()), "admin@example.com")
            await Customer(api, token(), str(uuid4()), None).buys(await admin.adds(quantity=1))
    assert run_command(environment, "audit", "--kafka") == "Every invariant holds\n"


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_brokers_whose_certificate_is_not_trusted_are_not_told_anything(
    ways: Ways, protocol: str, tmp_path: Path
) -> None:
    strangers = {"KAFKA_CA_FILE": str(Authority(tmp_path).file)}
    told = run_in_vain({**ways[protocol], **strangers}, "migrate")
    assert "certificate verify failed" in told
    assert "A server is away: KafkaConnectionError" in told


def test_a_certificate_that_the_brokers_do_not_trust_ends_a_command(
    ways: Ways, tmp_path: Path
) -> None:
    own = {"KAFKA_CERTIFICATE_FILE": str(Authority(tmp_path).issue("stranger"))}
    told = run_in_vain({**ways["SSL"], **own}, "migrate")
    assert "A server is away: KafkaConnectionError" in told


def test_a_wrong_password_ends_a_command(ways: Ways) -> None:
    told = run_in_vain({**ways["SASL_SSL"], "KAFKA_SASL_PASSWORD": "another"}, "migrate")
    assert "invalid credentials with SASL mechanism SCRAM-SHA-512" in told
    assert "A server is away: KafkaConnectionError" in told
