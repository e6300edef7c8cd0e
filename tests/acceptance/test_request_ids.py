"""Every request has an id: the client's, its trace's, or a new one."""

import re
from typing import Any

import pytest

from tests.acceptance.client import UNKNOWN_ID, Api
from tests.acceptance.customer import Customer, basket
from tests.acceptance.problems import assert_problem

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.mark.parametrize("id", ["a", "x" * 128, "with spaces, and ~!@#", UNKNOWN_ID])
@pytest.mark.parametrize("path", ["/livez", "/nothing", "/api/orders", "/metrics", "/health"])
async def test_a_request_id_is_echoed_on_every_answer(api: Api, path: str, id: str) -> None:
    answer = await api.ask("GET", path, headers={"X-Request-Id": id})
    assert answer.headers["X-Request-Id"] == id


@pytest.mark.parametrize("id", [None, "", "x" * 129, "żółć", "tab\there"])
async def test_a_bad_request_id_is_replaced(api: Api, id: str | None) -> None:
    headers = {} if id is None else {"X-Request-Id": id}
    first, second = [await api.ask("GET", "/nothing", headers=headers) for _ in range(2)]
    assert UUID.fullmatch(first.headers["X-Request-Id"])
    assert first.headers["X-Request-Id"] != second.headers["X-Request-Id"]
    assert_problem(first, 404)


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


async def test_a_request_without_an_id_has_that_of_its_trace(api: Api) -> None:
    for path in ("/livez", "/nothing"):
        answer = await api.ask("GET", path, headers={"traceparent": TRACEPARENT})
        assert answer.headers["X-Request-Id"] == TRACE
    answer = await api.ask("GET", "/x", headers={"traceparent": TRACEPARENT, "X-Request-Id": "me"})
    assert answer.headers["X-Request-Id"] == "me"


NO_TRACES = {
    "of nothing": "00-" + "0" * 32 + TRACEPARENT[35:],
    "by nobody": f"00-{TRACE}-" + "0" * 16 + "-01",
    "in capitals": TRACEPARENT.upper(),
    "of another version": "01" + TRACEPARENT[2:],
    "with more": TRACEPARENT + "-00",
    "twice": f"{TRACEPARENT},{TRACEPARENT}",
    "cut short": TRACEPARENT[:-1],
    "empty": "",
}


@pytest.mark.parametrize("kind", NO_TRACES)
async def test_a_trace_that_is_none_names_no_request(api: Api, kind: str) -> None:
    answer = await api.ask("GET", "/livez", headers={"traceparent": NO_TRACES[kind]})
    assert UUID.fullmatch(answer.headers["X-Request-Id"])


async def test_what_a_trace_began_is_told_with_its_id(
    customer: Customer, product: dict[str, Any]
) -> None:
    headers = {"traceparent": TRACEPARENT}
    order = await customer.ask("POST", "/api/orders", json=basket((product, 1)), headers=headers)
    (created,) = await customer.timeline(order.body)
    assert created["requestId"] == TRACE
