"""The faults by name: each is done to the deployment, and is over when its function returns.

What a fault breaks is restarted with its remaining data, by a supervisor or by the function itself.
"""

import asyncio
import os
import random
import shutil
import signal
from collections.abc import Awaitable, Callable

from devstack.server import Server
from devstack.worker import Worker
from tests.chaos.audit import count
from tests.chaos.deployment import frozen, start_again
from tests.chaos.poison import duplicate_events, plant_poison
from tests.chaos.proxied_servers import Town
from tests.chaos.proxy import Proxy
from tests.chaos.steady_customers import Crowd
from tests.chaos.waiting import until

WAITING = "select count(*) from outbox where published_at is null"
BURST = 100
SHORT, LONG = 2.0, 12.0
"""The range of an outage in seconds; the longest exceeds a consumer's session timeout."""


class Scene:
    """What a fault acts on, and the random numbers that a seed reproduces."""

    def __init__(self, town: Town, crowd: Crowd, dice: random.Random) -> None:
        self.town = town
        self.deployment = town.deployment
        self.crowd = crowd
        self.dice = dice

    def some_worker(self) -> Worker:
        """Return a random worker."""
        return self.dice.choice(self.deployment.workers)

    async def while_away(self) -> None:
        """Wait for the duration of an outage."""
        await asyncio.sleep(self.dice.uniform(SHORT, LONG))


async def kill_worker(scene: Scene) -> None:
    """Kill a worker; its supervisor restarts it."""
    scene.some_worker().kill()


async def freeze_worker(scene: Scene) -> None:
    """Stop a worker's process where it stands, and let it go on after a while."""
    with frozen(scene.some_worker()):
        await scene.while_away()


async def terminate_worker(scene: Scene) -> None:
    """Send a worker SIGTERM; it must end by itself."""
    worker = scene.some_worker()
    pid = worker.pid
    if worker.alive and pid:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)  # one that another fault has frozen would not hear of it
        await until(lambda: not worker.alive or worker.pid != pid, "the worker ends", 40)


async def lose_disk(scene: Scene) -> None:
    """Kill a worker and delete its tables, which it then rebuilds from the changelog."""
    worker = scene.some_worker()
    worker.kill()
    shutil.rmtree(worker.folder, ignore_errors=True)


async def kill_database(scene: Scene) -> None:
    await _kill(scene, scene.deployment.stack.postgres)


async def kill_broker(scene: Scene) -> None:
    await _kill(scene, scene.deployment.stack.broker)


async def stop_cache(scene: Scene) -> None:
    await _kill(scene, scene.deployment.stack.redis)


async def _kill(scene: Scene, server: Server) -> None:
    server.kill()
    await asyncio.sleep(scene.dice.uniform(0, SHORT))
    await start_again(server)


async def cut_database(scene: Scene) -> None:
    await _cut(scene, scene.town.ways["database"])


async def cut_broker(scene: Scene) -> None:
    await _cut(scene, scene.town.ways["broker"])


async def _cut(scene: Scene, way: Proxy) -> None:
    """Cut the connections several times, to hit requests in flight and reconnections."""
    for _ in range(scene.dice.randint(1, 4)):
        way.cut()
        await asyncio.sleep(scene.dice.uniform(0, 0.5))


async def stall_database(scene: Scene) -> None:
    await _stall(scene, scene.town.ways["database"])


async def stall_broker(scene: Scene) -> None:
    await _stall(scene, scene.town.ways["broker"])


async def hang_cache(scene: Scene) -> None:
    await _stall(scene, scene.town.ways["cache"])


async def hang_stripe(scene: Scene) -> None:
    await _stall(scene, scene.town.ways["stripe"])


async def cut_stripe(scene: Scene) -> None:
    await _cut(scene, scene.town.ways["stripe"])


async def _stall(scene: Scene, way: Proxy) -> None:
    way.stall()
    try:
        await scene.while_away()
    finally:
        way.flow()


async def add_worker(scene: Scene) -> None:
    """Add a worker, so that the consumer group rebalances."""
    await scene.deployment.start_ready_worker()


async def remove_worker(scene: Scene) -> None:
    """Kill a worker that nobody restarts; at least two are left."""
    while len(scene.deployment.workers) < 3:
        await scene.deployment.start_ready_worker()
    scene.deployment.kill_for_good(scene.some_worker())


async def fill_outbox(scene: Scene) -> None:
    """Stall the broker until events pile up in the outbox."""
    way = scene.town.ways["broker"]
    way.stall()
    try:
        await _holds(scene, BURST)  # while PostgreSQL is away nobody is let in
        await scene.crowd.burst(BURST)
        await until(lambda: _holds(scene, BURST), f"{BURST} events wait in the outbox")
    finally:
        way.flow()


async def _holds(scene: Scene, events: int) -> bool:
    return await count(scene.deployment, WAITING) >= events


async def poison(scene: Scene) -> None:
    """Plant messages that no handler can process on each topic that has a handler."""
    await plant_poison(scene.deployment, scene.dice)


async def repeat_events(scene: Scene) -> None:
    """Publish copies of the latest events, in another order."""
    await duplicate_events(scene.deployment, scene.dice)


async def let_deadlines_come(scene: Scene) -> None:
    """Make the payment deadline of every order due at once."""
    await scene.deployment.change("update order_deadlines set due_at = now()")


Fault = Callable[[Scene], Awaitable[None]]

FAULTS: dict[str, Fault] = {
    "worker killed (-9)": kill_worker,
    "worker stopped (SIGTERM)": terminate_worker,
    "worker frozen": freeze_worker,
    "worker's disk lost": lose_disk,
    "worker added": add_worker,
    "worker removed": remove_worker,
    "PostgreSQL killed (-9)": kill_database,
    "PostgreSQL cut off": cut_database,
    "PostgreSQL stalled": stall_database,
    "Kafka killed (-9)": kill_broker,
    "Kafka cut off": cut_broker,
    "Kafka stalled": stall_broker,
    "outbox full": fill_outbox,
    "Redis stopped": stop_cache,
    "Redis hanging": hang_cache,
    "Stripe cut off": cut_stripe,
    "Stripe hanging": hang_stripe,
    "poison on each topic": poison,
    "events twice, out of order": repeat_events,
    "deadlines come early": let_deadlines_come,
}
