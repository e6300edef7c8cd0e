"""TCP ports of 127.0.0.1: free ones, remembered ones, and ports claimed against other checkouts."""

import contextlib
import fcntl
import json
import random
import socket
from pathlib import Path
from typing import IO

from devstack.cache import cache_folder

# Below the kernel's range of source ports. Within it, a client that retries a stopped server can be
# given the server's own port as its source port, and connect to itself.
_LOWEST, _HIGHEST = 20_000, 32_000

_given: list[IO[bytes]] = []


def is_free(port: int) -> bool:
    """Return whether a server can listen on the port."""
    with socket.socket() as client:
        client.settimeout(1)
        if client.connect_ex(("127.0.0.1", port)) == 0:
            return False
    with socket.socket() as server:
        # As servers do: without it, a port counts as taken for a minute after its last use.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port on which nothing listens, claimed until this process ends.

    The server that a port is for often listens only seconds later.
    """
    while True:
        port = random.randrange(_LOWEST, _HIGHEST)
        if claimed := claim(port):
            _given.append(claimed)
            return port


def claim(port: int) -> IO[bytes] | None:
    """Claim the port for this process while the returned file is open; None if it is taken.

    Otherwise two checkouts that start at the same time would both find a port free, long before
    either worker listens on it.
    """
    file = (cache_folder() / f"port-{port}.lock").open("wb")
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_free(port):
            return file
    file.close()
    return None


class Ports:
    """Ports by name, stored in a file and reused in later runs while they are free."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ports: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}

    def of(self, name: str) -> int:
        port = self._ports.get(name)
        if port is None or not is_free(port):
            port = self._ports[name] = free_port()
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps(self._ports, indent=2) + "\n")
        return port
