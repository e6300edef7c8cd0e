"""The quarantine of orders that PostgreSQL has refused to change."""

from time import monotonic
from uuid import UUID

QUARANTINE_SECONDS = 60.0
"""How long an order is in quarantine."""


class Quarantine:
    """Orders that are left out of a timer's batches on this worker, each for `seconds`.

    Otherwise they would be looked at first each time, and take the places of others.
    """

    def __init__(self, seconds: float = QUARANTINE_SECONDS) -> None:
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
