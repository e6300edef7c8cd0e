"""Run rounds of faults against a busy deployment, with an audit at the end of each round."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic

from aiokafka.errors import KafkaError

from app.db.errors import AWAY
from devstack.server import ServerFailed
from tests.chaos.audit import faults as audit_faults
from tests.chaos.counting import Counting
from tests.chaos.faults import FAULTS, Scene
from tests.chaos.messages import lag
from tests.chaos.poison import discard_poison
from tests.chaos.proxied_servers import Town
from tests.chaos.steady_customers import Crowd, crowd
from tests.chaos.waiting import comes_true

QUIET_SECONDS = 1.0
"""The longest time between two faults."""
REST_SECONDS = 120.0
AT_ONCE = 3
"""The most faults at the same time."""
PROBES = 8
"""The orders that measure a recovery: more than partitions, so that most partitions get one."""


@dataclass
class Tally:
    """The running totals of a run."""

    faults: dict[str, list[float]] = field(default_factory=dict)
    """By fault: seconds from its end until orders placed at that moment were completed."""
    orders: Counter[str] = field(default_factory=Counter)
    """How many orders were placed, by kind."""
    absorbed: Counter[str] = field(default_factory=Counter)
    """Recognised duplicates by kind; a lower bound, for a killed worker loses its last counts."""
    findings: list[str] = field(default_factory=list)
    began: float = field(default_factory=monotonic)

    @property
    def seconds(self) -> float:
        """The time since the run began."""
        return monotonic() - self.began

    @property
    def worst(self) -> float:
        """The longest recovery, in seconds."""
        return max((max(times) for times in self.faults.values()), default=0.0)

    def table(self) -> str:
        """Return the summary as Markdown."""
        rows = [
            f"| {name} | {len(times)} | {max(times):.1f} s |"
            for name, times in sorted(self.faults.items())
        ]
        orders = ", ".join(f"{count} {kind}" for kind, count in self.orders.items())
        absorbed = ", ".join(f"{count} {what}" for what, count in self.absorbed.items())
        return "\n".join(
            [
                "| Fault | Times | Worst recovery |",
                "|---|---|---|",
                *rows,
                "",
                f"{sum(map(len, self.faults.values()))} faults in {self.seconds:.0f} s;"
                f" orders: {self.orders.total()} ({orders});"
                f" absorbed at least: {absorbed or 'nothing'};"
                f" worst recovery {self.worst:.1f} s; findings: {len(self.findings)}",
            ]
        )


def deck(dice: random.Random) -> Iterator[str]:
    """Yield every fault once in random order, and repeat that endlessly."""
    while True:
        names = list(FAULTS)
        dice.shuffle(names)
        yield from names


async def play(
    town: Town,
    seed: int,
    rate: float,
    per_round: int,
    enough: Callable[[int, Tally], bool],
    say: Callable[[str], None],
) -> Tally:
    """Play until `enough(rounds, tally)` is true, also within a round, or a round has a finding.

    `rate` is in customers per second. The seed reproduces the faults, their order and their
    lengths, and what customers do, but not how these interleave.
    """
    tally, dice, rounds = Tally(), random.Random(seed), 0
    names = deck(random.Random(seed))
    counting = Counting(town.deployment, tally.absorbed)
    for _ in range(2):
        await town.deployment.start_ready_worker()
    async with town.deployment.supervised(), crowd(town, random.Random(seed + 1), rate) as people:
        tally.orders = people.orders
        async with counting.running():
            while not tally.findings and not enough(rounds, tally):
                rounds += 1
                say(f"round {rounds}")
                await people.open()
                scene = Scene(town, people, dice)
                for name in islice(names, per_round):
                    more = islice(names, dice.randrange(AT_ONCE))
                    await _hit(scene, [name, *more], tally, say)
                    if tally.findings or enough(rounds - 1, tally):
                        break
                tally.findings += await _settle(scene)
                say(f"round {rounds} is over; {len(tally.findings)} findings")
    return tally


async def _hit(scene: Scene, names: list[str], tally: Tally, say: Callable[[str], None]) -> None:
    """Do the faults at once, and measure how long after them orders are completed again."""
    await asyncio.sleep(scene.dice.uniform(0, QUIET_SECONDS))
    told = " + ".join(names)
    say(f"{tally.seconds:6.1f} s  {told}")
    # Each has numbers of its own, which do not depend on when the others draw theirs.
    dice = [random.Random(scene.dice.random()) for _ in names]
    scenes = [Scene(scene.town, scene.crowd, one) for one in dice]
    alone = len(names) == 1
    done = [_do(one, name, alone) for one, name in zip(scenes, names, strict=True)]
    tally.findings += [finding for finding in await asyncio.gather(*done) if finding]
    healed = monotonic()
    try:
        async with asyncio.timeout(REST_SECONDS):
            await scene.crowd.probe(PROBES)
    except TimeoutError:
        tally.findings.append(f"after {told} no orders are completed within {REST_SECONDS:g} s")
    recovery = monotonic() - healed
    for name in names:
        tally.faults.setdefault(name, []).append(recovery)
    say(f"{tally.seconds:6.1f} s  {told}: orders are completed after {recovery:.1f} s")


async def _do(scene: Scene, name: str, alone: bool) -> str | None:
    """Do the fault, again for as long as another one breaks the server or worker that it needs.

    Return a finding if that is too long.
    """
    deadline = monotonic() + REST_SECONDS
    while True:
        try:
            await FAULTS[name](scene)
            return None
        except (*AWAY, KafkaError, ServerFailed) as error:
            if alone:
                raise
            if monotonic() > deadline:
                return f"{name} cannot be done for {REST_SECONDS:g} s: {error!r}"
            await asyncio.sleep(QUIET_SECONDS)


async def _settle(scene: Scene) -> list[str]:
    """Let no more customers in, wait until the system is at rest, and audit it."""
    crowd: Crowd = scene.crowd
    troubles = await crowd.close()
    await comes_true(lambda: _no_lag(scene), REST_SECONDS)
    await discard_poison(scene.deployment)
    return troubles + await audit_faults(scene.deployment, crowd.load.ends, REST_SECONDS)


async def _no_lag(scene: Scene) -> bool:
    return not await lag(scene.deployment.brokers)
