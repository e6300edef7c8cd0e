"""The address of a client behind proxies: the peer of the outermost trusted proxy.

Each proxy appends its peer's address to X-Forwarded-For, so only the last TRUSTED_PROXIES entries
are trustworthy; entries before them may be forged by the client.
"""

from ipaddress import IPv4Address, IPv6Address

from aiohttp import hdrs
from aiohttp_remotes import XForwardedRelaxed
from multidict import CIMultiDict, MultiMapping


class ForwardedFor(XForwardedRelaxed):
    """Sets `request.remote`; with fewer entries than proxies, it stays the peer's address."""

    def get_forwarded_for(self, headers: MultiMapping[str]) -> list[IPv4Address | IPv6Address]:
        """Return the entries of the trusted proxies, from all X-Forwarded-For header lines."""
        entries = ",".join(headers.getall(hdrs.X_FORWARDED_FOR, [])).split(",")[-self._num :]
        if len(entries) < self._num or not entries[0].strip():
            return []
        return super().get_forwarded_for(CIMultiDict({hdrs.X_FORWARDED_FOR: ",".join(entries)}))

    def get_forwarded_proto(self, headers: MultiMapping[str]) -> list[str]:
        """Ignore the header: no answer depends on the scheme."""
        return []

    def get_forwarded_host(self, headers: MultiMapping[str]) -> list[str]:
        """Ignore the header: no answer depends on the host."""
        return []
