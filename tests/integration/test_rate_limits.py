"""Too many attempts are limited, whether Redis is reachable, hangs or is down."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from limits import parse

from app.errors import InvalidCredentials, Overloaded, TooManyRequests
from app.resilience.rate_limits import MAX_ARRIVALS, RateLimits
from devstack.redis import Redis
from tests.integration.hanging_redis import hanging

NOWHERE = "redis://127.0.0.1:1/0"
MANY = parse("150/minute")
AT_ONCE = 200
"""More than the connections of a client of Redis, which are 100 by default."""
PATIENCE = 30.0
PER_ADDRESS, PER_ACCOUNT = parse("5/minute"), parse("3/15 minutes")


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have limits that are made afterwards wait for a Redis that is slow, not away."""
    monkeypatch.setattr("app.resilience.redis_breaker.TIMEOUT_SECONDS", PATIENCE)


@pytest.fixture(params=["with Redis", "without Redis"])
async def limits(
    request: pytest.FixtureRequest, patience: None, redis: Redis
) -> AsyncIterator[RateLimits]:
    url = redis.url if request.param == "with Redis" else NOWHERE
    limits = RateLimits(url, PER_ADDRESS, PER_ACCOUNT)
    yield limits
    await limits.close()


@pytest.fixture
async def workers(redis: Redis) -> AsyncIterator[list[RateLimits]]:
    """The limits of two workers."""
    both = [RateLimits(redis.url, PER_ADDRESS, PER_ACCOUNT) for _ in range(2)]
    yield both
    for limits in both:
        await limits.close()


def new_address() -> str:
    return f"2001:db8:{uuid4().hex[:4]}:{uuid4().hex[:4]}::1"


def new_email() -> str:
    return f"ann-{uuid4()}@example.com"


async def fail(limits: RateLimits, email: str) -> None:
    """Try to log in with a wrong password, which takes a moment."""
    with pytest.raises(InvalidCredentials):
        async with limits.login(email):
            await asyncio.sleep(0)
            raise InvalidCredentials


async def log_in(limits: RateLimits, email: str) -> None:
    """Log in with the right password."""
    async with limits.login(email):
        await asyncio.sleep(0)


async def spend(limits: RateLimits, address: str) -> None:
    for _ in range(PER_ADDRESS.amount):
        await limits.count_request(address)


async def test_an_address_that_asks_too_often_is_told_when_to_come_back(limits: RateLimits) -> None:
    address = new_address()
    await spend(limits, address)
    with pytest.raises(TooManyRequests) as refused:
        await limits.count_request(address)
    assert refused.value.retry_after in range(1, 61)
    await limits.count_request(new_address())


async def test_another_address_of_the_same_subnet_is_the_same_client(limits: RateLimits) -> None:
    address = new_address()
    await spend(limits, address)
    with pytest.raises(TooManyRequests):
        await limits.count_request(address.replace("::1", "::2:3"))


async def test_an_account_is_closed_after_too_many_failures(limits: RateLimits) -> None:
    email = new_email()
    for _ in range(PER_ACCOUNT.amount):
        await fail(limits, email)
    with pytest.raises(TooManyRequests) as refused:
        await log_in(limits, email.upper())
    assert refused.value.retry_after in range(1, 901)
    await log_in(limits, new_email())


async def test_the_right_password_is_never_counted(limits: RateLimits) -> None:
    email = new_email()
    for _ in range(PER_ACCOUNT.amount * 3):
        await log_in(limits, email)
    await asyncio.gather(*(log_in(limits, email) for _ in range(PER_ACCOUNT.amount * 3)))


async def test_a_success_does_not_forgive_the_failures(limits: RateLimits) -> None:
    email = new_email()
    for _ in range(PER_ACCOUNT.amount):
        await log_in(limits, email)
        await fail(limits, email)
    with pytest.raises(TooManyRequests):
        await log_in(limits, email)


async def test_an_error_that_is_not_the_client_s_is_not_counted(limits: RateLimits) -> None:
    email = new_email()
    for _ in range(PER_ACCOUNT.amount * 3):
        with pytest.raises(OSError):
            async with limits.login(email):
                raise OSError("PostgreSQL is away")
    await log_in(limits, email)


async def test_many_failures_at_once_are_no_more_than_many_in_a_row(limits: RateLimits) -> None:
    email = new_email()
    tried = await asyncio.gather(*(fail(limits, email) for _ in range(30)), return_exceptions=True)
    assert tried.count(None) == PER_ACCOUNT.amount
    assert sum(isinstance(outcome, TooManyRequests) for outcome in tried) == 27


async def test_all_workers_count_together(patience: None, workers: list[RateLimits]) -> None:
    one, other = workers
    address, email = new_address(), new_email()
    await spend(one, address)
    for _ in range(PER_ACCOUNT.amount):
        await fail(one, email)
    with pytest.raises(TooManyRequests):
        await other.count_request(address)
    with pytest.raises(TooManyRequests):
        await log_in(other, email)


async def test_a_burst_is_counted_in_redis(patience: None, redis: Redis) -> None:
    """What a worker would count for itself, nobody else would know of."""
    one, other = (RateLimits(redis.url, MANY, PER_ACCOUNT) for _ in range(2))
    address = new_address()
    burst = (one.count_request(address) for _ in range(AT_ONCE))
    counted = await asyncio.gather(*burst, return_exceptions=True)
    assert counted.count(None) == MANY.amount
    with pytest.raises(TooManyRequests):
        await other.count_request(address)
    for limits in (one, other):
        await limits.close()


async def test_a_flood_that_waits_for_redis_is_refused_and_then_counted(
    patience: None, redis: Redis
) -> None:
    limits = RateLimits(redis.url, parse(f"{MAX_ARRIVALS}/minute"), PER_ACCOUNT)
    address = new_address()
    with hanging(redis):
        flood = [asyncio.create_task(limits.count_request(address)) for _ in range(MAX_ARRIVALS)]
        await asyncio.sleep(0)  # each begins to wait
        with pytest.raises(Overloaded):
            await limits.count_request(new_address())
    assert await asyncio.gather(*flood) == [None] * MAX_ARRIVALS
    with pytest.raises(TooManyRequests):
        await limits.count_request(address)
    await limits.close()


async def test_failures_at_two_workers_at_once_pass_the_limit_by_one_at_most(
    patience: None, workers: list[RateLimits]
) -> None:
    email = new_email()
    attempts = [fail(limits, email) for _ in range(20) for limits in workers]
    tried = await asyncio.gather(*attempts, return_exceptions=True)
    assert tried.count(None) in (PER_ACCOUNT.amount, PER_ACCOUNT.amount + 1)


async def test_while_redis_hangs_the_worker_counts_for_itself_and_after_that_they_agree(
    redis: Redis, workers: list[RateLimits]
) -> None:
    one, other = workers
    address = new_address()
    await one.count_request(new_address())
    with hanging(redis):
        async with asyncio.timeout(10):
            await spend(one, address)
            with pytest.raises(TooManyRequests):
                await one.count_request(address)
    async with asyncio.timeout(30):
        while not await _counts_with(other, one):
            await asyncio.sleep(0.05)


async def test_failures_while_redis_hangs_count_on_after_it(
    redis: Redis, workers: list[RateLimits]
) -> None:
    limits, email = workers[0], new_email()
    await fail(limits, email)
    await fail(limits, email)
    with hanging(redis):
        await fail(limits, email)
    async with asyncio.timeout(30):
        with pytest.raises(TooManyRequests) as refused:
            while True:
                await log_in(limits, email)
                await asyncio.sleep(0.05)
    assert refused.value.retry_after in range(1, 901)


async def _counts_with(other: RateLimits, one: RateLimits) -> bool:
    """Return whether one worker refuses an address whose requests were spent at another."""
    address = new_address()
    await spend(one, address)
    try:
        await other.count_request(address)
    except TooManyRequests:
        return True
    return False
