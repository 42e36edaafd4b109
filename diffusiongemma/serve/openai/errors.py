"""The shape of OpenAI's errors: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from pydantic import Field

from diffusiongemma.serve.body_types import Reply
from diffusiongemma.serve.errors import ApiError

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class ErrorDetail(Reply):
    message: str
    type: str
    param: str | None = Field(description="the field at fault")
    code: str | None


class ErrorBody(Reply):
    error: ErrorDetail


def error_body(error: ApiError) -> ErrorBody:
    kind = _TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    return ErrorBody(error=ErrorDetail(message=error.message, type=kind, param=error.param, code=error.code))
