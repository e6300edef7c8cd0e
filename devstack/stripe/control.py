"""The control API for tests and people: `/_control`.

GET  /_control                           the state: counts, objects, events and their answers
POST /_control/faults                    a Fault, as JSON: {"kind": "cut", "path": "/v1/refunds"}
POST /_control/whims                     Whims, as JSON: {"delayed": true}; {} resets them
POST /_control/webhooks                  {"url"?, "hold"?, "copies"?}
POST /_control/deliver                   {"events"?, "reversed"?}: those ids, else all held ones
POST /_control/sessions/{id}/settle      {"paid": true}: settle a delayed payment
POST /_control/sessions/{id}/expire      expire the session
POST /_control/refunds                   {"payment_intent", "amount"?}: refund, as a person would
POST /_control/refunds/{id}/settle       {"succeeds": true}: settle a pending refund
"""

from typing import Any

from aiohttp import web

from devstack.stripe.errors import ApiError
from devstack.stripe.faults import Fault, Faults
from devstack.stripe.state import State, Whims
from devstack.stripe.webhooks import Webhooks


class Control:
    """The control API, which needs no key; the stand-in listens on this machine only."""

    def __init__(self, state: State, faults: Faults, webhooks: Webhooks) -> None:
        self._state = state
        self._faults = faults
        self._webhooks = webhooks

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/_control", self._tell),
            web.post("/_control/faults", self._add_fault),
            web.post("/_control/whims", self._set_whims),
            web.post("/_control/webhooks", self._set_webhooks),
            web.post("/_control/deliver", self._deliver),
            web.post("/_control/sessions/{id}/settle", self._settle),
            web.post("/_control/sessions/{id}/expire", self._expire),
            web.post("/_control/refunds", self._refund),
            web.post("/_control/refunds/{id}/settle", self._settle_refund),
        ]

    async def _tell(self, request: web.Request) -> web.Response:
        state = self._state
        return web.json_response(
            {
                "counts": {
                    "sessions": len(state.sessions),
                    "charges": len(state.charges),
                    "refunds": len(state.refunds),
                },
                "sessions": list(state.sessions.values()),
                "charges": list(state.charges.values()),
                "refunds": list(state.refunds.values()),
                "events": [delivery.told for delivery in self._webhooks.deliveries.values()],
            }
        )

    async def _add_fault(self, request: web.Request) -> web.Response:
        self._faults.due.append(Fault(**await request.json()))
        return _done()

    async def _set_whims(self, request: web.Request) -> web.Response:
        self._state.whims = Whims(**await request.json())
        return _done()

    async def _set_webhooks(self, request: web.Request) -> web.Response:
        told = await request.json()
        self._webhooks.url = told.get("url", self._webhooks.url)
        self._webhooks.hold = told.get("hold", self._webhooks.hold)
        self._webhooks.copies = told.get("copies", self._webhooks.copies)
        return _done()

    async def _deliver(self, request: web.Request) -> web.Response:
        told = await request.json()
        ids = told.get("events") or self._webhooks.held()
        if told.get("reversed"):
            ids = ids[::-1]
        answers = await self._webhooks.deliver(ids)
        return web.json_response({"events": ids, "answers": answers})

    async def _settle(self, request: web.Request) -> web.Response:
        paid = bool((await request.json())["paid"])
        return _answer(lambda: self._state.settle(request.match_info["id"], paid=paid))

    async def _expire(self, request: web.Request) -> web.Response:
        return _answer(lambda: self._state.expire(request.match_info["id"]))

    async def _refund(self, request: web.Request) -> web.Response:
        told = await request.json()
        return _answer(lambda: self._state.refund(told))

    async def _settle_refund(self, request: web.Request) -> web.Response:
        succeeds = bool((await request.json())["succeeds"])
        return _answer(lambda: self._state.settle_refund(request.match_info["id"], succeeds))


def _done() -> web.Response:
    return web.json_response({})


def _answer(work: Any) -> web.Response:
    try:
        return web.json_response(work())
    except ApiError as error:
        return web.json_response(error.body, status=error.status)
