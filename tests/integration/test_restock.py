"""A product is changed and restocked, and its stock never falls below what is reserved."""

import asyncio
from uuid import UUID, uuid4

import pytest

from app import catalogue
from app.catalogue import MAX_IN_STOCK, ProductChanges
from app.db.pools import Database
from app.db.transaction import Transaction
from app.errors import ForeignCurrency, InvalidInput, ProductNotFound, StockBelowReserved
from tests.integration.hops import add_product, order_of, pay, reserve


async def stocked(database: Database, product_id: UUID) -> tuple[int, int]:
    async with database.connection() as connection:
        row = await connection.fetchrow(
            "select stocked, available from products where id = $1", product_id
        )
    return row["stocked"], row["available"]


async def test_a_product_in_another_currency_than_the_catalogues_is_refused(
    database: Database,
) -> None:
    await add_product(database)
    with pytest.raises(ForeignCurrency):
        await add_product(database, currency="EUR")
    await add_product(database)


async def test_only_what_is_named_changes(database: Database) -> None:
    product_id = await add_product(database, description="Blue", category="paper")
    _, before = await catalogue.get(database, product_id)
    after = await catalogue.update_product(database, product_id, {"price_minor": 1})
    assert after == {**before, "price": 0.01}
    assert (await catalogue.get(database, product_id))[1] == after


@pytest.mark.parametrize("field", ["description", "category"])
async def test_null_empties_a_text_and_absence_leaves_it(database: Database, field: str) -> None:
    product_id = await add_product(database, description="Blue", category="paper")
    changes: ProductChanges = {field: None}  # type: ignore[misc]
    _, before = await catalogue.get(database, product_id)
    assert await catalogue.update_product(database, product_id, changes) == {**before, field: None}


async def test_pieces_are_added_and_taken_away(database: Database) -> None:
    product_id = await add_product(database, quantity=10)
    await catalogue.update_product(database, product_id, {"add_quantity": 5})
    assert await stocked(database, product_id) == (15, 15)
    await catalogue.update_product(database, product_id, {"add_quantity": -15})
    assert await stocked(database, product_id) == (0, 0)


async def test_what_is_reserved_cannot_be_taken_away(database: Database) -> None:
    product_id = await add_product(database, quantity=10)
    order_id = await order_of(database, {product_id: 4})
    await pay(database, order_id)
    await reserve(database, order_id)
    for too_many in (-7, -10, -(10**30)):
        with pytest.raises(StockBelowReserved):
            await catalogue.update_product(database, product_id, {"add_quantity": too_many})
    await catalogue.update_product(database, product_id, {"add_quantity": -6})
    assert await stocked(database, product_id) == (4, 0)


@pytest.mark.parametrize("added", [MAX_IN_STOCK, MAX_IN_STOCK + 1, 10**30])
async def test_stock_has_an_end(database: Database, added: int) -> None:
    product_id = await add_product(database, quantity=1)
    with pytest.raises(InvalidInput) as refused:
        await catalogue.update_product(database, product_id, {"add_quantity": added})
    assert refused.value.errors[0].pointer == "#/addQuantity"
    assert await stocked(database, product_id) == (1, 1)


async def test_an_unknown_product_is_not_found(database: Database) -> None:
    with pytest.raises(ProductNotFound):
        await catalogue.update_product(database, uuid4(), {"price_minor": 1})


async def test_a_change_evicts_the_product(database: Database) -> None:
    product_id = await add_product(database)
    left: list[dict[UUID, int]] = []

    async def note(transaction: Transaction) -> None:
        left.append(transaction.product_versions)

    database.after_commit = [note]
    try:
        await catalogue.update_product(database, product_id, {"price_minor": 1})
    finally:
        database.after_commit = []
    assert left == [{product_id: 2}]


async def test_restocks_and_a_reservation_at_once_all_count(database: Database) -> None:
    product_id = await add_product(database, quantity=1)
    order_id = await order_of(database, {product_id: 1})
    await pay(database, order_id)
    await asyncio.gather(
        *(catalogue.update_product(database, product_id, {"add_quantity": 1}) for _ in range(20)),
        reserve(database, order_id),
    )
    assert await stocked(database, product_id) == (21, 20)
