"""The wordings that generators draw from: the TOML files under `data`."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


@cache
def read_phrases(name: str) -> dict[str, Any]:
    """What `data/NAME.toml` holds, lists as tuples, so that nobody changes what all share."""
    return _frozen(tomllib.loads((DATA / f"{name}.toml").read_text(encoding="utf-8")))


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _frozen(one) for name, one in value.items()}
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value
