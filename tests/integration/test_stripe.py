"""Provider calls to Stripe, and its webhooks, against the stand-in."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.stripe.api import Line, Refund, Session
from app.stripe.client import StripeClient
from app.stripe.errors import ProviderAway, ProviderFailed, ProviderRefused
from app.times import now
from devstack.stripe import Stripe
from tests.integration.stripe_stand_in import SECRET, Receiver, StandIn, checkout, stripe_client

A_PAGE = 100
"""The largest page of a list at Stripe."""


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    yield receiver
    await receiver.server.close()


@pytest.fixture
async def stripe(receiver: Receiver, tmp_path: Path) -> AsyncIterator[Stripe]:
    url = await receiver.start()
    with Stripe(tmp_path, webhook_url=url, webhook_secret=f"{SECRET}, whsec_next") as stripe:
        yield stripe


@pytest.fixture
async def stand_in(stripe: Stripe) -> AsyncIterator[StandIn]:
    async with aiohttp.ClientSession() as client:
        yield StandIn(stripe, client)


@pytest.fixture
async def ours(stripe: Stripe) -> AsyncIterator[StripeClient]:
    ours = stripe_client(stripe.url, patience=0.5)
    yield ours
    await ours.close()


async def until(true: Any) -> None:
    """Poll until `true()`; webhooks have no deadline, so the test's timeout is the limit."""
    while not true():
        await asyncio.sleep(0.01)


async def pay(stand_in: StandIn, ours: StripeClient, receiver: Receiver) -> str:
    """Pay a checkout, and wait until that is reported; return its payment intent."""
    session = await ours.create_session(checkout())
    assert await stand_in.press(session.id, "pay") == "http://shop.example/paid"
    await until(lambda: receiver.money().captured_minor == 20_098)
    intents = {report.payment_intent for report in receiver.reports} - {None}
    return str(intents.pop())


async def test_a_paid_checkout_is_reported_with_its_order(
    stand_in: StandIn, ours: StripeClient, receiver: Receiver
) -> None:
    wanted = checkout()
    session = await ours.create_session(wanted)
    assert (session.status, session.payment_intent) == ("open", None)
    await stand_in.press(session.id, "pay")
    await until(lambda: "checkout.session.completed" in receiver.types())
    (report,) = [one for one in receiver.reports if one.session_id]
    assert (report.order_id, report.attempt_id) == (wanted.order_id, wanted.attempt_id)
    assert report.session_id == session.id
    assert (await ours.find_session(session.id)).payment_intent == report.payment_intent
    assert (receiver.money().captured_minor, receiver.money().currency) == (20_098, "PLN")


async def test_the_page_shows_the_lines_the_total_and_what_can_be_done(
    ours: StripeClient, stand_in: StandIn
) -> None:
    session = await ours.create_session(checkout())
    async with aiohttp.ClientSession() as client, client.get(session.url or "") as answer:
        page = await answer.text()
    assert "Zażółć &lt;gęślą&gt; × 2" in page
    assert "199.98 PLN" in page and "200.98 PLN" in page
    assert [f"/{name}" in page for name in ("pay", "fail", "leave")] == [True] * 3


async def test_leaving_leaves_the_session_open_and_failing_fails_it(
    stand_in: StandIn, ours: StripeClient, receiver: Receiver
) -> None:
    session = await ours.create_session(checkout())
    assert await stand_in.press(session.id, "leave") == "http://shop.example/left"
    assert await stand_in.press(session.id, "fail") == "http://shop.example/paid"
    await until(lambda: len(receiver.reports) == 2)
    assert receiver.money().failure == "The payment failed"
    assert not receiver.money().is_captured
    assert await stand_in.press(session.id, "pay") == "410"


@pytest.mark.parametrize("kind", ["cut", "slow"])
async def test_work_that_was_done_without_an_answer_is_not_done_again(
    stand_in: StandIn, ours: StripeClient, receiver: Receiver, kind: str
) -> None:
    wanted = checkout()
    await stand_in.control("faults", kind=kind, seconds=30)
    with pytest.raises(ProviderAway):
        await ours.create_session(wanted)
    session = await ours.create_session(wanted)
    await stand_in.press(session.id, "pay")
    await until(lambda: receiver.money().is_captured)
    intent, refund_id = receiver.reports[-1].payment_intent or "", uuid4()
    await stand_in.control("faults", kind=kind, seconds=30)
    with pytest.raises(ProviderAway):
        await ours.refund(refund_id, wanted.order_id, intent, 20_098)
    refund = await ours.refund(refund_id, wanted.order_id, intent, 20_098)
    assert refund.amount_minor == 20_098
    assert (await stand_in.look())["counts"] == {"sessions": 1, "charges": 1, "refunds": 1}


@pytest.mark.parametrize("kind", ["error", "limit"])
async def test_a_call_that_may_be_repeated_is_told_apart(
    stand_in: StandIn, ours: StripeClient, kind: str
) -> None:
    await stand_in.control("faults", kind=kind, calls=2)
    wanted = checkout()
    for _ in range(2):
        with pytest.raises(ProviderAway):
            await ours.create_session(wanted)
    assert (await ours.create_session(wanted)).status == "open"


@pytest.mark.parametrize("kind", ["stuck", "depends"])
async def test_a_failure_that_stripe_keeps_for_the_key_is_a_refusal_once_it_is_repeated(
    stand_in: StandIn, ours: StripeClient, kind: str
) -> None:
    """Stripe repeats it for the same key for a day, so an attempt must not wait for it."""
    await stand_in.control("faults", kind=kind)
    wanted = checkout()
    with pytest.raises(ProviderAway):
        await ours.create_session(wanted)
    with pytest.raises(ProviderFailed) as failed:
        await ours.create_session(wanted)
    assert failed.value.reason == "Stripe could not open the checkout; ask for another"
    assert (await ours.create_session(checkout())).status == "open"


@pytest.mark.parametrize("kind", ["stuck", "depends", "broken"])
async def test_a_refund_whose_answer_is_a_kept_failure_is_looked_for(
    stand_in: StandIn, ours: StripeClient, receiver: Receiver, kind: str
) -> None:
    intent = await pay(stand_in, ours, receiver)
    asked = uuid4(), uuid4(), intent, 10_000
    await stand_in.control("faults", kind=kind)
    with pytest.raises(ProviderAway):
        await ours.refund(*asked)
    for _ in range(A_PAGE):
        await stand_in.control("refunds", payment_intent=intent, amount=1)
    if kind == "broken":
        assert (await ours.refund(*asked)).amount_minor == 10_000
    else:
        with pytest.raises(ProviderFailed) as failed:
            await ours.refund(*asked)
        assert failed.value.reason == "Stripe could not make the refund"


async def test_a_refund_whose_key_was_used_for_another_is_looked_for(
    stand_in: StandIn, ours: StripeClient, receiver: Receiver
) -> None:
    intent, asked = await pay(stand_in, ours, receiver), (uuid4(), uuid4())
    made = await ours.refund(*asked, intent, 10_000)
    assert await ours.refund(*asked, intent, 9_000) == made
    assert (await stand_in.look())["counts"]["refunds"] == 1


async def test_a_look_for_a_refund_that_is_refused_does_not_refuse_the_refund(
    stand_in: StandIn, ours: StripeClient, receiver: Receiver
) -> None:
    intent, asked = await pay(stand_in, ours, receiver), (uuid4(), uuid4())
    await ours.refund(*asked, intent, 10_000)
    await stand_in.control("faults", kind="refuse", method="GET")
    with pytest.raises(ProviderAway):
        await ours.refund(*asked, intent, 9_000)


async def test_a_refund_that_is_refused_as_it_was_made_before_is_found(
    stand_in: StandIn, ours: StripeClient, receiver: Receiver
) -> None:
    """Stripe has forgotten its idempotency key."""
    intent, id = await pay(stand_in, ours, receiver), uuid4()
    made = {"payment_intent": intent, "metadata": {"refundId": str(id)}}
    await stand_in.control("refunds", **made)
    assert (await ours.refund(id, uuid4(), intent, 20_098)).amount_minor == 20_098
    with pytest.raises(ProviderRefused) as refused:
        await ours.refund(uuid4(), uuid4(), intent, 20_098)
    assert refused.value.reason == "The payment is refunded already"
    assert (await stand_in.look())["counts"]["refunds"] == 1


@pytest.mark.parametrize("kind", [None, "stuck"])
async def test_a_refund_that_is_not_made_tells_what_a_person_has_refunded(
    stand_in: StandIn, ours: StripeClient, receiver: Receiver, kind: str | None
) -> None:
    """Also when Stripe keeps a failure for the idempotency key."""
    intent, mine = await pay(stand_in, ours, receiver), uuid4()
    asked = uuid4(), uuid4(), intent, 20_098
    if kind:
        await stand_in.control("faults", kind=kind)
        with pytest.raises(ProviderAway):
            await ours.refund(*asked)
    await stand_in.control("webhooks", hold=True)
    await ours.refund(mine, uuid4(), intent, 98)
    for _ in range(A_PAGE):
        await stand_in.control(
            "refunds", payment_intent=intent, amount=1, metadata={"refundId": "x"}
        )
    with pytest.raises(ProviderRefused) as refused:
        await ours.refund(*asked)
    told = refused.value.refunds
    *by_hand, first = [(one.amount_minor, one.status, one.refund_id) for one in told]
    assert by_hand == [(1, "succeeded", None)] * A_PAGE
    assert first == (98, "succeeded", str(mine))


async def test_the_refunds_of_a_payment_are_found_whoever_made_them(
    stand_in: StandIn, ours: StripeClient, receiver: Receiver
) -> None:
    intent, mine = await pay(stand_in, ours, receiver), uuid4()
    session = await ours.create_session(checkout())
    await stand_in.press(session.id, "pay")
    _, other = [charge["payment_intent"] for charge in (await stand_in.look())["charges"]]
    assert await ours.find_refunds(intent) == []
    await ours.refund(mine, uuid4(), intent, 98)
    await stand_in.control("refunds", payment_intent=intent, amount=2)
    await stand_in.control("refunds", payment_intent=other)
    found = [(one.amount_minor, one.refund_id) for one in await ours.find_refunds(intent)]
    assert found == [(2, None), (98, str(mine))]
    await stand_in.control("faults", kind="refuse", method="GET")
    with pytest.raises(ProviderAway):
        await ours.find_refunds(intent)


async def test_a_refusal_stands_though_the_payment_s_refunds_are_not_told(
    stand_in: StandIn, ours: StripeClient, receiver: Receiver
) -> None:
    intent = await pay(stand_in, ours, receiver)
    await stand_in.control("refunds", payment_intent=intent, amount=98)
    await stand_in.control("faults", kind="refuse", method="GET")
    with pytest.raises(ProviderRefused) as refused:
        await ours.refund(uuid4(), uuid4(), intent, 20_098)
    assert not refused.value.refunds


async def test_what_a_proxy_refuses_is_not_refused_by_stripe(
    stand_in: StandIn, ours: StripeClient
) -> None:
    await stand_in.control("faults", kind="proxy")
    wanted = checkout()
    with pytest.raises(ProviderAway):
        await ours.create_session(wanted)
    assert (await ours.create_session(wanted)).status == "open"


async def test_a_provider_that_is_not_there_is_away() -> None:
    nowhere = stripe_client("http://127.0.0.1:1")
    with pytest.raises(ProviderAway) as away:
        await nowhere.create_session(checkout())
    assert "\n" not in str(away.value), "the log has it in one line"
    await nowhere.close()


@asynccontextmanager
async def answering(answers: Mapping[str, Any]) -> AsyncIterator[StripeClient]:
    """Run another stand-in, which answers by path; yield a client of it."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(answers[request.path])

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        ours = stripe_client(str(server.make_url("/")))
        try:
            yield ours
        finally:
            await ours.close()


async def test_an_answer_needs_to_tell_no_more_than_is_read_of_it() -> None:
    """Stripe tells more, but another stand-in may not."""
    answers = {
        "/v1/checkout/sessions": {"id": "cs_1", "url": "http://stripe.example/cs_1"},
        "/v1/checkout/sessions/cs_1/expire": {"id": "cs_1", "status": "expired"},
        "/v1/refunds": {"id": "re_1", "amount": 98},
    }
    async with answering(answers) as ours:
        opened = Session("cs_1", "http://stripe.example/cs_1", "open", None)
        assert await ours.create_session(checkout()) == opened
        assert await ours.expire_session("cs_1") == Session("cs_1", None, "expired", None)
        assert await ours.refund(uuid4(), uuid4(), "pi_1", 98) == Refund("re_1", "pending", 98)


async def test_a_refund_whose_amount_is_not_told_is_of_what_was_asked_for() -> None:
    async with answering({"/v1/refunds": {"id": "re_1", "status": "succeeded"}}) as ours:
        assert await ours.refund(uuid4(), uuid4(), "pi_1", 98) == Refund("re_1", "succeeded", 98)


async def test_a_listed_refund_that_tells_no_intent_is_of_the_one_that_was_asked_for() -> None:
    others = {"id": "re_2", "amount": 2, "payment_intent": "pi_2"}
    listed = {"object": "list", "has_more": False, "data": [{"id": "re_1", "amount": 98}, others]}
    async with answering({"/v1/refunds": listed}) as ours:
        assert await ours.find_refunds("pi_1") == [Refund("re_1", "pending", 98)]


async def test_an_answer_that_lacks_what_is_needed_is_asked_for_again() -> None:
    async with answering({"/v1/checkout/sessions": {}, "/v1/refunds": {"amount": 98}}) as ours:
        with pytest.raises(ProviderAway, match="lacks id"):
            await ours.create_session(checkout())
        with pytest.raises(ProviderAway, match="lacks id"):
            await ours.refund(uuid4(), uuid4(), "pi_1", 98)


async def test_a_refusal_has_a_reason_that_a_customer_may_read(ours: StripeClient) -> None:
    cheap = replace(checkout(), lines=[Line("Pen", 1, 1)])
    with pytest.raises(ProviderRefused) as refused:
        await ours.create_session(cheap)
    assert refused.value.reason == "The amount is too small for Stripe"
    with pytest.raises(ProviderRefused) as refused:
        await ours.create_session(replace(checkout(), expires_at=now() + timedelta(minutes=29)))
    assert refused.value.reason == "The checkout could not be opened in time; ask for another"
    with pytest.raises(ProviderRefused) as refused:
        await ours.create_session(replace(checkout(), lines=[]))
    assert refused.value.reason == "Stripe does not accept this payment"


async def test_a_wrong_key_is_refused(stripe: Stripe) -> None:
    stranger = stripe_client(stripe.url, key="sk_test_of_somebody_else")
    with pytest.raises(ProviderRefused) as refused:
        await stranger.create_session(checkout())
    assert refused.value.reason == "Stripe is not configured"
    await stranger.close()


async def test_a_key_is_good_for_one_request(ours: StripeClient) -> None:
    wanted = checkout()
    first = await ours.create_session(wanted)
    assert (await ours.create_session(wanted)).id == first.id
    with pytest.raises(ProviderFailed):
        await ours.create_session(replace(wanted, lines=wanted.lines[:1]))


async def test_an_open_session_is_expired_and_another_is_told_as_it_is(
    stand_in: StandIn, ours: StripeClient, receiver: Receiver
) -> None:
    left, paid = [await ours.create_session(checkout()) for _ in range(2)]
    await stand_in.press(paid.id, "pay")
    assert (await ours.expire_session(paid.id)).status == "complete"
    for _ in range(2):
        assert (await ours.expire_session(left.id)).status == "expired"
    await until(lambda: receiver.money().failure)
    assert receiver.types().count("checkout.session.expired") == 1
    with pytest.raises(ProviderRefused):
        await ours.expire_session("cs_test_unknown")


async def test_a_session_is_told_to_a_key_that_may_not_read_payment_intents(
    stand_in: StandIn, ours: StripeClient
) -> None:
    session = await ours.create_session(checkout())
    await stand_in.press(session.id, "pay")
    await stand_in.control("faults", kind="refuse", method="GET")
    told = await ours.expire_session(session.id)
    assert (told.status, told.is_paid, told.intent_status) == ("complete", True, None)


@pytest.mark.parametrize("backwards", [False, True])
async def test_held_webhooks_come_when_and_how_they_are_asked_for(
    stand_in: StandIn, ours: StripeClient, receiver: Receiver, backwards: bool
) -> None:
    await stand_in.control("webhooks", hold=True)
    session = await ours.create_session(checkout())
    await stand_in.press(session.id, "pay")
    intent = (await stand_in.look())["charges"][0]["payment_intent"]
    await ours.refund(uuid4(), uuid4(), intent, 20_098)
    assert receiver.reports == []
    events = [event["id"] for event in (await stand_in.look())["events"]]
    assert await stand_in.deliver(backwards=backwards) == [200] * 5
    assert await stand_in.deliver(events[:1]) == [200], "twice, when asked"
    told = [report.event_id for report in receiver.reports]
    assert told == (events[::-1] if backwards else events) + events[:1]
    assert receiver.money().captured_minor == receiver.money().refunded_minor == 20_098


async def test_a_webhook_is_sent_until_it_is_taken(
    stand_in: StandIn, ours: StripeClient, receiver: Receiver
) -> None:
    receiver.statuses = [503, 503, 503]
    await pay(stand_in, ours, receiver)
    await until(lambda: len(receiver.reports) == 2)
    events = (await stand_in.look())["events"]
    answers = [answer for event in events for answer in event["answers"]]
    assert sorted(answers) == [200, 200, 503, 503, 503]


async def test_a_delayed_payment_is_complete_before_it_is_paid(
    stand_in: StandIn, ours: StripeClient, receiver: Receiver
) -> None:
    await stand_in.control("whims", delayed=True)
    session = await ours.create_session(checkout())
    await stand_in.press(session.id, "pay")
    await until(lambda: receiver.types() == ["checkout.session.completed"])
    assert not receiver.money().is_captured
    assert (await ours.expire_session(session.id)).intent_status == "processing"
    await stand_in.control(f"sessions/{session.id}/settle", paid=True)
    await until(lambda: receiver.money().captured_minor == 20_098)


async def test_a_delayed_payment_that_failed_is_told_by_its_payment_intent(
    stand_in: StandIn, ours: StripeClient
) -> None:
    await stand_in.control("whims", delayed=True)
    session = await ours.create_session(checkout())
    await stand_in.press(session.id, "pay")
    await stand_in.control(f"sessions/{session.id}/settle", paid=False)
    failed = await ours.expire_session(session.id)
    assert (failed.status, failed.is_paid) == ("complete", False)
    assert failed.intent_status == "requires_payment_method"
    assert (failed.payment_intent or "").startswith("pi_")


async def test_a_payment_that_the_stand_in_does_not_know_is_refunded_once(
    ours: StripeClient, receiver: Receiver
) -> None:
    """It is of before the last start, or told by a webhook that somebody has signed by hand."""
    intent, id = f"pi_{uuid4().hex}", uuid4()
    await ours.refund(id, uuid4(), intent, 98)
    with pytest.raises(ProviderRefused) as refused:
        await ours.refund(uuid4(), uuid4(), intent, 98)
    assert refused.value.reason == "The payment is refunded already"
    assert [one.refund_id for one in await ours.find_refunds(intent)] == [str(id)]
    await until(lambda: "charge.refunded" in receiver.types())
    with pytest.raises(ProviderRefused):
        await ours.refund(uuid4(), uuid4(), "", 98)


async def test_a_refund_can_be_refused_and_can_fail_after_it_was_accepted(
    stand_in: StandIn, ours: StripeClient, receiver: Receiver
) -> None:
    intent, order_id = await pay(stand_in, ours, receiver), uuid4()
    await stand_in.control("whims", refunds="refuse")
    refused = uuid4()
    for _ in range(2):
        with pytest.raises(ProviderRefused):
            await ours.refund(refused, order_id, intent, 20_098)
    await stand_in.control("whims", refunds="fail")
    lost = uuid4()
    accepted = await ours.refund(lost, order_id, intent, 20_098)
    await until(lambda: receiver.money().refunds_failed == {str(lost)})
    assert (await ours.find_refund(accepted.id)).status == "failed"
    await stand_in.control("whims")
    await ours.refund(uuid4(), order_id, intent, 20_098)
    await until(lambda: receiver.money().refunded_minor == 20_098)
    with pytest.raises(ProviderRefused) as done:
        await ours.refund(uuid4(), order_id, intent, 1)
    assert done.value.reason == "The payment is refunded already"
