"""The demo's client against a worker that goes away in between."""

from time import monotonic

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.client import Client, GaveUp
from bench.report import stock, summary
from bench.shopping import Order


class Worker:
    """A worker that is overloaded first, then drops the connection, then answers."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def post(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers["Idempotency-Key"])
        if len(self.keys) == 1:
            return web.json_response({}, status=503)
        if len(self.keys) == 2:
            assert request.transport
            request.transport.close()
        return web.json_response({"id": "1"}, status=201)

    async def away(self, request: web.Request) -> web.Response:
        return web.json_response({}, status=503, headers={"Retry-After": "1"})

    def server(self) -> TestServer:
        application = web.Application()
        application.router.add_post("/orders", self.post)
        application.router.add_get("/away", self.away)
        return TestServer(application)


async def test_a_request_is_sent_again_with_its_key_until_it_is_answered() -> None:
    worker = Worker()
    async with worker.server() as server, aiohttp.ClientSession() as session:
        client = Client(session, str(server.make_url("")).rstrip("/"))
        key = {"Idempotency-Key": "once"}
        answer = await client.ask("POST", "/orders", monotonic() + 10, headers=key)
    assert answer == (201, {"id": "1"})
    assert worker.keys == ["once"] * 3
    assert client.retries == 2


async def test_a_worker_that_stays_away_is_given_up_at_the_deadline() -> None:
    async with Worker().server() as server, aiohttp.ClientSession() as session:
        client = Client(session, str(server.make_url("")).rstrip("/"))
        with pytest.raises(GaveUp):
            await client.ask("GET", "/away", monotonic() + 0.3)
    assert client.retries == 1, "it waits as long as it is told"


def test_the_report_counts_what_became_of_each_order() -> None:
    items = [{"productId": "p", "quantity": 2}]
    orders = [
        *(Order(items, False, False, "COMPLETED", str(n), latency_ms=n) for n in range(1, 101)),
        Order(items, True, False, "CANCELLED", "c", reason="Incorrect amount"),
        Order(items, False, False, "REFUSED", reason="Not enough stock"),
        Order(items, False, False, "PAID", "d"),
        Order(items, False, False),
        Order(items, False, False, "COMPLETED", "e", latency_ms=5000, warms_up=True),
    ]
    report = summary(orders, 2, 0)
    assert (report["placed"], report["completed"], report["unfinished"]) == (103, 101, 2)
    assert report["measured"] == 104
    assert report["cancelled"] == {"Incorrect amount": 1}
    assert report["refused"] == {"Not enough stock": 1}
    assert report["latencyMs"] == {"p50": 50, "p99": 99, "max": 100}
    shelf = [{"availableQuantity": 300}], [{"availableQuantity": 98}]
    assert stock(orders, *shelf)["agrees"]
