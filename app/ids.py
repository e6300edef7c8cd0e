"""The ids of rows and events: UUIDs that rise with time (RFC 9562, version 7).

However many orders there are, new rows then share the last pages of their indexes; ids at random
would touch a page each, which has to be read, and written whole into PostgreSQL's log.
"""

from uuid_utils.compat import uuid7 as new_id

__all__ = ["new_id"]
