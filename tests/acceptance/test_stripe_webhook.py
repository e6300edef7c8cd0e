"""Webhooks that are late, duplicate, out of order, or not sent by Stripe."""

import gzip
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from asyncpg import Connection

from devstack.stripe import Stripe
from tests.acceptance.client import Answer, Api, eventually
from tests.acceptance.customer import Customer
from tests.acceptance.problems import assert_problem, slug
from tests.acceptance.stripe_stand_in import StripeStandIn, as_bytes, session_event, signed

Json = dict[str, Any]
SENT = "select published_at is not null as sent from outbox where order_id = $1"
TOLD = """
    select exists (select from notifications where order_id = $1)
        and not exists (select from outbox where order_id = $1 and published_at is null) as told
"""
OF_ORDER = (
    *("payments", "provider_events", "provider_calls", "outbox"),
    *("notifications", "reservations", "parked_messages"),
)


@pytest.fixture
def secret(stripe_stand_in: Stripe) -> str:
    return stripe_stand_in.worker_environment["STRIPE_WEBHOOK_SECRET"]


@pytest.fixture
async def elsewhere(environment: dict[str, str]) -> AsyncIterator[Connection]:
    """Another connection to PostgreSQL."""
    connection = await asyncpg.connect(environment["DB_URL"])
    yield connection
    await connection.close()


Send = Callable[..., Awaitable[Answer]]
Logged = Callable[[str], Awaitable[list[str]]]


@pytest.fixture
def send(api: Api) -> Send:
    """POST a body with a signature header, as anyone can."""

    async def post(body: bytes, header: str | None, packing: str = "identity") -> Answer:
        headers = {} if header is None else {"Stripe-Signature": header}
        headers |= {} if packing == "identity" else {"Content-Encoding": packing}
        return await api.ask("POST", "/api/stripe/webhook", body, headers=headers)

    return post


async def rows_of(stripe: StripeStandIn, order: Json) -> Any:
    """Return all rows of an order, and the number of provider events that name no order."""
    rows = ", ".join(
        f"(select json_agg(t) from {table} t where order_id = $1)::text as {table}"
        for table in OF_ORDER
    )
    foreign = "(select count(*) from provider_events where order_id is null) as foreign_events"
    return await stripe.row(
        f"select o::text, {foreign}, {rows} from orders o where id = $1", order["id"]
    )


@pytest.mark.parametrize(
    "header",
    [
        lambda body, secret: None,
        lambda body, secret: "",
        lambda body, secret: "nonsense",
        lambda body, secret: "t=,v1=",
        lambda body, secret: f"t={int(time.time())},v1={'0' * 64}",
        lambda body, secret: signed(body, "whsec_of_somebody_else"),
        lambda body, secret: signed(body + b" ", secret),
        lambda body, secret: signed(body, secret).replace("v1=", "v0="),
        lambda body, secret: signed(body, secret, int(time.time()) - 301),
        lambda body, secret: signed(body, secret, int(time.time()) + 301),
        lambda body, secret: signed(body, ""),
    ],
    ids=(
        *("none", "empty", "nonsense", "blank", "made up", "foreign"),
        *("of another body", "of another scheme", "stale", "early", "without a secret"),
    ),
)
async def test_what_stripe_did_not_sign_changes_nothing_and_stores_nothing(
    send: Send, order: Json, secret: str, stripe: StripeStandIn, header: Any
) -> None:
    body = as_bytes(session_event(order))
    await eventually(lambda: stripe.row(SENT, order["id"]), lambda row: row["sent"])
    before = await rows_of(stripe, order)
    answer = await send(body, header(body, secret))
    assert_problem(answer, 400)
    assert slug(answer) == "bad-signature"
    assert await rows_of(stripe, order) == before


async def test_a_bad_signature_is_refused_before_anything_is_parsed(
    send: Send, logged: Logged
) -> None:
    for body in (b"", b"\xff\xfe", b"{", b"[" * 10_000):
        assert slug(await send(body, "t=1,v1=00")) == "bad-signature"
    lines = await logged("A webhook is refused: The Stripe-Signature is missing, malformed")
    assert all("[-]" not in line for line in lines), "it is one request's that was refused"


async def test_a_signature_is_of_the_bytes_that_are_sent(
    send: Send, order: Json, secret: str, stripe: StripeStandIn
) -> None:
    await eventually(lambda: stripe.row(SENT, order["id"]), lambda row: row["sent"])
    body, before = as_bytes(session_event(order)), await rows_of(stripe, order)
    bomb = gzip.compress(b" " * 1_000_000)
    for sent, packing in ((gzip.compress(body), "gzip"), (bomb, "gzip"), (b"{}", "br")):
        answer = await send(sent, signed(body, secret), packing)
        assert slug(answer) == "bad-signature", "it is not even unpacked"
    why = "The body must be as Stripe has signed it, not compressed"
    assert_problem(await send(body, signed(body, secret), "gzip"), 415, why)
    assert await rows_of(stripe, order) == before


async def test_a_session_of_a_payment_link_pays_the_order_that_its_reference_names(
    send: Send, customer: Customer, order: Json, secret: str
) -> None:
    body = as_bytes(session_event(order, payment_link="plink_1"))
    assert (await send(body, signed(body, secret))).status == 200
    await customer.wait_until(order, "COMPLETED")


@pytest.mark.parametrize(
    "changes",
    [{"amount_total": 99799}, {"currency": "eur"}, {}],
    ids=["amount", "currency", "late"],
)
async def test_money_that_an_order_does_not_keep_goes_back_whoever_has_signed_its_event(
    send: Send, customer: Customer, order: Json, secret: str, stripe: StripeStandIn, changes: Json
) -> None:
    if not changes:
        await customer.cancel(order)
    body = as_bytes(session_event(order, **changes))
    assert (await send(body, signed(body, secret))).status == 200
    await customer.wait_until(order, "CANCELLED")

    async def types() -> list[str]:
        return [event["type"] for event in await customer.timeline(order)]

    told = await eventually(types, lambda told: "payment.refunded" in told)
    assert told[1:] == ["order.cancelled", "payment.refund_requested", "payment.refunded"]


async def test_a_replayed_event_changes_nothing_and_stores_nothing(
    send: Send, customer: Customer, order: Json, secret: str, stripe: StripeStandIn
) -> None:
    body = as_bytes(session_event(order))
    header = signed(body, secret)
    assert (await send(body, header)).status == 200
    await customer.wait_until(order, "COMPLETED")
    await eventually(lambda: stripe.row(TOLD, order["id"]), lambda row: row["told"])
    before = await rows_of(stripe, order)
    for _ in range(3):
        answer = await send(body, header)
        assert (answer.status, answer.body) == (200, {"received": True})
    assert await rows_of(stripe, order) == before


async def test_an_event_is_taken_later_where_postgresql_refuses_it(
    send: Send,
    customer: Customer,
    order: Json,
    secret: str,
    stripe: StripeStandIn,
    elsewhere: Connection,
) -> None:
    await eventually(lambda: stripe.row(SENT, order["id"]), lambda row: row["sent"])
    body, before = as_bytes(session_event(order)), await rows_of(stripe, order)
    header = signed(body, secret)
    async with elsewhere.transaction():
        await elsewhere.execute("select from orders where id = $1 for update", order["id"])
        answer = await send(body, header)
    assert_problem(answer, 503)
    assert slug(answer) == "unavailable"
    assert int(answer.headers["Retry-After"]) > 0
    assert await rows_of(stripe, order) == before
    assert (await send(body, header)).status == 200
    await customer.wait_until(order, "COMPLETED")


async def test_a_signed_body_that_is_no_event_is_refused(
    send: Send, order: Json, secret: str, stripe: StripeStandIn
) -> None:
    await eventually(lambda: stripe.row(SENT, order["id"]), lambda row: row["sent"])
    before = await rows_of(stripe, order)
    for body in (b"{}", b"[]", b"null", b'{"id": 7, "type": "x", "created": 1, "data": {}}'):
        assert_problem(await send(body, signed(body, secret)), 400)
    assert await rows_of(stripe, order) == before


async def test_a_type_that_says_nothing_of_money_is_kept_and_done_with(
    send: Send, order: Json, secret: str, stripe: StripeStandIn
) -> None:
    event = session_event(order) | {"type": "payment_intent.created"}
    body = as_bytes(event)
    assert (await send(body, signed(body, secret))).status == 200
    row = await stripe.row(
        "select type, kind from provider_events where event_id = $1", event["id"]
    )
    assert tuple(row) == ("payment_intent.created", None)


async def test_a_type_that_says_nothing_of_money_is_kept_whatever_its_shape(
    send: Send, secret: str, stripe: StripeStandIn
) -> None:
    id = f"evt_{uuid4().hex}"
    body = as_bytes({"id": id, "type": "v2.core.event_destination.ping", "created": "2026-01-03"})
    assert (await send(body, signed(body, secret))).status == 200
    query = (
        "select kind, created_at = received_at as dated from provider_events where event_id = $1"
    )
    assert tuple(await stripe.row(query, id)) == (None, True)


async def test_an_event_larger_than_other_bodies_is_taken(
    send: Send, order: Json, secret: str
) -> None:
    event = session_event(order, description="x" * 100_000)
    body = as_bytes(event)
    assert (await send(body, signed(body, secret))).status == 200
    body = as_bytes(session_event(order, description="x" * 300_000))
    assert_problem(await send(body, signed(body, secret)), 413)


async def test_an_event_of_an_unknown_order_is_kept(
    send: Send, secret: str, stripe: StripeStandIn
) -> None:
    event = session_event({"id": str(uuid4())})
    body = as_bytes(event)
    assert (await send(body, signed(body, secret))).status == 200
    row = await stripe.row(
        "select payment_id from provider_events where event_id = $1", event["id"]
    )
    assert row["payment_id"] is None


async def test_what_an_early_event_leads_to_carries_the_id_of_its_request(
    api: Api, customer: Customer, product: Json, secret: str, stripe: StripeStandIn
) -> None:
    unknown = {"id": str(uuid4())}
    event = session_event(unknown)
    body = as_bytes(event)
    headers = {"Stripe-Signature": signed(body, secret), "X-Request-Id": "abc"}
    assert (await api.ask("POST", "/api/stripe/webhook", body, headers=headers)).status == 200
    order = await customer.placed(product, 2)
    # As if the order that the event names had been committed only then.
    rename = "update provider_events set order_id = $1 where event_id = $2 returning event_id"
    assert await stripe.row(rename, order["id"], event["id"])
    await customer.wait_until(order, "COMPLETED")
    told = {event["type"]: event["requestId"] for event in await customer.timeline(order)}
    assert told["payment.succeeded"] == told["order.completed"] == "abc"
    assert told["order.created"] != "abc"


@pytest.mark.parametrize("backwards", [False, True])
async def test_events_may_come_late_twice_and_in_any_order(
    customer: Customer, order: Json, stripe: StripeStandIn, backwards: bool
) -> None:
    ready = await customer.ready_checkout(order)
    await stripe.hold()
    await stripe.press(ready)
    held = [event["id"] for event in (await stripe.of(order))["events"] if event["held"]]
    answers = await stripe.deliver(held, backwards=backwards)
    answers += await stripe.deliver(held)
    assert set(answers) == {200}
    await customer.wait_until(order, "COMPLETED")
    assert [e["type"] for e in await customer.timeline(order)].count("payment.succeeded") == 1


async def test_a_payment_that_settles_later_is_waited_for(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    await stripe.whims(delayed=True)
    ready = await customer.ready_checkout(order)
    before = await customer.timeline(order)
    await stripe.hold()
    await stripe.press(ready)
    assert await stripe.deliver() == [200], "the session is completed, and unpaid"
    assert await customer.timeline(order) == before
    await stripe.hold(False)
    await stripe.settle(order, paid=True)
    await customer.wait_until(order, "COMPLETED")


async def test_a_payment_that_fails_later_cancels(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    await stripe.whims(delayed=True)
    await stripe.press(await customer.ready_checkout(order))
    await stripe.settle(order, paid=False)
    await customer.wait_until(order, "CANCELLED")


@pytest.mark.parametrize(
    ("whim", "reason"),
    [
        ({"amount": 99799}, "Incorrect amount"),
        ({"amount": 99801}, "Incorrect amount"),
        ({"currency": "eur"}, "Incorrect currency"),
    ],
)
async def test_wrong_money_goes_back_and_the_order_is_cancelled(
    customer: Customer, order: Json, stripe: StripeStandIn, whim: Json, reason: str
) -> None:
    await stripe.whims(**whim)
    await stripe.press(await customer.ready_checkout(order))
    assert (await customer.wait_until(order, "CANCELLED"))["cancelReason"] == reason

    async def told() -> list[Json]:
        return await customer.timeline(order)

    timeline = await eventually(told, lambda seen: seen[-1]["type"] == "payment.refunded")
    assert [event["type"] for event in timeline][2:] == [
        *("order.cancelled", "payment.refund_requested", "payment.refunded")
    ]
    taken = whim.get("amount", 99800)
    assert timeline[-1]["data"]["amount"] * 100 == taken
    assert timeline[-1]["data"]["currency"] == whim.get("currency", "pln").upper()
    (refund,) = (await stripe.of(order))["refunds"]
    assert refund["amount"] == taken
