"""Background tasks of aiokafka that nobody awaits, and answers that it overlooks.

Each of these errors would leave a worker that seems to be well and does nothing, or one that never
stops. A worker that crashes is started again, joins its group anew, and is given what was not
acknowledged.
"""

import asyncio
from typing import Any

from aiokafka.consumer import consumer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    IllegalGenerationError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from mode import Service


def crash_with(service: Service, *tasks: "asyncio.Task[Any]") -> None:
    """Crash the service, and the worker with it, when one of the tasks ends with an error."""

    def ended(task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and (error := task.exception()):
            service.add_future(service.crash(error))

    for task in tasks:
        task.add_done_callback(ended)


class Coordinator(GroupCoordinator):
    """aiokafka's coordinator, except that it raises errors which Faust would never ask for."""

    service: Service | None = None
    """What crashes of an error; None until the consumer has started."""

    async def _send_req(self, request: Any) -> Any:
        """Send a request; raise the error of a whole answer about committed offsets.

        aiokafka looks at the partitions of the answer only, of which there are none then: while the
        coordinator loads, or has moved, no partition would seem to have a committed offset.

        A commit fails once the worker leaves the group and has lost the coordinator, which nobody
        looks for any more: aiokafka would try again for ever, and the worker would not stop.
        """
        is_last = self._closing.done() and self.coordinator_id is None
        if is_last and isinstance(request, OffsetCommitRequest):
            raise IllegalGenerationError
        answer = await super()._send_req(request)
        if isinstance(request, OffsetFetchRequest) and (code := getattr(answer, "error_code", 0)):
            error = for_code(code)
            if error in (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError):
                self.coordinator_dead()
            raise error
        return answer

    def _push_error_to_user(self, exc: BaseException) -> Any:
        """Crash: aiokafka waits until somebody asks for errors, which Faust never does."""
        if self.service is not None:
            self.service.add_future(self.service.crash(exc))
        return super()._push_error_to_user(exc)


consumer.GroupCoordinator = Coordinator
