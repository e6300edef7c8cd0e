"""Drive Swagger UI as a user who tries an operation out."""

import json
from typing import Any

from playwright.async_api import Locator, Page


class SwaggerUi:
    """A page of Swagger UI."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def operation(self, method: str, path: str) -> Locator:
        """Return the block of one operation."""
        place = self.page.locator(f'[data-path="{path}"]')
        return self.page.locator(f".opblock-{method.lower()}").filter(has=place)

    async def tries(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Open the operation, send `body`, and read status and body off the page."""
        block = self.operation(method, path)
        await block.locator(".opblock-summary-control").click()
        await block.get_by_role("button", name="Try it out").click()
        await block.locator("textarea.body-param__text").fill(json.dumps(body))
        await block.get_by_role("button", name="Execute").click()
        live = block.locator(".live-responses-table .response")
        status = await live.locator(".response-col_status").inner_text()
        told = await live.locator(
            ".response-col_description .highlight-code code"
        ).first.inner_text()
        return int(status.split()[0]), json.loads(told)

    async def authorises(self, token: str) -> None:
        """Enter the bearer token in the Authorize dialog."""
        await self.page.locator("button.authorize").first.click()
        dialog = self.page.locator(".dialog-ux")
        await dialog.locator("input").fill(token)
        await dialog.locator("button.authorize").click()
        await dialog.get_by_role("button", name="Close").click()
