"""What becomes of a message that a handler cannot take."""

import base64
from typing import Any

from faust.types import EventT, Message

from app import app
from app.kafka.decoding import MAX_ERROR
from app.kafka.faust_app import MAX_MESSAGE
from app.metrics import DEAD_LETTERS
from app.parked import headers_of
from app.times import now, rfc3339
from app.topics import DeadLetter

MAX_LETTER = MAX_MESSAGE - 1024
"""Bytes; the rest is for what Kafka adds."""


async def send_dead_letter(message: EventT[Any], handler: str, error: str, attempts: int) -> None:
    """Send the raw message to `dead_letter` and wait for the broker's acknowledgement.

    Raises KafkaError or ProducerSendError when the broker does not give one.
    """
    letter = dead_letter(message.message, handler, error, attempts)
    key, value = message.message.key, letter.dumps()
    if len(key or b"") + len(value) > MAX_LETTER:
        key, letter.key, letter.value, letter.headers = None, None, None, {}
        letter.error += " (left out for its size; it stands at its place)"
        value = letter.dumps()
    acknowledged = await app.producer.send(
        topic=letter.topic_name,
        key=key,
        value=value,
        partition=None,
        timestamp=None,
        headers=None,
    )
    await acknowledged
    DEAD_LETTERS.labels(handler).inc()


def dead_letter(message: Message, handler: str, error: str, attempts: int) -> DeadLetter:
    """The message as it came, where it came from, and why `handler` cannot take it."""
    return DeadLetter(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        key=_base64(message.key),
        value=_base64(message.value),
        headers=headers_of(message),
        handler=handler,
        error=error[:MAX_ERROR],
        attempts=attempts,
        occurredAt=rfc3339(now()),
    )


def _base64(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode()
