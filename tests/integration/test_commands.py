"""Commands that a signal, or a reader that leaves, ends early."""

import asyncio
import os
import pty
import signal
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from app.db.pools import Database
from app.db.queries import sql
from devstack.worker import faust
from tests.conftest import run_command


def launch(environment: Mapping[str, str], *arguments: str, **files: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        faust(*arguments), env={**os.environ, **environment}, text=True, **files
    )


async def waits_for_lock(database: Database, key: int) -> None:
    async with database.connection() as connection:
        while not await connection.fetchval(
            "select exists (select from pg_locks where objid = $1 and not granted)", key
        ):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_command_that_a_signal_ends_is_not_taken_for_done(
    database: Database, environment: dict[str, str], number: signal.Signals
) -> None:
    other = await database.connect()
    await sql.lock_migrations(other)
    migration = launch(environment, "migrate")
    try:
        await waits_for_lock(database, 7070004)
        migration.send_signal(number)
        assert await asyncio.to_thread(migration.wait, 30) == 128 + number
    finally:
        migration.kill()
        await other.close()


def read_until(terminal: int, words: bytes) -> None:
    read = b""
    while words not in read:
        read += os.read(terminal, 1024)


async def test_ctrl_c_ends_the_prompt_for_a_password(environment: dict[str, str]) -> None:
    command = faust("create-admin", "--email", "ada@example.com")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command[0], command, {**os.environ, **environment})
    await asyncio.to_thread(read_until, terminal, b"Password:")
    os.write(terminal, b"\x03")
    ending = asyncio.create_task(asyncio.to_thread(os.waitpid, pid, 0))
    if not (await asyncio.wait([ending], timeout=30))[0]:
        os.kill(pid, signal.SIGKILL)
    _, status = await ending
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGINT


async def test_no_server_is_blamed_for_a_reader_that_leaves(environment: dict[str, str]) -> None:
    reader, writer = os.pipe()
    listing = launch(environment, "parked", "list", stdout=writer, stderr=subprocess.PIPE)
    for end in (reader, writer):
        os.close(end)
    _, complaint = await asyncio.to_thread(listing.communicate)
    assert (complaint, listing.returncode) == ("", 128 + signal.SIGPIPE)


async def test_a_replay_of_a_handler_that_nothing_is_parked_for_says_so(
    environment: dict[str, str],
) -> None:
    replay = ("parked", "replay", "--all", "--handler", "stock.reserved", "--reason", "x")
    assert "nothing is parked" in run_command(environment, *replay, "--apply")
