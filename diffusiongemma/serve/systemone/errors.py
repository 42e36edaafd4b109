"""The shapes of System One's errors: a sentence with its kind, or FastAPI's list for a body of the wrong shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusiongemma.serve.body_types import Reply
from diffusiongemma.serve.errors import ApiError, encodable

PATH = "/v1/systemone"
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class SystemOneProblem(Reply):
    error_type: str
    message: str


class WrongField(Reply):
    """Of a body with status 422."""

    type: str
    loc: list[str | int]
    msg: str


class SystemOneError(Reply):
    detail: SystemOneProblem | list[WrongField]


def systemone_error(error: ApiError) -> SystemOneError:
    kind = _TYPES.get(error.status, "api_error" if error.status >= 500 else "api_usage_error")
    return SystemOneError(detail=SystemOneProblem(error_type=kind, message=error.message))


def wrong_shape(errors: Sequence[Any]) -> SystemOneError:
    """All that pydantic finds wrong with a body."""
    return SystemOneError(detail=[_wrong(error) for error in errors])


def _wrong(error: Any) -> WrongField:
    place = [part if isinstance(part, int) else encodable(str(part))[:200] for part in error["loc"]]
    unknown = error["type"] == "extra_forbidden"
    said = "unknown or unsupported here: leave it out" if unknown else error["msg"]
    return WrongField(type=error["type"], loc=place, msg=encodable(said)[:500])
