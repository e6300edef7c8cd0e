"""An id, and texts that are nearly one."""

ID = "3f2b8a90-1c4d-4e6f-8a7b-0c1d2e3f4a5b"
_DIGITS = ID.replace("-", "")

MISWRITTEN_IDS = (
    _DIGITS,
    f"{{{ID}}}",
    f"urn:uuid:{ID}",
    f"----{_DIGITS}",
    f"{_DIGITS}----",
    f"{ID[:9]}-{ID[9:]}",
    f" {ID[1:]}",
    f"{ID}\n",
    f"{ID[:-1]}-",
    f"+{ID[1:]}",
    f"{ID[0]}_{ID[2:]}",
    f"٣{ID[1:]}",
    f"٣{ID[2:]}",
    f"\ud800{ID[1:]}",
)
"""What Python's `UUID` or asyncpg's would take, or nearly."""
