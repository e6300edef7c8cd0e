"""Register and log in to accounts of this service."""

from typing import Any
from uuid import uuid4

from tests.acceptance.client import Answer, Api

PASSWORD = "correct horse battery staple"


def new_email() -> str:
    return f"ada-{uuid4()}@example.com"


async def register(api: Api, email: Any, password: Any = PASSWORD, **more: Any) -> Answer:
    account = {"email": email, "password": password, **more}
    return await api.ask("POST", "/api/auth/register", json=account)


async def log_in(api: Api, email: Any, password: Any = PASSWORD) -> Answer:
    account = {"email": email, "password": password}
    return await api.ask("POST", "/api/auth/login", json=account)


async def ask_with(api: Api, bearer: str | None, path: str = "/api/orders") -> Answer:
    headers = {} if bearer is None else {"Authorization": bearer}
    return await api.ask("GET", path, headers=headers)
