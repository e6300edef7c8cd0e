"""An HTTP client of the service, and a wait for what happens eventually."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from time import monotonic
from typing import Any, TypeVar

import aiohttp

from tests.acceptance.documented import Document

PATIENCE_SECONDS = 20.0
POLL_SECONDS = 0.05
UNKNOWN_ID = "6f0d5f2e-4b1c-4d39-9a57-2b8c1e7f9d04"  # what has it is made nowhere

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; `body` is the JSON value with exact amounts, or the text if not JSON."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Api:
    """One worker's HTTP interface; every answer must match the worker's OpenAPI document."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._document: asyncio.Task[Document] | None = None

    async def ask(
        self,
        method: str,
        path: str,
        text: str | bytes | None = None,
        *,
        documented: bool = True,
        **more: Any,
    ) -> Answer:
        """Send one request; `text` is a JSON body that is sent verbatim.

        `documented` is false where a test provokes a bug, since no document promises one.
        """
        self._document = self._document or asyncio.create_task(self._read_document())
        document = await self._document
        headers = {**({"Content-Type": "application/json"} if text is not None else {})}
        more["headers"] = {**headers, **more.get("headers", {})}
        more |= {} if text is None else {"data": text}
        async with self._session.request(method, self._url + path, **more) as response:
            told = await response.text()
        is_json = told and response.content_type.endswith("json")
        body = json.loads(told, parse_float=Decimal) if is_json else told
        if documented:
            document.hold(method, path, response.status, response.headers, body)
        return Answer(response.status, body, response.headers)

    async def _read_document(self) -> Document:
        async with self._session.get(f"{self._url}/openapi.json") as response:
            return Document(await response.json())


async def eventually(look: Callable[[], Awaitable[T]], enough: Callable[[T], Any]) -> T:
    """Return what `look` finds once it is `enough`; fails the test if it never is."""
    deadline = monotonic() + PATIENCE_SECONDS
    while not enough(found := await look()):
        assert monotonic() < deadline, f"after {PATIENCE_SECONDS} s it is still {found!r}"
        await asyncio.sleep(POLL_SECONDS)
    return found
