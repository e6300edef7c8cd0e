"""A provider's books of one payment, the reports of it, and the payment's state, as values."""

from functools import cache
from typing import NamedTuple
from uuid import UUID

from app.money.ledger import Fact, Kind, Money, money_of
from app.money.statuses import PaymentStatus
from app.money.steps import PaymentState

TOTAL, CURRENCY = 9999, "PLN"
MAX_FAILED_REFUNDS = 2
"""How many refunds may fail before the payment is left to an operator."""


class Entry(NamedTuple):
    """A payment's state as a value."""

    status: PaymentStatus
    money: Money = Money()
    refunds: tuple[int, ...] = ()
    refused: frozenset[str] = frozenset()
    announced: int = 0
    max_failed_refunds: int = MAX_FAILED_REFUNDS


class Payment(NamedTuple):
    """One payment: what its provider did, what of that was reported, and our record of it."""

    amount: int = TOTAL
    taken: int = 0
    given: int = 0
    by_hand: int = 0
    """Refunded by a person, in Stripe's dashboard."""
    requested: bool = True
    internal: bool = False
    in_transit: frozenset[Fact] = frozenset()
    arrived: frozenset[Fact] = frozenset()
    entry: Entry | None = None
    """None if we have no record of it."""

    def has(self, *statuses: PaymentStatus) -> bool:
        return self.entry is not None and self.entry.status in statuses


def paid(amount: int = TOTAL, currency: str = CURRENCY, *before: Fact) -> Payment:
    """Return the payment of a session that the customer has paid."""
    return Payment(amount, amount, in_transit=frozenset({Fact.captured(amount, currency), *before}))


def by_hand(payment: Payment, *amounts: int, fails: bool = False, slowly: bool = False) -> Payment:
    """Return the payment after a person refunded `amounts`.

    The refunds fail if `fails`; if `slowly`, they are reported as pending first.
    """
    for number, amount in enumerate(amounts):
        id, gone = f"by hand {number}", payment.given + amount
        sent = {Fact.refund(id, amount, "succeeded"), Fact.refunded_in_all(gone)}
        sent |= {Fact.refund(id, amount, "pending")} if slowly else set()
        payment = payment._replace(
            in_transit=payment.in_transit | (lost(id, amount, gone) if fails else sent),
            given=payment.given if fails else gone,
            by_hand=payment.by_hand + (0 if fails else amount),
        )
    return payment


def lost(id: str, amount: int, in_all: int, refund_id: str | None = None) -> frozenset[Fact]:
    """Return the reports of a refund that fails after it was accepted."""
    return frozenset(
        {
            Fact.refund(id, amount, "pending", refund_id),
            Fact.refunded_in_all(in_all),
            Fact.refund(id, amount, "failed", refund_id),
        }
    )


def made(payment: Payment) -> frozenset[Fact]:
    """Return all refunds of the payment as they are, of which a refusal tells."""
    told = [fact for fact in payment.in_transit | payment.arrived if fact.kind is Kind.REFUND]
    ended = {fact.provider_refund_id for fact in told if fact.refund_status != "pending"}
    return frozenset(
        fact
        for fact in told
        if fact.refund_status != "pending" or fact.provider_refund_id not in ended
    )


@cache
def money(facts: frozenset[Fact]) -> Money:
    """Return the money that `facts` add up to; assert that order and duplicates change nothing."""
    told = sorted(facts, key=repr)
    result = money_of(told)
    assert money_of(reversed(told)) == money_of(told * 2) == result
    return result


@cache
def learn(entry: Entry, facts: frozenset[Fact]) -> Entry:
    state = as_state(0, entry)
    state.learn(money(facts))
    return as_entry(state)


def as_state(place: int, entry: Entry) -> PaymentState:
    refunds = {f"{place}.{number}": amount for number, amount in enumerate(entry.refunds)}
    refused = set(entry.refused)
    id = UUID(int=place)
    return PaymentState(
        id,
        entry.status,
        entry.money,
        refunds,
        refused,
        entry.announced,
        entry.max_failed_refunds,
    )


def as_entry(state: PaymentState) -> Entry:
    return Entry(
        state.status,
        state.money,
        tuple(state.refunds.values()),
        frozenset(state.refused),
        state.announced_minor,
        state.max_failed_refunds,
    )
