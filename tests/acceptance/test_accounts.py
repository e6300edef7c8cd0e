"""Who may ask, and who they are."""

import asyncio
import base64
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest

from tests.acceptance.client import Answer, Api
from tests.acceptance.conftest import NewCustomer
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.problems import assert_problem, pointers
from tests.acceptance.records import Records
from tests.acceptance.tokens import in_an_hour, token
from tests.conftest import SECRET, run, run_command

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


async def test_an_email_is_one_account_in_whatever_case(api: Api) -> None:
    email = new_email()
    first = await register(api, email.upper())
    assert_problem(await register(api, email), 409, "Email already exists")
    logged_in = await log_in(api, email.title())
    me = await ask_with(api, f"Bearer {logged_in.body['token']}", "/api/auth/me")
    assert me.body == first.body


@pytest.mark.parametrize(
    "first, again",
    [
        ("{}@xn--mnchen-3ya.de", "{}@MÜNCHEN.de"),
        ("{}@bücher.example.com", "{}@XN--BCHER-KVA.example.com"),
        ("{}-e\u0301@example.com", "{}-\u00c9@example.com"),
    ],
)
async def test_an_email_is_one_account_in_whatever_spelling(
    api: Api, environment: dict[str, str], first: str, again: str
) -> None:
    id = uuid4()
    first, again = first.format(id), again.format(id)
    registered = await register(api, first)
    assert registered.status == 200
    assert_problem(await register(api, again), 409, "Email already exists")
    for email in (first, again, registered.body["email"]):
        assert (await log_in(api, email)).status == 200
    run_command(
        environment, "create-admin", "--email", again, "--password-stdin", stdin=f"{PASSWORD}\n"
    )
    token = (await log_in(api, first)).body["token"]
    me = await ask_with(api, f"Bearer {token}", "/api/auth/me")
    assert me.body == {**registered.body, "role": "ADMIN"}


NOT_ALONE = ["Ann <{}>", "<{}>", " {}", "{} ", "\u00a0{}"]


@pytest.mark.parametrize("written", NOT_ALONE)
async def test_an_email_is_an_address_alone(api: Api, records: Records, written: str) -> None:
    email = new_email()
    assert pointers(await register(api, written.format(email))) == {"#/email"}
    assert await records.user(email) is None


@pytest.mark.parametrize("email", ["", "ada", "ada@", "a b@example.com", "Ann <{}>", " {}"])
async def test_an_email_that_is_none_is_unknown(api: Api, email: str) -> None:
    known = new_email()
    await register(api, known)
    assert_problem(await log_in(api, email.format(known)), 401, "Invalid credentials")


@pytest.mark.parametrize(
    "email, password",
    [(" Bo <Bo@{}>", PASSWORD), ("bo@{} ", PASSWORD), ("bo@{}", "nul\x00nulnul")],
)
def test_no_administrator_is_made_who_could_not_log_in(
    environment: dict[str, str], email: str, password: str
) -> None:
    command = ("create-admin", "--email", email.format("example.com"), "--password-stdin")
    done = run(environment, command, f"{password}\n")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


async def test_two_who_register_the_same_email_at_once_make_one_account(api: Api) -> None:
    email = new_email()
    answers = await asyncio.gather(register(api, email), register(api, email.upper()))
    assert sorted(answer.status for answer in answers) == [200, 409]


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


@pytest.mark.parametrize("email", ["", "ada", "ada@", "@example.com", "a b@example.com", 5, None])
async def test_a_bad_email_is_named(api: Api, email: Any) -> None:
    assert pointers(await register(api, email)) == {"#/email"}


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
    """The token, its payload changed and its signature kept."""
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


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("kind", REFUSED)
async def test_a_token_that_proves_nothing_is_refused(api: Api, kind: str) -> None:
    answer = await ask_with(api, REFUSED[kind]())
    assert_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


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
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


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
