"""The Markdown sections of the pages that report figures."""

from collections.abc import Callable, Iterable, Sequence
from textwrap import fill

from bench.figures import Json, workers_text
from bench.turns import Turn, all_cpu, compared, cpu, per_second, typical

WIDTH = 110
PROGRAMS = {"worker": "worker", "postgres": "PostgreSQL", "kafka": "Kafka", "redis": "Redis"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with the first column left-aligned."""
    marks = ["---", *["--:" for _ in head[1:]]]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, marks, *rows))


def machine(report: Json) -> str:
    """The machine and the versions."""
    known = report["machine"]
    libraries = ", ".join(f"{name} {version}" for name, version in known["libraries"].items())
    others = max(site["most"]["costs"]["others"]["cpuSeconds"] for site in report["sites"])
    seconds = report["sites"][0]["most"]["notified"]["seconds"]
    return (
        f"{known['cpu']}, {known['cores']} cores, {known['memoryGiB']} GiB, {known['system']}; "
        f"Python {known['python']}, {libraries}; commit {known['commit']}, {known['measuredAt']}. "
        "All on this one machine: workers, PostgreSQL, Kafka, Redis and the load generator. "
        f"Whatever else ran took at most {others:.1f} CPU seconds of a window's "
        f"{known['cores'] * seconds:.0f}."
    )


def headline(report: Json) -> str:
    """The README's headline: the capacity, and how long an order takes."""
    carried = {site["workers"]: site["most"]["notified"]["perSecond"] for site in report["sites"]}
    paced = report["sites"][0]["paced"]["25"]
    told = paced["latencyMs"]["payToCompleted"]
    cores = " (more workers need more cores)" if carried[2] <= carried[1] else ""
    text = (
        f"On {report['machine']['cores']} shared virtual cores, with servers, workers and clients "
        f"all beside each other, one worker carries {carried[1]:.0f} orders a second from creation "
        f"to notification, two carry {carried[2]:.0f}{cores}; from pay to COMPLETED it takes "
        f"{told['p50']:.0f} ms (p50) and {told['p99']:.0f} ms (p99) at {paced['rate']:.0f} a "
        "second ([performance](docs/performance.md))."
    )
    return fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def throughput(report: Json) -> str:
    """Throughput by number of workers."""
    head = ("", "orders created/s", "full lifecycles/s", "each second: slowest, median, fastest")
    rows = [
        (
            workers_text(site["workers"]),
            f"{site['create']['created']['perSecond']:.1f}",
            f"{site['most']['notified']['perSecond']:.1f}",
            _spread(site["most"]["notified"]),
        )
        for site in report["sites"]
    ]
    return table(head, rows) + "\n\n![Throughput](performance/throughput.svg)"


def latency(report: Json) -> str:
    """Latency from pay to COMPLETED by load."""
    head = ("", "at", "orders", "p50", "p90", "p99", "p99.9", "max")
    rows = [
        (
            workers_text(site["workers"]),
            f"{paced['rate']:.1f}/s ({share} %)",
            *_percentiles(paced["latencyMs"]["payToCompleted"]),
        )
        for site in report["sites"]
        for share, paced in site["paced"].items()
    ]
    return table(head, rows) + "\n\n![Latency](performance/latency.svg)"


def reads(report: Json) -> str:
    """Latency of GET by id."""
    head = ("", "", "a second", "orders", "p50", "p90", "p99", "p99.9", "max")
    rows = [
        (
            workers_text(site["workers"]),
            f"{name} the cache",
            f"{read['answers']['perSecond']:.0f}",
            *_percentiles(read["latencyMs"]),
        )
        for site in report["sites"]
        for name, read in (
            ("not in", site["reads"]["uncached"]),
            ("from", site["reads"]["cached"]),
        )
    ]
    return table(head, rows)


def costs(report: Json) -> str:
    """CPU and memory of each program."""
    head = ("CPU seconds for 10,000 orders; memory", *PROGRAMS.values(), "load generator")
    rows = [
        (
            workers_text(site["workers"]),
            *(_cost(site["most"]["costs"][program]) for program in (*PROGRAMS, "load")),
        )
        for site in report["sites"]
    ]
    return table(head, rows) + "\n\n![CPU](performance/cpu.svg)"


def limit(report: Json) -> str:
    """Medians of the service and of the limit side by side, and of one divided by the other."""
    programs = ("worker", "postgres", "kafka")
    head = (
        *("", "lifecycles/s", "of the limit"),
        *(f"CPU ms of {PROGRAMS[name]}" for name in programs),
    )
    rows = []
    for site in report["sites"]:
        turns = site["limit"]["turns"]
        for name in ("ours", "the limit"):
            share = compared(turns, name, "the limit", per_second)
            rows.append(
                (
                    f"{name}, {workers_text(site['workers'])}",
                    f"{typical(turns, name, per_second):.1f}",
                    f"{share:.2f}",
                    *(f"{typical(turns, name, cpu(program)):.2f}" for program in programs),
                )
            )
    return table(head, rows)


def overload(report: Json) -> str:
    """Behaviour at twice the capacity."""
    head = ("", "offered/s", "completed/s", "refused", "never finished", "p50", "p99", "worker MiB")
    known = report["overload"]
    rows = []
    for title, one in (
        ("twice the capacity", known["twice"]),
        ("right after, at half", known["after"]),
    ):
        told = one["latencyMs"]["payToCompleted"]
        rows.append(
            (
                title,
                f"{one['rate']:.1f}",
                f"{one['completed']['perSecond']:.1f}",
                f"{one['troubles'].get('503', 0):,}",
                f"{one['unfinished']:,}",
                _ms(told, "p50"),
                _ms(told, "p99"),
                f"{one['costs']['worker']['pssMiB']:.0f}",
            )
        )
    return table(head, rows)


def scale(report: Json) -> str:
    """Throughput by workers and partitions."""
    known = report["scale"]
    cpu = ("worker CPU ms", "PostgreSQL CPU ms", "all CPU ms")
    head = ("", "lifecycles/s", *cpu, "p99 at half", "worker MiB")
    rows = [
        (
            one["what"],
            f"{one['most']['notified']['perSecond']:.1f}",
            f"{one['most']['costs']['worker']['cpuMsPerOrder']:.2f}",
            f"{one['most']['costs']['postgres']['cpuMsPerOrder']:.2f}",
            f"{sum(one['most']['costs'][name]['cpuMsPerOrder'] for name in PROGRAMS):.2f}",
            _ms(one["half"]["latencyMs"]["payToCompleted"], "p99"),
            f"{one['half']['costs']['worker']['pssMiB']:.0f}",
        )
        for one in known
    ]
    return table(head, rows)


def history(report: Json) -> str:
    """Medians over all turns with few and with many orders in the tables, side by side."""
    head = (
        *("orders already in the tables", "lifecycles/s", "worker CPU ms", "PostgreSQL CPU ms"),
        *("all CPU ms", "of neighbouring turns: all CPU"),
    )
    rows = []
    for one in report["history"]:
        turns, few, many = one["turns"], one["few"], one["many"]
        times = compared(turns, str(many), str(few), all_cpu)
        rows.append((f"{few:,}", *_medians(turns, few), ""))
        rows.append((f"{many:,}", *_medians(turns, many), f"{times:.2f} times"))
    return table(head, rows)


def _medians(turns: Sequence[Turn], orders: int) -> list[str]:
    costs = (cpu("worker"), cpu("postgres"), all_cpu)
    return [
        f"{typical(turns, str(orders), per_second):.1f}",
        *(f"{typical(turns, str(orders), cost):.2f}" for cost in costs),
    ]


def soak(report: Json) -> str:
    """A worker's memory over many orders."""
    memory = report["soak"]["memory"]
    (first, before), (last, after) = memory[0], memory[-1]
    text = (
        f"A worker's memory after {first:,} orders: {before:.0f} MiB; after {last:,}: {after:.0f}."
    )
    return f"{text}\n\n![Memory](performance/memory.svg)"


def functions(report: Json) -> str:
    """The profile by own time."""
    rows = [
        (f"`{row['function']}`", f"{row['own']:.1f} %", f"{row['whole']:.1f} %")
        for row in report["functions"]
    ]
    return table(("function", "own time", "with what it calls"), rows)


SECTIONS: dict[str, Callable[[Json], str]] = {
    "headline": headline,
    "machine": machine,
    "throughput": throughput,
    "latency": latency,
    "reads": reads,
    "costs": costs,
    "limit": limit,
    "overload": overload,
    "scale": scale,
    "history": history,
    "soak": soak,
    "functions": functions,
}
"""The sections by the names of their markers."""
OF_SITES = ("headline", "machine", "throughput", "latency", "reads", "costs", "limit")
"""The sections about a report's `sites`, which is always there; the others may be missing."""


def _spread(rate: Json) -> str:
    return f"{rate['slowestSecond']} / {rate['median']} / {rate['fastestSecond']}"


def _percentiles(told: Json) -> list[str]:
    names = ("p50", "p90", "p99", "p99.9", "max")
    return [f"{told['count']:,}", *(_ms(told, name) for name in names)]


def _ms(told: Json, name: str) -> str:
    return f"{told[name]:.1f} ms" if told["count"] else "–"


def _cost(cost: Json) -> str:
    if cost["cpuMsPerOrder"] is None:
        return ""
    return f"{cost['cpuMsPerOrder'] * 10:.1f} s; {cost['pssMiB']:.0f} MiB"
