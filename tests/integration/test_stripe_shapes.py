"""Provider calls to Stripe, checked against its own API description."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from app.stripe.api import Line
from app.stripe.client import StripeClient
from app.stripe.errors import ProviderRefused
from devstack.server import ServerFailed
from devstack.stripe_mock import StripeMock, install
from tests.integration.stripe_stand_in import checkout, stripe_client
from tests.missing import skip


@pytest.fixture(scope="module")
def stripe_mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StripeMock]:
    folder = tmp_path_factory.mktemp("stripe-mock")
    try:
        install(folder / "go.log")
    except ServerFailed as failure:
        skip(str(failure))
    with StripeMock(folder) as server:
        yield server


@pytest.fixture
async def checked(stripe_mock: StripeMock) -> AsyncIterator[StripeClient]:
    checked = stripe_client(stripe_mock.url, key="sk_test_123")
    yield checked
    await checked.close()


async def test_stripe_itself_takes_our_requests(checked: StripeClient) -> None:
    session = await checked.create_session(checkout())
    assert session.id.startswith("cs_")
    assert (await checked.expire_session(session.id)).id
    refund = await checked.refund(uuid4(), uuid4(), "pi_123", 20_098)
    assert (refund.amount_minor, refund.id[:3]) == (20_098, "re_")
    assert (await checked.find_refund(refund.id)).id == refund.id
    assert await checked.find_refunds("pi_123") == [], "its refunds are of other payments"


async def test_stripe_itself_would_refuse_a_shape_it_does_not_know(
    checked: StripeClient,
) -> None:
    wrong: Any = replace(checkout(), lines=[Line("Pen", 1, "ten")])  # type: ignore[arg-type]
    with pytest.raises(ProviderRefused):
        await checked.create_session(wrong)
