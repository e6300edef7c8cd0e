"""A model of one order: providers with their books, the reports they send, and our ledger.

A world is a value. `moves` yields everything that can happen next with the resulting worlds, so
that a test can visit all of them, or take a random walk through a larger one. Reports, events and
calls stay pending until they are chosen, in any order.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from app.lifecycle import INCORRECT_AMOUNT, MOVES, Status
from app.money.ledger import Fact, Kind
from app.money.statuses import LIVE, PaymentStatus
from app.money.steps import Cancel, Fail, RequestRefund, Step, Succeed, apply, steps_of
from tests.unit.money_books import (
    CURRENCY,
    MAX_FAILED_REFUNDS,
    TOTAL,
    Entry,
    Payment,
    as_entry,
    as_state,
    learn,
    lost,
    made,
)
from tests.unit.money_rules import assert_called_for, assert_status_tells, settles

Message = tuple[str, int, int]
"""A topic, the payment's place, and the number of its refund."""


class World(NamedTuple):
    """One order, its payments, the published and handled messages, and the calls to be made."""

    status: Status
    payments: tuple[Payment, ...]
    may_pay: tuple[int, ...] = (TOTAL, TOTAL - 1)
    """The amounts of which the customer may ask the internal provider to take one, once."""
    may_fail: int = 1
    """How many refunds may still fail after they were accepted."""
    messages: frozenset[Message] = frozenset()
    handled: frozenset[Message] = frozenset()
    calls: frozenset[Message] = frozenset()

    @property
    def waiting(self) -> frozenset[Message]:
        return self.messages - self.handled

    def publish(self, message: Message) -> "World":
        assert message not in self.messages, f"{message} is published twice"
        return self._replace(messages=self.messages | {message})

    def change(self, place: int, **changes: object) -> "World":
        payment = self.payments[place]._replace(**changes)
        return self._replace(
            payments=(*self.payments[:place], payment, *self.payments[place + 1 :])
        )


Move = tuple[str, World]


def moves(world: World, in_stock: tuple[bool, ...] = (True, False)) -> Iterator[Move]:
    """Yield what can happen by itself; `in_stock` is what inventory may find."""
    for place, payment in enumerate(world.payments):
        if payment.entry or not payment.requested:
            for fact in payment.in_transit:
                yield f"{place} arrives: {fact}", arrive(world, place, fact)
        if payment.has(PaymentStatus.REFUND_FAILED) and not payment.in_transit:
            yield f"{place} is retried", retry(world, place)
    for message in world.waiting:
        handled = world._replace(handled=world.handled | {message})
        for there in in_stock if message[0] == "order.paid" else (True,):
            yield f"{message} in stock {there}", handle(handled, message, there)
    for call in world.calls:
        yield from ask(world, call)


def whims(world: World) -> Iterator[Move]:
    """Yield what the customer may do."""
    if Status.CANCELLED in MOVES[world.status]:
        yield "cancel", cancel(world)
    if world.status is not Status.CREATED or any(
        one.requested and one.has(*LIVE) for one in world.payments
    ):
        return
    for place, payment in enumerate(world.payments):
        if payment.requested and not payment.entry:
            yield f"check out {place}", world.change(place, entry=Entry(PaymentStatus.PENDING))
    for amount in world.may_pay:
        yield f"pay {amount}", pay(world, amount)


def arrive(world: World, place: int, fact: Fact) -> World:
    """Let a report arrive: update the payment from all its reports, and settle the order."""
    payment = world.payments[place]
    entry = payment.entry or Entry(unasked(world, fact))
    known = payment.arrived | {fact}
    return settled(
        world.change(
            place,
            in_transit=payment.in_transit - {fact},
            arrived=known,
            entry=learn(entry, known),
        )
    )


def unasked(world: World, fact: Fact) -> PaymentStatus:
    """Return how a payment begins of which a session tells that we have no attempt for.

    Its money counts, and its failure does while the order is unpaid.
    """
    is_paid = any(one.has(PaymentStatus.SUCCEEDED) for one in world.payments)
    waits = world.status is Status.CREATED and not is_paid
    fails = fact.kind is Kind.FAILED
    return PaymentStatus.PENDING if waits and fails else PaymentStatus.VOIDED


def settled(world: World) -> World:
    """Return the world with its order settled."""
    known = [place for place, payment in enumerate(world.payments) if payment.entry]
    entries = tuple((place, entry) for place in known if (entry := world.payments[place].entry))
    steps, after = _settled(world.status, entries)
    if not steps:
        return world
    for place, entry in after:
        world = world.change(place, entry=entry)
    for step in steps:
        world = follow(world, step)
    return world


Entries = tuple[tuple[int, Entry], ...]


@cache
def _settled(status: Status, entries: Entries) -> tuple[list[Step], Entries]:
    accounts = {place: as_state(place, entry) for place, entry in entries}
    steps = steps_of(status, TOTAL, CURRENCY, list(accounts.values()))
    for step in steps:
        assert_called_for(status, step, accounts)
        if isinstance(step, Cancel):
            status = Status.CANCELLED
        else:
            state = accounts[step.payment.int]
            apply(state, step, f"{step.payment.int}.{len(state.refunds)}")
    assert steps_of(status, TOTAL, CURRENCY, list(accounts.values())) == [], "twice is once"
    for state in accounts.values():
        assert_status_tells(state)
    return steps, tuple((place, as_entry(state)) for place, state in accounts.items())


def follow(world: World, step: Step) -> World:
    """Return the world after what a step leads to besides the state: an event, or a call."""
    match step:
        case Cancel():
            return cancel(world)
        case Succeed(payment):
            return world.publish(("payment.succeeded", payment.int, 0))
        case Fail(payment):
            return world.publish(("payment.failed", payment.int, 0))
        case RequestRefund(payment):
            owner = world.payments[payment.int]
            assert owner.entry
            request = ("payment.refund_requested", payment.int, len(owner.entry.refunds) - 1)
            if owner.internal:
                return world.publish(request)
            return world._replace(calls=world.calls | {request})
    return world


def cancel(world: World) -> World:
    """Cancel the order, on request, on expiry or for lack of stock; the consequences come later."""
    return end(world, Status.CANCELLED).publish(("order.cancelled", 0, 0))


MOOT = ("payment.succeeded", "payment.failed", "order.paid")
"""Topics whose pending messages have no effect once an order has ended."""


def end(world: World, status: Status) -> World:
    moot = {message for message in world.messages if message[0] in MOOT}
    return world._replace(status=status, handled=world.handled | moot)


def pay(world: World, amount: int) -> World:
    """Let the customer pay through the internal provider."""
    place = len(world.payments)
    payment = Payment(amount, internal=True, entry=Entry(PaymentStatus.PENDING))
    world = world._replace(payments=(*world.payments, payment), may_pay=())
    return world.publish(("order.payment_requested", place, 0))


def handle(world: World, message: Message, in_stock: bool) -> World:
    """Return the world after the agents have handled a message."""
    topic, place, number = message
    holds = any(one.has(PaymentStatus.SUCCEEDED) for one in world.payments)
    match topic:
        case "order.payment_requested":
            return capture(settled(world), place)
        case "payment.succeeded" if world.status is Status.CREATED:
            return world._replace(status=Status.PAID).publish(("order.paid", 0, 0))
        case "payment.failed" if world.status is Status.CREATED and not holds:
            return cancel(world)
        case "order.paid" if world.status is Status.PAID:
            return complete(world) if in_stock else cancel(world)
        case "order.cancelled":
            return settled(world)
        case "payment.refund_requested":
            return refund_at_once(world, place, number)
    return world


def capture(world: World, place: int) -> World:
    """Let the internal provider capture the exact amount, if the attempt is still pending."""
    payment = world.payments[place]
    if not payment.has(PaymentStatus.PENDING):
        return world
    if payment.amount != TOTAL:
        return arrive(world, place, Fact.failed(INCORRECT_AMOUNT))
    return arrive(world.change(place, taken=TOTAL), place, Fact.captured(TOTAL, CURRENCY))


def complete(world: World) -> World:
    kept = [one.entry for one in world.payments if one.entry and one.has(PaymentStatus.SUCCEEDED)]
    assert [settles(one.money) for one in kept] == [True], "nothing ships unpaid"
    return end(world, Status.COMPLETED)


def refund_at_once(world: World, place: int, number: int) -> World:
    """Let the internal provider refund, which succeeds at once."""
    payment = world.payments[place]
    assert payment.entry
    id = f"{place}.{number}"
    if not payment.has(PaymentStatus.REFUNDING) or id in payment.entry.money.refunds_known:
        return world
    amount = payment.entry.refunds[number]
    world = world.change(place, given=payment.given + amount)
    return arrive(world, place, Fact.refund(id, amount, "succeeded", id))


def ask(world: World, call: Message) -> Iterator[Move]:
    """Yield the outcomes of a refund call: refused, or accepted, and then settled or failed."""
    _, place, number = call
    payment = world.payments[place]
    world = world._replace(calls=world.calls - {call})
    id = f"{place}.{number}"
    entry = payment.entry
    assert entry
    amount = entry.refunds[number]
    if payment.given + amount > payment.taken:
        assert payment.by_hand, "no money is refunded twice"
        refused = entry._replace(refused=entry.refused | {id})
        known = payment.arrived | made(payment)
        told = world.change(place, arrived=known, entry=learn(refused, known))
        yield f"{id} is refused", settled(told)
        return
    gone = payment.given + amount
    facts = {Fact.refund(id, amount, "succeeded", id), Fact.refunded_in_all(gone)}
    sent = payment.in_transit | facts
    yield f"{id} is made", world.change(place, in_transit=sent, given=gone)
    if world.may_fail:
        sent = payment.in_transit | lost(id, amount, gone, id)
        less = world._replace(may_fail=world.may_fail - 1)
        yield f"{id} fails", less.change(place, in_transit=sent)


def retry(world: World, place: int) -> World:
    """Let an operator retry a failed refund."""
    entry = world.payments[place].entry
    assert entry
    failed_refunds = as_state(place, entry).failed_refunds
    again = entry._replace(max_failed_refunds=failed_refunds + MAX_FAILED_REFUNDS)
    return settled(world.change(place, entry=again))
