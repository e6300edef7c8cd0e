"""What an operator runs by hand: `faust -A app <command>`."""

import asyncio
import getpass
import sys
from typing import Any

from faust.cli import AppCommand, option
from pydantic import EmailStr, TypeAdapter, ValidationError

from app import accounts, app, database, settings
from app.broker import LARGEST_MESSAGE
from app.catalogue import fill_catalogue
from app.migrate import (
    CHANGELOG,
    CurrencyMismatch,
    MigrationChanged,
    TopicMismatch,
    create_topics,
    migrate_database,
)
from app.topics import DeadLetter, topic_names


async def _with_database(work: Any) -> Any:
    await database.open()
    try:
        return await work
    finally:
        await database.close()


@app.command()
async def migrate(self: AppCommand) -> None:
    """Bring PostgreSQL's schema and Kafka's topics to what this version needs."""
    topics: dict[str, dict[str, str]] = {name: {} for name in topic_names()}
    topics[DeadLetter.topic_name] = {"max.message.bytes": str(LARGEST_MESSAGE)}
    topics |= dict.fromkeys(app.tables.changelog_topics, CHANGELOG)
    try:
        files = await migrate_database(database, settings.currency)
        created = await create_topics(
            settings.kafka_brokers, topics, settings.kafka_partitions, settings.kafka_replication
        )
    except (CurrencyMismatch, MigrationChanged, TopicMismatch) as error:
        raise SystemExit(str(error)) from None
    self.say(f"{len(files)} migrations applied, {len(created)} topics created")


@app.command()
async def demo_catalogue(self: AppCommand) -> None:
    """Add the demonstration's products; those that exist are left as they are."""
    added = await _with_database(fill_catalogue(database, settings.currency))
    self.say(f"{added} products added")


@app.command(
    option("--email", required=True, help="the administrator's email"),
    option("--password-stdin", is_flag=True, help="read the password from standard input"),
)
async def create_admin(self: AppCommand, email: str, password_stdin: bool) -> None:
    """Make an administrator; an account of that email becomes one, with this password."""
    if not settings.auth_local:
        raise SystemExit("AUTH_LOCAL is false: accounts are kept elsewhere")
    try:
        TypeAdapter(EmailStr).validate_python(email)
    except ValidationError:
        raise SystemExit(f"{email} is not an email") from None
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = await asyncio.to_thread(getpass.getpass, "Password: ")
    if not 8 <= len(password) <= 128:
        raise SystemExit("The password must have 8 to 128 characters")
    await _with_database(accounts.make_admin(database, email, password))
    self.say(f"{email.lower()} is an administrator")
