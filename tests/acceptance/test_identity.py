"""Workers with other settings, mostly of trust: another issuer's keys, origins, low rate limits.

They have their own servers, because a second worker would take partitions from the first.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from devstack.ports import free_port
from devstack.stack import Stack
from devstack.worker import Worker
from tests.acceptance.client import Answer, Api
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.problems import assert_problem, slug
from tests.acceptance.tokens import signed_by, token
from tests.conftest import SECRET, run_in_vain
from tests.furnish import furnish

SHOP = "https://shop.example.com"
KEY = ec.generate_private_key(ec.SECP256R1())
PASSWORD = "correct horse battery staple"
USUAL = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Server": "faust-orders",
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of servers with schema and topics."""
    with Stack(tmp_path_factory.mktemp("servers")) as stack:
        furnish(stack.environment, catalogue=False)
        yield stack.environment


@pytest.fixture(scope="module")
def verifying(
    servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment of a worker without accounts that trusts the keys of another issuer."""
    file: Path = tmp_path_factory.mktemp("keys") / "jwks.json"
    jwk = ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
    file.write_text(json.dumps({"keys": [{**jwk, "kid": "one", "use": "sig"}]}))
    told = {
        "JWT_JWKS_FILE": str(file),
        "JWT_ISSUER": "https://id.example.com",
        "JWT_AUDIENCE": "orders",
        "AUTH_LOCAL": "false",
        "CORS_ORIGINS": f"{SHOP}, http://localhost:3000",
        "ORDER_TTL_SECONDS": "7200",
        "PORT": str(free_port()),
    }
    with pytest.MonkeyPatch.context() as patch:
        # A worker also inherits this process's environment.
        patch.delenv("JWT_SECRET")
        yield {**servers, **told}


@pytest.fixture(scope="module")
def limiting(servers: dict[str, str]) -> dict[str, str]:
    """The environment of a worker behind one proxy, with low rate limits."""
    told = {
        "JWT_SECRET": SECRET,
        "AUTH_RATE_LIMIT": "8/minute",
        "LOGIN_FAILURES_LIMIT": "3/15 minutes",
        "TRUSTED_PROXIES": "1",
        "FAUST_PAGES": "true",
        "PORT": str(free_port()),
    }
    return {**servers, **told}


@pytest.fixture(scope="module")
async def apis(
    verifying: dict[str, str], limiting: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Api, Api]]:
    """Both workers."""
    with ExitStack() as workers:
        started = [
            workers.enter_context(Worker(environment, folder / "data", folder / "worker.log"))
            for environment in (verifying, limiting)
            for folder in (tmp_path_factory.mktemp("worker"),)
        ]
        for worker in started:
            worker.wait_ready(120)
        async with aiohttp.ClientSession() as session:
            yield Api(session, started[0].url), Api(session, started[1].url)


@pytest.fixture
def verifier(apis: tuple[Api, Api]) -> Api:
    return apis[0]


@pytest.fixture
def limiter(apis: tuple[Api, Api]) -> Api:
    return apis[1]


def from_elsewhere(**claims: Any) -> str:
    usual = {"iss": "https://id.example.com", "aud": "orders"}
    return signed_by(KEY, "ES256", "one", **{**usual, **claims})


async def knows(api: Api, bearer: str) -> Answer:
    return await api.ask("GET", "/api/auth/me", headers={"Authorization": f"Bearer {bearer}"})


async def try_at(api: Api, path: str, address: str, email: str, password: str) -> Answer:
    account = {"email": email, "password": password}
    headers = {"X-Forwarded-For": f"198.51.100.{uuid4().int % 256}, {address}"}
    return await api.ask("POST", f"/api/auth/{path}", json=account, headers=headers)


def customers_of(verifier: Api) -> tuple[Customer, Admin]:
    """Return a customer and an administrator of the other issuer."""
    id, boss = str(uuid4()), str(uuid4())
    admin = Admin(verifier, from_elsewhere(userId=boss, role="ADMIN"), boss, None)
    return Customer(verifier, from_elsewhere(userId=id), id, None), admin


async def test_a_token_of_the_issuer_s_key_buys(verifier: Api) -> None:
    customer, admin = customers_of(verifier)
    order = await customer.buys(await admin.adds())
    assert (order["userId"], order["customerEmail"]) == (customer.id, None)


async def test_an_order_may_stay_unpaid_as_long_as_is_configured(verifier: Api) -> None:
    customer, admin = customers_of(verifier)
    order = await customer.placed(await admin.adds())
    told = (await customer.ask("GET", f"/api/orders/{order['id']}/explain")).body
    due, placed = map(datetime.fromisoformat, (told["nextTimer"]["at"], order["createdAt"]))
    assert due - placed == timedelta(hours=2)


async def test_any_other_token_is_refused_there(verifier: Api) -> None:
    right = {"iss": "https://id.example.com", "aud": "orders"}
    for bearer in (
        token(**right),
        from_elsewhere(aud="invoices"),
        from_elsewhere(iss=None),
        signed_by(KEY, "ES256", "two", **right),
        signed_by(ec.generate_private_key(ec.SECP256R1()), "ES256", "one", **right),
    ):
        assert_problem(await knows(verifier, bearer), 401)


@pytest.mark.parametrize("path", ["/api/auth/register", "/api/auth/login"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_where_no_accounts_are_kept_their_addresses_do_not_exist(
    verifier: Api, path: str, method: str
) -> None:
    body = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
    answer = await verifier.ask(method, path, json=body)
    assert_problem(answer, 404)
    assert slug(answer) == "not-found"


def test_where_no_accounts_are_kept_no_administrator_is_made(
    verifying: dict[str, str],
) -> None:
    told = run_in_vain(verifying, "create-admin", "--email", "ann@example.com", "--password-stdin")
    assert told.strip().splitlines()[-1].startswith("AUTH_LOCAL")


def test_a_worker_without_a_secret_says_in_one_line_that_it_must_not_keep_accounts(
    verifying: dict[str, str],
) -> None:
    told = run_in_vain({**verifying, "AUTH_LOCAL": "true"}, "worker")
    assert [line.split(":")[0] for line in told.strip().splitlines()] == ["AUTH_LOCAL"]


async def test_a_page_of_the_shop_may_read_answers_and_refusals(verifier: Api) -> None:
    for path, status in {"/livez": 200, "/api/orders": 401, "/nothing": 404}.items():
        answer = await verifier.ask("GET", path, headers={"Origin": SHOP})
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == SHOP
        other = await verifier.ask("GET", path, headers={"Origin": "https://evil.example.com"})
        assert "Access-Control-Allow-Origin" not in other.headers


async def test_a_page_of_the_shop_may_pay(verifier: Api) -> None:
    headers = {"Origin": SHOP, "Access-Control-Request-Method": "PATCH"}
    answer = await verifier.ask("OPTIONS", f"/api/orders/{uuid4()}/pay", headers=headers)
    assert answer.status == 200
    assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["X-Request-Id"]
    assert USUAL.items() <= answer.headers.items()


@pytest.mark.parametrize("path", ["/", "/livez", "/metrics", "/api/orders", "/nothing"])
async def test_every_answer_carries_the_usual_headers(limiter: Api, path: str) -> None:
    answer = await limiter.ask("GET", path, headers={"Origin": SHOP})
    assert USUAL.items() <= answer.headers.items()
    assert not any(name.startswith("Access-Control") for name in answer.headers)


async def test_what_is_no_good_http_is_answered_with_the_usual_headers_too(limiter: Api) -> None:
    for method, path in (("GET", "/livez?" + "x" * 9000), ("FOO", "/livez")):
        answer = await limiter.ask(method, path)
        assert_problem(answer, answer.status)
        assert USUAL.items() <= answer.headers.items()


async def test_an_address_that_tries_too_often_is_told_when_to_come_back(limiter: Api) -> None:
    accounts = [f"ann-{uuid4()}@example.com" for _ in range(4)]
    for email in accounts:
        assert (await try_at(limiter, "register", "203.0.113.1", email, PASSWORD)).status == 200
        assert (await try_at(limiter, "login", "203.0.113.1", email, PASSWORD)).status == 200
    for path in ("login", "register"):
        answer = await try_at(limiter, path, "203.0.113.1", accounts[0], PASSWORD)
        assert_problem(answer, 429)
        assert slug(answer) == "too-many-requests"
        assert int(answer.headers["Retry-After"]) in range(1, 61)
    answer = await try_at(limiter, "login", "203.0.113.2", accounts[0], PASSWORD)
    assert answer.status == 200


@pytest.mark.parametrize("known", [True, False])
async def test_an_account_that_was_guessed_at_is_closed_for_a_while(
    limiter: Api, known: bool
) -> None:
    email, address = f"ann-{uuid4()}@example.com", f"2001:db8:{uuid4().hex[:4]}::1"
    if known:
        assert (await try_at(limiter, "register", address, email, PASSWORD)).status == 200
    for _ in range(3):
        wrong = await try_at(limiter, "login", address, email.upper(), "a wrong password")
        assert_problem(wrong, 401, "Invalid credentials")
    answer = await try_at(limiter, "login", address, email, PASSWORD)
    assert_problem(answer, 429)
    assert int(answer.headers["Retry-After"]) in range(1, 901)


FAUST_PAGES = ["", "assignment/", "router/", "router/handled/", "table/", "table/handled/"]
KEYS_OF_TABLES = ["table/handled/key/", "router/handled/key/", "table/nothing/key/"]


async def test_faust_s_pages_where_they_are_asked_for_are_the_administrators(
    limiter: Api,
) -> None:
    boss = Admin(limiter, token(role="ADMIN"), "", None)
    customer = Customer(limiter, token(), "", None)
    for page in FAUST_PAGES:
        assert (await boss.ask("GET", f"/faust/{page}")).status == 200, page
        assert_problem(await customer.ask("GET", f"/faust/{page}"), 403)
        assert_problem(await limiter.ask("GET", f"/faust/{page}"), 401)
    for unknown in ("table/nothing/", "router/nothing/", "nothing/", *KEYS_OF_TABLES):
        assert_problem(await boss.ask("GET", f"/faust/{unknown}"), 404)
