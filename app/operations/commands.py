"""The operator's commands: `faust -A app <command>`."""

import getpass
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import isnan
from typing import Any, NoReturn
from uuid import UUID, uuid4

import asyncpg
import click
from aiokafka.errors import KafkaError
from faust.cli import AppCommand, argument, option

from app import app, brokers, redis_cache, request_pool, settings
from app.db.errors import AWAY
from app.db.pools import Database
from app.identity import accounts
from app.money.statuses import PaymentStatus
from app.operations.audit import BEGINNING, Finding, Scope
from app.operations.audit import audit as run_audit
from app.operations.base_command import Command
from app.operations.demo_catalogue import fill_catalogue
from app.operations.kafka_audit import audit_kafka
from app.operations.migrate import (
    LOCK_WAIT,
    CurrencyMismatch,
    MigrationChanged,
    TopicMismatch,
    all_topics,
    create_topics,
    migrate_database,
)
from app.operations.outbox_months import make_months
from app.payments import retry_refund as ask_again
from app.text import flaw
from app.times import now

MOST = 1_000_000
"""The upper limit of options in seconds or ids."""


@contextmanager
def reached_servers(code: int = 1) -> Iterator[None]:
    """End the command with one line and exit code `code` if a server is away or refuses."""
    try:
        yield
    except (*AWAY, KafkaError) as error:
        _end("A server is away", error, code)
    except asyncpg.PostgresError as error:
        _end("PostgreSQL refuses", error, code)


def _end(why: str, error: Exception, code: int) -> NoReturn:
    click.echo(" ".join([f"{why}: {error!r}", *getattr(error, "__notes__", ())]), err=True)
    raise SystemExit(code) from None


async def _with_database(work: Any) -> Any:
    await request_pool.open()
    try:
        with reached_servers():
            return await work
    finally:
        await request_pool.close()


@app.command(base=Command)
async def migrate(self: AppCommand) -> None:
    """Migrate PostgreSQL's schema and create the Kafka topics that this version needs."""
    try:
        with reached_servers():
            files = await migrate_database(request_pool, settings.currency)
            # Workers make them too, if their role may.
            await make_months(request_pool, LOCK_WAIT)
            created = await create_topics(
                brokers,
                all_topics(app.tables.changelog_topics),
                settings.kafka_partitions,
                settings.kafka_replication,
            )
    except (CurrencyMismatch, MigrationChanged, TopicMismatch) as error:
        raise SystemExit(str(error)) from None
    self.say(f"{len(files)} migrations applied, {len(created)} topics created")


@app.command(base=Command)
async def demo_catalogue(self: AppCommand) -> None:
    """Add the demo products; products that exist are left unchanged."""
    added = await _with_database(fill_catalogue(request_pool, settings.currency))
    self.say(f"{added} products added")


@app.command(
    option("--email", required=True, help="the administrator's email"),
    option("--password-stdin", is_flag=True, help="read the password from standard input"),
    base=Command,
)
async def create_admin(self: AppCommand, email: str, password_stdin: bool) -> None:
    """Create an administrator, or make the account of that email one, with this password."""
    if not settings.auth_local:
        raise SystemExit("AUTH_LOCAL is false: accounts are kept elsewhere")
    try:
        email = accounts.canonical_email(email)
    except ValueError as error:
        raise SystemExit(f"{email!r} is not an email: {error}") from None
    password = sys.stdin.readline().rstrip("\n") if password_stdin else _ask_password()
    if not 8 <= len(password) <= 128:
        raise SystemExit("The password must have 8 to 128 characters")
    if reason := flaw(password):
        raise SystemExit(f"The password {reason}")
    await _with_database(accounts.make_admin(request_pool, email, password))
    self.say(f"{email} is an administrator")


def _ask_password() -> str:
    """Ask in this thread: no other takes signals, and Ctrl-C has to end the prompt."""
    try:
        return getpass.getpass()
    except EOFError:
        return ""


@app.command(argument("payment"), base=Command)
async def retry_refund(self: AppCommand, payment: str) -> None:
    """Retry a failed refund; PAYMENT is the payment's id, from the log or the table payments."""
    # Without the worker's other hooks: the relay and the calls of Stripe are the workers'. But the
    # command has to evict the order, since no agent reads `payment.refunded`.
    own = Database(settings.database_dsn, 1, "orders command")
    own.after_commit = [redis_cache.after_commit]
    await own.open()
    try:
        with reached_servers():
            status = await ask_again(own, UUID(payment), str(uuid4()))
    except ValueError:
        raise SystemExit(f"{payment} is not the id of a payment") from None
    finally:
        await own.close()
        await redis_cache.close()
    if status is None:
        raise SystemExit(f"{payment} is not a payment whose refund has failed")
    if status is PaymentStatus.REFUNDING:
        self.say(f"the refund of {payment} is requested again")
    else:
        self.say(f"nothing of {payment} is owed any more: it is {status}")


class _Days(click.FloatRange):
    """A number of days. FloatRange lets NaN pass, which is outside of no range."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        days: float = super().convert(value, param, ctx)
        if isnan(days):
            self.fail(f"{value!r} is not a number of days", param, ctx)
        return days


@app.command(
    option("--kafka", is_flag=True, help="also compare the topics with the outbox"),
    option(
        "--bound", type=click.IntRange(0, MOST), default=300, help="seconds that anything may wait"
    ),
    option("--at-rest", is_flag=True, help="nothing is on its way: the same as --bound 0"),
    option("--days", type=_Days(0, 100_000), help="only what has changed in that many days"),
    option(
        "--most", type=click.IntRange(1, MOST), default=20, help="ids listed for each invariant"
    ),
    option("--patience", type=click.IntRange(1, MOST), default=300, help="seconds for each query"),
    base=Command,
)
async def audit(
    self: AppCommand,
    kafka: bool,
    bound: int,
    at_rest: bool,
    days: float | None,
    most: int,
    patience: int,
) -> None:
    """Report broken invariants; exit code 1 if there are any, 2 if a check could not finish."""
    scope = Scope(
        bound=timedelta(seconds=0 if at_rest else bound),
        since=BEGINNING if days is None else now() - timedelta(days=days),
        most=most,
        patience=timedelta(seconds=patience),
    )
    with reached_servers(code=2):
        report = await run_audit(request_pool, scope)
        # Before Kafka is read, which may fail.
        _tell(self, report.findings)
        for name in report.unfinished:
            self.say(f"{name} was given up after {patience} s")
        if kafka:
            found = await audit_kafka(request_pool, brokers, scope)
            _tell(self, found)
            report += found
    if not report.is_silent:
        raise SystemExit(1 if report.findings else 2)
    self.say("Every invariant holds")


def _tell(self: AppCommand, findings: Iterable[Finding]) -> None:
    for finding in findings:
        self.say(str(finding))
