"""Steps that journeys share."""

from uuid import UUID

import aiohttp

from app.outbox.rows import RELAY
from tests.chaos.crash_stage import Stage
from tests.chaos.load import SCARCE, Json
from tests.chaos.waiting import until


async def waits(stage: Stage, order: Json, handler: str) -> UUID:
    """Wait until a message of the order waits behind a parked one of the handler; return its id.

    For the relay: wait until an event that the broker refuses is parked.
    """
    state = "PARKED" if handler == RELAY else "WAITING"

    async def found() -> list[UUID]:
        rows = await stage.waiting(order["id"])
        return [row["id"] for row in rows if (row["handler"], row["state"]) == (handler, state)]

    await until(found, f"a message of {handler} waits")
    return (await found())[-1]


async def empty_shelf(stage: Stage) -> int:
    """Remove the whole stock of the scarce product; return how many pieces that were."""
    query = "select available from products where name = $1"
    available = await stage.database.fetchval(query, SCARCE)
    await stock(stage, -available)
    return int(available)


async def stock(stage: Stage, pieces: int) -> None:
    """Add `pieces` of the scarce product; a negative number removes them."""
    path = f"/api/products/{stage.load.products[SCARCE]}"
    await stage.administer("PATCH", path, {200}, {"addQuantity": pieces})


async def press(stage: Stage, url: str | None, button: str) -> None:
    """Press a button of a Checkout page at Stripe."""
    assert url, "Stripe has a page"
    address = f"{stage.stripe.url}/c/pay/{url.partition('/c/pay/')[2]}/{button}"
    async with aiohttp.request("POST", address, allow_redirects=False) as answer:
        assert answer.status < 400, await answer.text()
