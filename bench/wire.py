"""A minimal HTTP/1.1 client: requests are ready as bytes, and answers are barely parsed.

An HTTP library costs the client as much CPU as the request costs the worker; the benchmark would
then measure the client.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import cycle
from typing import cast
from urllib.parse import urlsplit

Answer = tuple[int, bytes]
"""Status and body."""

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length: "


class Broken(Exception):
    """Raised if the connection ends before the answer, or the answer cannot be parsed."""


class Connection(asyncio.Protocol):
    """One keep-alive connection, with at most one request in flight."""

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can carry a request."""
        return self._transport is not None

    async def ask(self, request: bytes) -> Answer:
        """Send one whole request and return the answer. Raises Broken."""
        if self._transport is None:
            raise Broken("not connected")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Implement asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)  # no subclass in uvloop

    def data_received(self, data: bytes) -> None:
        """Implement asyncio.Protocol."""
        received = self._received = self._received + data if self._received else data
        head = received.find(_HEAD_END)
        if head < 0:
            return
        end = head + len(_HEAD_END)
        length = _content_length(received[:end].lower())
        if length is None:
            self._end(Broken(f"an answer without Content-Length: {received[:end]!r}"))
        elif len(received) >= end + length:
            self._received = received[end + length :]
            self._give((int(received[9:12]), received[end : end + length]))

    def connection_lost(self, problem: Exception | None) -> None:
        """Implement asyncio.Protocol."""
        self._transport = None
        self._end(Broken(f"the connection ended: {problem!r}"))

    def close(self) -> None:
        """Close the connection."""
        if self._transport:
            self._transport.close()

    def _give(self, answer: Answer) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(answer)

    def _end(self, problem: Broken) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(problem)
        self.close()


def _content_length(head: bytes) -> int | None:
    at = head.find(_LENGTH)
    if at < 0:
        return None
    return int(head[at + len(_LENGTH) : head.index(b"\r\n", at + 2)])


class Wire:
    """Connections to all workers in turn; if none is idle, one more is opened.

    So no request waits in the client, where the wait would not be measured.
    """

    def __init__(self, urls: Sequence[str], connections: int) -> None:
        self._places = [_place(url) for url in urls]
        self._turn = cycle(range(len(urls)))
        self._connections = connections
        self._idle: deque[tuple[int, Connection]] = deque()

    async def open(self) -> None:
        """Open the first connections. Raises OSError."""
        for _ in range(self._connections):
            self._idle.append(await self._connect(next(self._turn)))

    def close(self) -> None:
        """Close all idle connections."""
        for _, connection in self._idle:
            connection.close()

    async def ask(self, request: bytes) -> Answer:
        """Send one whole request to a worker and return the answer. Raises Broken, OSError."""
        place, connection = (
            self._idle.popleft() if self._idle else await self._connect(next(self._turn))
        )
        try:
            if not connection.is_open:
                place, connection = await self._connect(place)
            return await connection.ask(request)
        finally:
            self._idle.append((place, connection))

    async def _connect(self, place: int) -> tuple[int, Connection]:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, *self._places[place])
        return place, connection


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname and parts.port, url
    return parts.hostname, parts.port
