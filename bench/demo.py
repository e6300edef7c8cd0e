"""`python -m bench.demo`: send some hundreds of orders to the running worker."""

import argparse
import asyncio
import json
import os
import random
import secrets
import sys
from pathlib import Path
from time import monotonic

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bench.client import Client, GaveUp, Json, Unexpected
from bench.report import stock, summary, table
from bench.shopping import Order, Shopper


async def demo(client: Client, options: argparse.Namespace, progress: Progress) -> Json:
    """Return the report of one run. Raises Unexpected, GaveUp."""
    deadline = monotonic() + options.patience
    tokens = [await _enter(client, deadline) for _ in range(options.customers)]
    before = await client.entries("/api/products", tokens[0], deadline)
    orders, start = _plan(before, options.orders, options.warm_up), monotonic()
    await _shop(client, tokens, orders, options, progress)
    report = summary(orders, monotonic() - start, client.retries)
    known = {order.id for order in orders}
    try:
        deadline = monotonic() + min(options.patience, 10)
        lists = [await client.entries("/api/orders", token, deadline) for token in tokens]
        after = await client.entries("/api/products", tokens[0], deadline)
    except GaveUp:
        # The rest can be reported without a worker.
        return report | {"duplicates": None, "stock": stock(orders, before, None)}
    duplicates = sum(entry["id"] not in known for entries in lists for entry in entries)
    return report | {"duplicates": duplicates, "stock": stock(orders, before, after)}


async def _enter(client: Client, deadline: float) -> str:
    email, password = f"demo-{secrets.token_hex(6)}@example.com", secrets.token_urlsafe(16)
    request = {"json": {"email": email, "password": password}}
    # Any answer will do: a retried registration may find its own account.
    await client.ask("POST", "/api/auth/register", deadline, **request)
    return str((await client.expect("POST", "/api/auth/login", deadline, **request))["token"])


def _plan(catalogue: list[Json], count: int, warm_up: int) -> list[Order]:
    # An order takes at most two pieces of a product, so only the umbrella can run out.
    plenty = [product for product in catalogue if product["availableQuantity"] >= 2 * count]
    if not plenty:
        raise Unexpected(f"No product has enough stock left for {count} orders")
    scarce = [product for product in catalogue if product["productName"] == "Last umbrella"]
    # Consecutive, so that more of them pass the check at creation than there are umbrellas.
    rush = range(count // 2, count // 2 + round(count * 0.03)) if scarce else range(0)
    baskets = [_basket(scarce, 1) if n in rush else _basket(plenty, 2) for n in range(count)]
    return [
        Order(items, n % 20 == 7, n % 20 == 13, warms_up=n < warm_up)
        for n, items in enumerate(baskets)
    ]


def _basket(shelf: list[Json], most: int) -> list[Json]:
    chosen = random.sample(shelf, min(random.randint(1, 3), len(shelf)))
    return [{"productId": one["id"], "quantity": random.randint(1, most)} for one in chosen]


async def _shop(
    client: Client,
    tokens: list[str],
    orders: list[Order],
    options: argparse.Namespace,
    progress: Progress,
) -> None:
    placed, ended = (progress.add_task(name, total=len(orders)) for name in ("placed", "finished"))

    async def one(order: Order, shopper: Shopper) -> None:
        await shopper.shop(order, lambda: progress.advance(placed))
        progress.advance(ended)

    start = monotonic()
    async with asyncio.TaskGroup() as group:
        for n, order in enumerate(orders):
            # An open loop: each order has its own time, whatever the others do.
            due = start + n / options.rate
            await asyncio.sleep(due - monotonic())
            shopper = Shopper(client, tokens[n % len(tokens)], due + options.patience)
            group.create_task(one(order, shopper))


async def _run(url: str, options: argparse.Namespace, progress: Progress) -> Json:
    connector = aiohttp.TCPConnector(limit=100)
    async with aiohttp.ClientSession(connector=connector) as session:
        client = Client(session, url)
        try:
            await client.expect("GET", "/readyz", monotonic() + 2)
        except (GaveUp, Unexpected):
            raise GaveUp(f"No worker is ready at {url}: start one with `make run` first") from None
        return await demo(client, options, progress)


def _address(told: str | None) -> str:
    file = Path(".devstack/url")
    found = told or os.environ.get("ORDERS_URL") or (file.read_text() if file.exists() else "")
    return found.strip().rstrip("/") or f"http://localhost:{os.environ.get('PORT') or 8080}"


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.demo", description=__doc__)
    parser.add_argument("--url", help="the worker; default: ORDERS_URL, else what `make run` wrote")
    parser.add_argument("--orders", type=int, default=500)
    parser.add_argument("--rate", type=float, default=50.0, help="orders per second")
    parser.add_argument(
        "--warm-up", type=int, default=100, help="how many of the first to leave out of the latency"
    )
    parser.add_argument("--customers", type=int, default=5)
    parser.add_argument("--patience", type=float, default=60.0, help="seconds for each order")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args(arguments)
    if min(options.orders, options.rate, options.customers, options.patience) <= 0:
        parser.error("numbers must be greater than 0")
    return options


def main(arguments: list[str]) -> int:
    """Return 0 if every order ended as it should, else 1; 130 after Ctrl-C."""
    options, console = _options(arguments), Console()
    columns = (TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn())
    hidden = options.json or not console.is_terminal
    try:
        with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
            report = asyncio.run(_run(_address(options.url), options, progress))
    except (GaveUp, Unexpected) as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(report))
    else:
        console.print(table(report))
    return 1 if report["unfinished"] or report["duplicates"] or report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
