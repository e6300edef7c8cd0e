"""A TCP proxy in front of a server, which forwards, cuts or stalls connections."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from devstack.ports import free_port

CHUNK = 2**16


class Proxy:
    """Forwards connections to the port of this machine that `target` returns at the moment."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: Callable[[], int]) -> None:
        self.port = free_port()
        self._loop = loop
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()

    async def open(self) -> None:
        """Start to listen."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Stop listening, and end every connection."""
        self._server.close()
        self._abort()

    def cut(self) -> None:
        """End every connection, as a lost network does; new ones are forwarded."""
        self._loop.call_soon_threadsafe(self._abort)

    def stall(self) -> None:
        """Hold back all data of old and new connections, without any error."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def flow(self) -> None:
        """Forward everything again, including what was held back."""
        self._loop.call_soon_threadsafe(self._flows.set)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._flows.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self._target())
            self._writers.add(back)
            pumps = self._pump(reader, back), self._pump(there, writer)
            await asyncio.gather(*pumps)
            self._writers.discard(back)
        except OSError:
            writer.transport.abort()
        finally:
            self._writers.discard(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


class Proxies:
    """Proxies on a separate event loop, so that they forward while the test's loop is blocked."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._opened: list[Proxy] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def in_front_of(self, target: Callable[[], int]) -> Proxy:
        """Return a proxy that listens in front of `target`."""
        proxy = Proxy(self._loop, target)
        self._run(proxy.open())
        self._opened.append(proxy)
        return proxy

    def __enter__(self) -> "Proxies":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for proxy in self._opened:
            self._run(proxy.close())
        self._run(_end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


async def _end_tasks() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
