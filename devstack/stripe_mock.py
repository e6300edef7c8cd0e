"""stripe-mock, Stripe's server that validates requests against its OpenAPI description."""

import http.client
import os
import shutil
import tempfile
from pathlib import Path

from devstack.cache import cache_folder
from devstack.interrupt import pause
from devstack.process import Process
from devstack.server import Server, ServerFailed

VERSION = "0.203.0"
_MODULE = f"github.com/stripe/stripe-mock@v{VERSION}"


class StripeMock(Server):
    """Answers every valid request with a sample, and keeps no state."""

    name = "stripe-mock"
    remedy = "Install Go 1.22 or newer."
    version = VERSION
    durable = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        super().prepare()
        install(self.log.with_name("go.log"))

    def command(self) -> list[str]:
        return [str(_binary()), "-http-addr", f"127.0.0.1:{self.port}"]

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/v1/charges", headers={"Authorization": "Bearer sk_test_1"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def install(log: Path) -> Path:
    """Return the program, fetched and built by Go once for all checkouts. Raises ServerFailed."""
    if not _binary().exists():
        if shutil.which("go") is None:
            raise ServerFailed(StripeMock.name, "Go is missing", StripeMock.remedy)
        with tempfile.TemporaryDirectory(dir=cache_folder()) as unfinished:
            _build(Path(unfinished), log)
            _binary().parent.mkdir(exist_ok=True)
            (Path(unfinished) / "stripe-mock").rename(_binary())
    return _binary()


def _binary() -> Path:
    return cache_folder() / f"stripe-mock-{VERSION}" / "stripe-mock"


def _build(folder: Path, log: Path) -> None:
    environment = {**os.environ, "GOBIN": str(folder)}
    go = Process(["go", "install", _MODULE], log, environment=environment)
    go.start()
    try:
        while go.alive:
            pause(0.1)
    finally:
        go.kill()
    if go.exit_code:
        raise ServerFailed(StripeMock.name, go.last_words(), f"See {log}")
