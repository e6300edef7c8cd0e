"""An HTTP client that retries while the worker is away."""

import asyncio
import json
import random
from decimal import Decimal
from time import monotonic
from typing import Any

import aiohttp

Json = dict[str, Any]


class GaveUp(Exception):
    """Raised if no final answer comes before the deadline."""


class Unexpected(Exception):
    """Raised for an answer that makes it impossible to continue."""


class Client:
    """A client of one worker. Deadlines are in seconds of `time.monotonic`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self.retries = 0
        self.watched = 0
        """Orders that are being polled."""

    async def ask(self, method: str, path: str, deadline: float, **more: Any) -> tuple[int, Json]:
        """Return status and body of the final answer; amounts are exact. Raises GaveUp, Unexpected.

        A retry sends exactly the same request, Idempotency-Key included.
        """
        wait = 0.1
        while (left := deadline - monotonic()) > 0:
            timeout, retry_after = aiohttp.ClientTimeout(total=min(10.0, left)), "0"
            try:
                async with self._session.request(
                    method, self._url + path, timeout=timeout, **more
                ) as answer:
                    text = await answer.text()
                if answer.status != 503 and "Retry-After" not in answer.headers:
                    return answer.status, json.loads(text, parse_float=Decimal)
                retry_after = answer.headers.get("Retry-After", "0")
            except (aiohttp.ClientError, ConnectionError, TimeoutError):
                pass
            except json.JSONDecodeError:
                raise Unexpected(f"{method} {path} answered {answer.status}, not JSON") from None
            pause = max(wait, float(retry_after) if retry_after.isdecimal() else 0.0)
            # Jitter, so that requests that were refused together do not return together.
            await asyncio.sleep(min(pause * random.uniform(1, 1.3), deadline - monotonic()))
            wait = min(wait * 2, 2.0)
            self.retries += 1
        raise GaveUp(f"{method} {path} was not answered in time")

    async def expect(self, method: str, path: str, deadline: float, **more: Any) -> Json:
        """Return the body of a 200. Raises Unexpected for any other answer, and GaveUp."""
        status, body = await self.ask(method, path, deadline, **more)
        if status != 200:
            raise Unexpected(f"{method} {path} answered {status}: {body.get('detail')}")
        return body

    async def entries(self, path: str, token: str, deadline: float) -> list[Json]:
        """Return the entries of all pages of a list. Raises Unexpected, GaveUp."""
        found: list[Json] = []
        query, headers = {"limit": "100"}, {"Authorization": f"Bearer {token}"}
        while True:
            page = await self.expect("GET", path, deadline, params=query, headers=headers)
            found += page["data"]
            if not page["hasMore"]:
                return found
            query["cursor"] = page["nextCursor"]
