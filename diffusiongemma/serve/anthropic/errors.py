"""The shape of Anthropic's errors."""

from __future__ import annotations

from typing import Literal

from diffusiongemma.serve.body_types import Reply
from diffusiongemma.serve.errors import ApiError

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class AnthropicErrorDetail(Reply):
    type: str
    message: str


class AnthropicError(Reply):
    type: Literal["error"]
    error: AnthropicErrorDetail


def anthropic_error(error: ApiError) -> AnthropicError:
    kind = _TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    return AnthropicError(type="error", error=AnthropicErrorDetail(type=kind, message=error.message))
