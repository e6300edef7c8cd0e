"""Stripe's error answers."""

from typing import Any


class ApiError(Exception):
    """An error in Stripe's shape: https://docs.stripe.com/api/errors.

    `began`: the work had begun, so the answer is kept for its idempotency key.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        began: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.began = began
        told = {"type": kind, "message": message, "code": code, "param": param}
        self.body: dict[str, Any] = {
            "error": {name: value for name, value in told.items() if value is not None}
        }


def missing(kind: str, id: str) -> ApiError:
    """Return the error for an object that does not exist."""
    return ApiError(
        f"No such {kind}: '{id}'", status=404, code="resource_missing", param=kind.split("_")[0]
    )
