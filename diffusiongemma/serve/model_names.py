"""Which names the served model answers to."""

from __future__ import annotations

from diffusiongemma.serve.errors import ApiError
from diffusiongemma.serve.settings import Settings


def check_model(name: str | None, settings: Settings) -> None:
    if (
        name is not None
        and name != settings.model_name
        and name not in settings.aliases
        and "*" not in settings.aliases
    ):
        message = f"no model {name[:100]!r} here: ask for {settings.model_name!r}, or leave model out"
        raise ApiError(404, message, param="model", code="model_not_found")
