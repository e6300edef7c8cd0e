"""/api/auth: register, log in, and the caller's own account."""

from typing import Any

from aiohttp import web

from app import app, bearer_tokens, limiter, request_pool, settings
from app.errors import EmailTaken, InvalidCredentials, Overloaded
from app.identity import accounts
from app.identity.tokens import Identity
from web.http.endpoint import Answer, Link, Who, endpoint
from web.http.problems import View
from web.http.responses import json_response
from web.shapes.answers import Account, RegisteredAccount, Token
from web.shapes.bodies import Login, Register

CREDENTIALS = {name: f"$request.body#/{name}" for name in ("email", "password")}


class RegisterView(View):
    """Registration of accounts."""

    @endpoint(
        "register",
        Answer(200, "The account", RegisteredAccount, links=(Link("login", body=CREDENTIALS),)),
        body=Register,
        limited=True,
        own_problems=(EmailTaken, Overloaded),
    )
    async def post(self, request: web.Request, body: Register) -> web.Response:
        """Register a customer."""
        return json_response(
            _account_json(await accounts.register(request_pool, body.email, body.password))
        )


class LoginView(View):
    """Login."""

    @endpoint(
        "login",
        Answer(200, "A bearer token", Token),
        body=Login,
        limited=True,
        own_problems=(InvalidCredentials, Overloaded),
    )
    async def post(self, request: web.Request, body: Login) -> web.Response:
        """Exchange credentials for a bearer token."""
        identity = await accounts.log_in(request_pool, limiter, body.email, body.password)
        token = {"token": bearer_tokens.issue(identity), "tokenType": "Bearer"}
        return json_response({**token, "expiresIn": bearer_tokens.ttl_seconds})


@app.page("/api/auth/me")
class MeView(View):
    """The caller's account."""

    @endpoint("whoAmI", Answer(200, "The account", Account), who=Who.USER, needs_servers=False)
    async def get(self, request: web.Request, user: Identity) -> web.Response:
        """Return the account of the bearer token."""
        return json_response(_account_json(user))


@app.page("/api/auth/profile")
class ProfileView(View):
    """The caller's account, at the address that older clients use."""

    @endpoint("profile", Answer(200, "The account", Account), who=Who.USER, needs_servers=False)
    async def get(self, request: web.Request, user: Identity) -> web.Response:
        """Return the account of the bearer token."""
        return json_response(_account_json(user))


def _account_json(identity: Identity) -> dict[str, Any]:
    return {"id": str(identity.id), "email": identity.email, "role": identity.role}


if settings.auth_local:
    app.page("/api/auth/register")(RegisterView)
    app.page("/api/auth/login")(LoginView)
