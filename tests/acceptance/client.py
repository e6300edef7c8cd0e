"""The service as its clients meet it: a request, an answer, and patience."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from time import monotonic
from typing import Any, TypeVar

import aiohttp

PATIENCE_SECONDS = 20.0
POLL_SECONDS = 0.05

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """`body` is the JSON value, amounts exact; the text where it is not JSON."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Api:
    """One worker's HTTP interface."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def ask(
        self, method: str, path: str, text: str | bytes | None = None, **more: Any
    ) -> Answer:
        """Send one request; `text` is a body of JSON that is sent as it stands."""
        headers = {**({"Content-Type": "application/json"} if text is not None else {})}
        more["headers"] = {**headers, **more.get("headers", {})}
        more |= {} if text is None else {"data": text}
        async with self._session.request(method, self._url + path, **more) as response:
            told = await response.text()
        is_json = told and response.content_type.endswith("json")
        body = json.loads(told, parse_float=Decimal) if is_json else told
        return Answer(response.status, body, response.headers)


async def eventually(look: Callable[[], Awaitable[T]], enough: Callable[[T], Any]) -> T:
    """What `look` finds once that is `enough`; fails the test when it never is."""
    deadline = monotonic() + PATIENCE_SECONDS
    while not enough(found := await look()):
        assert monotonic() < deadline, f"after {PATIENCE_SECONDS} s it is still {found!r}"
        await asyncio.sleep(POLL_SECONDS)
    return found
