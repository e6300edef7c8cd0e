"""Each invariant is broken on purpose, and the audit finds it by name."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from inspect import signature
from pathlib import Path
from subprocess import CompletedProcess

import asyncpg
import pytest
from prometheus_client import REGISTRY

from app.db.queries import sql
from app.operations import audit_timer
from app.operations.audit import Finding, Report, Scope, audit, invariants, look
from app.operations.audit_timer import keep_auditing
from app.times import now
from devstack.ports import free_port
from tests.chaos.waiting import until
from tests.conftest import run, run_command, run_in_vain
from tests.integration import breaks, breaks_of_money
from tests.integration.books import Books, books_in_order
from tests.integration.breaks import Break

MAIL = (Path(__file__).parents[2] / "docs/operations.md").read_text().split("\n## Mail\n")[1]
BREAKS = breaks.BREAKS | breaks_of_money.BREAKS
INNOCENT = breaks.INNOCENT | breaks_of_money.INNOCENT
WITH_SERVERS = ("audit", "migrate", "parked list", "demo-catalogue")
AT_REST = Scope(bound=timedelta(0))
HELD_TO_EVENTS = (
    "sequences_count_to_the_version",
    "histories_lead_to_their_status",
    "refunds_are_told",
    "kept_payments_are_told",
)
"""The invariants that look only at orders whose events are kept."""


def that_take(parameter: str) -> list[str]:
    """Return the invariants whose query has this parameter."""
    queries = {name: getattr(sql.audit, name) for name in invariants()}
    return [name for name, query in queries.items() if parameter in signature(query).parameters]


@pytest.fixture(scope="module")
async def books(environment: dict[str, str]) -> AsyncIterator[Books]:
    async with books_in_order(environment["DB_URL"]) as books:
        yield books


@asynccontextmanager
async def broken(books: Books, change: Break) -> AsyncIterator[asyncpg.Connection]:
    """Break the books in a transaction, which is rolled back on exit."""
    ids = {name: str(value) for name, value in vars(books).items()}
    async with books.database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(change.statements.format(**ids))
            yield connection
        finally:
            await transaction.rollback()


def subjects(report: Report, invariant: str) -> set[str]:
    found = [one for one in report.findings if one.invariant == invariant]
    return {id for one in found for id, _ in one.subjects}


async def test_books_that_are_in_order_leave_the_auditor_silent(books: Books) -> None:
    report = await audit(books.database, AT_REST)
    assert report.is_silent, report


def test_every_invariant_has_a_break_and_a_meaning() -> None:
    assert BREAKS.keys() == invariants().keys()
    assert all(meaning.endswith(".") for meaning in invariants().values())


@pytest.mark.parametrize(
    ("invariant", "change"),
    [(name, one) for name, several in BREAKS.items() for one in several],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_broken_invariant_is_found_by_name(
    books: Books, invariant: str, change: Break
) -> None:
    async with broken(books, change) as connection:
        report = await look(connection, AT_REST)
    assert str(getattr(books, change.subject)) in subjects(report, invariant)
    assert not report.unfinished


@pytest.mark.parametrize(
    ("invariant", "statements"),
    [(name, one) for name, several in INNOCENT.items() for one in several],
    ids=lambda value: value if value in INNOCENT else "",
)
async def test_what_only_looks_broken_is_not_blamed(
    books: Books, invariant: str, statements: str
) -> None:
    async with broken(books, Break("nothing", statements)) as connection:
        report = await look(connection, AT_REST)
    assert not subjects(report, invariant)


@pytest.mark.parametrize("invariant", that_take("rest"))
async def test_what_waits_is_blamed_only_past_the_bound(books: Books, invariant: str) -> None:
    [change, *_] = BREAKS[invariant]
    async with broken(books, change) as connection:
        patient = await look(connection, Scope(bound=timedelta(hours=2)))
        strict = await look(connection, AT_REST)
    assert not subjects(patient, invariant)
    assert subjects(strict, invariant)


@pytest.mark.parametrize(
    ("provider", "is_reported", "ago", "found"),
    [
        ("internal", True, "10 minutes", True),
        ("stripe", False, "50 minutes", False),
        ("stripe", False, "2 hours", True),
        ("stripe", True, "2 hours", False),
        ("stripe", True, "15 days", True),
    ],
)
async def test_a_refund_has_longer_at_stripe_also_one_by_hand_and_once_it_is_reported(
    books: Books, provider: str, is_reported: bool, ago: str, found: bool
) -> None:
    on_its_way = f"""
        update payments
        set provider = '{provider}', status = 'REFUNDING', refunded_minor = 0,
            updated_at = now() - interval '{ago}'
        where order_id = '{{unstocked}}';
        update orders set updated_at = now() - interval '{ago}' where id = '{{unstocked}}';
        update refunds set provider_refund_id = null;
        delete from provider_events
        where order_id = '{{unstocked}}' and kind = 'refund' and not {is_reported}
    """
    names = "cancelled_orders_keep_no_money", "captured_money_is_kept_or_refunded"
    async with broken(books, Break("unstocked", on_its_way)) as connection:
        report = await look(connection, Scope())
    assert [bool(subjects(report, name)) for name in names] == [found, found]


async def test_a_refund_that_is_left_to_an_operator_hides_no_other_money(books: Books) -> None:
    left = "status = 'REFUND_FAILED', refunded_minor = 0, announced_minor = 0"
    change = f"update payments set {left} where order_id = '{{unstocked}}'"
    async with broken(books, Break("unstocked", change)) as connection:
        report = await look(connection, AT_REST)
    found = {finding.invariant for finding in report.findings}
    assert "no_refund_is_left_to_an_operator" in found
    assert "captured_money_is_kept_or_refunded" not in found, "it would page, and hide others"


@pytest.mark.parametrize("invariant", that_take("since"))
async def test_orders_that_have_not_changed_since_may_be_left_out(
    books: Books, invariant: str
) -> None:
    [change, *_] = BREAKS[invariant]
    async with broken(books, change) as connection:
        of_today = await look(connection, replace(AT_REST, since=now() - timedelta(days=1)))
        of_tomorrow = await look(connection, replace(AT_REST, since=now() + timedelta(days=1)))
    assert subjects(of_today, invariant)
    assert not subjects(of_tomorrow, invariant)


DROPPED = """
    update orders set created_at = created_at - interval '40 days' where id = '{completed}';
    update payments set created_at = created_at - interval '40 days'
    where order_id = '{completed}';
    delete from outbox where order_id = '{completed}';
"""
"""An order whose events were dropped for their age."""
FIRST_EVENT = "update outbox set id = 0, occurred_at = {} where order_id = '{{waiting}}';"
"""Gives another order's only event the lowest id, and a time of which no month is."""


async def test_orders_whose_events_were_dropped_for_their_age_are_not_blamed(books: Books) -> None:
    async with broken(books, Break("completed", DROPPED)) as connection:
        report = await look(connection, AT_REST)
    assert report.is_silent, report


async def test_orders_are_not_blamed_where_all_events_were_dropped(books: Books) -> None:
    everything = DROPPED.replace(" where id = '{completed}'", "")
    everything = everything.replace("where order_id = '{completed}'", "")
    async with broken(books, Break("completed", everything)) as connection:
        assert not await connection.fetchval("select exists (select from outbox)")
        report = await look(connection, AT_REST)
    assert report.is_silent, report


async def test_a_stray_event_of_the_past_blames_no_order(books: Books) -> None:
    stray = DROPPED + FIRST_EVENT.format("'2001-05-31'")
    async with broken(books, Break("completed", stray)) as connection:
        report = await look(connection, AT_REST)
    assert report.is_silent, report


async def test_a_stray_event_of_the_future_hides_no_break(books: Books) -> None:
    stray = FIRST_EVENT.format("now() + interval '1 year'")
    for invariant in HELD_TO_EVENTS:
        [change, *_] = BREAKS[invariant]
        both = change._replace(statements=f"{change.statements};{stray}")
        async with broken(books, both) as connection:
            report = await look(connection, AT_REST)
        assert subjects(report, invariant), invariant


async def test_an_order_of_a_fast_clock_is_not_blamed_for_a_month_that_is_gone(
    books: Books,
) -> None:
    """It seems to be of the month after that of its events."""
    moment = "date_trunc('month', now() - interval '2 hours', 'UTC') + interval '59 min'"
    fast = DROPPED.replace("created_at - interval '40 days'", moment)
    async with broken(books, Break("completed", fast)) as connection:
        report = await look(connection, AT_REST)
    assert report.is_silent, report


@pytest.mark.parametrize("state", ["REPLAYED", "DISCARDED"])
async def test_what_an_operator_has_settled_is_not_blamed(books: Books, state: str) -> None:
    settled = breaks.PARKED.format("{completed}", 7, "PARKED")
    settled += f"update parked_messages set state = '{state}', resolved_at = now();"
    async with broken(books, Break("completed", settled)) as connection:
        report = await look(connection, AT_REST)
    assert report.is_silent, report


async def test_mails_that_wait_when_mail_is_switched_off_are_given_up_as_documented(
    books: Books,
) -> None:
    [waits] = BREAKS["notifications_are_sent"]
    failing = "update notifications set attempts = 3 where sent_at is null"
    [statement] = re.findall(r"update [^;]* 'mail is switched off'\s[^;]*;", MAIL)
    async with broken(books, Break("completed", f"{waits.statements};{failing}")) as connection:
        assert subjects(await look(connection, AT_REST), "notifications_are_sent")
        assert await sql.mails_failing(connection) == 1
        await connection.execute(statement)
        report = await look(connection, AT_REST)
        assert report.is_silent, report
        assert await sql.mails_failing(connection) == 0


async def test_all_are_counted_and_the_first_are_told(books: Books) -> None:
    everything = Break("completed", "update orders set version = version + 1")
    async with broken(books, everything) as connection:
        report = await look(connection, Scope(most=2))
        orders = await connection.fetchval("select count(*) from orders")
    [finding] = [f for f in report.findings if f.invariant == "sequences_count_to_the_version"]
    assert (finding.count, len(finding.subjects)) == (orders, 2)


async def test_what_takes_too_long_is_given_up_and_told(books: Books) -> None:
    async with books.database.connection() as other, other.transaction():
        await other.execute("lock table products in access exclusive mode")
        report = await audit(books.database, Scope(patience=timedelta(milliseconds=200)))
    assert "stock_is_never_oversold" in report.unfinished
    assert "events_are_sent" not in report.unfinished
    assert not report.is_silent


@pytest.fixture
def commands(environment: dict[str, str], books: Books) -> dict[str, str]:
    """The environment of a command on these books."""
    return {**environment, "DB_URL": books.url}


def test_the_command_says_that_every_invariant_holds(commands: dict[str, str]) -> None:
    assert "Every invariant holds" in run_command(commands, "audit", "--at-rest")


async def test_the_command_names_what_is_broken_and_fails(
    commands: dict[str, str], books: Books
) -> None:
    async with one_piece_too_many(books):
        told = run_in_vain(commands, "audit")
    assert f"{STOCK} is broken 1 times. Of each product: " in told
    assert str(books.product) in told


async def test_what_is_broken_is_told_although_kafka_is_away(
    commands: dict[str, str], books: Books
) -> None:
    nowhere = {**commands, "KAFKA_BROKERS": f"127.0.0.1:{free_port()}"}
    async with one_piece_too_many(books):
        done = await asyncio.to_thread(run, nowhere, ("audit", "--kafka"), "")
    assert f"{STOCK} is broken 1 times. Of each product: " in done.stdout
    assert "A server is away: " in done.stdout + done.stderr
    assert done.returncode == 2


async def test_a_command_says_in_one_line_that_a_server_is_away(commands: dict[str, str]) -> None:
    nowhere = {**commands, "DB_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"}
    for command, done in await at_once(nowhere, *WITH_SERVERS):
        [told] = (done.stdout + done.stderr).strip().splitlines()
        assert told.startswith("A server is away: "), command
        assert done.returncode == (2 if command == "audit" else 1), command


async def test_a_command_says_in_one_line_that_postgresql_refuses(commands: dict[str, str]) -> None:
    bare = {**commands, "DB_URL": commands["DB_URL"].rpartition("/")[0] + "/postgres"}
    for command, done in await at_once(bare, "audit", "parked list", "demo-catalogue"):
        [told] = (done.stdout + done.stderr).strip().splitlines()
        assert told.startswith("PostgreSQL refuses: UndefinedTableError"), command
        assert done.returncode == (2 if command == "audit" else 1), command


async def test_the_command_refuses_what_nobody_asks_for(commands: dict[str, str]) -> None:
    options = ("--days", "--bound", "--most", "--patience")
    asked = [f"audit {option} {value}" for option in options for value in (str(10**20), "nan")]
    for command, done in await at_once(commands, *asked):
        assert done.returncode == 2, command
        assert f"Invalid value for '{command.split()[1]}'" in done.stderr
        assert "Traceback" not in done.stderr


async def at_once(
    environment: dict[str, str], *commands: str
) -> list[tuple[str, CompletedProcess[str]]]:
    """Run the commands at the same time; return each with its result."""
    runs = [asyncio.to_thread(run, environment, tuple(one.split()), "") for one in commands]
    return list(zip(commands, await asyncio.gather(*runs), strict=True))


async def test_one_worker_at_a_time_audits_and_tells_the_metrics(books: Books) -> None:
    async with auditing(books) as first:
        await until(lambda: findings(STOCK) == 0, "the first audits")
        async with auditing(books), one_piece_too_many(books):
            await until(lambda: findings(STOCK) == 1, "it finds what is broken")
            await until(lambda: asked_in_vain(books), "the second would audit, too")
            await until(lambda: is_alone(books), "one of them audits")
            first.cancel()
            await asyncio.wait({first})
            await until(lambda: findings(STOCK) == 1, "the second finds it, too")
            await until(lambda: is_alone(books), "it alone audits")
    assert findings(STOCK) is None, "who audits no more knows nothing"


@asynccontextmanager
async def auditing(books: Books) -> AsyncIterator[asyncio.Task[None]]:
    """Run a worker's audits."""
    worker = asyncio.create_task(keep_auditing(books.database, 0.05, 0))
    try:
        yield worker
    finally:
        worker.cancel()
        await asyncio.wait({worker})


async def test_what_a_pass_has_found_is_looked_for_again_soon(books: Books) -> None:
    """A page must not outlast its cause by the rest that follows a long pass."""
    long_rest = 10**6
    try:
        async with one_piece_too_many(books):
            worker = asyncio.create_task(keep_auditing(books.database, 0.05, long_rest))
            await until(lambda: findings(STOCK) == 1, "it finds what is broken")
        await until(lambda: findings(STOCK) == 0, "it finds that nothing is broken")
    finally:
        worker.cancel()
        await asyncio.wait({worker})


def test_what_may_stay_broken_for_months_hastens_no_pass() -> None:
    name = audit_timer.LASTING
    lasting = Finding(name, invariants()[name], 1, [])
    assert not audit_timer._hastens(Report([lasting]))
    assert audit_timer._hastens(Report([lasting, replace(lasting, invariant=STOCK)]))


async def test_who_audits_no_more_has_nothing_unfinished(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_timer, "QUERY_TIMEOUT", timedelta(milliseconds=200))
    async with books.database.connection() as other, other.transaction():
        await other.execute("lock table products in access exclusive mode")
        worker = asyncio.create_task(keep_auditing(books.database, 0.05, 0))
        try:
            await until(lambda: bool(unfinished()), "it gives a query up")
        finally:
            worker.cancel()
            await asyncio.wait({worker})
    assert unfinished() == 0


STOCK = "stock_is_what_was_stocked_minus_what_is_reserved"


@asynccontextmanager
async def one_piece_too_many(books: Books) -> AsyncIterator[None]:
    """Commit a break, and repair it on exit."""
    change = "update products set stocked = stocked + $2 where id = $1"
    async with books.database.connection() as connection:
        await connection.execute(change, books.product, 1)
        yield
        await connection.execute(change, books.product, -1)


async def is_alone(books: Books) -> bool:
    """Return whether one connection holds the auditor's lock."""
    async with books.database.connection() as connection:
        return bool(
            await connection.fetchval(
                """
                select count(*) = 1 from pg_locks join pg_database d on d.oid = database
                where locktype = 'advisory' and objid = 7070002 and datname = current_database()
                """
            )
        )


async def asked_in_vain(books: Books) -> bool:
    """Return whether a worker has asked for the auditor's lock, and done nothing since."""
    async with books.database.connection() as connection:
        return bool(
            await connection.fetchval(
                """
                select exists (
                    select from pg_stat_activity
                    where application_name = 'orders auditor' and datname = current_database()
                      and state = 'idle' and query like '%pg_try_advisory_lock(7070002)%'
                )
                """
            )
        )


def unfinished() -> float | None:
    return REGISTRY.get_sample_value("orders_audit_unfinished")


def findings(invariant: str) -> float | None:
    return REGISTRY.get_sample_value("orders_audit_findings", {"invariant": invariant})
