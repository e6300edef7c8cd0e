"""Stripe's REST API, as far as this service uses it."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import BasicAuth, web

from devstack.stripe import faults, forms
from devstack.stripe.errors import ApiError, missing
from devstack.stripe.faults import Faults, Work
from devstack.stripe.objects import Object, new_id
from devstack.stripe.state import State


class Api:
    """The endpoints, which apply the API key, faults and idempotency keys."""

    def __init__(self, state: State, faults: Faults, key: str) -> None:
        self._state = state
        self._faults = faults
        self._key = key
        self._kept: dict[str, tuple[object, int, Object]] = {}

    def routes(self) -> list[web.RouteDef]:
        state, id = self._state, "{id}"
        return [
            web.post("/v1/checkout/sessions", self._serve(lambda _, p: state.create_session(p))),
            web.get(
                f"/v1/checkout/sessions/{id}",
                self._serve(lambda r, _: state.retrieve_session(_id(r), _query(r))),
            ),
            web.post(
                f"/v1/checkout/sessions/{id}/expire",
                self._serve(lambda r, _: state.expire(_id(r))),
            ),
            web.post("/v1/refunds", self._serve(lambda _, p: state.refund(p))),
            web.get("/v1/refunds", self._serve(lambda r, _: state.refunds_of(r.query))),
            web.get(f"/v1/refunds/{id}", self._find("refund", state.refunds)),
            web.get(f"/v1/payment_intents/{id}", self._find("payment_intent", state.intents)),
            web.route("*", "/v1/{rest:.*}", self._serve(_unknown)),
        ]

    def _find(self, kind: str, kept: dict[str, Object]) -> Callable[..., Awaitable[web.Response]]:
        def find(request: web.Request, parameters: Object) -> Object:
            if _id(request) not in kept:
                raise missing(kind, _id(request))
            return kept[_id(request)]

        return self._serve(find)

    def _serve(self, work: Work) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def serve(request: web.Request) -> web.Response:
            fault = self._faults.take(request.method, request.path)
            headers = {"Request-Id": new_id("req", 14)}
            try:
                self._check_key(request)
                if fault and fault.kind == "proxy":
                    return web.Response(status=403, text="<html>Forbidden</html>")
                faults.before(fault)
                done = faults.within(fault, work)
                status, body, replayed = self._once(request, done, await request.text())
                if replayed:
                    headers["Idempotent-Replayed"] = "true"
            except ApiError as error:
                status, body = error.status, error.body
            answer = web.json_response({**body}, status=status, headers=headers)
            await faults.after(fault, request)
            return answer

        return serve

    def _check_key(self, request: web.Request) -> None:
        """Raise ApiError unless the key is given, as a bearer token or as curl's `-u KEY:`."""
        given = request.headers.get("Authorization", "")
        basic = BasicAuth(self._key).encode()
        if not any(_same(given, one) for one in (f"Bearer {self._key}", basic)):
            raise ApiError("Invalid API Key provided.", status=401)

    def _once(self, request: web.Request, work: Work, text: str) -> tuple[int, Object, bool]:
        """Return status, body, and whether they are replayed by an idempotency key.

        The answer is kept only if the work began: https://docs.stripe.com/api/idempotent_requests.
        """
        key = request.headers.get("Idempotency-Key") if request.method == "POST" else None
        asked = request.method, request.path, text
        if key in self._kept:
            return self._replay(key, asked)
        try:
            status, body = 200, {**work(request, forms.parse(text))}
        except ApiError as error:
            if not error.began:
                raise
            status, body = error.status, error.body
        if key:
            self._kept[key] = asked, status, body
        return status, body, False

    def _replay(self, key: str, asked: object) -> tuple[int, Object, bool]:
        before, status, body = self._kept[key]
        if asked != before:
            raise ApiError(
                "Keys for idempotent requests can only be used with the same parameters they were "
                f"first used with. Try using a key other than '{key}' if you meant to execute a "
                "different request.",
                kind="idempotency_error",
            )
        return status, body, True


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _id(request: web.Request) -> str:
    return request.match_info["id"]


def _query(request: web.Request) -> Object:
    return forms.parse(request.query_string)


def _unknown(request: web.Request, parameters: Any) -> Object:
    raise ApiError(f"Unrecognized request URL ({request.method}: {request.path}).", status=404)
