"""Which names the served model answers to."""

from __future__ import annotations

from diffusiongemma.serve.errors import ApiError
from diffusiongemma.serve.settings import Settings

ANY_NAME = "*"  # the alias that stands for all


def names_of(settings: Settings) -> list[str]:
    """The names that are listed, the model's own first."""
    aliases = [name for name in settings.aliases if name != ANY_NAME]
    return list(dict.fromkeys([settings.model_name, *aliases, *settings.adapters]))


def check_model(name: str | None, settings: Settings, param: str | None = "model") -> None:
    """Raises `ApiError` for a name that is not answered to; absent or empty, it is the model's own."""
    if name and name not in names_of(settings) and ANY_NAME not in settings.aliases:
        message = f"no model {name[:100]!r} here: ask for {settings.model_name!r}, or leave model out"
        raise ApiError(404, message, param=param, code="model_not_found")
