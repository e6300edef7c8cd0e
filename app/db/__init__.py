"""PostgreSQL: connection pools, transactions and what they write, and work that shares one."""
