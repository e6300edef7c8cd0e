"""A page costs the same wherever it is, measured in rows and buffers instead of time."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from app import orders
from app.catalogue import SORTS
from app.db.pools import Database
from app.db.queries import sql
from app.lifecycle import Status
from app.times import rfc3339

MANY = 100_000
SIZE = 21
START = datetime(2025, 1, 1, tzinfo=UTC)
RARE = Status.CREATED
"""The status of every thousandth order, the oldest among them; the others are COMPLETED."""

Parameters = dict[str, Any]


ORDER_COLUMNS = (
    *("id", "user_id", "status", "total_minor", "currency", "version"),
    *("created_at", "updated_at"),
)
PRODUCT_COLUMNS = (
    *("id", "name", "price_minor", "currency", "description", "category", "stocked", "available"),
    *("created_at", "updated_at"),
)
MUCH = 120.0
"""Timeout in seconds for a hundred thousand rows on a busy machine."""

Row = tuple[Any, ...]


@pytest.fixture(scope="module")
async def crowd(database: Database) -> AsyncIterator[UUID]:
    """A user with 100,000 orders, a minute apart, and a catalogue of 20,000 products."""
    user_id, mark = uuid4(), str(uuid4())
    await add_orders(database, _orders(user_id))
    async with database.connection() as connection:
        await connection.copy_records_to_table(
            "products", columns=PRODUCT_COLUMNS, records=_products(mark), timeout=MUCH
        )
        await connection.execute("analyze orders; analyze products", timeout=MUCH)
    yield user_id
    async with fresh(database) as connection:
        await connection.execute(
            "delete from order_items using orders where id = order_id and user_id = $1",
            user_id,
            timeout=MUCH,
        )
        await connection.execute("delete from orders where user_id = $1", user_id, timeout=MUCH)
        await connection.execute("delete from products where description = $1", mark, timeout=MUCH)


@asynccontextmanager
async def fresh(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A new connection. One of the pool may check foreign keys by a plan for a few orders."""
    connection = await database.connect()
    try:
        yield connection
    finally:
        await connection.close()


async def add_orders(database: Database, rows: Iterable[Row]) -> None:
    """Insert orders of one line each."""
    orders = list(rows)
    lines = [(order[0], 1, uuid4(), 1, 100) for order in orders]
    async with fresh(database) as connection:
        await connection.copy_records_to_table(
            "orders", columns=ORDER_COLUMNS, records=orders, timeout=MUCH
        )
        await connection.copy_records_to_table("order_items", records=lines, timeout=MUCH)


def _orders(user_id: UUID) -> Iterator[Row]:
    for n in range(MANY):
        status, moment = RARE if n % 1000 == 0 else Status.COMPLETED, START + timedelta(minutes=n)
        yield uuid4(), user_id, status, 100, "PLN", 1, moment, moment


def _products(mark: str) -> Iterator[Row]:
    for n in range(20_000):
        category = "crowd-rare" if n % 1000 == 0 else "crowd"
        moment = START + timedelta(minutes=n)
        yield uuid4(), f"{mark} {n:05}", n, "PLN", mark, category, 1, 1, moment, moment


class Cost:
    """What an executed plan has read."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.nodes = list(_nodes(plan))
        self.buffers = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

    @property
    def rows(self) -> int:
        """The rows that scans returned or filtered out."""
        return sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in self.nodes
            if "Scan" in node["Node Type"]
        )

    def is_index_scan(self, table: str) -> bool:
        """Return whether the table was read by index scans only."""
        scans = {n["Node Type"] for n in self.nodes if n.get("Relation Name") == table}
        return scans in ({"Index Scan"}, {"Index Scan", "Index Only Scan"})


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)


@asynccontextmanager
async def generic_plans(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection that uses generic plans, as for a statement prepared long ago."""
    connection = await database.connect(plan_cache_mode="force_generic_plan")
    try:
        yield connection
    finally:
        await connection.close()


async def cost(connection: asyncpg.Connection, query: Any, **parameters: Any) -> Cost:
    """Return the cost of the query with these parameters, once its pages are in memory."""
    explaining = _Explaining(connection)
    await query(explaining, **parameters)
    return await query(explaining, **parameters)


class _Explaining:
    """A connection that executes queries and returns their cost."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def fetch(self, query: str, *arguments: Any) -> Cost:
        values = ", ".join(map(_literal, arguments))
        await self._connection.execute(f"prepare page as {query}")
        told = await self._connection.fetchval(
            f"explain (analyze, buffers, format json) execute page ({values})"
        )
        await self._connection.execute("deallocate page")
        return Cost(orjson.loads(told)[0]["Plan"])


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    text = "{" + ",".join(value) + "}" if isinstance(value, list) else str(value)
    return "'" + text.replace("'", "''") + "'"


def behind(n: int) -> Parameters:
    """Return the position after the n-th order from the newest."""
    return {"before": START + timedelta(minutes=MANY - n), "before_id": UUID(int=0)}


FIRST: Parameters = {"before": None, "before_id": None}


@pytest.mark.parametrize("of_user", [True, False])
@pytest.mark.parametrize("statuses", [list(Status), [Status.COMPLETED], [RARE]])
async def test_the_last_page_of_orders_costs_what_the_first_does(
    database: Database, crowd: UUID, of_user: bool, statuses: list[Status]
) -> None:
    query = sql.list_orders_of_user if of_user else sql.list_orders
    wanted: Parameters = {"statuses": statuses, "page_size": SIZE}
    if of_user:
        wanted["user_id"] = crowd
    async with generic_plans(database) as connection:
        first = await cost(connection, query, **wanted, **FIRST)
        deep = await cost(connection, query, **wanted, **behind(MANY - 1000))
    for page in (first, deep):
        assert page.is_index_scan("orders")
        assert page.rows <= SIZE * (len(statuses) + 3) + len(statuses)
        assert page.buffers <= SIZE * 10 + 100
    assert deep.buffers <= first.buffers + SIZE * 4


@pytest.mark.parametrize("name", SORTS)
@pytest.mark.parametrize("category", [None, "crowd", "crowd-rare", "none"])
async def test_the_last_page_of_products_costs_what_the_first_does(
    database: Database, crowd: UUID, name: str, category: str | None
) -> None:
    sort = SORTS[name]
    query = sort.all if category is None else sort.of_category
    wanted: Parameters = {"page_size": SIZE} | ({"category": category} if category else {})
    async with database.connection() as connection:
        row = await connection.fetchrow(
            "select * from products where category = 'crowd' order by created_at offset $1 limit 1",
            500 if name.startswith("-") else 19_500,
        )
    position = {"after": row[sort.column], "after_id": row["id"]}
    async with generic_plans(database) as connection:
        first = await cost(connection, query, **wanted, after=None, after_id=None)
        deep = await cost(connection, query, **wanted, **position)
    for page in (first, deep):
        assert page.is_index_scan("products")
        assert page.rows <= SIZE + 2
        assert page.buffers <= SIZE + 20


@pytest.mark.parametrize("status", [None, Status.COMPLETED, RARE])
async def test_pages_hold_each_order_once_newest_first(
    database: Database, crowd: UUID, status: Status | None
) -> None:
    seen: list[dict[str, Any]] = []
    position: list[str] | None = None
    for _ in range(3):
        entries = await orders.page(database, crowd, status, position, 30)
        seen += [order for order, _ in entries]
        position = entries[-1][1]
    rare = status is RARE
    numbers = [n for n in reversed(range(MANY)) if not status or (n % 1000 == 0) == rare]
    assert [order["createdAt"] for order in seen] == [
        rfc3339(START + timedelta(minutes=n)) for n in numbers[:90]
    ]


async def test_orders_of_one_moment_are_not_lost_between_pages(database: Database) -> None:
    user_id = uuid4()
    states = [Status.CREATED, Status.PAID, Status.COMPLETED] * 5
    records = [(uuid4(), user_id, state, 1, "PLN", 1, START, START) for state in states]
    await add_orders(database, records)
    seen: list[str] = []
    position: list[str] | None = None
    while entries := await orders.page(database, user_id, None, position, 4):
        seen += [order["id"] for order, _ in entries]
        position = entries[-1][1]
    assert seen == sorted((str(record[0]) for record in records), reverse=True)


async def test_an_administrator_sees_the_orders_of_all_users(
    database: Database, order_id: UUID
) -> None:
    _, order = await orders.get(database, order_id)
    position = [rfc3339(datetime.now(UTC) + timedelta(hours=1)), str(UUID(int=0))]
    everyone = await orders.page(database, None, Status.CREATED, position, 100)
    assert order in [one for one, _ in everyone]
    theirs = await orders.page(database, UUID(order["userId"]), None, None, 100)
    assert [one for one, _ in theirs] == [order]
