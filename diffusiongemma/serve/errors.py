"""Answers that are not 200, before a dialect gives them its shape, and what the mistakes of a user become."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from diffusiongemma.errors import ContextExceeded, InputError, UserError

logger = logging.getLogger("diffusiongemma.serve")
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # in what torch raises, on a GPU and on a CPU
_CODES = {
    401: "invalid_api_key",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    429: "too_many_requests",
    503: "unavailable",
    507: "insufficient_storage",
}

# The field of a body that stands for an option, dotted, by the option's name in Python; None where none does.
FieldOf = Callable[[str], str | None]


def no_field(option: str) -> None:
    """`FieldOf` of an endpoint whose body has no fields."""


class ApiError(Exception):
    """An answer that is not 200. `param` names the field at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.code = code or _CODES.get(status)
        self.headers = headers


def refusal(message: str, param: str | None, code: str = "invalid_value") -> ApiError:
    return ApiError(400, message, param=param, code=code)


def too_busy(message: str) -> ApiError:
    return ApiError(429, message, headers={"Retry-After": "1"})


def unavailable(message: str) -> ApiError:
    return ApiError(503, message, headers={"Retry-After": "5"})


def broken(request_id: str) -> ApiError:
    """What a client is told of a bug; the log has the rest."""
    return ApiError(500, f"this request broke something in the server: its log tells more under {request_id}")


def refused(error: UserError, field_of: FieldOf) -> ApiError:
    """A user's mistake in the words of a body: options are named as its fields are."""
    option = error.option if isinstance(error, InputError) else None
    message = error.worded(lambda name: field_of(name) or name)
    code = "context_length_exceeded" if isinstance(error, ContextExceeded) else "invalid_value"
    return refusal(encodable(message), None if option is None else field_of(option), code)


@contextmanager
def blaming(option: str) -> Iterator[None]:
    """A user's mistake in here that names no option is one of this option."""
    try:
        yield
    except InputError as error:
        if error.option is not None:
            raise
        raise InputError(error.message, option=option) from error


def explained(error: Exception, field_of: FieldOf, request_id: str) -> ApiError:
    """What the client is told when the engine gave a request up; a bug goes to the log."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UserError):
        return refused(error, field_of)
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY):
        return unavailable("the machine is out of memory: try again, or ask for less")
    logger.error("request failed", exc_info=error, extra={"request_id": request_id})
    return broken(request_id)


def encodable(text: str) -> str:
    """Lone surrogates, which JSON can smuggle in, cannot be written back."""
    return text.encode("utf-8", "replace").decode()
