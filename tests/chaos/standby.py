"""A synchronous standby of PostgreSQL, which a test may promote when the primary is lost."""

from pathlib import Path

import asyncpg

from devstack.postgres import Postgres

SYNCHRONOUS = "select count(*) from pg_stat_replication where sync_state = 'sync'"


class Standby(Postgres):
    """A copy of the primary, made at the first start, that follows it until it is promoted."""

    def __init__(self, folder: Path, primary: Postgres) -> None:
        super().__init__(folder)
        self._primary = primary

    def _initialise(self) -> None:
        primary = ("--host=127.0.0.1", f"--port={self._primary.port}", "--username=postgres")
        options = ("--checkpoint=fast", "--write-recovery-conf")
        copy = ("pg_basebackup", "-D", str(self.data), *primary, *options)
        self._run(self._as_another_user(*copy))

    async def promote(self) -> None:
        """Make it the primary."""
        connection = await asyncpg.connect(self.url)
        assert await connection.fetchval("select pg_promote()")
        await connection.close()
