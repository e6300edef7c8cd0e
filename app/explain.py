"""Explaining to operators and clients what an order waits for."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson

from app.db.pools import Database
from app.db.queries import sql
from app.errors import OrderNotFound
from app.lifecycle import Status
from app.money.statuses import ATTEMPTS_WITHIN, PaymentStatus
from app.times import parse_time, rfc3339
from app.waiting import Attempt, Facts, actions, next_timer, waiting_for

MAX_PARKED = 20
"""The most parked messages in an explanation."""


async def explain(
    database: Database, order_id: UUID, pays_internally: bool = True
) -> dict[str, Any]:
    """Return what the order waits for, its next timer, parked messages and allowed actions.

    {orderId, userId, status, waitingFor: {what, since} | null, nextTimer: {kind, at} | null
    (kind: expiry, refund, closing),
    parked: [{id, handler, topic, partition, offset, state, error, attempts, parkedAt}] (the latest
    20 that are not resolved),
    actions: ["pay", "checkout", "cancel"]}; only the owner may "pay" and "checkout". Raises
    OrderNotFound, one of AWAY.
    """
    async with database.connection() as connection:
        row = await sql.explain_order(connection, id=order_id, within=ATTEMPTS_WITHIN)
        if row is None:
            raise OrderNotFound
        parked = await sql.parked_messages_of(connection, order_id=order_id, most=MAX_PARKED)
    return {
        **explanation(_facts(row, pays_internally)),
        "parked": [_parked(message) for message in parked],
    }


def explanation(facts: Facts) -> dict[str, Any]:
    """Return the explanation without parked messages."""
    waiting = waiting_for(facts)
    timer = next_timer(facts)
    return {
        "orderId": str(facts.order_id),
        "userId": str(facts.user_id),
        "status": facts.status,
        "waitingFor": waiting and {"what": waiting.what, "since": rfc3339(waiting.since)},
        "nextTimer": timer and {"kind": timer.kind, "at": rfc3339(timer.at)},
        "actions": actions(facts),
    }


def _facts(row: Mapping[str, Any], pays_internally: bool) -> Facts:
    attempts = [_attempt(*told) for told in orjson.loads(row["payments"] or "[]")]
    return Facts(
        order_id=row["id"],
        user_id=row["user_id"],
        status=Status(row["status"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        total_minor=row["total_minor"],
        due_at=row["due_at"],
        refund_due_at=row["refund_due_at"],
        closing_due_at=row["closing_due_at"],
        attempts=attempts,
        tries=row["tries"],
        outcome=row["outcome"],
        decided_at=row["decided_at"],
        unsent=(row["topic"], row["occurred_at"]) if row["topic"] else None,
        pays_internally=pays_internally,
    )


def _attempt(
    status: str,
    checkout: str | None,
    created_at: str,
    updated_at: str,
    ended_at: str | None,
    completed_at: str | None,
) -> Attempt:
    created, updated = parse_time(created_at), parse_time(updated_at)
    ended = parse_time(ended_at) if ended_at else None
    completed = parse_time(completed_at) if completed_at else None
    return Attempt(PaymentStatus(status), created, updated, checkout, ended, completed)


def _parked(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("handler", "topic", "partition", "offset", "state", "error", "attempts")
    told = {"id": str(row["id"]), "parkedAt": rfc3339(row["parked_at"])}
    return told | {name: row[name] for name in names}
