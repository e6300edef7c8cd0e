"""The servers of devstack, each started for real."""

import asyncio
import os
import socket
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from devstack.kafka import Kafka, install
from devstack.ports import free_port
from devstack.postgres import Postgres
from devstack.process import Process
from devstack.redis import Redis
from devstack.server import Server, ServerFailed
from devstack.stack import Stack
from devstack.tansu import Tansu
from tests.missing import NOT_DURABLE, skip


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[Kafka]:
    try:
        install(tmp_path / "maven.log")
    except ServerFailed:
        skip(NOT_DURABLE)
    with Kafka(tmp_path) as kafka:
        yield kafka


def test_postgres_keeps_its_data_when_killed(tmp_path: Path) -> None:
    with Postgres(tmp_path) as postgres:
        _sql(postgres, "CREATE TABLE kept AS SELECT 42 AS answer")
        url = postgres.url
        postgres.kill()
        postgres.start()
        assert postgres.url == url
        assert _sql(postgres, "SELECT answer FROM kept") == 42


def test_postgres_writes_through_to_the_disk(tmp_path: Path) -> None:
    with Postgres(tmp_path) as postgres:
        assert _sql(postgres, "SHOW fsync") == "on"
        assert _sql(postgres, "SHOW synchronous_commit") == "on"


def test_postgres_is_not_stopped_by_a_foreign_process_with_its_old_number(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path)
    with postgres:
        pid_file = postgres.data / "postmaster.pid"
        left_by_a_crash = pid_file.read_text()
    pid_file.write_text(left_by_a_crash.replace(left_by_a_crash.split()[0], str(os.getppid()), 1))
    with postgres:
        assert _sql(postgres, "SELECT 1") == 1


def test_kafka_keeps_topic_and_message_when_killed(kafka: Kafka) -> None:
    _run(_create_topic(kafka.brokers))
    _run(_produce(kafka.brokers, b"kept"))
    brokers = kafka.brokers
    kafka.kill()
    kafka.start()
    assert kafka.brokers == brokers
    assert _run(_consume(kafka.brokers)) == b"kept"


def test_kafka_makes_no_topic_by_itself(kafka: Kafka) -> None:
    assert "misspelt" not in _run(_topics_after_asking_for("misspelt", kafka.brokers))


def test_tansu_carries_a_message(tmp_path: Path) -> None:
    with Tansu(tmp_path) as tansu:
        _run(_create_topic(tansu.brokers))
        _run(_produce(tansu.brokers, b"carried"))
        assert _run(_consume(tansu.brokers)) == b"carried"


def test_redis_answers_and_forgets_when_stopped(tmp_path: Path) -> None:
    with Redis(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        assert client.set("key", "value")
        server.stop()
        server.start()
        assert client.get("key") is None


@pytest.mark.parametrize("kind", [Postgres, Redis, Tansu])
def test_a_taken_port_is_told_in_one_line(kind: type[Server], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServerFailed, match=f"{kind.name} .* port {port} is taken") as failure:
            kind(tmp_path, port).start()
    assert "\n" not in str(failure.value)


def test_a_server_that_ends_at_once_tells_why_in_one_line(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path)
    with postgres:
        pass
    (postgres.data / "PG_VERSION").write_text("9.1\n")
    with pytest.raises(ServerFailed, match="PostgreSQL .*incompatible.* See .*log") as failure:
        postgres.start()
    assert "\n" not in str(failure.value)
    assert not postgres.alive


def test_a_missing_program_is_told_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALF_TANSU_BIN", str(tmp_path / "missing"))
    with pytest.raises(ServerFailed, match="Install Java"):
        Tansu(tmp_path).start()


def test_kafka_without_java_is_told_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ServerFailed, match="Java 17 or newer is missing. Install"):
        Kafka(tmp_path).start()


@pytest.mark.parametrize("end", [Server.stop, Server.kill])
def test_no_process_is_left_behind(end: Any, tmp_path: Path) -> None:
    servers = [
        Postgres(tmp_path / "postgres"),
        Redis(tmp_path / "redis"),
        Tansu(tmp_path / "tansu"),
    ]
    for server in servers:
        server.start()
        assert _processes(server)
        end(server)
        assert not _processes(server)


def test_a_process_that_ignores_the_stop_signal_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = Process(["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"], log)
    process.start()
    while "deaf" not in log.read_text():
        assert process.alive
    process.stop(0.1)
    assert not process.alive


def test_the_stack_tells_the_worker_where_its_servers_are(tmp_path: Path) -> None:
    told = {"KAFKA_BROKERS": "127.0.0.1:9", "DEVSTACK_BROKER": "tansu"}
    with Stack(tmp_path, told) as stack:
        assert stack.environment == {"DB_URL": stack.postgres.url, "REDIS_URL": stack.redis.url}
        assert not stack.broker.alive


def test_the_stack_remembers_its_ports(tmp_path: Path) -> None:
    told = {"DEVSTACK_BROKER": "tansu"}
    with Stack(tmp_path, told) as stack:
        first = stack.environment
    assert Stack(tmp_path, told).postgres.url == first["DB_URL"]


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def _sql(postgres: Postgres, statement: str) -> Any:
    async def ask() -> Any:
        connection = await asyncpg.connect(postgres.url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return _run(ask())


async def _create_topic(brokers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("orders", num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def _topics_after_asking_for(name: str, brokers: str) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        await admin.describe_topics([name])
        return list(await admin.list_topics())
    finally:
        await admin.close()


async def _produce(brokers: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=brokers) as producer:
        await producer.send_and_wait("orders", value)


async def _consume(brokers: str) -> bytes | None:
    consumer = AIOKafkaConsumer("orders", bootstrap_servers=brokers, auto_offset_reset="earliest")
    async with consumer:
        value: bytes | None = (await consumer.getone()).value
        return value


def _processes(server: Server) -> list[int]:
    """Return the living processes of this server and its children."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are listed through /proc")
    folder = str(server.folder)
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _uses(path, folder)]


def _uses(process: Path, folder: str) -> bool:
    try:
        files = [str(link.readlink()) for link in (process / "fd").iterdir()]
    except OSError:
        return False
    return process.name != str(os.getpid()) and any(name.startswith(folder) for name in files)


def test_no_port_is_given_twice() -> None:
    ports = [free_port() for _ in range(500)]
    assert len(set(ports)) == len(ports)
