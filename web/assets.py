"""/assets: the files that pages load, read when the worker starts."""

import asyncio
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import swagger_ui
from aiohttp import hdrs, web

from app import app
from app.errors import NotFound
from web.http.endpoint import TEXT, Answer, endpoint
from web.http.problems import View
from web.http.requests import is_known
from web.pages import STATIC

MEDIA = {".css": "text/css", ".html": "text/html", ".js": "text/javascript"}
"""Media types by file extension, since each machine has a table of its own."""
CHUNK = 32 * 1024
"""aiohttp waits for the client once 64 KiB are written, so no more than that is kept for each."""
WRITE_SECONDS = 30.0
"""How long a client may read nothing before its connection is closed."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served."""

    body: bytes
    media: str
    tag: str


def _asset(file: Path) -> Asset:
    body = file.read_bytes()
    return Asset(body, MEDIA[file.suffix], f'"{sha256(body).hexdigest()[:32]}"')


_OWN = [file for file in Path(str(STATIC)).iterdir() if file.suffix in MEDIA]
_SWAGGER = Path(swagger_ui.__file__).with_name("static")
ASSETS = {("own", file.name): _asset(file) for file in _OWN} | {
    ("swagger-ui", name): _asset(_SWAGGER / name)
    for name in ("swagger-ui.css", "swagger-ui-bundle.js")
}
"""By folder and file name: only these files are served."""


@app.page("/assets/{folder}/{name}")
class AssetView(View):
    """One asset file."""

    @endpoint(
        "getAsset",
        Answer(200, "The file", TEXT, ("ETag",), media=tuple(sorted(MEDIA.values()))),
        Answer(304, "The client has it", headers=("ETag",)),
        query=None,
        needs_servers=False,
        headers={"If-None-Match": "The ETag of the file that the client has (RFC 9110)"},
        own_problems=(NotFound,),
    )
    async def get(self, request: web.Request, folder: str, name: str) -> web.StreamResponse:
        """Return a script, style sheet or page."""
        asset = ASSETS.get((folder, name))
        if asset is None:
            raise NotFound
        # Instead of no-store: clients may cache the file, but must revalidate it.
        headers = {"ETag": asset.tag, "Cache-Control": "no-cache"}
        if is_known(request, asset.tag):
            return web.Response(status=304, headers=headers)
        return await _serve(request, asset, headers)


async def _serve(request: web.Request, asset: Asset, headers: dict[str, str]) -> web.StreamResponse:
    """Send the file in chunks: of a whole one, each client that does not read would keep a copy."""
    response = web.StreamResponse(headers=headers)
    response.content_type, response.content_length = asset.media, len(asset.body)
    await response.prepare(request)
    if request.method == hdrs.METH_HEAD:
        return response
    try:
        for start in range(0, len(asset.body), CHUNK):
            async with asyncio.timeout(WRITE_SECONDS):
                await response.write(asset.body[start : start + CHUNK])
    except (TimeoutError, ConnectionError):
        if request.transport:
            request.transport.abort()
    return response
