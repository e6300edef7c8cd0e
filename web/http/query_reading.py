"""Read query strings: each parameter at most once, and errors for every bad one."""

from typing import Any, TypeVar

from aiohttp import web
from pydantic import ValidationError

from app.errors import FieldError, InvalidInput
from web.http.body_reading import MAX_NAMES, field_errors, pointer
from web.shapes.query_strings import Query

Q = TypeVar("Q", bound=Query)


def read_query(request: web.Request, shape: type[Q]) -> Q:
    """Read the query string as `shape`. Raises InvalidInput naming every bad parameter."""
    if len(request.query) > MAX_NAMES:
        raise InvalidInput.of("#", f"The query must have at most {MAX_NAMES} parameters")
    given: dict[str, Any] = dict(request.query)
    twice = [name for name in given if len(request.query.getall(name)) > 1]
    errors = [FieldError("must be given once", pointer([name])) for name in twice]
    try:
        query = shape.model_validate(given)
    except ValidationError as error:
        found = field_errors(error)
        told = {one.pointer for one in errors}
        raise InvalidInput([*errors, *(one for one in found if one.pointer not in told)]) from None
    if errors:
        raise InvalidInput(errors)
    return query
