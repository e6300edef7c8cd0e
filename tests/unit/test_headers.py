"""The headers of every answer, and the client address of a request."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from app import monitor
from app.errors import OrderNotFound
from web.http.endpoint import EVENT_STREAM
from web.http.headers import USUAL
from web.http.middlewares import surround

SHOP = "https://shop.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "PATCH"}

Client = TestClient[web.Request, web.Application]


async def tell_address(request: web.Request) -> web.Response:
    return web.Response(text=request.remote)


async def stream(request: web.Request) -> web.StreamResponse:
    headers = {"Cache-Control": "no-cache", "Content-Type": EVENT_STREAM}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    await response.write(b"data: 1\n\n")
    return response


async def refuse(request: web.Request) -> web.Response:
    raise OrderNotFound


def application(origins: list[str], proxies: int) -> web.Application:
    application = web.Application()
    surround(application, origins, proxies)
    application.router.add_get("/address", tell_address)
    application.router.add_get("/stream", stream)
    application.router.add_get("/refuse", refuse)
    return application


@pytest.fixture
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """A client of an application with the (origins, proxies) of the test's parameter."""
    origins, proxies = getattr(request, "param", ([SHOP], 2))
    async with TestClient(TestServer(application(origins, proxies))) as client:
        yield client


@pytest.mark.parametrize("path", ["/address", "/stream", "/refuse", "/nothing"])
async def test_every_answer_carries_the_usual_headers_and_its_id(client: Client, path: str) -> None:
    answer = await client.get(path, headers={"X-Request-Id": "mine", "Origin": SHOP})
    kept = {"Cache-Control": "no-cache"} if path == "/stream" else {}
    assert {name: answer.headers[name] for name in USUAL} == {**USUAL, **kept}
    assert answer.headers["X-Request-Id"] == "mine"
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert answer.headers["Vary"] == "Origin"
    assert "etag" in answer.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Strict-Transport-Security" not in answer.headers


@pytest.mark.parametrize(
    ("path", "status"), [("/address", 200), ("/stream", 200), ("/refuse", 404), ("/nothing", 404)]
)
async def test_an_answer_is_counted_by_its_status(client: Client, path: str, status: int) -> None:
    before = dict(monitor.http_response_codes)
    monitor.http_response_latency.clear()
    await client.get(path)
    assert len(monitor.http_response_latency) == (path != "/stream")
    now = monitor.http_response_codes
    assert {code: now[code] - before.get(code, 0) for code in now} == {
        **dict.fromkeys(now, 0),
        status: 1,
    }


async def test_a_worker_that_stops_closes_each_connection_after_its_answer(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Connection" not in (await client.get("/refuse")).headers
    monkeypatch.setattr("web.http.middlewares.app", SimpleNamespace(should_stop=True))
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"GET /refuse HTTP/1.1\r\nHost: orders\r\n\r\n")
    async with asyncio.timeout(20):
        assert b"Connection: close" in await reader.read()
    writer.close()


async def test_a_preflight_is_told_what_may_be_sent(client: Client) -> None:
    answer = await client.options("/refuse", headers={**PREFLIGHT, "Origin": SHOP})
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
    allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"authorization", "idempotency-key", "if-match", "last-event-id"} <= set(allowed)
    assert {"traceparent", "tracestate", "x-request-id"} <= set(allowed)
    assert {"content-type", "content-encoding"} <= set(allowed)
    assert answer.headers["X-Request-Id"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", f"{SHOP}.evil.com", "http://shop.example.com", "null"]
)
async def test_another_origin_is_told_nothing(client: Client, origin: str) -> None:
    for answer in (
        await client.get("/refuse", headers={"Origin": origin}),
        await client.get("/stream", headers={"Origin": origin}),
        await client.options("/refuse", headers={**PREFLIGHT, "Origin": origin}),
    ):
        assert not any(name.startswith("Access-Control") for name in answer.headers)


@pytest.mark.parametrize("client", [(["*"], 0)], indirect=True)
async def test_where_all_origins_are_allowed_none_is_named(client: Client) -> None:
    answer = await client.get("/refuse", headers={"Origin": "https://anyone.example.com"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Vary" not in answer.headers


@pytest.mark.parametrize("client", [([], 0)], indirect=True)
async def test_without_origins_or_proxies_their_headers_mean_nothing(client: Client) -> None:
    answer = await client.options("/refuse", headers={**PREFLIGHT, "Origin": SHOP})
    assert answer.status == 405
    assert not any(name.startswith("Access-Control") for name in answer.headers)
    told = await client.get("/address", headers={"X-Forwarded-For": "203.0.113.5"})
    assert await told.text() == "127.0.0.1"


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        ([], "127.0.0.1"),
        (["203.0.113.5"], "127.0.0.1"),
        (["203.0.113.5, 10.0.0.1"], "203.0.113.5"),
        (["2001:db8::1, 10.0.0.1"], "2001:db8::1"),
        (["198.51.100.7, 203.0.113.5, 10.0.0.1"], "203.0.113.5"),
        (["198.51.100.7", "203.0.113.5, 10.0.0.1"], "203.0.113.5"),
        (["unknown, <script>, 203.0.113.5", "10.0.0.1"], "203.0.113.5"),
    ],
)
async def test_the_address_is_what_the_outermost_of_two_proxies_saw(
    client: Client, lines: list[str], address: str
) -> None:
    headers = [("X-Forwarded-For", line) for line in lines]
    more = [("X-Forwarded-Host", "evil.example.com"), ("X-Forwarded-Proto", "gopher")]
    answer = await client.get("/address", headers=[*headers, *more])
    assert (answer.status, await answer.text()) == (200, address)
