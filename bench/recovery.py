"""`python -m bench.recovery`: how long a worker takes to recover its tables without its disk."""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from time import monotonic
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.progress import track

from devstack.ports import free_port
from devstack.stack import Stack
from devstack.worker import Worker, faust

CHANGELOG = "orders-handled-changelog"
UNDER_WAY = 20_000


async def fill(brokers: str, entries: int, console: Console) -> None:
    """Write `entries` marks to the changelog, in the agents' format."""
    async with AIOKafkaProducer(bootstrap_servers=brokers, linger_ms=20) as producer:
        under_way: deque[asyncio.Future[object]] = deque()
        for _ in track(range(entries), "Writing marks", console=console, transient=True):
            key = f'"stock.reserve/{uuid4()}"'.encode()
            under_way.append(await producer.send(CHANGELOG, b"1", key=key))
            if len(under_way) == UNDER_WAY:
                await under_way.popleft()
        await asyncio.gather(*under_way)


def ready(worker: Worker) -> tuple[float, float]:
    """Start the worker; return the seconds until it takes events, and its MiB at that point."""
    began = monotonic()
    worker.start()
    worker.wait_ready(600)
    return monotonic() - began, resident_mib(worker)


def resident_mib(worker: Worker) -> float:
    """Return the worker's resident memory in MiB."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def measure(folder: Path, entries: int, console: Console) -> list[tuple[str, float, float]]:
    """Return name, seconds and MiB of each kind of start."""
    with Stack(folder, say=console.log) as stack:
        environment = {**stack.environment, "JWT_SECRET": "x" * 32, "PORT": str(free_port())}
        subprocess.run(faust("migrate"), env={**os.environ, **environment}, check=True)
        worker = Worker(environment, folder / "worker", folder / "worker.log")
        found = []
        try:
            found.append(("nothing to recover", *ready(worker)))
            worker.stop()
            asyncio.run(fill(stack.broker.brokers, entries, console))
            found.append((f"{entries:,} entries, to the disk that has none", *ready(worker)))
            worker.stop()
            found.append((f"{entries:,} entries, on the disk", *ready(worker)))
            worker.stop()
            shutil.rmtree(worker.folder)
            found.append((f"{entries:,} entries, without the disk", *ready(worker)))
        finally:
            worker.stop()
        return found


def main() -> int:
    """Measure once and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    options, console = parser.parse_args(), Console()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.entries, console)
    (_, at_least, _), *_ = found
    print("| Start | Ready after | Entries a second | Memory then |\n|---|---|---|---|")
    for name, seconds, mib in found:
        rate = options.entries / (seconds - at_least) if seconds > at_least * 1.5 else None
        print(f"| {name} | {seconds:.1f} s | {f'{rate:,.0f}' if rate else '–'} | {mib:.0f} MiB |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
