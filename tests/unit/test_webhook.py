"""Stripe's webhook: verification of the sender, and the content."""

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.errors import BadSignature, InvalidInput
from app.money.ledger import Fact
from app.stripe.webhook import Report, read, verify

NOW = datetime(2026, 1, 3, 12, tzinfo=UTC)
BODY = '{"id": "evt_1", "żółć": 1}'.encode()
OLD, NEW, FOREIGN = "whsec_old", "whsec_new", "whsec_foreign"


def signature(secret: str, moment: datetime = NOW, body: bytes = BODY) -> str:
    """Return the signature as Stripe documents it, not as its library computes it."""
    signed = b"%d." % moment.timestamp() + body
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def header(*signatures: str, moment: datetime = NOW) -> str:
    return ",".join([f"t={int(moment.timestamp())}", *(f"v1={one}" for one in signatures)])


def is_ours(header: str | None, *secrets: str, body: bytes = BODY) -> bool:
    try:
        verify(body, header, secrets or (NEW,), NOW)
        return True
    except BadSignature:
        return False


def test_a_signature_with_our_secret_is_ours() -> None:
    assert is_ours(header(signature(NEW)))


def test_another_body_is_not_ours() -> None:
    assert not is_ours(header(signature(NEW)), body=BODY + b" ")


@pytest.mark.parametrize("secret", [FOREIGN, "", "WHSEC_NEW"])
def test_another_secret_is_not_ours(secret: str) -> None:
    assert not is_ours(header(signature(secret)))


def test_nothing_is_ours_without_a_secret() -> None:
    with pytest.raises(BadSignature):
        verify(BODY, header(signature("")), (), NOW)
    assert not is_ours(header(signature("")), "")


@pytest.mark.parametrize(
    ("seconds", "ours"), [(300, True), (301, False), (-300, True), (-301, False)]
)
def test_it_may_be_five_minutes_old_or_early_and_no_more(seconds: int, ours: bool) -> None:
    moment = NOW + timedelta(seconds=seconds)
    assert is_ours(header(signature(NEW, moment), moment=moment)) is ours


def test_a_clock_that_is_off_is_told_from_another_secret() -> None:
    early = NOW - timedelta(hours=1)
    with pytest.raises(BadSignature, match="more than 300 seconds from ours"):
        verify(BODY, header(signature(NEW, early), moment=early), (NEW,), NOW)
    with pytest.raises(BadSignature, match="not made with our secret"):
        verify(BODY, header(signature(FOREIGN)), (NEW,), NOW)


def test_another_time_than_the_signed_one_is_not_ours() -> None:
    assert not is_ours(header(signature(NEW, NOW - timedelta(hours=1))))
    replayed = (
        f"{header(signature(NEW, NOW - timedelta(hours=1)), moment=NOW - timedelta(hours=1))}"
    )
    assert not is_ours(f"{replayed},t={int(NOW.timestamp())}")


def test_one_of_many_signatures_is_enough() -> None:
    assert is_ours(header(signature(FOREIGN), "0" * 64, signature(NEW)))


def test_both_secrets_are_good_while_one_replaces_the_other() -> None:
    for secret in (OLD, NEW):
        assert is_ours(header(signature(secret)), OLD, NEW)
    assert not is_ours(header(signature(OLD)), NEW)


@pytest.mark.parametrize(
    "malformed",
    [
        None,
        "",
        "t=,v1=",
        "v1=" + signature(NEW),
        header(),
        header().replace("t=", "t=x"),
        header(signature(NEW)).replace("v1", "v0"),
        header("é" * 64),
        header(signature(NEW)).replace(",", ";"),
        f"t={10**30},v1={signature(NEW)}",
        "t",
    ],
)
def test_a_malformed_header_is_not_ours(malformed: str | None) -> None:
    assert not is_ours(malformed)


def test_bytes_that_are_no_text_are_not_ours() -> None:
    body = b"\xff\xfe"
    assert not is_ours(header(signature(NEW, body=body)), body=body)


ORDER = uuid4()
OURS = str(uuid4())
"""Our id of a refund."""


def event(type: str, **found: Any) -> bytes:
    body = {"id": "evt_1", "object": "event", "type": type, "created": 1767441600}
    return json.dumps({**body, "data": {"object": found}}).encode()


def session(type: str, **changes: Any) -> bytes:
    session = {
        "id": "cs_test_1",
        "object": "checkout.session",
        "amount_total": 9999,
        "currency": "pln",
        "payment_status": "paid",
        "payment_intent": "pi_1",
        "metadata": {"orderId": str(ORDER)},
        "client_reference_id": None,
    }
    return event(f"checkout.session.{type}", **{**session, **changes})


def of_an_account(payload: bytes) -> bytes:
    """Return the event as one of an account that is connected to ours."""
    return json.dumps({**json.loads(payload), "account": "acct_1"}).encode()


THIN = {
    "id": "evt_1",
    "object": "v2.core.event",
    "type": "v2.core.event_destination.ping",
    "livemode": False,
    "created": "2026-01-03T12:00:00.000Z",
    "related_object": {"id": "ed_1", "type": "v2.core.event_destination", "url": "/v2/core"},
}
"""An event as a destination of Stripe's API v2 gets it: https://docs.stripe.com/event-destinations."""


@pytest.mark.parametrize(
    "body",
    [
        THIN,
        {
            "id": "evt_1",
            "type": "customer.created",
            "created": 1,
            "data": {"object": {"metadata": 1}},
        },
        {"id": "evt_1", "type": "customer.created", "created": 1, "data": {"object": None}},
        {"id": "evt_1", "type": "customer.created", "data": None},
        {"id": "evt_1", "type": "customer.created"},
    ],
)
def test_an_event_of_another_type_has_an_id_and_a_type_and_may_have_any_shape(
    body: dict[str, Any],
) -> None:
    for is_live in (False, True):
        report = read(json.dumps(body).encode(), is_live=is_live)
        assert report == Report("evt_1", body["type"])


def test_an_event_of_another_type_tells_its_order_if_it_has_the_usual_shape() -> None:
    intent = {"id": "pi_1", "object": "payment_intent", "metadata": {"orderId": str(ORDER)}}
    report = read(event("payment_intent.created", **intent))
    assert (report.order_id, report.created) == (ORDER, NOW), "for whoever looks for its events"


def in_mode(livemode: object, payload: bytes) -> bytes:
    return json.dumps({**json.loads(payload), "livemode": livemode}).encode()


REFUND = {
    "id": "re_1",
    "object": "refund",
    "amount": 500,
    "currency": "pln",
    "payment_intent": "pi_1",
    "status": "succeeded",
    "metadata": {"orderId": str(ORDER), "refundId": OURS},
}
CHARGE = {
    "id": "ch_1",
    "object": "charge",
    "amount": 9999,
    "amount_refunded": 500,
    "payment_intent": "pi_1",
    "metadata": {"orderId": str(ORDER)},
}


@pytest.mark.parametrize(
    ("payload", "fact"),
    [
        (session("completed"), Fact.captured(9999, "PLN")),
        (session("completed", payment_status="unpaid"), None),
        (session("completed", payment_status="no_payment_required", amount_total=0), None),
        (session("completed", mode="payment"), Fact.captured(9999, "PLN")),
        (session("completed", mode="subscription", payment_intent=None), None),
        (of_an_account(session("completed")), None),
        (session("async_payment_succeeded"), Fact.captured(9999, "PLN")),
        (session("async_payment_failed"), Fact.failed("The payment failed")),
        (session("async_payment_failed", mode="subscription"), None),
        (session("expired", payment_status="unpaid"), Fact.expired()),
        (session("expired", payment_status="unpaid", mode="subscription"), None),
        (event("charge.refunded", **CHARGE), Fact.refunded_in_all(500)),
        (event("refund.created", **REFUND), Fact.refund("re_1", 500, "succeeded", OURS)),
        (
            event("refund.created", **REFUND | {"status": None}),
            Fact.refund("re_1", 500, "pending", OURS),
        ),
        (
            event("refund.failed", **{**REFUND, "status": "failed", "metadata": {}}),
            Fact.refund("re_1", 500, "failed"),
        ),
        (
            event("charge.refund.updated", **REFUND | {"status": "failed"}),
            Fact.refund("re_1", 500, "failed", OURS),
        ),
        (event("customer.created", id="cus_1", object="customer"), None),
    ],
)
def test_an_event_says_what_became_of_the_money(payload: bytes, fact: Fact | None) -> None:
    assert read(payload).fact == fact


@pytest.mark.parametrize(
    ("livemode", "is_live", "is_test"),
    [
        (False, True, True),
        (False, False, False),
        (True, True, False),
        (True, False, False),
        (None, True, False),
    ],
)
def test_play_money_pays_nothing_where_money_is_real(
    livemode: object, is_live: bool, is_test: bool
) -> None:
    report = read(in_mode(livemode, session("completed")), is_live=is_live)
    assert report.is_test is is_test
    assert report.fact == (None if is_test else Fact.captured(9999, "PLN"))
    assert (report.event_id, report.order_id) == ("evt_1", ORDER), "it is kept all the same"


def test_an_event_that_does_not_tell_its_mode_counts() -> None:
    assert read(session("completed"), is_live=True).fact == Fact.captured(9999, "PLN")


@pytest.mark.parametrize("theirs", ["refund 5", "x" * 500, "two\nlines", "", 5])
def test_a_refund_with_an_id_that_somebody_else_has_given_it_is_not_ours(theirs: object) -> None:
    report = read(event("refund.created", **REFUND | {"metadata": {"refundId": theirs}}))
    assert report.fact == Fact.refund("re_1", 500, "succeeded")


LINKED = {"payment_link": "plink_1", "client_reference_id": str(ORDER)}
"""What a session of a payment link has, if whoever opens the link gives it a reference."""


@pytest.mark.parametrize(
    ("changes", "order_id"),
    [
        ({}, ORDER),
        ({"metadata": {}, "client_reference_id": str(ORDER)}, ORDER),
        ({"metadata": {"orderId": "none"}, "client_reference_id": str(ORDER)}, ORDER),
        ({"metadata": {"orderId": str(ORDER)}, "client_reference_id": str(uuid4())}, ORDER),
        ({"metadata": None, "client_reference_id": "a cart"}, None),
        ({"payment_link": "plink_1", "client_reference_id": str(uuid4())}, ORDER),
        (LINKED | {"metadata": {}}, ORDER),
        (LINKED | {"metadata": {"orderId": "none"}}, ORDER),
        (LINKED | {"metadata": None, "payment_link": None}, ORDER),
    ],
)
def test_the_order_is_found_where_it_is_told(changes: Any, order_id: UUID | None) -> None:
    assert read(session("completed", **changes)).order_id == order_id


def test_an_event_needs_to_tell_no_more_than_is_read_of_it() -> None:
    """Stripe tells more, but who signs an event by hand may not."""
    paid = {"id": "cs_1", "payment_status": "paid", "amount_total": 9999, "currency": "pln"}
    whole = {"type": "checkout.session.completed", "data": {"object": paid}}
    fact = Fact.captured(9999, "PLN")
    report = read(json.dumps({"id": "evt_1", **whole}).encode())
    assert report == Report("evt_1", whole["type"], session_id="cs_1", fact=fact)
    assert read(event("charge.refunded", amount_refunded=500)).fact == Fact.refunded_in_all(500)


def test_the_money_is_known_by_our_attempt_its_session_and_its_intent() -> None:
    attempt = uuid4()
    report = read(session("completed", metadata={"paymentId": str(attempt)}))
    assert (report.attempt_id, report.session_id) == (attempt, "cs_test_1")
    report = read(session("completed", payment_intent={"id": "pi_1", "object": "payment_intent"}))
    assert (report.session_id, report.payment_intent) == ("cs_test_1", "pi_1")
    copied = {"metadata": {"orderId": str(ORDER), "paymentId": str(attempt)}}
    report = read(event("refund.created", **REFUND | copied))
    assert (report.attempt_id, report.session_id, report.payment_intent) == (None, None, "pi_1")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"null",
        b'{"id": "evt_1", "type": "refund.created", "created": 1, "data": {}}',
        b'{"id": "evt_1", "data": ' + b"[" * 100_000,
        b'{"id": 7, "type": "customer.created"}',
        b'{"id": "evt_1", "type": ""}',
        b'{"id": "evt_1"}',
        session("expired").replace(b"1767441600", b"1e9"),
        session("expired").replace(b"1767441600", b"1" * 30),
        of_an_account(event("charge.refunded", payment_intent=1)),
        session("completed", amount_total=None),
        session("completed", amount_total=-1),
        session("completed", amount_total=1250.9),
        session("completed", amount_total=True),
        session("completed", amount_total=10**15),
        session("completed", currency="pln\u0000"),
        event("refund.created", **{**REFUND, "amount": -5}),
        event("refund.created", **{**REFUND, "status": 5}),
        event("charge.refunded", **{**CHARGE, "amount_refunded": "500"}),
        session("completed", id="cs\u0000"),
        b'{"id": "evt_1", "type": "customer.created", "data": NaN}',
    ],
)
def test_what_is_no_event_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidInput):
        read(payload)
