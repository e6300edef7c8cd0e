"""Text that PostgreSQL and UTF-8 can hold."""


def flaw(text: str) -> str | None:
    """Why the text cannot be stored: a NUL, or a lone surrogate; None when it can."""
    if "\x00" in text:
        return "must not contain NUL"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "must not contain lone surrogates"
    return None


def storable(text: str) -> str:
    """The text without what PostgreSQL cannot store: NUL, and halves of surrogate pairs."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
