"""Checks for text: what PostgreSQL and UTF-8 can represent, and what may be a request's id."""


def flaw(text: str) -> str | None:
    """Return why the text cannot be stored, a NUL or a lone surrogate; None if it can."""
    if "\x00" in text:
        return "must not contain NUL"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "must not contain lone surrogates"
    return None


def is_request_id(text: str) -> bool:
    """Return whether the text may be a request's id: 1 to 128 printable ASCII characters."""
    return 0 < len(text) <= 128 and text.isascii() and text.isprintable()


MAX_ERROR = 500
"""Characters of an error's text that are stored."""


def storable_error(error: str) -> str:
    """Return the error's text as it is stored: shortened, NUL and lone surrogates replaced."""
    known = error[:MAX_ERROR].encode(errors="replace").decode()
    return known.replace("\0", "\N{REPLACEMENT CHARACTER}")
