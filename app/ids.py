"""The ids of rows and events: UUIDs that increase with time (RFC 9562, version 7).

However many orders there are, new rows share the last pages of their indexes. Random ids would each
touch another page, which has to be read, and written as a whole to PostgreSQL's WAL.
"""

from uuid_utils.compat import uuid7 as new_id

__all__ = ["new_id"]
