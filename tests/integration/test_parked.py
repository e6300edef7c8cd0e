"""Parked messages hold up only their order, and are processed in order once resolved."""

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from agents import inventory, notification
from agents.gate import Gate
from app import app, orders
from app.db.pools import Database
from app.db.queries import sql
from app.errors import AlreadyResolved, ParkedNotFound
from app.handlers import HANDLERS
from app.kafka.decoding import read_event
from app.operations import intervention
from app.operations.intervention import Actor
from app.outbox.rows import RELAY
from app.parked import State, get, page, park, park_again, parked_ids
from app.timeline import events_after
from app.times import now, rfc3339
from app.topics import OrderCompleted, OrderPaid
from tests.integration.hops import new_order, pay, topics

BOSS = Actor("boss@example.com", "the cause is gone", "a request")
HANDLER = inventory.reserve.name
Json = dict[str, Any]


def message(event: OrderPaid | None, order_id: UUID, offset: int, topic: str) -> Any:
    """Return an event of `order.paid` as Faust provides it; None stands for an unreadable one."""
    value = event.dumps() if event else b"garbage"
    raw = SimpleNamespace(
        topic=topic, partition=0, offset=offset, key=str(order_id).encode(), value=value, headers=[]
    )
    return SimpleNamespace(value=event, message=raw)


async def paid(database: Database, order_id: UUID, *offsets: int) -> list[Any]:
    """Return the order's `order.paid`, delivered at each of the offsets."""
    async with database.connection() as connection:
        query = "select payload from outbox where order_id = $1 and topic = 'order.paid'"
        event = read_event(OrderPaid, (await connection.fetchval(query, order_id)).encode())
    topic = f"topic-{uuid4()}"
    return [message(event, order_id, offset, topic) for offset in offsets]  # type: ignore[arg-type]


async def paid_order(database: Database) -> UUID:
    """Return an order that inventory has yet to decide on."""
    order_id = await new_order(database)
    await pay(database, order_id)
    return order_id


async def admitted(database: Database, gate: Gate, *messages: Any) -> list[int]:
    """Return the offsets of the messages that a gate admits."""
    async with database.transaction() as transaction:
        return [m.message.offset for m in await gate.admit(transaction, list(messages))]


async def park_it(database: Database, parked: Any, order_id: UUID | None) -> UUID:
    """Park a message, which may hold up the order; return its id."""
    await park(database, parked.message, HANDLER, "it was refused", 1, order_id)
    async with database.connection() as connection:
        query = "select id from parked_messages where topic = $1 and handler = $2"
        found = await connection.fetchval(query, parked.message.topic, HANDLER)
    return UUID(str(found))


async def states(database: Database, order_id: UUID) -> list[tuple[int, str]]:
    """Return offset and state of the order's parked messages, by offset."""
    pages = [await page(database, None, order_id, state, None, 100) for state in State]
    found = [(m["offset"], m["state"]) for entries in pages for m, _ in entries]
    return sorted(found)


async def test_what_comes_behind_a_parked_message_waits_and_other_orders_flow(
    database: Database,
) -> None:
    order_id, other = await paid_order(database), await paid_order(database)
    before, bad, *behind = await paid(database, order_id, 4, 5, 6, 7)
    (unrelated,) = await paid(database, other, 8)
    await park_it(database, bad, order_id)
    gate = Gate(HANDLER)
    assert await admitted(database, gate, before, bad, *behind, unrelated) == [4, 8]
    assert await states(database, order_id) == [(5, "PARKED"), (6, "WAITING"), (7, "WAITING")]
    assert await admitted(database, gate, *behind) == [], "redelivered, they wait once"
    assert len(await states(database, order_id)) == 3
    assert await admitted(database, Gate("another.handler"), *behind) == [6, 7]


async def test_a_partition_that_begins_again_loses_nothing(database: Database) -> None:
    """A message parked earlier does not keep out another one at the same offset."""
    earlier, order_id = await paid_order(database), await paid_order(database)
    (bad,) = await paid(database, earlier, 5)
    id = await park_it(database, bad, earlier)
    await intervention.discard(database, id, BOSS)
    first, behind = await paid(database, order_id, 4, 5)
    for one in (first, behind):
        one.message.topic = bad.message.topic
    await park(database, first.message, HANDLER, "it was refused", 1, order_id)
    assert await admitted(database, Gate(HANDLER), behind) == []
    assert await states(database, order_id) == [(4, "PARKED"), (5, "WAITING")]


async def test_what_holds_no_order_delays_nothing_and_is_listed_with_the_order_of_its_key(
    database: Database,
) -> None:
    order_id = await paid_order(database)
    bad, behind = await paid(database, order_id, 5, 6)
    unstorable = "neither NUL \x00 nor a surrogate \ud800 is text"
    id = await park(database, bad.message, HANDLER, unstorable, 1)
    assert await states(database, order_id) == [(5, "PARKED")]
    assert await admitted(database, Gate(HANDLER), behind) == [6]
    assert id is not None
    await intervention.discard(database, id, BOSS)
    assert await park_again(database, bad.message, HANDLER, unstorable) == id


async def test_a_message_that_was_discarded_is_parked_again_where_it_still_comes(
    database: Database,
) -> None:
    """Workers are given it until its offset is committed, and it crashes them."""
    order_id = await paid_order(database)
    (bad,) = await paid(database, order_id, 5)
    id = await park_it(database, bad, order_id)
    assert await park_again(database, bad.message, HANDLER, "it crashes") is None
    await intervention.discard(database, id, BOSS)
    assert await admitted(database, Gate(HANDLER), bad) == [5]
    assert await park_again(database, bad.message, HANDLER, "it crashes") == id
    assert await states(database, order_id) == [(5, "PARKED")]
    assert await admitted(database, Gate(HANDLER), bad) == []


async def test_a_bug_of_one_order_keeps_no_other_from_being_replayed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await paid_order(database), await paid_order(database)
    ids = []
    for order_id in (bad, good):
        (one,) = await paid(database, order_id, 5)
        ids.append(await park_it(database, one, order_id))
    reserve = HANDLERS[HANDLER]

    async def fail(transaction: Any, events: Any) -> None:
        if events[0].order_id == bad:
            raise KeyError("a bug")
        await reserve.handle(transaction, events)  # type: ignore[misc]

    monkeypatch.setitem(HANDLERS, HANDLER, reserve._replace(handle=fail))
    outcomes = [await intervention.replay(database, id, BOSS, dry_run=False) for id in ids]
    assert [(told["state"], told["error"]) for [told] in outcomes] == [
        ("PARKED", "KeyError: 'a bug'"),
        ("REPLAYED", None),
    ]
    assert await states(database, bad) == [(5, "PARKED")]


async def test_a_replay_goes_through_all_that_waits_in_order_and_does_it_once(
    database: Database,
) -> None:
    order_id = await paid_order(database)
    bad, *behind = await paid(database, order_id, 5, 7, 6)
    id = await park_it(database, bad, order_id)
    await admitted(database, Gate(HANDLER), *behind)
    outcomes = await intervention.replay(database, id, BOSS, dry_run=False)
    assert [(told["offset"], told["state"]) for told in outcomes] == [
        *((offset, "REPLAYED") for offset in (5, 6, 7))
    ]
    assert [told["events"] for told in outcomes] == [["inventory.reserved"], [], []]
    assert (await topics(database, order_id))[-4:] == [
        "inventory.reserved",
        *["order.intervened"] * 3,
    ]
    assert await admitted(database, Gate(HANDLER), *behind) == [7, 6]


async def test_all_of_a_handler_is_the_first_of_each_order_also_where_a_replay_was_interrupted(
    database: Database,
) -> None:
    name = f"nobody.{uuid4()}"
    one, two = await paid_order(database), await paid_order(database)
    mine, theirs = await paid(database, one, 5, 6, 7), await paid(database, two, 8, 9)
    await park(database, theirs[0].message, name, "no", 1, two)
    interrupted = await park(database, mine[0].message, name, "no", 1, one)
    unread = message(None, two, 4, f"topic-{uuid4()}")
    await park(database, unread.message, name, "no", 1, None)
    assert await admitted(database, Gate(name), *mine[1:], theirs[1]) == []
    async with database.connection() as connection:
        await sql.resolve_parked(
            connection, id=interrupted, state="DISCARDED", by="x", reason="x", now=now()
        )
    found = [await get(database, id) for id in await parked_ids(database, name)]
    assert [(each["offset"], each["state"]) for each in found] == [
        (8, "PARKED"),
        (4, "PARKED"),
        (6, "WAITING"),
    ]


async def test_a_dry_run_tells_what_would_happen_and_changes_nothing(database: Database) -> None:
    order_id = await paid_order(database)
    bad, behind = await paid(database, order_id, 5, 6)
    id = await park_it(database, bad, order_id)
    await admitted(database, Gate(HANDLER), behind)
    before = await topics(database, order_id), await states(database, order_id)
    tried = await intervention.replay(database, id, BOSS, dry_run=True)
    assert (await topics(database, order_id), await states(database, order_id)) == before
    assert tried == await intervention.replay(database, id, BOSS, dry_run=False)


async def test_who_intervened_and_why_stands_on_the_timeline_and_with_the_message(
    database: Database,
) -> None:
    order_id = await paid_order(database)
    (bad,) = await paid(database, order_id, 5)
    id = await park_it(database, bad, order_id)
    await intervention.replay(database, id, BOSS, dry_run=False)
    *_, told = await events_after(database, order_id, 0)
    assert told["type"] == "order.intervened" and told["requestId"] == BOSS.request_id
    assert told["data"] == {
        "action": "replay",
        "handler": HANDLER,
        "messageId": str(id),
        "topic": bad.message.topic,
        "actor": BOSS.name,
        "reason": BOSS.reason,
    }
    _, order = await orders.get(database, order_id)
    assert order["version"] == told["sequence"]
    kept = await get(database, id)
    assert (kept["state"], kept["resolvedBy"], kept["reason"]) == (
        *("REPLAYED", BOSS.name, BOSS.reason),
    )


async def test_a_message_that_is_refused_again_stays_and_so_does_what_waits(
    database: Database,
) -> None:
    order_id = await paid_order(database)
    (behind,) = await paid(database, order_id, 6)
    bad = message(None, order_id, 5, behind.message.topic)
    id = await park_it(database, bad, order_id)
    await admitted(database, Gate(HANDLER), behind)
    (told,) = await intervention.replay(database, id, BOSS, dry_run=False)
    assert told["state"] == "PARKED" and "JSONDecodeError" in told["error"]
    assert await states(database, order_id) == [(5, "PARKED"), (6, "WAITING")]
    kept = await get(database, id)
    assert (kept["attempts"], kept["error"], kept["value"]) == (2, told["error"], "garbage")


async def test_what_is_refused_only_when_it_is_written_is_told_once(database: Database) -> None:
    """An order that does not exist cannot be notified, which only the last statement detects."""
    no_order, handler = uuid4(), notification.completed.name
    event = OrderCompleted(
        eventId=str(uuid4()),
        orderId=str(no_order),
        sequence=5,
        occurredAt=rfc3339(now()),
        requestId="a request",
        userId=str(uuid4()),
        totalAmount=1,
        currency="PLN",
        customerEmail=None,
    )
    bad = message(event, no_order, 5, f"topic-{uuid4()}")  # type: ignore[arg-type]
    await park(database, bad.message, handler, "it was refused", 1, no_order)
    (parked,) = await page(database, handler, no_order, State.PARKED, None, 10)
    outcomes = await intervention.replay(database, UUID(parked[0]["id"]), BOSS, dry_run=False)
    assert [told["state"] for told in outcomes] == ["PARKED"]
    assert "ForeignKeyViolation" in outcomes[0]["error"]


async def test_what_waited_behind_a_discarded_message_goes_on(database: Database) -> None:
    order_id = await paid_order(database)
    (behind,) = await paid(database, order_id, 6)
    bad = message(None, order_id, 5, behind.message.topic)
    id = await park_it(database, bad, order_id)
    await admitted(database, Gate(HANDLER), behind)
    outcomes = await intervention.discard(database, id, BOSS)
    assert [told["state"] for told in outcomes] == ["DISCARDED", "REPLAYED"]
    assert "inventory.reserved" in await topics(database, order_id)
    told = [
        e["data"] for e in await events_after(database, order_id, 0) if "intervened" in e["type"]
    ]
    assert [data["action"] for data in told] == ["discard", "replay"]
    with pytest.raises(AlreadyResolved):
        await intervention.discard(database, id, BOSS)
    with pytest.raises(AlreadyResolved):
        await intervention.replay(database, id, BOSS, dry_run=True)


async def test_a_message_of_no_order_holds_up_nothing_and_can_be_discarded(
    database: Database,
) -> None:
    order_id = await paid_order(database)
    (good,) = await paid(database, order_id, 6)
    id = await park_it(database, message(None, uuid4(), 5, good.message.topic), None)
    assert await admitted(database, Gate(HANDLER), good) == [6]
    (told,) = await intervention.replay(database, id, BOSS, dry_run=False)
    assert told["state"] == "PARKED"
    (told,) = await intervention.discard(database, id, BOSS)
    assert told["state"] == "DISCARDED"


async def test_what_was_never_parked_is_not_found(database: Database) -> None:
    for ask in (
        get(database, uuid4()),
        intervention.discard(database, uuid4(), BOSS),
        intervention.replay(database, uuid4(), BOSS, dry_run=True),
    ):
        with pytest.raises(ParkedNotFound):
            await ask


async def test_a_message_that_comes_while_the_last_is_replayed_waits_for_that_and_is_handled(
    database: Database,
) -> None:
    """It must not be parked behind a message that nobody will replay again."""
    order_id = await paid_order(database)
    bad, new = await paid(database, order_id, 5, 6)
    id = await park_it(database, bad, order_id)
    async with database.transaction() as replaying:
        await sql.lock_first_parked(replaying.connection, handler=HANDLER, order_id=order_id)
        coming = asyncio.create_task(admitted(database, Gate(HANDLER), new))
        await blocked(database)
        await sql.resolve_parked(
            replaying.connection, id=id, state="REPLAYED", by="x", reason="x", now=now()
        )
    assert await coming == [6]


async def test_a_replay_waits_for_what_is_being_parked_and_takes_it_too(
    database: Database,
) -> None:
    order_id = await paid_order(database)
    bad, new = await paid(database, order_id, 5, 6)
    id = await park_it(database, bad, order_id)
    async with database.transaction() as handling:
        assert await Gate(HANDLER).admit(handling, [new]) == []
        replaying = asyncio.create_task(intervention.replay(database, id, BOSS, dry_run=False))
        await blocked(database)
    assert [told["offset"] for told in await replaying] == [5, 6]


async def test_a_gate_asks_again_when_something_is_parked_or_the_group_rebalances(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"nobody.{uuid4()}"
    order_id = await paid_order(database)
    bad, behind = await paid(database, order_id, 5, 6)
    gate, elsewhere = Gate(name), Gate(name)
    assert await admitted(database, gate, behind) == [6]
    assert await admitted(database, elsewhere, behind) == [6]
    await park(database, bad.message, name, "no", 1, order_id)
    gate.close()
    assert await admitted(database, gate, behind) == []
    monkeypatch.setattr("agents.gate.app.consumer_generation_id", 99)
    assert await admitted(database, elsewhere, behind) == []


def test_every_agent_can_be_given_its_messages_by_hand() -> None:
    app.discover()
    assert {*app.agents, RELAY} == HANDLERS.keys()


async def blocked(database: Database) -> None:
    """Wait until a connection waits for a lock."""
    query = "select exists (select from pg_locks where not granted)"
    async with database.connection() as connection, asyncio.timeout(10):
        while not await connection.fetchval(query):
            await asyncio.sleep(0.01)
