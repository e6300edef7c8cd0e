"""Workers come and go while customers are in the shop."""

from tests.chaos.audit import audit
from tests.chaos.load import customers
from tests.chaos.shop import Shop


async def test_workers_take_over_from_one_another(shop: Shop) -> None:
    """Of two, the one that relays is killed for good, and later a third one joins."""
    first = await shop.hire_ready()
    await shop.hire_ready()
    async with shop.supervised(), customers(shop, orders=300) as load:
        await load.reaches(0.3)
        shop.lose(first)
        await load.reaches(0.7)
        await shop.hire_ready()
    await audit(shop, load.ends)
