"""Log lines that tell which request they belong to."""

import logging
from contextvars import ContextVar
from typing import Any

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The id of the HTTP request that this task serves; `-` outside of one."""


class WithRequestId(logging.Filter):
    """Gives each line the id of its request: the one it was logged with, else the task's."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Never drops a line."""
        if not hasattr(record, "request_id"):
            record.request_id = request_id.get()
        return True


def logging_config(level: str) -> dict[str, Any]:
    """Configuration for `logging.config.dictConfig`: one line an event, to standard error."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": WithRequestId}},
        "formatters": {
            "line": {"format": "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"}
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "filters": ["request_id"],
            }
        },
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {"aiokafka": {"level": "WARNING"}, "faust": {}, "mode": {}},
    }
