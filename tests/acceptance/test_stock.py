"""No piece is sold twice, and no payment is kept without its goods."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from tests.acceptance.client import eventually
from tests.acceptance.conftest import Metric
from tests.acceptance.customer import FINAL, Admin, Customer, basket
from tests.acceptance.problems import assert_problem
from tests.acceptance.records import Records

Product = dict[str, Any]


async def test_placing_takes_nothing_from_the_stock(customer: Customer, product: Product) -> None:
    await customer.placed(product, 10)
    assert await customer.available(product) == 10


async def test_merged_lines_are_checked_together_against_the_stock(
    customer: Customer, product: Product
) -> None:
    for key in (None, "key", "key"):
        answer = await customer.post_order(basket((product, 6), (product, 5)), key=key)
        problem = assert_problem(answer, 409, "Not enough stock")
        assert problem["errors"] == [
            {"detail": "only 10 in stock", "pointer": f"#/items/{n}/quantity"} for n in (0, 1)
        ]


async def test_more_than_there_is_cannot_be_ordered(customer: Customer, product: Product) -> None:
    assert (await customer.place(product, 10)).status == 201
    assert_problem(await customer.place(product, 11), 409, "Not enough stock")


async def test_who_pays_last_for_the_last_pieces_gets_the_money_back(
    customer: Customer,
    stranger: Customer,
    product: Product,
    records: Records,
    logged: Callable[[str], Awaitable[list[str]]],
) -> None:
    late = await customer.placed(product, 10)
    await stranger.buys(product, 10)
    await customer.paid(late)
    cancelled = await customer.wait_until(late, "CANCELLED")
    assert cancelled["cancelReason"] == "Out of stock"
    await eventually(lambda: records.payments(late), lambda payments: payments == ["REFUNDED"])
    assert await customer.available(product) == 0
    assert len(await logged(f"Sending notification for cancelled order {late['id']}")) == 1


async def test_of_two_who_pay_at_once_for_the_last_piece_one_gets_it(
    customer: Customer, stranger: Customer, admin: Admin, records: Records
) -> None:
    last = await admin.adds(quantity=1)
    orders = [await customer.placed(last), await stranger.placed(last)]
    await asyncio.gather(customer.paid(orders[0]), stranger.paid(orders[1]))

    async def ends() -> list[str]:
        seen = await customer.see(orders[0]), await stranger.see(orders[1])
        return sorted(order["status"] for order in seen)

    await eventually(ends, lambda ends: ends == ["CANCELLED", "COMPLETED"])
    assert await customer.available(last) == 0

    async def payments() -> list[str]:
        return sorted([status for o in orders for status in await records.payments(o)])

    await eventually(payments, lambda payments: payments == ["REFUNDED", "SUCCEEDED"])


async def test_an_order_takes_every_line_or_none(
    customer: Customer, stranger: Customer, admin: Admin, records: Records
) -> None:
    plenty, last = await admin.adds(), await admin.adds(quantity=1)
    order = (await customer.post_order(basket((plenty, 4), (last, 1)))).body
    await stranger.buys(last)
    await customer.paid(order)
    assert (await customer.wait_until(order, "CANCELLED"))["cancelReason"] == "Out of stock"
    await eventually(lambda: records.payments(order), lambda payments: payments == ["REFUNDED"])
    assert await customer.available(plenty) == 10


async def test_two_hundred_who_pay_at_once_for_the_last_ten_leave_ten_completed(
    customer: Customer, admin: Admin, records: Records
) -> None:
    last = await admin.adds(quantity=10)
    orders = [await customer.admitted(last) for _ in range(200)]
    await asyncio.gather(*[customer.paid(order) for order in orders])

    async def ends() -> Counter[tuple[str, str | None]]:
        seen = [order for page in await customer.walk(limit=100) for order in page]
        return Counter((order["status"], order["cancelReason"]) for order in seen)

    ended = await eventually(ends, lambda ends: {status for status, _ in ends} <= FINAL)
    assert ended == {("COMPLETED", None): 10, ("CANCELLED", "Out of stock"): 190}
    assert await customer.available(last) == 0

    async def payments() -> Counter[str]:
        return Counter([status for o in orders for status in await records.payments(o)])

    await eventually(payments, lambda found: found == {"SUCCEEDED": 10, "REFUNDED": 190})


async def test_an_order_waits_for_stock_that_another_transaction_holds(
    environment: dict[str, str], customer: Customer, product: Product, metric: Metric
) -> None:
    connection = await asyncpg.connect(environment["DB_URL"])
    holding = connection.transaction()
    await holding.start()
    await connection.execute("select from products where id = $1 for update", product["id"])
    before = await metric("orders_retries_total", handler="stock.reserve")
    order = await customer.placed(product)
    await customer.paid(order)
    await eventually(
        lambda: metric("orders_retries_total", handler="stock.reserve"), lambda now: now > before
    )
    await holding.rollback()
    await connection.close()
    await customer.wait_until(order, "COMPLETED")
