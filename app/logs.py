"""Logging configuration: log lines carry the id of their request."""

import logging
from collections.abc import Mapping
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


FORMATTERS: Mapping[str, Mapping[str, Any]] = {
    "text": {"format": "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"},
    "json": {
        "()": "pythonjsonlogger.json.JsonFormatter",
        "fmt": ["levelname", "name", "request_id", "message"],
        "timestamp": "time",
        "rename_fields": {
            "levelname": "level",
            "name": "logger",
            "request_id": "requestId",
            "exc_info": "exception",
        },
    },
}
"""By LOG_FORMAT: lines for people, or one JSON object a line for programs."""


def logging_config(level: str, format: str) -> dict[str, Any]:
    """Return the configuration for `logging.config.dictConfig`: lines on standard error."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": WithRequestId}},
        "formatters": {"line": FORMATTERS[format]},
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
