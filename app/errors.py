"""Problems, which are answers to clients, and errors of events that no handler can take.

A problem's docstring is the default detail that clients read. `status`, `slug` and `title` follow
RFC 9457: the title never changes within a type. `web.http.problems` turns problems into responses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class Problem(Exception):
    """The request cannot be served"""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal server error"
    retry_after: int | None = None
    """Seconds after which the same request may succeed, or None."""

    def __init__(self, detail: str | None = None, errors: "Sequence[FieldError]" = ()) -> None:
        self.detail = detail or type(self).__doc__ or self.title
        self.errors = errors
        super().__init__(self.detail)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One bad field: what is wrong, and a JSON pointer (RFC 6901) to it as a URI fragment."""

    detail: str
    pointer: str


class InvalidInput(Problem):
    """The request is not valid"""

    status, slug, title = 400, "invalid-input", "Invalid input"

    def __init__(self, errors: list[FieldError], detail: str | None = None) -> None:
        super().__init__(detail, errors)

    @classmethod
    def of(cls, pointer: str, detail: str) -> "InvalidInput":
        """Create the error of a single field, whose detail is also the problem's."""
        return cls([FieldError(detail, pointer)], detail)


class BadSignature(Problem):
    """The Stripe-Signature is missing, malformed, too old, or not made with our secret"""

    status, slug, title = 400, "bad-signature", "Bad signature"


class Unauthorized(Problem):
    """A valid bearer token is required"""

    status, slug, title = 401, "unauthorized", "Unauthorized"


class TokenExpired(Unauthorized):
    """The bearer token has expired"""


class InvalidCredentials(Problem):
    """Invalid credentials"""

    status, slug, title = 401, "invalid-credentials", "Invalid credentials"


class Forbidden(Problem):
    """You are not allowed to do this"""

    status, slug, title = 403, "forbidden", "Forbidden"


class NotFound(Problem):
    """Nothing is served at this address"""

    status, slug, title = 404, "not-found", "Not found"


class OrderNotFound(Problem):
    """Order not found"""

    status, slug, title = 404, "order-not-found", "Order not found"


class ProductNotFound(Problem):
    """Product not found"""

    status, slug, title = 404, "product-not-found", "Product not found"


class ParkedNotFound(Problem):
    """Parked message not found"""

    status, slug, title = 404, "parked-not-found", "Parked message not found"


class MethodNotAllowed(Problem):
    """This address does not take this method"""

    status, slug, title = 405, "method-not-allowed", "Method not allowed"


class BodyTooSlow(Problem):
    """The body did not arrive within 10 seconds"""

    status, slug, title = 408, "body-too-slow", "Request timeout"
    retry_after = 1


class EmailTaken(Problem):
    """Email already exists"""

    status, slug, title = 409, "email-taken", "Email already exists"


class ProductNameTaken(Problem):
    """A product of this name already exists"""

    status, slug, title = 409, "product-name-taken", "Product name already exists"


class ForeignCurrency(Problem):
    """The catalogue has prices in another currency than this worker's STRIPE_CURRENCY"""

    status, slug, title = 409, "foreign-currency", "One currency serves the whole catalogue"


class NotEnoughStock(Problem):
    """Not enough stock"""

    status, slug, title = 409, "not-enough-stock", "Not enough stock"


class NotPayable(Problem):
    """Only CREATED orders can be paid"""

    status, slug, title = 409, "not-payable", "Order is not payable"


class NotCancellable(Problem):
    """Only CREATED or PAID orders can be cancelled"""

    status, slug, title = 409, "not-cancellable", "Order is not cancellable"


class StockBelowReserved(Problem):
    """The stock cannot fall below what is reserved"""

    status, slug, title = 409, "stock-below-reserved", "Stock below what is reserved"


class NothingToPay(Problem):
    """An order of 0 cannot be paid at Stripe; pay it here"""

    status, slug, title = 409, "nothing-to-pay", "Nothing to pay"


class PayAtStripe(Problem):
    """This order has to be paid at Stripe; only one of 0 is paid here"""

    status, slug, title = 409, "pay-at-stripe", "Pay at Stripe"


class TooManyAttempts(Problem):
    """Too many attempts to pay this order at Stripe have failed; ask again in ten minutes"""

    status, slug, title = 409, "too-many-attempts", "Too many attempts to pay"


class PaymentInProgress(Problem):
    """A payment of this order is already under way"""

    status, slug, title = 409, "payment-in-progress", "Payment in progress"


class AlreadyResolved(Problem):
    """The parked message was replayed or discarded already"""

    status, slug, title = 409, "already-resolved", "Parked message is resolved"


class IdempotencyInProgress(Problem):
    """The first request with this Idempotency-Key is still running"""

    status, slug, title = 409, "idempotency-in-progress", "Request in progress"
    retry_after = 1


class StaleVersion(Problem):
    """None of the versions in If-Match is the order's; weak tags never match"""

    status, slug, title = 412, "stale-version", "Precondition failed"


class PayloadTooLarge(Problem):
    """The body is larger than this address takes"""

    status, slug, title = 413, "payload-too-large", "Payload too large"


class UnsupportedMediaType(Problem):
    """The body must be application/json, optionally compressed with gzip or deflate"""

    status, slug, title = 415, "unsupported-media-type", "Unsupported media type"


class ExpectationFailed(Problem):
    """The header Expect asks for something that is not supported"""

    status, slug, title = 417, "expectation-failed", "Expectation failed"


class IdempotencyKeyReused(Problem):
    """This Idempotency-Key was used for a different request"""

    status, slug, title = 422, "idempotency-key-reused", "Idempotency key reused"


class TotalMismatch(Problem):
    """totalAmount differs from the catalogue's prices"""

    status, slug, title = 422, "total-mismatch", "Total mismatch"


class TooManyRequests(Problem):
    """Too many attempts; try again later"""

    status, slug, title = 429, "too-many-requests", "Too many requests"
    retry_after = 1

    def __init__(self, retry_after: int, detail: str | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Overloaded(Problem):
    """This worker is overloaded; try again shortly"""

    status, slug, title = 503, "overloaded", "Overloaded"
    retry_after = 1


class Unavailable(Problem):
    """The service cannot reach what it depends on; try again shortly"""

    status, slug, title = 503, "unavailable", "Service unavailable"
    retry_after = 1


def every_problem() -> list[type[Problem]]:
    """Return all types of problems, the one for internal errors first."""
    return [Problem, *Problem.__subclasses__()]


class BadEvent(Exception):
    """Raised when a message can never be handled, however often it is tried."""


class UnknownOrder(BadEvent):
    """Raised when an event speaks of an order that was never placed."""
