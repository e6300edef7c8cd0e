"""How long a broker, and each partition, has been sent events without acknowledging any."""

from time import monotonic

Destination = tuple[str, int | None]
"""A topic and its partition, None if that is not known."""


class Silence:
    """Since when events wait for an answer, and whether the broker is back after a failure.

    All times are in seconds of `monotonic`.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        """Since when events have been sent without an acknowledgement; None if none are waiting."""
        self._since_there: dict[Destination, float] = {}
        """The same by partition."""
        self._last_acknowledged = monotonic()
        """When the broker last acknowledged an event."""
        self._last_failed: float | None = None
        """When an event last failed with nothing acknowledged since it was sent."""

    @property
    def seconds(self) -> float:
        """How long events have been sent without any acknowledgement, whether they fail or hang."""
        return 0.0 if self._since is None else monotonic() - self._since

    @property
    def seconds_of_a_partition(self) -> float:
        """The same for the partition that has been silent for longest."""
        return monotonic() - min(self._since_there.values()) if self._since_there else 0.0

    def ends_failure(self, begun: float) -> bool:
        """Return whether the acknowledgement of an event sent at `begun` shows the broker back."""
        return self._last_failed is not None and begun > self._last_failed

    def sent(self, destination: Destination) -> None:
        """Note that an event is sent."""
        now = monotonic()
        self._since = self._since or now
        if destination[1] is not None:
            self._since_there.setdefault(destination, now)

    def acknowledged(self) -> None:
        """Note that the broker has acknowledged an event."""
        self._last_acknowledged = self._since = monotonic()

    def failed(self, begun: float) -> None:
        """Note that an event that was sent at `begun` has failed."""
        if self._last_acknowledged < begun:
            self._last_failed = monotonic()

    def forgive(self) -> None:
        """Forget that events have failed."""
        self._last_failed = None

    def answered(self, destination: Destination, *, more: bool, more_there: bool) -> None:
        """Note an answer; what else is in flight, or to that partition, waits from now on."""
        if not more:
            self._since = None
        self._since_there.pop(destination, None)
        if more_there and destination[1] is not None:
            self._since_there[destination] = monotonic()
