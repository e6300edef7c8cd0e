"""Logging configuration: log lines carry the id of their request."""

import logging
from contextvars import ContextVar
from typing import Any

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The id of the HTTP request that this task serves; `-` if it serves none."""


class WithRequestId(logging.Filter):
    """Adds the request id to each record: the one it was logged with, otherwise the task's."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the request id; never drop a record."""
        if not hasattr(record, "request_id"):
            record.request_id = request_id.get()
        return True


def logging_config(level: str) -> dict[str, Any]:
    """Return the configuration for `logging.config.dictConfig`: lines on standard error."""
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
