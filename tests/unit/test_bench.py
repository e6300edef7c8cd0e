"""The arithmetic of the benchmark."""

from functools import partial

from bench.bare.statements import Statements
from bench.figures import Json
from bench.profile import by_own_time
from bench.spread import latencies, percentile, rates
from bench.turns import TURNS, all_cpu, compared, in_turns, per_second, typical


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


def test_systems_take_turns_and_neither_always_begins() -> None:
    begun = list[str]()

    def measure(name: str, speed: float) -> Json:
        begun.append(name)
        cost = {"cpuMsPerOrder": 0.5, "cpuSeconds": 1.0, "pssMiB": 1.0}
        programs = dict.fromkeys(("worker", "postgres", "kafka", "redis"), cost)
        return {"notified": {"perSecond": speed}, "costs": programs}

    measures = {name: partial(measure, name, speed) for name, speed in (("a", 3.0), ("b", 6.0))}
    turns = in_turns(measures, lambda _: None)
    assert begun == ["a", "b", "b", "a"] * (TURNS // 2)
    assert typical(turns, "a", per_second) == 3.0
    assert typical(turns, "b", all_cpu) == 2.0
    assert compared(turns, "a", "b", per_second) == 0.5


def test_neighbours_are_compared_with_each_other() -> None:
    turns = [{"a": {"perSecond": a}, "b": {"perSecond": b}} for a, b in ((1, 2), (30, 90), (4, 4))]
    assert compared(turns, "a", "b", per_second) == 0.5
