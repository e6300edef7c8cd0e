"""Kafka headers whose names are not UTF-8, which brokers take and aiokafka does not send."""

from typing import Any

from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

NAME = r"\xffname"
"""How a name is told that is sent as a byte that is not UTF-8, and then `name`."""


class Misnamed(str):
    """The name of such a header."""

    def encode(self, *_: Any) -> bytes:
        return b"\xffname"


def builder(compression: int = 0) -> _DefaultRecordBatchBuilderPy:
    """Return an empty batch; that of aiokafka in C encodes names by itself."""
    return _DefaultRecordBatchBuilderPy(2, compression, 0, -1, -1, 0, 100_000)
