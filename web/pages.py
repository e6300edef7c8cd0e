"""HTML pages, from templates in `web/static`."""

from html import escape
from importlib.resources import files
from string import Template

from aiohttp import web

STATIC = files("web.static")
PAGE_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Content-Security-Policy of pages: resources from this service, nothing inline but styles."""


def page(title: str, body: str) -> str:
    """Render the service's page template; `body` is HTML."""
    template = Template(STATIC.joinpath("page.html").read_text())
    return template.substitute(title=escape(title), body=body)


def html(text: str) -> web.Response:
    """Return an HTML response whose page may load scripts and styles from this service only."""
    return web.Response(
        text=text,
        content_type="text/html",
        charset="utf-8",
        headers={"Content-Security-Policy": PAGE_POLICY},
    )
