"""`faust -A app parked list|show|replay|discard|park`: the operator's command for messages.

`park` is for a message that crashes the workers. It is parked here, without them. A worker that
receives it acknowledges it unhandled, at the latest after one more crash (`agents/gate.py`).
"""

import getpass
import os
import re
from contextlib import nullcontext, suppress
from typing import Any
from uuid import UUID, uuid4

import click
import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaTimeoutError
from faust.cli import AppCommand, argument, option

from app import app, brokers, redis_cache, request_pool
from app.errors import AlreadyResolved, Problem
from app.handlers import HANDLERS
from app.kafka.broker_access import partition_counts
from app.kafka.decoding import NO_EVENT, read_event
from app.operations import intervention
from app.operations.base_command import Command
from app.operations.commands import reached_servers
from app.operations.intervention import Actor
from app.parked import State, get, page, park, park_again, parked_ids

MAX_LISTED = 100
FETCH_SECONDS = 10
MESSAGE_REF = re.compile(r"([a-zA-Z0-9._-]+)/(\d{1,9})@(\d{1,18})")
LINE = "{id}  {state}  {handler}  {topic}/{partition}@{offset}  order {orderId}  {error}"


@app.command(
    argument("action", type=click.Choice(["list", "show", "replay", "discard", "park"])),
    argument("id", required=False, type=click.UUID),
    option("--handler", help="list, replay: of this handler; park: the one that cannot take it"),
    option("--message", help="park: which one in Kafka, like order.paid/2@117"),
    option("--all", "every", is_flag=True, help="replay: all of --handler, the first parked first"),
    option("--order", type=click.UUID, help="list: of this order"),
    option(
        "--state",
        type=click.Choice(list(State)),
        help="list: in this state; by default what is unresolved",
    ),
    option("--reason", help="replay, discard, park (required): why"),
    option("--by", help="replay, discard, park: who; by default the OS user"),
    option("--apply", is_flag=True, help="replay: do it; without this it is a dry run"),
    base=Command,
)
async def parked(self: AppCommand, action: str, id: UUID | None, **given: Any) -> None:
    """List or show parked messages, replay them in order, discard them, or park one by hand."""
    every = given.pop("every")
    if every and not (action == "replay" and given["handler"] and id is None):
        raise SystemExit("--all is for `parked replay --handler HANDLER`, without an id")
    if action == "park" and not (given["handler"] and given["message"]):
        raise SystemExit("parked park needs a --handler and a --message")
    if action not in ("list", "park") and id is None and not every:
        raise SystemExit(f"parked {action} needs the id of a message")
    if action in ("replay", "discard", "park") and not (given["reason"] or "").strip():
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
    for message, _position in found[:MAX_LISTED]:
        self.say(LINE.format(**message).replace("\n", " "))
    if len(found) > MAX_LISTED:
        self.say(f"… and more than these {MAX_LISTED}: narrow it by --handler or --order")
    if not found:
        self.say("nothing is parked")


async def _show(self: AppCommand, id: UUID, **_: Any) -> None:
    self.say(orjson.dumps(await get(request_pool, id), option=orjson.OPT_INDENT_2).decode())


async def _replay(self: AppCommand, id: UUID | None, **given: Any) -> None:
    dry_run = not given["apply"]
    ids = [id] if id else await parked_ids(request_pool, given["handler"])
    if not ids:
        self.say("nothing is parked")
    outcomes: list[dict[str, Any]] = []
    for each in ids:
        # Another operator may have resolved it by now.
        with suppress(AlreadyResolved) if id is None else nullcontext():
            found = await intervention.replay(request_pool, each, _actor(given), dry_run)
            _tell(self, found)
            outcomes += found
    if dry_run:
        self.say("nothing was changed: this was a dry run; --apply does it")
    elif any(outcome["error"] for outcome in outcomes):
        raise SystemExit(1)


async def _discard(self: AppCommand, id: UUID, **given: Any) -> None:
    _tell(self, await intervention.discard(request_pool, id, _actor(given)))


async def _park(self: AppCommand, _: None, **given: Any) -> None:
    handler, ref = HANDLERS.get(given["handler"]), MESSAGE_REF.fullmatch(given["message"])
    if ref is None:
        raise SystemExit("--message must be like order.paid/2@117: topic/partition@offset")
    if handler is None or handler.handle is None or handler.record is None:
        able = sorted(name for name, one in HANDLERS.items() if one.handle)
        raise SystemExit(f"--handler must be one of {', '.join(able)}")
    if handler.record.topic_name != ref[1]:
        raise SystemExit(f"{given['handler']} reads {handler.record.topic_name}, not {ref[1]}")
    message = await _message_at(TopicPartition(ref[1], int(ref[2])), int(ref[3]))
    if message is None:
        raise SystemExit(f"Kafka has no message at {given['message']}")
    try:
        order_id = read_event(handler.record, message.value or b"").order_id
    except NO_EVENT:
        raise SystemExit("It is no event: no handler is given it, and workers park it") from None
    actor = _actor(given)
    error = f"Parked by {actor.name}: {actor.reason}"
    id = await park(request_pool, message, handler.name, error, 0, order_id)
    # Workers are given it until its offset is committed, also after it was discarded.
    id = id or await park_again(request_pool, message, handler.name, error)
    if id is None:
        raise SystemExit(f"{given['message']} was parked for {given['handler']} before")
    self.say(f"{id}  PARKED  {given['handler']}  {given['message']}  order {order_id}")


async def _message_at(partition: TopicPartition, offset: int) -> ConsumerRecord | None:
    async with AIOKafkaConsumer(**brokers.client_arguments()) as consumer:
        if partition.partition >= (await partition_counts(consumer)).get(partition.topic, 0):
            return None
        consumer.assign([partition])
        (first,) = (await consumer.beginning_offsets([partition])).values()
        (end,) = (await consumer.end_offsets([partition])).values()
        if not first <= offset < end:
            return None
        consumer.seek(partition, offset)
        found = await consumer.getmany(partition, timeout_ms=FETCH_SECONDS * 1000, max_records=1)
    if not found:
        raise KafkaTimeoutError(f"no answer within {FETCH_SECONDS} s")
    message: ConsumerRecord = found[partition][0]
    return message if message.offset == offset else None


ACTIONS: dict[str, Any] = {
    "list": _list,
    "show": _show,
    "replay": _replay,
    "discard": _discard,
    "park": _park,
}


def _actor(given: dict[str, Any]) -> Actor:
    try:
        name = given["by"] or getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name; OSError from 3.13 on
        name = f"user {os.getuid()}"
    return Actor(name, given["reason"].strip(), str(uuid4()))


def _tell(self: AppCommand, outcomes: list[dict[str, Any]]) -> None:
    for outcome in outcomes:
        found = outcome["error"] or ", ".join(outcome["events"]) or "no event"
        self.say(f"{outcome['id']}  {outcome['state']}  {outcome['topic']}  {found}")
