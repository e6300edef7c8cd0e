"""The arithmetic of the benchmark."""

from bench.bare.statements import Statements
from bench.profile import by_own_time
from bench.spread import latencies, percentile, rates


def test_a_percentile_is_the_nearest_rank() -> None:
    ordered = [float(number) for number in range(1, 1001)]
    assert [percentile(ordered, share) for share in (0.5, 0.99, 0.999, 1)] == [500, 990, 999, 1000]
    assert percentile([7.0], 0.999) == 7


def test_latencies_are_told_in_milliseconds() -> None:
    told = latencies([0.003, 0.001, 0.002])
    assert (told["count"], told["p50"], told["max"], told["mean"]) == (3, 2.0, 3.0, 2.0)


def test_no_latencies_are_no_figures() -> None:
    assert latencies([]) == {"count": 0}


def test_a_rate_counts_what_is_inside_the_window_by_second() -> None:
    told = rates([9.9, 10.0, 10.5, 12.9, 13.0], begin=10.0, seconds=3.0)
    assert told["perSecond"] == 1.0
    assert (told["slowestSecond"], told["fastestSecond"]) == (0, 2)


def test_a_function_owns_the_samples_that_end_in_it() -> None:
    stacks = "main (a.py:1);work (b.py:2) 3\nmain (a.py:9);work (b.py:7);work (b.py:2) 1\n"
    assert by_own_time(stacks) == [{"function": "work (b.py)", "own": 100.0, "whole": 100.0}]


def test_the_service_s_statements_are_found_by_name_with_numbered_parameters() -> None:
    text, order = Statements()._known["lock_orders"]
    assert order == ["ids", "money_of", "stock_of"]
    assert "$1, $2, $3" in text and ":ids" not in text
