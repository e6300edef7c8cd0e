"""An agent's stream, read in batches: what Faust's `Stream` does for a message, for many at once.

Iterating over a stream costs several rounds of the event loop for each message.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from faust import Stream

from app import app, monitor
from app.kafka.messages import Message

BATCH = 500
"""The most messages of a batch."""


async def batches(stream: Stream[Any]) -> AsyncIterator[list[Message]]:
    """Yield what has arrived, in order, at most BATCH messages; wait only for the first one.

    Messages are taken from the stream's queue. What a stream does besides is done in `_accept`.
    """
    await stream.maybe_start()
    queue: asyncio.Queue[Message] = cast(Any, stream.channel).queue
    while True:
        try:
            arrived = [await queue.get()]
        except StopAsyncIteration:
            return  # the worker is stopping
        while len(arrived) < BATCH and not queue.empty():
            arrived.append(queue.get_nowait())
        if batch := [message for message in arrived if _accept(stream, message)]:
            yield batch


def _accept(stream: Stream[Any], arrived: Message) -> bool:
    """Track the message, so that its offset waits for it; False if it is of an earlier generation.

    A message is also not accepted while the flow is stopped.
    """
    message = arrived.message
    if message.generation_id != app.consumer_generation_id or not app.flow_control.is_active():
        return False
    if not message.tracked:
        message.tracked = True
        cast(Any, app.consumer).track_message(message)
    monitor.on_stream_event_in(message.tp, message.offset, stream, arrived)
    return True
