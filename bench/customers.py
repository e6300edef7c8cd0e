"""Customers and their orders: tokens signed here, and requests prepared as bytes."""

import json
import random
import time
from collections.abc import Sequence
from uuid import uuid4

import jwt

TOKEN_SECONDS = 24 * 3600
LINES = (1, 1, 2, 3)
"""How many products an order may have, each equally likely."""
BASKETS = 500


def token(secret: str, id: str, role: str = "USER") -> str:
    """Return a bearer token of user `id` (a UUID), as another issuer with the secret signs it.

    A login costs tens of milliseconds for Argon2id by design, and customers log in once a day.
    """
    claims = {"userId": id, "email": f"{id}@example.com", "role": role}
    return jwt.encode({**claims, "exp": int(time.time()) + TOKEN_SECONDS}, secret, "HS256")


class Customer:
    """One customer's requests as bytes."""

    def __init__(self, secret: str, id: str | None = None) -> None:
        self._head = (
            "HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {token(secret, id or str(uuid4()))}\r\n"
        ).encode()

    def place(self, basket: bytes) -> bytes:
        """Return the request for an order of that body, with a new Idempotency-Key."""
        key = f"Idempotency-Key: {uuid4()}\r\nContent-Length: {len(basket)}\r\n\r\n"
        return b"".join((b"POST /api/orders ", self._head, key.encode(), basket))

    def pay(self, order_id: bytes) -> bytes:
        """Return the request to pay the order's exact total."""
        return b"".join((b"PATCH /api/orders/", order_id, b"/pay ", self._head, b"\r\n"))

    def get(self, order_id: bytes) -> bytes:
        """Return the request to read an order."""
        return b"".join((b"GET /api/orders/", order_id, b" ", self._head, b"\r\n"))


def baskets(products: Sequence[str], dice: random.Random) -> list[bytes]:
    """Return bodies of orders: one to three of the products, one to two pieces of each."""
    return [_basket(products, dice) for _ in range(BASKETS)]


def _basket(products: Sequence[str], dice: random.Random) -> bytes:
    chosen = dice.sample(list(products), dice.choice(LINES))
    items = [{"productId": id, "quantity": dice.randint(1, 2)} for id in chosen]
    return json.dumps({"items": items}).encode()
