"""Orders that PostgreSQL has refused to change, left out of batches for a while."""

from time import monotonic
from uuid import UUID

REFUSED_SECONDS = 60.0
"""How long an order is left out."""


class Refused:
    """The orders that are left out of a timer's batches on this worker, each for `seconds`.

    Otherwise they would be looked at first each time, and take the places of others.
    """

    def __init__(self, seconds: float = REFUSED_SECONDS) -> None:
        self._seconds = seconds
        self._until: dict[UUID, float] = {}

    def add(self, order_id: UUID) -> None:
        """Leave the order out from now on."""
        self._until[order_id] = monotonic() + self._seconds

    def ids(self) -> list[UUID]:
        """Return the orders that are left out at this moment."""
        moment = monotonic()
        self._until = {id: until for id, until in self._until.items() if until > moment}
        return list(self._until)
