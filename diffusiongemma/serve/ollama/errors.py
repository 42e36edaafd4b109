"""The shape of Ollama's errors."""

from __future__ import annotations

from diffusiongemma.serve.body_types import Reply
from diffusiongemma.serve.errors import ApiError


class OllamaError(Reply):
    error: str


def ollama_error(error: ApiError) -> OllamaError:
    return OllamaError(error=error.message)
