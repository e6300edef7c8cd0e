"""`faust -A app parked list|show|replay|discard`: the operator's command for parked messages."""

import getpass
from contextlib import nullcontext, suppress
from typing import Any
from uuid import UUID, uuid4

import click
import orjson
from faust.cli import AppCommand, argument, option

from app import app, redis_cache, request_pool
from app.errors import AlreadyResolved, Problem
from app.operations import intervention
from app.operations.commands import reached_servers
from app.operations.intervention import Actor
from app.parked import State, get, page, parked_ids

MAX_LISTED = 100
TOLD = "{id}  {state}  {handler}  {topic}/{partition}@{offset}  order {orderId}  {error}"


@app.command(
    argument("action", type=click.Choice(["list", "show", "replay", "discard"])),
    argument("id", required=False, type=click.UUID),
    option("--handler", help="list, replay: of this handler"),
    option("--all", "every", is_flag=True, help="replay: all of --handler, the first parked first"),
    option("--order", type=click.UUID, help="list: of this order"),
    option("--state", type=click.Choice(list(State)), help="list: otherwise what is unresolved"),
    option("--reason", help="replay, discard (required): why; it stands on the order's timeline"),
    option("--by", help="replay, discard: who; by default the OS user"),
    option("--apply", is_flag=True, help="replay: do it; without, it is only tried out"),
)
async def parked(self: AppCommand, action: str, id: UUID | None, **given: Any) -> None:
    """List or show parked messages, replay them in order, or discard them."""
    every = given.pop("every")
    if every and not (action == "replay" and given["handler"] and id is None):
        raise SystemExit("--all is for `parked replay --handler HANDLER`, without an id")
    if action != "list" and id is None and not every:
        raise SystemExit(f"parked {action} needs the id of a message")
    if action in ("replay", "discard") and not (given["reason"] or "").strip():
        raise SystemExit(f"parked {action} needs a --reason")
    await request_pool.open()
    try:
        with reached_servers():
            await ACTIONS[action](self, id, **given)
    except Problem as problem:
        raise SystemExit(problem.detail) from None
    finally:
        await request_pool.close()
        await redis_cache.close()


async def _list(self: AppCommand, _: None, **given: Any) -> None:
    found = await page(
        request_pool, given["handler"], given["order"], given["state"], None, MAX_LISTED + 1
    )
    for message, _place in found[:MAX_LISTED]:
        self.say(TOLD.format(**message))
    if len(found) > MAX_LISTED:
        self.say(f"… and more than these {MAX_LISTED}: narrow it by --handler or --order")
    if not found:
        self.say("nothing is parked")


async def _show(self: AppCommand, id: UUID, **_: Any) -> None:
    self.say(orjson.dumps(await get(request_pool, id), option=orjson.OPT_INDENT_2).decode())


async def _replay(self: AppCommand, id: UUID | None, **given: Any) -> None:
    dry_run = not given["apply"]
    ids = [id] if id else await parked_ids(request_pool, given["handler"])
    for each in ids:
        # One that waited behind another may be resolved by now.
        with suppress(AlreadyResolved) if id is None else nullcontext():
            _tell(self, await intervention.replay(request_pool, each, _actor(given), dry_run))
    if dry_run:
        self.say("nothing was changed: this was a dry run; --apply does it")


async def _discard(self: AppCommand, id: UUID, **given: Any) -> None:
    _tell(self, await intervention.discard(request_pool, id, _actor(given)))


ACTIONS: dict[str, Any] = {
    "list": _list,
    "show": _show,
    "replay": _replay,
    "discard": _discard,
}


def _actor(given: dict[str, Any]) -> Actor:
    return Actor(given["by"] or getpass.getuser(), given["reason"].strip(), str(uuid4()))


def _tell(self: AppCommand, outcomes: list[dict[str, Any]]) -> None:
    for outcome in outcomes:
        found = outcome["error"] or ", ".join(outcome["events"]) or "no event"
        self.say(f"{outcome['id']}  {outcome['state']}  {outcome['topic']}  {found}")
