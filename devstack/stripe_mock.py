"""stripe-mock, Stripe's server that validates requests against its OpenAPI description."""

import os
import shutil
import tempfile
from pathlib import Path

from devstack.cache import cache_folder
from devstack.process import Process
from devstack.server import Server, ServerFailed, answers_http

VERSION = "0.203.0"
_MODULE = f"github.com/stripe/stripe-mock@v{VERSION}"
_GO_SECONDS = 900


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
        return answers_http(self.port, "/v1/charges", {"Authorization": "Bearer sk_test_1"})


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
    if not go.run(_GO_SECONDS):
        raise ServerFailed(StripeMock.name, go.last_words(), f"See {log}")
