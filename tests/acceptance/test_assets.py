"""The files that pages load are served unchanged, and no other files are."""

import asyncio

import pytest

from devstack.worker import Worker
from tests.acceptance.client import Api
from tests.acceptance.problems import assert_problem, slug

FILES = {
    "own/page.css": "text/css",
    "own/console.js": "text/javascript",
    "swagger-ui/swagger-ui.css": "text/css",
    "swagger-ui/swagger-ui-bundle.js": "text/javascript",
}


@pytest.mark.parametrize("name", FILES)
async def test_a_file_is_served_once_to_who_keeps_it(api: Api, worker: Worker, name: str) -> None:
    path = f"/assets/{name}"
    first = await api.ask("GET", path)
    assert (first.status, first.headers["Content-Type"]) == (200, FILES[name])
    assert first.body and int(first.headers["Content-Length"]) == len(first.body.encode())
    for known in (first.headers["ETag"], f'"old", W/{first.headers["ETag"]}', "*"):
        kept = await api.ask("GET", path, headers={"If-None-Match": known}, documented=False)
        assert (kept.status, kept.body, kept.headers["ETag"]) == (304, "", first.headers["ETag"])
    changed = await api.ask("GET", path, headers={"If-None-Match": '"old"'})
    assert (changed.status, changed.body) == (200, first.body)


@pytest.mark.parametrize(
    "header", [{"Range": "bytes=9999999-"}, {"Range": "miracles"}, {"If-Match": '"old"'}], ids=str
)
async def test_what_is_not_offered_of_a_file_is_not_heeded(
    api: Api, header: dict[str, str]
) -> None:
    assert (await api.ask("GET", "/assets/own/page.css", headers=header)).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/own",
        "/own/",
        "/swagger-ui/",
        "/own/nothing.css",
        "/swagger-ui/swagger-editor-es-bundle.js.map",
        "/own/page.css/",
        "/other/page.css",
    ],
)
async def test_what_is_no_file_is_not_found(api: Api, path: str) -> None:
    answer = await api.ask("GET", f"/assets{path}")
    assert_problem(answer, 404)
    assert slug(answer) == "not-found"


@pytest.mark.parametrize(
    "path", ["../pages.py", "..%2Fpages.py", "%2E%2E%2Fpages.py", "..\\pages.py", "%2Fetc%2Fpasswd"]
)
async def test_nothing_outside_of_the_folders_is_served(worker: Worker, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    line = f"GET /assets/own/{path} HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n"
    writer.write(line.encode())
    answer = (await reader.read()).decode()
    writer.close()
    assert answer.startswith("HTTP/1.1 404")
    assert "application/problem+json" in answer
