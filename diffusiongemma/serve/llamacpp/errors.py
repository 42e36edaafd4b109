"""The shape of llama.cpp's errors."""

from __future__ import annotations

from diffusiongemma.serve.body_types import Reply
from diffusiongemma.serve.errors import ApiError


class LlamaErrorDetail(Reply):
    code: int
    message: str
    type: str


class LlamaError(Reply):
    error: LlamaErrorDetail


def llamacpp_error(error: ApiError) -> LlamaError:
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return LlamaError(error=LlamaErrorDetail(code=error.status, message=error.message, type=kind))
