"""Find Java, and fetch Kafka's libraries through Maven, once for all checkouts."""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from devstack.cache import cache_folder
from devstack.interrupt import pause
from devstack.process import Process
from devstack.server import ServerFailed

_POM = Path(__file__).with_name("pom.xml")
_OLDEST_JAVA = 17
_MAVEN_SECONDS = 900
REMEDY = f"Install Java {_OLDEST_JAVA} or newer and Maven."


def _version() -> str:
    version = ElementTree.parse(_POM).findtext("./{*}properties/{*}kafka.version")
    assert version, "pom.xml names Kafka's version"
    return version


VERSION = _version()


@dataclass(frozen=True)
class Installation:
    """A `java` that can run Kafka, and the folder of Kafka's jars."""

    java: str
    libraries: Path


def install(log: Path, say: Callable[[str], None] = lambda line: None) -> Installation:
    """Find Java and Kafka, fetching Kafka if it is missing; Maven's output goes to `log`.

    Raises ServerFailed if Apache Kafka cannot be installed on this machine.
    """
    java = _java()
    folder = cache_folder() / f"kafka-{VERSION}"
    if not folder.exists():
        _fetch(folder, log, say)
    return Installation(java, folder)


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin" if home else None)
    if java is None or _java_version(java) < _OLDEST_JAVA:
        raise _failed(f"Java {_OLDEST_JAVA} or newer is missing")
    return java


def _java_version(java: str) -> int:
    answer = subprocess.run([java, "-version"], capture_output=True, text=True)
    version = re.search(r'version "(\d+)', answer.stderr + answer.stdout)
    return int(version.group(1)) if version else 0


def _fetch(folder: Path, log: Path, say: Callable[[str], None]) -> None:
    if shutil.which("mvn") is None:
        raise _failed("Maven, which fetches it, is missing")
    say(f"fetching Apache Kafka {VERSION} through Maven: once for this machine, some minutes")
    with folder.with_name(f"{folder.name}.lock").open("wb") as lock:
        _wait_for(lock.fileno())
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            _copy_dependencies(unfinished, log)
            unfinished.rename(folder)


def _wait_for(lock: int) -> None:
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pause(0.1)


def _copy_dependencies(folder: Path, log: Path) -> None:
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    maven = Process(["mvn", "-B", "-q", "-f", str(_POM), *goal], log)
    if not maven.run(_MAVEN_SECONDS):
        raise _failed(f"Maven could not fetch it: {maven.last_words()}")


def _failed(why: str) -> ServerFailed:
    return ServerFailed("Apache Kafka", why, REMEDY)
