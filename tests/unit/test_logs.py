"""Lines of the log, for people and for programs."""

import json
import logging
import logging.config
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest

from app.logs import ONCE, logging_config, request_id

log = logging.getLogger("app.orders")

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Lets everything be logged as JSON; returns the lines."""
    root, written, config = logging.getLogger(), StringIO(), logging_config("info", "json")
    handlers, level = root.handlers[:], root.level
    config["handlers"]["stderr"]["stream"] = written
    logging.config.dictConfig(config)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.handlers, root.level = handlers, level


def test_a_line_is_an_object_that_names_its_request(lines: Lines) -> None:
    token = request_id.set('x] ERROR app ["y')
    log.info("order %s\nis placed", 7)
    request_id.reset(token)
    (line,) = lines()
    assert line.pop("time")
    assert line == {
        "level": "INFO",
        "logger": "app.orders",
        "requestId": 'x] ERROR app ["y',
        "message": "order 7\nis placed",
    }


def test_an_exception_is_part_of_its_line(lines: Lines) -> None:
    try:
        raise ValueError("a bug")
    except ValueError:
        log.exception("failed")
    (line,) = lines()
    assert "ValueError: a bug" in line["exception"]


def test_a_text_that_is_no_utf8_is_logged(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest's own handlers would pass the text on to another process, as UTF-8.
    monkeypatch.setattr(log.root, "handlers", log.root.handlers[:1])
    log.warning("odd: %s", "\ud800")
    (line,) = lines()
    assert line["message"] == "odd: \ud800"


def test_a_warning_that_is_repeated_is_written_once_in_half_a_minute(lines: Lines) -> None:
    kafka = logging.getLogger("aiokafka.consumer.fetcher")
    for seconds, node in ((0, 1), (0, 2), (29, 1), (31, 1), (60, 1), (62, 1)):
        record = kafka.makeRecord(
            kafka.name, logging.ERROR, "", 0, "No connection to node %s", (node,), None
        )
        record.created = 1_000_000 + seconds
        kafka.handle(record)
    assert len(lines()) == 4


def test_brokers_that_are_named_in_another_order_are_a_repetition(lines: Lines) -> None:
    for nodes in ([1, 2, "kafka:9092"], ["kafka:9092", 2, 1], [2, 1, "kafka:9092"], [1, 2]):
        logging.getLogger("aiokafka").error("Unable to update metadata from %s", nodes)
    assert len(lines()) == 2, "all three, and two of them"


def test_a_timer_that_waits_for_a_server_is_not_told_of(lines: Lines) -> None:
    """Each line would have another runtime; what the timer itself logs says what it waits for."""
    logging.getLogger("mode.timers").warning("Timer %s is overlapping (runtime=%r)", "x", 5.001)
    assert lines() == []


def test_what_is_no_repetition_is_written_each_time(lines: Lines) -> None:
    for id in ("a", "b"):
        log.warning("is unavailable", extra={"request_id": id})
        log.info("is asked")
        log.error("failed", exc_info=ValueError(id))
    assert len(lines()) == 6


def test_what_many_requests_repeat_is_written_once_with_the_id_of_the_first(lines: Lines) -> None:
    for id in ("a", "b"):
        log.warning("is away", extra={"request_id": id, **ONCE})
    (line,) = lines()
    assert (line["requestId"], "once" in line) == ("a", False)
