"""POST /v1/pictures: a trace, as the page keeps it, as an animated picture."""

from __future__ import annotations

from typing import Any

from diffusiongemma.pictures import Frame, animated
from diffusiongemma.serve.errors import refusal
from diffusiongemma.serve.native.bodies import PictureRequest
from diffusiongemma.serve.native.frames import LEVELS

MEDIA = {"gif": "image/gif", "webp": "image/webp"}
USUAL_ENDS = ("<eos>", "<turn|>")


def picture_of(body: PictureRequest) -> bytes:
    """Of the first canvas. Raises `ApiError` for a trace that has none, or is not one."""
    try:
        ends = tuple(body.start.get("end_tokens") or USUAL_ENDS)
        frames, final = _frames(body.events, ends)
        return animated(frames, final, body.format.upper())
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise refusal(f"this trace cannot be drawn: {error}", "events") from error


def _frames(events: list[list[Any]], ends: tuple[str, ...]) -> tuple[list[Frame], list[str]]:
    frames: list[Frame] = []
    tokens: list[str] = []
    for name, event in events:
        if event.get("n", 0) or event.get("canvas", 0):
            continue
        if name == "canvas":
            tokens = _changed(tokens, event)
            state = event["state"]
            levels = [LEVELS.index(letter) / (len(LEVELS) - 1) for letter in event["entropy"]]
            frames.append(Frame(list(tokens), [s == "n" for s in state], [s == "a" for s in state], levels))
        elif name == "commit":
            final = [str(token) for token in event["tokens"]]
            return frames, final[: next((i for i, token in enumerate(final) if token in ends), len(final))]
    raise ValueError("no canvas of it was finished")


def _changed(tokens: list[str], event: dict[str, Any]) -> list[str]:
    tokens = (tokens + [""] * int(event["width"]))[: int(event["width"])]
    texts = iter(event["tokens"])
    for part in filter(None, event["at"].split(",")):
        first, _, last = part.partition("-")
        for position in range(int(first), int(last or first) + 1):
            tokens[position] = str(next(texts, ""))
    return tokens
