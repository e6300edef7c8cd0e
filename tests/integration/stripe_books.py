"""What Stripe did for an order and reports of it, and a fake Stripe for the provider calls."""

from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

from app.money.ledger import Fact
from app.stripe.api import Checkout, Refund, Session
from app.stripe.errors import ProviderRefused
from app.stripe.webhook import Report
from app.times import now

TYPES = {
    "captured": "checkout.session.completed",
    "failed": "checkout.session.async_payment_failed",
    "refund": "refund.updated",
    "refunded_in_all": "charge.refunded",
}


def report_of(
    fact: Fact,
    order_id: UUID | None,
    session: str | None,
    intent: str | None,
    attempt_id: UUID | None = None,
) -> Report:
    """Return a report as the webhook reads it, with an id of its own."""
    is_session = fact.kind in ("captured", "failed")
    return Report(
        event_id=f"evt_{uuid4().hex}",
        type=TYPES[fact.kind],
        created=now(),
        order_id=order_id if is_session else None,
        attempt_id=attempt_id if is_session else None,
        session_id=session if is_session else None,
        payment_intent=intent,
        fact=fact,
    )


@dataclass
class Books:
    """One Checkout Session at Stripe: what was captured and refunded, and the reports of it."""

    order_id: UUID
    amount: int
    currency: str
    attempt_id: UUID | None = None
    session: str = field(default_factory=lambda: f"cs_{uuid4().hex}")
    intent: str = field(default_factory=lambda: f"pi_{uuid4().hex}")
    status: str = "open"
    intent_status: str = "processing"
    taken: int = 0
    given: int = 0
    by_hand: int = 0
    refunds: dict[UUID, str] = field(default_factory=dict)
    made: list[Refund] = field(default_factory=list)
    """All refunds, also those that a person has made."""
    reports: list[Report] = field(default_factory=list)

    def tell(self, fact: Fact) -> None:
        self.reports.append(
            report_of(fact, self.order_id, self.session, self.intent, self.attempt_id)
        )

    def pay(self) -> None:
        """The customer pays."""
        self.status, self.taken = "complete", self.amount
        self.intent_status = "succeeded"
        self.tell(Fact.captured(self.amount, self.currency))

    def fail(self) -> None:
        """A delayed payment fails."""
        self.status, self.intent_status = "complete", "requires_payment_method"
        self.tell(Fact.failed("The payment failed"))

    def expire(self) -> None:
        """The session expires if it is open."""
        if self.status == "open":
            self.status = "expired"
            self.tell(Fact.expired())

    def give(self, amount: int, refund_id: UUID | None = None) -> str:
        """Refund `amount`; return the refund's id. Raises ProviderRefused for more than is left."""
        if refund_id in self.refunds:
            return self.refunds[refund_id]
        if self.given + amount > self.taken:
            raise ProviderRefused("The payment is refunded already", "refused", self.made)
        self.given += amount
        self.by_hand += amount if refund_id is None else 0
        id = f"re_{uuid4().hex}"
        if refund_id:
            self.refunds[refund_id] = id
        self.made.append(Refund(id, "succeeded", amount, refund_id and str(refund_id)))
        self.tell(Fact.refund(id, amount, "succeeded", refund_id and str(refund_id)))
        self.tell(Fact.refunded_in_all(self.given))
        return id


class Bank:
    """A fake Stripe for `Calls`, with the books of every session."""

    def __init__(self) -> None:
        self.books: list[Books] = []
        self.asked: dict[UUID, Checkout] = {}
        self.refunds_are = "succeeded"
        self._refunds: dict[str, Refund] = {}
        self.return_urls = "http://shop.example/paid", "http://shop.example/left"

    async def create_session(self, wanted: Checkout) -> Session:
        if self.asked.setdefault(wanted.attempt_id, wanted) != wanted:
            raise ProviderRefused("refused", "the same key was used for something else")
        for books in self.books:
            if books.attempt_id == wanted.attempt_id:
                return _session(books)
        total = sum(line.quantity * line.unit_minor for line in wanted.lines)
        books = Books(wanted.order_id, total, wanted.currency, wanted.attempt_id)
        self.books.append(books)
        return _session(books)

    async def expire_session(self, session_id: str) -> Session:
        (books,) = [one for one in self.books if one.session == session_id]
        books.expire()
        return _session(books)

    async def find_session(self, session_id: str) -> Session:
        (books,) = [one for one in self.books if one.session == session_id]
        return _session(books)

    async def refund(
        self, refund_id: UUID, order_id: UUID, payment_intent: str, amount_minor: int
    ) -> Refund:
        (books,) = [one for one in self.books if one.intent == payment_intent]
        id = books.give(amount_minor, refund_id)
        self._refunds[id] = Refund(id, self.refunds_are, amount_minor)
        return self._refunds[id]

    async def find_refunds(self, payment_intent: str) -> list[Refund]:
        return [made for one in self.books if one.intent == payment_intent for made in one.made]

    async def find_refund(self, id: str) -> Refund:
        return replace(self._refunds[id], status=self.refunds_are)


def _session(books: Books) -> Session:
    url = f"https://stripe.example/{books.session}" if books.status == "open" else None
    intent = books.intent if books.status == "complete" else None
    money = books.taken > 0, books.amount, books.currency
    return Session(books.session, url, books.status, intent, intent and books.intent_status, *money)
