"""Offer twice the capacity: what is refused, how long the rest takes, and the recovery."""

from bench.figures import Json
from bench.loading import IN_FLIGHT, Length, at_share, audited, most
from bench.site import Say, Site


def overload(site: Site, length: Length, say: Say) -> Json:
    """Return the figures at twice the capacity, and at half of it right after."""
    carried = most(site, IN_FLIGHT, Length(length.seconds / 2, length.warm_up), say)
    twice = at_share(site, carried, 200, Length(length.seconds, 3), say)
    after = at_share(site, carried, 50, Length(length.seconds / 2, 3), say)
    return {"most": carried, "twice": twice, "after": after, "audit": audited(site, say)}
