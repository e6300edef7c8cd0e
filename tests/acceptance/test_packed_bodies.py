"""A compressed body is treated as its content, and refused if it cannot be decompressed."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.client import Answer
from tests.acceptance.customer import Customer, basket
from tests.acceptance.problems import assert_problem, pointers


async def post(customer: Customer, body: bytes, packing: str, **headers: str) -> Answer:
    """POST the compressed body as an order."""
    headers = {"Content-Encoding": packing, **headers}
    return await customer.ask("POST", "/api/orders", body, headers=headers)


async def test_a_compressed_body_is_measured_as_it_unpacks(customer: Customer) -> None:
    bomb = gzip.compress(b'{"items": "' + b"x" * 1_000_000 + b'"}')
    answer = await post(customer, bomb, "gzip")
    assert_problem(answer, 413)


@pytest.mark.parametrize(
    "packing, pack",
    [("gzip", gzip.compress), ("X-Gzip", gzip.compress), ("deflate", zlib.compress)],
)
async def test_a_packed_body_is_an_order(
    customer: Customer, product: dict[str, Any], packing: str, pack: Callable[[bytes], bytes]
) -> None:
    body = pack(json.dumps(basket((product, 1))).encode())
    assert (await post(customer, body, packing)).status == 201


WHOLE = gzip.compress(b"{}")
DO_NOT_UNPACK = {
    "not gzip": ("gzip", b"not gzip", 400),
    "not deflate": ("deflate", b"not deflate", 400),
    "the half of it": ("gzip", WHOLE[:-4], 400),
    "more than it": ("gzip", WHOLE + b"more", 400),
    "a wrong checksum": ("gzip", WHOLE[:-8] + bytes(8), 400),
    "nobody's": ("miracles", b"{}", 415),
    "brotli": ("br", b"{}", 415),
    "zstandard": ("zstd", b"{}", 415),
    "twice": ("gzip, gzip", gzip.compress(WHOLE), 415),
}


@pytest.mark.parametrize("kind", DO_NOT_UNPACK)
async def test_a_body_that_does_not_unpack_is_refused(
    customer: Customer, log_lines: Callable[[str], list[str]], kind: str
) -> None:
    packing, body, status = DO_NOT_UNPACK[kind]
    failures = log_lines("Unhandled exception")
    answer = await post(customer, body, packing, **{"X-Request-Id": f"packed {kind}"})
    problem = assert_problem(answer, status)
    assert status != 400 or pointers(answer) == {"#"}
    assert (problem["instance"], problem["requestId"]) == ("/api/orders", f"packed {kind}")
    assert log_lines("Unhandled exception") == failures
