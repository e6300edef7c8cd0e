"""The months of the outbox: its partitions are made in advance, and dropped for their age."""

from datetime import timedelta

from app.db.connecting import OWN_LIMITS
from app.db.pools import Database
from app.db.queries import sql

SHORT_WAIT = "50ms"
"""How long a worker waits for a lock of a month. Placing and paying would queue behind it."""
MAKE_SECONDS = 3600.0
"""How long making months may take: weeks of events may have to move out of `outbox_other`."""


async def make_months(database: Database, wait: str = SHORT_WAIT) -> None:
    """Make the missing partitions of this month and the next three.

    Events of these months that are in `outbox_other` move there; meanwhile nobody can use the
    outbox. `wait` bounds the wait for each lock. Raises one of AWAY, or PostgresError.
    """
    # Not of the pool: its time for a statement would end a long move, and each repetition of it.
    connection = await database.connect(
        command_timeout=MAKE_SECONDS,
        application_name="orders outbox",
        **{**OWN_LIMITS, "lock_timeout": wait},
    )
    try:
        await sql.make_outbox_partitions(connection)
    finally:
        connection.terminate()


async def drop_months(database: Database, kept: timedelta) -> int:
    """Drop partitions that ended longer than `kept` ago, if all is sent; return how many.

    Raises one of AWAY, or PostgresError.
    """
    async with database.connection() as connection, connection.transaction():
        await sql.limit_lock_waits(connection, timeout=SHORT_WAIT)
        dropped: int = await sql.drop_outbox_partitions(connection, kept=kept)
    return dropped
