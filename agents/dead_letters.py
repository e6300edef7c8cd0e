"""Send messages that a handler cannot take to the topic `dead_letter`."""

import base64

from aiokafka.errors import MessageSizeTooLargeError

from app import app
from app.ids import new_id
from app.kafka.messages import Message, RawMessage, text_headers
from app.kafka.producing import MAX_MESSAGE, TOO_LARGE
from app.metrics import DEAD_LETTERS
from app.outbox.rows import event_headers
from app.text import MAX_ERROR
from app.times import now, rfc3339
from app.topics import DeadLetter

MAX_LETTER = MAX_MESSAGE - 1024
"""The largest key and value of a dead letter, in bytes; the rest is for headers and overhead."""

MAX_REQUEST_ID = 128
"""The most characters of a request's id that a letter's headers repeat: anybody may send one."""


async def send_dead_letter(message: Message, handler: str, error: str, attempts: int) -> None:
    """Send the raw message to `dead_letter` and wait for the broker's acknowledgement.

    A message that is too large, for a producer or for the topic, is sent without its key, value and
    headers. Raises KafkaError or ProducerSendError if the broker does not acknowledge it.
    """
    letter, key = dead_letter(message.message, handler, error, attempts), message.message.key
    headers = _headers(letter)
    try:
        await _send(letter, key, headers)
    except TOO_LARGE:  # the topic's limit too, which `migrate` sets only when it makes the topic
        letter.key, letter.value, letter.headers = None, None, {}
        letter.error += " (left out for its size; it stands at its place)"
        await _send(letter, None, headers)
    DEAD_LETTERS.labels(handler).inc()


async def _send(letter: DeadLetter, key: bytes | None, headers: list[tuple[str, bytes]]) -> None:
    """Send the letter. Raises one of TOO_LARGE, KafkaError or ProducerSendError."""
    value = letter.dumps()
    if len(key or b"") + len(value) > MAX_LETTER:
        raise MessageSizeTooLargeError
    acknowledged = await app.producer.send(
        topic=letter.topic_name,
        key=key,
        value=value,
        partition=None,
        timestamp=None,
        headers=headers,
    )
    await acknowledged


def _headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """Return the headers of an event for the letter; its subject is the message that it holds."""
    id = str(new_id())
    subject = f"{letter.topic}/{letter.partition}@{letter.offset}"
    request_id = letter.headers.get("x-request-id", "")[:MAX_REQUEST_ID] or id
    return event_headers(id, letter.topic_name, subject, letter.occurredAt, request_id)


def dead_letter(message: RawMessage, handler: str, error: str, attempts: int) -> DeadLetter:
    """Build the dead letter: the raw message, its origin, and why `handler` cannot take it."""
    return DeadLetter(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        key=_base64(message.key),
        value=_base64(message.value),
        headers=text_headers(message),
        handler=handler,
        error=error[:MAX_ERROR],
        attempts=attempts,
        occurredAt=rfc3339(now()),
    )


def _base64(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode()
