"""Text settling as an animated picture, GIF or WebP, drawn by Pillow."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

WIDTH, MARGIN, SIZE, LINE = 720, 24, 19, 30  # pixels
FIRST_MS, STEP_MS, LAST_MS = 900, 260, 2600  # milliseconds that the noise, a step and the finished text stay
MOST_FRAMES = 200
PAPER, INK, NOISE_INK, NEW = (250, 249, 247), (29, 27, 36), (110, 104, 124), (75, 63, 189)
SURE, UNSURE = (250, 249, 247), (247, 146, 104)


@dataclass(frozen=True)
class Frame:
    """One step: the text at each position, whether it is noise or new, and its entropy on a scale from 0 to 1."""

    texts: Sequence[str]
    noise: Sequence[bool]
    new: Sequence[bool]
    unsure: Sequence[float]


def animated(frames: Sequence[Frame], final: Sequence[str], kind: str = "GIF") -> bytes:
    """The frames and then the final text, laid out as that; `kind` is GIF or WEBP.

    Positions that the final text lacks, after its end, are left out. Raises ValueError where there is nothing to draw.
    """
    if not frames or not final:
        raise ValueError("a picture needs at least one step and some text")
    chosen = (
        frames if len(frames) <= MOST_FRAMES else [frames[i * len(frames) // MOST_FRAMES] for i in range(MOST_FRAMES)]
    )
    font: Any = ImageFont.load_default(SIZE)
    places, height = _layout(final, font)
    drawn = [_drawn(frame, final, places, height, font) for frame in chosen]
    drawn.append(_drawn(None, final, places, height, font))
    times = [FIRST_MS, *[STEP_MS] * (len(drawn) - 2), LAST_MS][-len(drawn) :]
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn[0].save(out, kind, save_all=True, append_images=drawn[1:], duration=times, loop=0)
    return out.getvalue()


def _layout(final: Sequence[str], font: Any) -> tuple[list[tuple[float, float, float]], int]:
    """(left, top, width) of each position, words kept together; and the height of the picture."""
    places: list[tuple[float, float, float]] = []
    left, top = float(MARGIN), float(MARGIN)
    for text in final:
        space = font.getlength(" ") if text[:1] == " " and text.strip() else 0.0
        left += space if left > MARGIN else 0.0
        width = max(6.0, font.getlength(_oneline(text)))
        if left + width > WIDTH - MARGIN and left > MARGIN:
            left, top = float(MARGIN), top + LINE
        places.append((left, top, width))
        left += width + 1
        if "\n" in text:
            left, top = float(MARGIN), top + LINE * text.count("\n")
    return places, math.ceil(top + LINE + MARGIN)


def _drawn(frame: Frame | None, final: Sequence[str], places: Sequence[Any], height: int, font: Any) -> Image.Image:
    right = max(left + width for left, _, width in places)
    picture = Image.new("RGB", (min(WIDTH, math.ceil(right) + MARGIN), height), PAPER)
    pen = ImageDraw.Draw(picture)
    for position, (text, (left, top, width)) in enumerate(zip(final, places, strict=True)):
        if frame is None:
            pen.text((left, top), _oneline(text), font=font, fill=INK)
        elif position < len(frame.texts):
            _cell(pen, frame, position, (left, top, width), font)
    return picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=64)


def _cell(pen: Any, frame: Frame, position: int, place: tuple[float, float, float], font: Any) -> None:
    left, top, width = place
    share = frame.unsure[position]
    shade = tuple(round(a + (b - a) * share) for a, b in zip(SURE, UNSURE, strict=True))
    pen.rectangle((left - 0.5, top - 2, left + width, top + LINE - 7), fill=shade)
    ink = NOISE_INK if frame.noise[position] else NEW if frame.new[position] else INK
    pen.text((left, top), _cut(_oneline(frame.texts[position]), width, font), font=font, fill=ink)


def _oneline(text: str) -> str:
    text = text.strip() or text  # the space before a word is room enough
    return "".join(c if c.isprintable() else "" for c in text)


def _cut(text: str, width: float, font: Any) -> str:
    while len(text) > 1 and font.getlength(text) > width + 1:  # of noise something is to be seen
        text = text[:-1]
    return text
