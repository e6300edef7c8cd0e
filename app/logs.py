"""Logging configuration: log lines carry the id of their request."""

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

NO_REQUEST = "-"
request_id: ContextVar[str] = ContextVar("request_id", default=NO_REQUEST)
"""The id of the HTTP request that this task serves."""

ONCE = {"once": True}
"""`extra` of a warning that anybody's requests may repeat: they all count as one."""
REPEATED_SECONDS = 30.0
"""Within them the same warning is written once. While Kafka is away, aiokafka logs the same few
lines eighty times a second, and nobody would find the others between them."""


class WithRequestId(logging.Filter):
    """Adds the request id to each record: the one it was logged with, otherwise the task's."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the request id; never drop a record."""
        if not hasattr(record, "request_id"):
            record.request_id = request_id.get()
        return True


class WithoutRepeats(logging.Filter):
    """Drops a warning or an error that was written, word for word, in these REPEATED_SECONDS.

    Those with a traceback are always written, and those of a request unless they are logged ONCE.
    """

    def __init__(self) -> None:
        super().__init__()
        self._written: set[tuple[str, str, str]] = set()
        self._begun = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written; it has its request id already."""
        fields = record.__dict__
        is_told_once = fields.pop("once", fields["request_id"] == NO_REQUEST)
        if not is_told_once or record.levelno < logging.WARNING or record.exc_info:
            return True
        if not 0 <= record.created - self._begun < REPEATED_SECONDS:
            self._written.clear()
            self._begun = record.created
        line = record.name, str(record.msg), _words(record.args)
        if line in self._written:
            return False
        self._written.add(line)
        return True


def _words(arguments: Any) -> str:
    """Return the arguments as text, lists in order: aiokafka shuffles the brokers that it names."""
    each = arguments if isinstance(arguments, tuple) else (arguments,)
    return str([sorted(map(str, one)) if isinstance(one, list) else one for one in each])


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
        "filters": {
            "request_id": {"()": WithRequestId},
            "without_repeats": {"()": WithoutRepeats},
        },
        "formatters": {"line": FORMATTERS[format]},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "filters": ["request_id", "without_repeats"],
            }
        },
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {
            "aiokafka": {"level": "WARNING"},
            "faust": {},
            "mode": {},
            # While PostgreSQL is away, each run of a timer takes longer than its interval.
            "mode.timers": {"level": "ERROR"},
        },
    }
