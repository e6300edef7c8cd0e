"""The address of a client behind proxies: what the outermost trusted proxy saw.

Each proxy appends to X-Forwarded-For whom it was asked by, so only the last TRUSTED_PROXIES
entries are theirs; whatever stands before them is the client's own word.
"""

from ipaddress import IPv4Address, IPv6Address

from aiohttp import hdrs
from aiohttp_remotes import XForwardedRelaxed
from multidict import CIMultiDict, MultiMapping


class ForwardedFor(XForwardedRelaxed):
    """Sets `request.remote`; a request that has passed fewer proxies keeps its peer's address."""

    def get_forwarded_for(self, headers: MultiMapping[str]) -> list[IPv4Address | IPv6Address]:
        """What the trusted proxies wrote, on however many lines they wrote it."""
        entries = ",".join(headers.getall(hdrs.X_FORWARDED_FOR, [])).split(",")[-self._num :]
        if len(entries) < self._num or not entries[0].strip():
            return []
        return super().get_forwarded_for(CIMultiDict({hdrs.X_FORWARDED_FOR: ",".join(entries)}))

    def get_forwarded_proto(self, headers: MultiMapping[str]) -> list[str]:
        """No answer depends on it."""
        return []

    def get_forwarded_host(self, headers: MultiMapping[str]) -> list[str]:
        """No answer depends on it."""
        return []
