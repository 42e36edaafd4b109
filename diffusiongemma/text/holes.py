"""Holes as people mark them in a text."""

from __future__ import annotations

from diffusiongemma.errors import InputError


def split_at(text: str, hole: str) -> list[str]:
    """The texts around each `hole` in a text. Raises `InputError` where there is none, or the marker is empty."""
    if not hole:
        raise InputError("the hole marker is empty: give one, such as <<>>", option="hole")
    parts = text.split(hole)
    if len(parts) == 1:
        raise InputError(f"the text has no hole {hole}: mark where to write", option="text")
    if "" in parts[1:-1]:
        raise InputError(f"two holes {hole} stand side by side: leave one of them, or put text between", option="text")
    return parts
