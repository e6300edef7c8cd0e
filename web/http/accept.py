"""Content negotiation by `Accept` (RFC 9110, 12.5.1)."""

import re

WEIGHT = r"0(\.[0-9]{0,3})?|1(\.0{0,3})?"


def prefers(accept: str, media: str, usual: str) -> bool:
    """Return whether the client prefers `media` to `usual`, or names it with the same weight."""
    weights = _weights(accept)
    wanted, instead = _weight(weights, media), _weight(weights, usual)
    return wanted > instead or (wanted == instead > 0 and media in weights)


def _weight(weights: dict[str, float], media: str) -> float:
    """Return the weight of the most specific range that includes `media`; 0 if none does."""
    kind, _, _ = media.partition("/")
    ranges = (media, f"{kind}/*", "*/*")
    return next((weights[name] for name in ranges if name in weights), 0.0)


def _weights(accept: str) -> dict[str, float]:
    """Return each media range's weight; a range with an invalid weight is left out."""
    weights = {}
    for element in accept.lower().split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        if re.fullmatch(WEIGHT, weight):
            weights[name] = float(weight)
    return weights
