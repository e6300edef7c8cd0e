"""The checkout page: lines, total, and buttons to pay, fail or leave."""

from html import escape

from aiohttp import web

from devstack.stripe.errors import ApiError
from devstack.stripe.objects import Object
from devstack.stripe.state import State

_FRAME = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Checkout</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; background: #f6f8fa; color: #1a1f36; margin: 0 }}
  main {{ max-width: 26rem; margin: 10vh auto; background: #fff; padding: 2rem;
         border-radius: 12px; box-shadow: 0 4px 24px rgb(26 31 54 / 12%) }}
  h1 {{ font-size: 1rem; color: #697386; margin: 0 }}
  .total {{ font-size: 2.25rem; font-weight: 600; margin: 0 0 1.5rem }}
  table {{ width: 100%; border-collapse: collapse; margin-bottom: 1.5rem }}
  td {{ padding: .5rem 0; border-top: 1px solid #e3e8ee }}
  td:last-child {{ text-align: right; font-variant-numeric: tabular-nums }}
  button {{ width: 100%; padding: .75rem; margin-top: .5rem; font: inherit; cursor: pointer;
           border: 1px solid #c1c9d2; border-radius: 8px; background: #fff; color: inherit }}
  button.pay {{ background: #635bff; border-color: #635bff; color: #fff; font-weight: 600 }}
  button:focus-visible {{ outline: 3px solid #a29dff }}
  small {{ display: block; margin-top: 1.5rem; color: #697386 }}
</style>
<main>{content}<small>A stand-in for Stripe: no money moves.</small></main>
</html>
"""
_ACTIONS = (("pay", "Pay"), ("fail", "Pay, and let the payment fail"), ("leave", "Leave"))


class Page:
    """GET /c/pay/{id}, and its three buttons."""

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/c/pay/{id}", self._show),
            *(
                web.post(f"/c/pay/{{id}}/{name}", handler)
                for name, handler in (
                    ("pay", self._pay),
                    ("fail", self._fail),
                    ("leave", self._leave),
                )
            ),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        try:
            session = self._state.session(request.match_info["id"])
        except ApiError:
            return _html("<h1>There is no such checkout.</h1>", status=404)
        if session["status"] != "open":
            return _html(f"<h1>This checkout is {session['status']}.</h1>", status=410)
        return _html(_open(session, self._state.lines[session["id"]]))

    async def _pay(self, request: web.Request) -> web.Response:
        return self._finish(request, fails=False)

    async def _fail(self, request: web.Request) -> web.Response:
        return self._finish(request, fails=True)

    def _finish(self, request: web.Request, *, fails: bool) -> web.Response:
        try:
            session = self._state.pay(request.match_info["id"], fails=fails)
        except ApiError as error:
            return _html(f"<h1>{escape(str(error))}</h1>", status=410)
        raise web.HTTPSeeOther(
            session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"])
        )

    async def _leave(self, request: web.Request) -> web.Response:
        """Redirect to the cancel URL; the session stays open, as the customer may come back."""
        session = self._state.session(request.match_info["id"])
        raise web.HTTPSeeOther(session["cancel_url"] or session["success_url"])


def _html(content: str, status: int = 200) -> web.Response:
    body = _FRAME.format(content=content)
    return web.Response(text=body, status=status, content_type="text/html")


def _open(session: Object, lines: list[Object]) -> str:
    rows = "".join(
        f"<tr><td>{escape(line['description'])} × {line['quantity']}</td>"
        f"<td>{_money(line['amount_total'], line['currency'])}</td></tr>"
        for line in lines
    )
    buttons = "".join(
        f'<form method="post" action="/c/pay/{session["id"]}/{name}">'
        f'<button class="{name}">{label}</button></form>'
        for name, label in _ACTIONS
    )
    total = _money(session["amount_total"], session["currency"])
    return f'<h1>To pay</h1><p class="total">{total}</p><table>{rows}</table>{buttons}'


def _money(minor: int, currency: str) -> str:
    return f"{minor // 100}.{minor % 100:02d} {escape(currency.upper())}"
