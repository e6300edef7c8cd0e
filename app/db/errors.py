"""PostgreSQL's errors, by what they mean for the work that met them."""

import asyncpg

IN_DOUBT = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    # Raised by a query on a connection that the server is just closing.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionTimeoutError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""The connection broke: the last statement may or may not have been executed."""

AWAY = (
    *IN_DOUBT,
    asyncpg.InsufficientResourcesError,
    # A migration has changed a table since the statement was prepared; asyncpg prepares it anew.
    asyncpg.InvalidCachedStatementError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
)
"""PostgreSQL is unavailable, refuses the connection, or asks for a retry.

The same work may be repeated: if its commit did arrive, the stored states show it.
"""

CONFLICT = (asyncpg.UniqueViolationError, asyncpg.NotNullViolationError)
"""Rows that were read without a lock have changed since: nothing was written."""
