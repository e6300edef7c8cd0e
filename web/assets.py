"""/assets: the files that pages load, from two folders that are listed when the worker starts."""

import asyncio
from pathlib import Path

import swagger_ui
from aiohttp import web

from app import app
from app.errors import NotFound
from web.endpoint import TEXT, Answer, endpoint
from web.pages import STATIC
from web.problems import View
from web.requests import is_known

FOLDERS = {
    "own": Path(str(STATIC)),
    "swagger-ui": Path(swagger_ui.__file__).with_name("static"),
}
FILES = {
    (name, file.name): file
    for name, folder in FOLDERS.items()
    for file in folder.iterdir()
    if file.is_file()
}
"""By folder and file name: only these files are served."""
MEDIA = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".png": "image/png",
}
"""Media types by file extension, since the machine's own table differs between machines."""


def _media(file: Path) -> str:
    return MEDIA.get(file.suffix, "application/octet-stream")


@app.page("/assets/{folder}/{name}")
class AssetView(View):
    """One asset file."""

    @endpoint(
        "getAsset",
        Answer(200, "The file", TEXT, media=tuple(sorted({*map(_media, FILES.values())}))),
        Answer(304, "The client has it"),
        query=None,
        needs_servers=False,
        headers={"If-None-Match": "The ETag of the file that the client has (RFC 9110)"},
        own_problems=(NotFound,),
    )
    async def get(self, request: web.Request, folder: str, name: str) -> web.Response:
        """Return a script, style sheet or image of a page."""
        file = FILES.get((folder, name))
        if file is None:
            raise NotFound
        state = file.stat()
        tag = f'"{state.st_mtime_ns:x}-{state.st_size:x}"'
        # Instead of no-store: clients may cache the file, but must revalidate it.
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if is_known(request, tag):
            return web.Response(status=304, headers=headers)
        body = await asyncio.to_thread(file.read_bytes)
        return web.Response(body=body, content_type=_media(file), headers=headers)
