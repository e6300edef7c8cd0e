"""An email is an address only, and belongs to one account in any case and spelling."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.accounts import PASSWORD, ask_with, log_in, new_email, register
from tests.acceptance.client import Api
from tests.acceptance.problems import assert_problem, pointers
from tests.acceptance.records import Records
from tests.conftest import run, run_command


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
        ("{}-\u0390@example.com", "{}-\u0399\u0308\u0301@example.com"),
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


@pytest.mark.parametrize("domain", ["shop.test", "corp.local", "shop.localhost"])
async def test_an_address_of_an_intranet_or_a_test_system_is_taken(api: Api, domain: str) -> None:
    email = f"{uuid4()}@{domain}"
    assert (await register(api, email)).status == 200
    assert (await log_in(api, email)).status == 200


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


async def test_no_administrator_is_made_who_could_not_log_in(environment: dict[str, str]) -> None:
    refused = [(" Bo <Bo@{}>", PASSWORD), ("bo@{} ", PASSWORD), ("bo@{}", "nul\x00nulnul")]
    runs = [
        asyncio.to_thread(
            run,
            environment,
            ("create-admin", "--email", email.format("example.com"), "--password-stdin"),
            f"{password}\n",
        )
        for email, password in refused
    ]
    for account, done in zip(refused, await asyncio.gather(*runs), strict=True):
        assert done.returncode == 1, account
        assert len(done.stderr.strip().splitlines()) == 1, (account, done.stderr)


async def test_two_who_register_the_same_email_at_once_make_one_account(api: Api) -> None:
    email = new_email()
    answers = await asyncio.gather(register(api, email), register(api, email.upper()))
    assert sorted(answer.status for answer in answers) == [200, 409]


@pytest.mark.parametrize("email", ["", "ada", "ada@", "@example.com", "a b@example.com", 5, None])
async def test_a_bad_email_is_named(api: Api, email: Any) -> None:
    assert pointers(await register(api, email)) == {"#/email"}
