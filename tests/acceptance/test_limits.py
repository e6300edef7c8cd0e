"""Requests that are too large, too many or too slow get a problem, and affect nobody else."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from devstack.worker import Worker
from tests.acceptance.client import Answer
from tests.acceptance.customer import Admin, Customer, basket
from tests.acceptance.problems import assert_problem, slug
from tests.acceptance.records import Records

Json = dict[str, Any]
LIMIT = 64 * 1024
SLOW_CONNECTIONS = 300


def head(customer: Customer, *lines: str, path: str = "/api/orders") -> bytes:
    """Return the head of a POST, without the empty line that ends it."""
    usual = (
        f"POST {path} HTTP/1.1",
        "Host: orders",
        f"Authorization: Bearer {customer.token}",
        "Content-Type: application/json",
    )
    return "".join(f"{line}\r\n" for line in (*usual, *lines)).encode()


@asynccontextmanager
async def connected(
    worker: Worker,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a raw connection to the worker, for what no HTTP client would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer_of(reader: asyncio.StreamReader) -> Answer:
    """Read the only answer."""
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[:-1]
    headers = dict(line.split(": ", 1) for line in lines)
    body = await reader.readexactly(int(headers["Content-Length"]))
    return Answer(int(status.split()[1]), json.loads(body), headers)


async def send(worker: Worker, *parts: bytes) -> Answer:
    """Send the bytes verbatim; return the answer, which may come before all are read."""
    async with connected(worker) as (reader, writer):
        for part in parts:
            writer.write(part)
        return await answer_of(reader)


def chunks(body: bytes, size: int) -> bytes:
    """Return the body in chunks, without a total length."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


CHUNKED = "Transfer-Encoding: chunked"


async def test_a_body_in_chunks_is_read(worker: Worker, customer: Customer, product: Json) -> None:
    body = chunks(json.dumps(basket((product, 1))).encode(), 7)
    answer = await send(worker, head(customer, CHUNKED), b"\r\n", body)
    assert answer.status == 201


async def test_a_body_in_chunks_beyond_64_kib_is_refused(
    worker: Worker, customer: Customer, records: Records
) -> None:
    body = chunks(b'{"items": "' + b"x" * (LIMIT + 1) + b'"}', 1000)
    answer = await send(worker, head(customer, CHUNKED), b"\r\n", body)
    assert_problem(answer, 413)
    assert (await records.traces_of(customer.id))["orders"] == 0


async def test_an_endless_body_in_chunks_is_refused_before_its_end(
    worker: Worker, customer: Customer
) -> None:
    endless = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    answer = await send(worker, head(customer, CHUNKED), b"\r\n", *[endless] * 17)
    assert_problem(answer, 413)


async def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(
    worker: Worker, customer: Customer
) -> None:
    answer = await send(worker, head(customer, f"Content-Length: {10**12}"), b"\r\n")
    assert_problem(answer, 413)


async def test_a_body_of_64_kib_is_an_order(customer: Customer, product: Json) -> None:
    body = json.dumps(basket((product, 1)))
    assert (await customer.ask("POST", "/api/orders", body.ljust(LIMIT))).status == 201
    assert_problem(await customer.ask("POST", "/api/orders", body.ljust(LIMIT + 1)), 413)


TOO_MUCH_HEAD = {
    "a long header": ("X-Long: " + "x" * 100_000,),
    "many headers": tuple(f"X-Header-{n}: x" for n in range(10_000)),
    "a long name": ("X" * 100_000 + ": x",),
    "a long token": ("Cookie: " + "x" * 20_000,),
}


@pytest.mark.parametrize("kind", TOO_MUCH_HEAD)
async def test_too_much_of_a_head_is_a_problem(
    worker: Worker, customer: Customer, kind: str
) -> None:
    answer = await send(worker, head(customer, *TOO_MUCH_HEAD[kind], "Content-Length: 0"), b"\r\n")
    assert_problem(answer, 400)
    assert slug(answer) == "invalid-input"


async def test_too_long_an_address_is_a_problem(worker: Worker, customer: Customer) -> None:
    answer = await send(worker, head(customer, path=f"/api/orders?x={'x' * 100_000}"), b"\r\n")
    assert_problem(answer, 400)


BAD_LENGTHS = ("Content-Length: -1", "Content-Length: x", "Content-Length: 1\r\nContent-Length: 2")


@pytest.mark.parametrize("line", BAD_LENGTHS)
async def test_a_length_that_is_none_is_a_problem(
    worker: Worker, customer: Customer, line: str
) -> None:
    assert_problem(await send(worker, head(customer, line), b"\r\n"), 400)


async def test_two_ways_to_tell_where_a_body_ends_are_a_problem(
    worker: Worker, customer: Customer
) -> None:
    answer = await send(worker, head(customer, CHUNKED, "Content-Length: 5"), b"\r\n0\r\n\r\n")
    assert_problem(answer, 400)


SLOW = {
    "a head": b"",
    "a body": b"Content-Length: 1000\r\n\r\n{",
    "a chunk": b"Transfer-Encoding: chunked\r\n\r\n100\r\n{",
}


async def test_a_body_that_does_not_come_to_its_end_is_given_up(
    worker: Worker, customer: Customer
) -> None:
    sent = [send(worker, head(customer), SLOW[kind]) for kind in ("a body", "a chunk")]
    # The key would wait for the body once more, although the query is a flaw already.
    keyed = head(customer, "Idempotency-Key: slow", path="/api/orders?unknown=1")
    sent.append(send(worker, keyed, SLOW["a body"]))
    for answer in await asyncio.gather(*sent):
        assert_problem(answer, 408)
        assert slug(answer) == "body-too-slow"
        assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("kind", SLOW)
async def test_those_who_send_half_of_something_hold_nobody_up(
    worker: Worker, customer: Customer, admin: Admin, kind: str
) -> None:
    openings = [asyncio.open_connection("127.0.0.1", worker.port) for _ in range(SLOW_CONNECTIONS)]
    writers = [writer for _, writer in await asyncio.gather(*openings)]
    for writer in writers:
        writer.write(head(customer) + SLOW[kind])
    try:
        # What is half sent is given up after ten seconds: it must not be that which lets others in.
        async with asyncio.timeout(9):
            await customer.buys(await admin.adds())
    finally:
        for writer in writers:
            writer.close()
