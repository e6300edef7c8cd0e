"""/api/auth: register, log in, and who I am."""

from typing import Any

from aiohttp import web

from app import accounts, app, database, tokens
from app.tokens import Identity
from web.bodies import Login, Register, read
from web.problems import View
from web.requests import authenticate, json_response


@app.page("/api/auth/register")
class RegisterView(View):
    """New accounts."""

    async def post(self, request: web.Request) -> web.Response:
        """Register a customer."""
        body = await read(request, Register)
        return json_response(_told(await accounts.register(database, body.email, body.password)))


@app.page("/api/auth/login")
class LoginView(View):
    """Tokens."""

    async def post(self, request: web.Request) -> web.Response:
        """Exchange credentials for a bearer token."""
        body = await read(request, Login)
        identity = await accounts.log_in(database, body.email, body.password)
        token = {"token": tokens.issue(identity), "tokenType": "Bearer"}
        return json_response({**token, "expiresIn": tokens.ttl_seconds})


@app.page("/api/auth/me")
class MeView(View):
    """Who the token speaks for."""

    async def get(self, request: web.Request) -> web.Response:
        """Tell who asks."""
        return json_response(_told(authenticate(request)))


@app.page("/api/auth/profile")
class ProfileView(MeView):
    """The same, at the address that older clients know."""


def _told(identity: Identity) -> dict[str, Any]:
    return {"id": str(identity.id), "email": identity.email, "role": identity.role}
