"""What a load generator is told, as JSON on its standard input."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The targets, and what to do for how long.

    `size` is the customers of the closed loops, and lifecycles a second of the open one.
    """

    urls: list[str]
    brokers: str
    partitions: int
    database: str
    secret: str
    products: list[str]
    programs: dict[str, list[int]]
    """Process ids by name of the programs whose CPU and memory is measured."""
    scenario: str
    size: float
    seconds: float
    warm_up: float
