"""Checks for text that PostgreSQL and UTF-8 can represent."""


def flaw(text: str) -> str | None:
    """Return why the text cannot be stored, a NUL or a lone surrogate; None if it can."""
    if "\x00" in text:
        return "must not contain NUL"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "must not contain lone surrogates"
    return None


def storable(text: str) -> str:
    """Replace characters that PostgreSQL cannot store: NUL and lone surrogates."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
