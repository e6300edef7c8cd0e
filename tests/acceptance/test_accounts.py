"""Accounts, logins and tokens: who may use the service, and as whom."""

import base64
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest

from tests.acceptance.accounts import ask_with, log_in, new_email, register
from tests.acceptance.client import Api
from tests.acceptance.conftest import NewCustomer
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.problems import assert_problem, pointers
from tests.acceptance.records import Records
from tests.acceptance.tokens import in_an_hour, token
from tests.conftest import SECRET, run_command


async def test_who_registers_can_log_in_and_see_the_profile(api: Api) -> None:
    email = new_email()
    registered = await register(api, email)
    assert registered.status == 200
    assert registered.body == {"id": registered.body["id"], "email": email, "role": "USER"}
    logged_in = await log_in(api, email)
    assert logged_in.status == 200
    assert logged_in.body.keys() == {"token", "tokenType", "expiresIn"}
    for path in ("/api/auth/me", "/api/auth/profile"):
        profile = await ask_with(api, f"Bearer {logged_in.body['token']}", path)
        assert (profile.status, profile.body) == (200, registered.body)


async def test_the_token_says_who_it_speaks_for_and_how_long(api: Api) -> None:
    email = new_email()
    id = (await register(api, email)).body["id"]
    told = (await log_in(api, email)).body
    claims = jwt.decode(told["token"], SECRET, ["HS256"])
    assert claims.keys() >= {"sub", "userId", "email", "role", "iat", "exp", "jti"}
    assert (claims["sub"], claims["userId"], claims["email"]) == (id, id, email)
    assert (claims["role"], told["tokenType"]) == ("USER", "Bearer")
    assert claims["exp"] - claims["iat"] == told["expiresIn"] > 0


async def test_no_two_tokens_are_the_same(api: Api) -> None:
    email = new_email()
    await register(api, email)
    tokens = [(await log_in(api, email)).body["token"] for _ in range(2)]
    first, second = (jwt.decode(token, SECRET, ["HS256"])["jti"] for token in tokens)
    assert first != second


async def test_a_wrong_password_and_an_unknown_email_get_the_same_answer(api: Api) -> None:
    email = new_email()
    await register(api, email)
    wrong = assert_problem(await log_in(api, email, "not the password"), 401, "Invalid credentials")
    unknown = assert_problem(await log_in(api, new_email()), 401, "Invalid credentials")
    assert {**wrong, "requestId": ""} == {**unknown, "requestId": ""}


async def test_a_password_is_kept_as_argon2id_only(api: Api, records: Records) -> None:
    email, password = new_email(), secrets.token_urlsafe(16)
    await register(api, email, password)
    row = await records.user(email) or {}
    assert row["password_hash"].startswith("$argon2id$")
    assert password not in str(dict(row))


@pytest.mark.parametrize("length", [8, 128])
async def test_a_password_of_8_to_128_characters_opens_its_account(api: Api, length: int) -> None:
    email = new_email()
    assert (await register(api, email, "ż" * length)).status == 200
    assert (await log_in(api, email, "ż" * length)).status == 200
    assert (await log_in(api, email, "ż" * (length - 1))).status == 401


@pytest.mark.parametrize("password", ["", "1234567", "x" * 129, 12345678, None, "nul\x00nulnul"])
async def test_a_bad_password_is_named(api: Api, records: Records, password: Any) -> None:
    email = new_email()
    assert pointers(await register(api, email, password)) == {"#/password"}
    assert await records.user(email) is None


async def test_a_bad_email_and_a_bad_password_are_both_named(api: Api) -> None:
    assert pointers(await register(api, "ada", "short")) == {"#/email", "#/password"}


async def test_nobody_registers_as_an_administrator(api: Api) -> None:
    registered = await register(api, new_email(), role="ADMIN")
    assert registered.body["role"] == "USER"


async def test_a_command_makes_a_customer_an_administrator(
    api: Api, environment: dict[str, str]
) -> None:
    email, password = new_email(), secrets.token_urlsafe(16)
    customer = (await register(api, email)).body
    command = ("create-admin", "--email", email.upper(), "--password-stdin")
    run_command(environment, *command, stdin=f"{password}\n")
    logged_in = await log_in(api, email, password)
    me = await ask_with(api, f"Bearer {logged_in.body['token']}", "/api/auth/me")
    assert me.body == {**customer, "role": "ADMIN"}


def with_role_changed(good: str) -> str:
    """Return the token with a changed payload and its old signature."""
    head, _, signature = good.split(".")
    claims = {"userId": str(uuid4()), "role": "ADMIN", "exp": in_an_hour().timestamp()}
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"{head}.{payload}.{signature}"


REFUSED = {
    "no token": lambda: None,
    "an empty one": lambda: "Bearer ",
    "another scheme": lambda: f"Basic {token()}",
    "no JWT": lambda: "Bearer abc",
    "half a JWT": lambda: "Bearer " + token().rsplit(".", 1)[0],
    "an expired one": lambda: f"Bearer {token(exp=datetime.now(UTC) - timedelta(hours=1))}",
    "one that never expires": lambda: f"Bearer {token(exp=None)}",
    "another secret's": lambda: f"Bearer {token(secret='x' * 40)}",
    "a forged one": lambda: f"Bearer {with_role_changed(token())}",
    "an unsigned one": lambda: f"Bearer {token(secret='', algorithm='none')}",
    "another algorithm's": lambda: f"Bearer {token(secret=SECRET * 2, algorithm='HS512')}",
    "a longer hash of the same secret": lambda: f"Bearer {token(algorithm='HS384')}",
    "one without a user": lambda: f"Bearer {token(userId=None)}",
    "one whose user is no UUID": lambda: f"Bearer {token(userId='42')}",
    "one whose user is a number": lambda: f"Bearer {token(userId=42)}",
    "one whose subject is no UUID": lambda: f"Bearer {token(userId=None, sub='ada')}",
}


EXPIRED = 'Bearer error="invalid_token", error_description="The bearer token has expired"'


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("kind", REFUSED)
async def test_a_token_that_proves_nothing_is_refused(api: Api, kind: str) -> None:
    answer = await ask_with(api, REFUSED[kind]())
    assert_problem(answer, 401)
    none = dict.fromkeys(("no token", "an empty one", "another scheme"), "Bearer")
    told = {**none, "an expired one": EXPIRED}.get(kind, 'Bearer error="invalid_token"')
    assert answer.headers["WWW-Authenticate"] == told


async def test_an_expired_token_is_told_to_be_one(api: Api) -> None:
    answer = await ask_with(api, REFUSED["an expired one"]())
    assert_problem(answer, 401, "The bearer token has expired")


SOME_ID = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/api/auth/me"),
        ("GET", "/api/auth/profile"),
        ("GET", "/api/products"),
        ("POST", "/api/products"),
        ("GET", f"/api/products/{SOME_ID}"),
        ("GET", "/api/orders"),
        ("POST", "/api/orders"),
        ("GET", f"/api/orders/{SOME_ID}"),
        ("PATCH", f"/api/orders/{SOME_ID}/pay"),
    ],
)
async def test_without_a_token_nothing_is_served(api: Api, method: str, path: str) -> None:
    answer = await api.ask(method, path)
    assert_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_token_from_elsewhere_needs_no_account_here(
    customer: Customer, product: dict[str, Any], records: Records
) -> None:
    order = await customer.placed(product)
    assert (order["userId"], order["customerEmail"]) == (customer.id, customer.email)
    assert not await records.user_exists(customer.id)


async def test_the_role_in_the_token_makes_an_administrator(api: Api, records: Records) -> None:
    id = str(uuid4())
    elsewhere = Admin(api, token(userId=id, role="ADMIN"), id, None)
    assert (await elsewhere.post_product()).status == 201
    assert not await records.user_exists(id)


@pytest.mark.parametrize("role", ["USER", "admin", "ROOT", None])
async def test_no_other_role_makes_an_administrator(api: Api, role: str | None) -> None:
    id = str(uuid4())
    somebody = Admin(api, token(userId=id, role=role), id, None)
    assert_problem(await somebody.post_product(), 403)


async def test_the_subject_is_the_user_where_the_token_names_no_other(api: Api) -> None:
    subject, user = str(uuid4()), str(uuid4())
    plain = await ask_with(api, f"Bearer {token(userId=None, sub=subject)}", "/api/auth/me")
    both = await ask_with(api, f"Bearer {token(userId=user, sub=subject)}", "/api/auth/me")
    assert (plain.body["id"], both.body["id"]) == (subject, user)


@pytest.mark.parametrize("email", ["nul\x00@example.com", "\ud800@example.com"])
async def test_an_email_in_a_token_that_cannot_be_stored_is_never_our_fault(
    new_customer: NewCustomer, product: dict[str, Any], email: str
) -> None:
    assert (await new_customer(email=email).place(product)).status in (201, 401)


async def test_an_order_of_a_token_without_email_has_none(
    new_customer: NewCustomer, product: dict[str, Any]
) -> None:
    order = await new_customer(email=None).placed(product)
    assert order["customerEmail"] is None
