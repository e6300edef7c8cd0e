"""A browser, and pages that record their requests and errors."""

import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.acceptance.conftest import admin, admin_account, api, customer, new_customer, product
from tests.missing import skip

__all__ = ["admin", "admin_account", "api", "customer", "new_customer", "product"]

PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Visit:
    """A page, the addresses it requested, and its errors."""

    page: Page
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def chromium() -> str:
    """Return the path of the program."""
    named = os.environ.get("CHROMIUM") or shutil.which("chromium")
    return named or skip("install the package chromium, or name the program in CHROMIUM")


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium."""
    program = chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        await browser.close()


@pytest.fixture
async def visit(browser: Browser) -> AsyncIterator[Visit]:
    """An empty page in a new browser context."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    visit = Visit(await context.new_page())
    visit.page.set_default_timeout(PATIENCE_MS)
    visit.page.on("request", lambda request: visit.asked.append(request.url))
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    visit.page.on(
        "console",
        lambda message: message.type == "error" and visit.complaints.append(message.text),
    )
    yield visit
    await context.close()
