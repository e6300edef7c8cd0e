"""The settings of `make run`: those that it is given, and those that it generates."""

import fcntl
import os
import re
import secrets
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

from dotenv import dotenv_values

from devstack.ports import claim, free_port
from devstack.worker import DEFAULT_PORT

SETTING = re.compile("^#?([A-Z][A-Z0-9_]*)=", re.MULTILINE)
"""A setting in `.env.example`."""


class Refused(Exception):
    """`make run` cannot continue; the text is one line."""


def read_settings(checkout: Path) -> dict[str, str]:
    """Return the environment, and `.env` for variables not in it; blank values count as unset.

    Raises Refused if `.env` cannot be read.
    """
    try:
        both = {**dotenv_values(checkout / ".env"), **os.environ}
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f".env: must be a file of UTF-8 that can be read ({error})") from None
    return {name: value for name, value in both.items() if value}


@contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Hold the checkout's lock. Raises Refused if another `make run` holds it."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            told = f"`make run` is running in this checkout already; `kill {lock.read()}` stops it"
            raise Refused(told) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def secret(settings: Mapping[str, str], state: Path) -> dict[str, str]:
    """Return a random JWT_SECRET if none is set; it is stored, so that tokens survive a restart."""
    if settings.get("JWT_SECRET") or settings.get("SECRET_KEY"):
        return {}
    return {"JWT_SECRET": _kept(state / "jwt_secret")}


def stripe_secret(settings: Mapping[str, str], state: Path) -> str:
    """Return STRIPE_WEBHOOK_SECRET, else a random one, which is stored."""
    return settings.get("STRIPE_WEBHOOK_SECRET") or f"whsec_{_kept(state / 'stripe_secret')}"


def _kept(file: Path) -> str:
    """Return the random secret in the file, creating it if it is missing."""
    if not file.exists() or not file.read_text():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(48))
    return file.read_text()


def tell_environment(checkout: Path, state: Path, environment: Mapping[str, str]) -> None:
    """Write a file for shells to source, with all of the worker's settings.

    Also those that this process was given: another shell may lack them.
    """
    names = SETTING.findall((checkout / ".env.example").read_text())
    told = {name: environment[name] for name in names if name in environment}
    file = state / "environment"
    file.touch(mode=0o600)
    file.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in told.items()))


@contextmanager
def web_port(settings: Mapping[str, str], say: Callable[[str], None]) -> Iterator[int]:
    """Claim PORT, else 8080, else a free port. Raises Refused if PORT is set and taken."""
    port = _wanted_port(settings)
    held = claim(port)
    if held is None and "PORT" in settings:
        raise Refused(f"port {port} is taken; set PORT to another one, or leave it unset")
    if held is None:
        port = free_port()
        say(f"port {DEFAULT_PORT} is taken, so the application listens on {port}")
    with held or nullcontext():
        yield port


def _wanted_port(settings: Mapping[str, str]) -> int:
    text = settings.get("PORT", str(DEFAULT_PORT))
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise Refused(f"PORT must be a number from 1 to 65535, not {text!r}")
    return int(text)
