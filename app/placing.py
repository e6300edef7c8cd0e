"""Placing orders: their lines at the catalogue's prices, their totals and deadlines."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from app import idempotency
from app.config import ORDER_TTL_SECONDS
from app.db.pools import Database
from app.db.queries import sql
from app.db.rows import IdempotencyKey, LineRow, OrderRow
from app.db.transaction import Transaction
from app.errors import (
    FieldError,
    InvalidInput,
    NotEnoughStock,
    Problem,
    ProductNotFound,
    TotalMismatch,
)
from app.identity.tokens import Identity
from app.ids import new_id
from app.lifecycle import Order, Status, shortages
from app.money.amounts import MAX_MINOR, to_major
from app.order_json import order_json
from app.times import now, rfc3339
from app.topics import OrderCreated


@dataclass(frozen=True, slots=True)
class Basket:
    """The requested pieces by product, and the total (minor units) the client expects, if any.

    `asked` is the product of each item as the client sent them, to name items that are refused.
    """

    pieces: Mapping[UUID, int]
    expected_total: int | None
    asked: Sequence[UUID] = ()

    def item_errors(self, field: str, messages: Mapping[UUID, str]) -> list[FieldError]:
        """Return the messages about products as errors in that field of their items."""
        return [
            FieldError(messages[id], f"#/items/{n}/{field}")
            for n, id in enumerate(self.asked)
            if id in messages
        ]


@dataclass(frozen=True, slots=True)
class Priced:
    """A user's basket at the catalogue's prices; every line was in stock when it was priced."""

    id: UUID
    user: Identity
    lines: list[tuple[UUID, int, int]]
    """Tuples of product id, quantity and unit price (minor units)."""
    total_minor: int
    currency: str

    def as_json(self, moment: datetime) -> dict[str, Any]:
        """Return the order as clients see it, created at `moment`."""
        order = Order(
            id=self.id,
            user_id=self.user.id,
            status=Status.CREATED,
            version=1,
            total_minor=self.total_minor,
            currency=self.currency,
            customer_email=self.user.email,
            cancel_reason=None,
            updated_at=moment,
        )
        return order_json(order, moment, self.lines)


class PlaceOrder(NamedTuple):
    """The command to place an order."""

    user: Identity
    basket: Basket
    key: IdempotencyKey | None
    request_id: str
    ttl_seconds: int = ORDER_TTL_SECONDS
    """Seconds that the order may stay unpaid."""


async def place(database: Database, command: PlaceOrder) -> tuple[dict[str, Any], bool]:
    """Place an order. Return it as clients see it, and whether it is a replayed answer.

    Raises ProductNotFound, NotEnoughStock, TotalMismatch, InvalidInput (total too large),
    IdempotencyKeyReused, IdempotencyInProgress. Stores nothing when it raises.
    """
    async with database.transaction("placing.place") as transaction:
        if answer := await idempotency.claim(transaction, command.key):
            return answer, True
        products = await products_of(transaction, [command.basket])
        order = add(transaction, command, products)
    return order, False


async def place_together(
    database: Database, commands: Sequence[PlaceOrder]
) -> list[tuple[dict[str, Any], bool] | None]:
    """Place all plain orders in one statement; return None for those to be placed alone.

    Not plain are orders with an error and those with a key that is in use. Raises one of CONFLICT
    when concurrent requests make a second attempt fail, too.
    """
    keys = [one.key for one in commands]
    return await idempotency.try_together(database, keys, partial(_place_those, database, commands))


async def _place_those(
    database: Database, commands: Sequence[PlaceOrder], free: idempotency.Keys
) -> list[tuple[dict[str, Any], bool] | None]:
    placed: dict[int, dict[str, Any]] = {}
    async with database.single_statement("placing.place_together") as transaction:
        products = await products_of(transaction, [one.basket for one in commands])
        for n in idempotency.may_go_on([one.key for one in commands], free):
            with suppress(Problem):
                placed[n] = add(transaction, commands[n], products)
    return [(placed[n], False) if n in placed else None for n in range(len(commands))]


async def products_of(transaction: Transaction, baskets: Iterable[Basket]) -> dict[UUID, Any]:
    """Return the products in the baskets by id; unknown ids are left out."""
    wanted = {id for basket in baskets for id in basket.pieces}
    rows = await sql.products_by_ids(transaction.connection, ids=list(wanted))
    return {row["id"]: row for row in rows}


def add(
    transaction: Transaction, command: PlaceOrder, products: Mapping[UUID, Any]
) -> dict[str, Any]:
    """Add the order at the prices of `products`, and its event; return it as clients see it.

    Raises what `price` raises.
    """
    priced = price(command.user, command.basket, products)
    order = _add_rows(transaction, priced, command.ttl_seconds)
    idempotency.store_answer(transaction, command.key, order)
    transaction.events.append(_created(order, command.key, command.request_id))
    return order


def price(user: Identity, basket: Basket, products: Mapping[UUID, Any]) -> Priced:
    """Return the basket at the prices of `products`.

    Raises ProductNotFound, NotEnoughStock, TotalMismatch, which name the items or the field, and
    InvalidInput (total too large).
    """
    if unknown := basket.pieces.keys() - products.keys():
        messages = dict.fromkeys(unknown, "is not in the catalogue")
        raise ProductNotFound(errors=basket.item_errors("productId", messages))
    available = {id: products[id]["available"] for id in basket.pieces}
    if short := shortages(basket.pieces, available):
        messages = {id: f"only {available[id]} in stock" for id in short}
        raise NotEnoughStock(errors=basket.item_errors("quantity", messages))
    currencies = {products[id]["currency"] for id in basket.pieces}
    if len(currencies) > 1:
        raise InvalidInput.of("#/items", "the products are priced in different currencies")
    lines = [(id, pieces, products[id]["price_minor"]) for id, pieces in basket.pieces.items()]
    total = _total(lines, basket.expected_total)
    return Priced(new_id(), user, lines, total, currencies.pop())


def _total(lines: Iterable[tuple[UUID, int, int]], expected: int | None) -> int:
    total = sum(pieces * price for _, pieces, price in lines)
    if total > MAX_MINOR:
        raise InvalidInput.of("#/items", "the order's total is more than 9999999999999.99")
    if expected is not None and expected != total:
        message = f"the catalogue's total is {to_major(total)}"
        raise TotalMismatch(errors=[FieldError(message, "#/totalAmount")])
    return total


def _add_rows(transaction: Transaction, order: Priced, ttl_seconds: int) -> dict[str, Any]:
    """Add the order, its lines and its deadline; return it as clients see it."""
    moment = now()
    due_at = moment + timedelta(seconds=ttl_seconds)
    user, total = order.user, order.total_minor
    transaction.placed.append(
        OrderRow(order.id, user.id, user.email, total, order.currency, moment, due_at)
    )
    for number, line in enumerate(order.lines, start=1):
        transaction.lines.append(LineRow(order.id, number, *line))
    return order.as_json(moment)


def _created(order: dict[str, Any], key: IdempotencyKey | None, request_id: str) -> OrderCreated:
    """Return the event of a new order, with the answer that replays of its key get."""
    return OrderCreated(
        eventId=str(new_id()),
        orderId=order["id"],
        sequence=1,
        occurredAt=order["createdAt"],
        requestId=request_id,
        userId=order["userId"],
        totalAmount=order["totalAmount"],
        currency=order["currency"],
        createdAt=order["createdAt"],
        items=order["items"],
        customerEmail=order["customerEmail"],
        idempotencyKey=key.key if key else None,
        fingerprint=key.fingerprint.hex() if key else None,
        keyExpiresAt=rfc3339(key.expires_at) if key else None,
        answer=order if key else None,
    )
