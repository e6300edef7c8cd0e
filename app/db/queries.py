"""The named queries of `app/sql/*.sql`, as functions of a connection."""

from importlib.resources import files
from typing import Any, cast

import aiosql
from aiosql.adapters.asyncpg import AsyncPGAdapter


class _Adapter(AsyncPGAdapter):
    """Returns whole results from a connection. aiosql's own adapter streams, and handles pools."""

    is_aio_driver = False

    def _ordered(self, query_name: str, parameters: dict[str, Any]) -> list[Any]:
        return [parameters[name] for name in self.var_sorted[query_name]]

    async def select(self, conn: Any, name: str, sql: str, parameters: Any, *_: Any) -> Any:
        return await conn.fetch(sql, *self._ordered(name, parameters))

    async def select_one(self, conn: Any, name: str, sql: str, parameters: Any, *_: Any) -> Any:
        return await conn.fetchrow(sql, *self._ordered(name, parameters))

    async def select_value(self, conn: Any, name: str, sql: str, parameters: Any) -> Any:
        return await conn.fetchval(sql, *self._ordered(name, parameters))

    async def insert_update_delete(self, conn: Any, name: str, sql: str, parameters: Any) -> Any:
        return await conn.execute(sql, *self._ordered(name, parameters))


sql: Any = aiosql.from_path(str(files("app.sql")), cast(Any, _Adapter))
"""The queries of `app/sql/*.sql`, by name."""
