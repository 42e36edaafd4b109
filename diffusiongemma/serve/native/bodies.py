"""Bodies of /v1/infill, /v1/edits, /v1/boards and /v1/pictures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from diffusiongemma.options import HOLE
from diffusiongemma.serve.body_types import Seed, Strict, Text, TopK
from diffusiongemma.serve.native.diffusion_field import DiffusionOptions
from diffusiongemma.serve.tolerance import Asking


class Rewriting(Asking):
    """What infills and edits share."""

    model: Text | None = None
    instruction: Text | None = None
    seed: Seed | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1, description="cuts each position's distribution down to its nucleus")
    top_k: TopK = None
    min_p: float | None = Field(None, ge=0, le=1, description="before the temperature")
    stream: bool | None = None
    diffusion: DiffusionOptions | None = None


class InfillRequest(Rewriting):
    prefix: Text | None = None
    suffix: Text | None = None
    text: Text | None = Field(None, description="a text with holes, in place of prefix and suffix")
    hole: Text = Field(HOLE, min_length=1)
    length: int | list[int] | Literal["auto"] | None = None


class BoardRequest(Strict):
    text: Annotated[str, Field(max_length=100_000)] = Field(description="in which a sudoku may stand, in any spelling")
    alone: bool = Field(False, description="whether it must be a sudoku to solve and little else")


class PictureRequest(Strict):
    """A trace in the form of the streaming protocol; only its first canvas is drawn."""

    model_config = ConfigDict(extra="ignore")

    start: dict[str, Any] = Field(default_factory=dict)
    events: list[Annotated[list[Any], Field(min_length=2, max_length=2)]] = Field(min_length=1, max_length=20_000)
    format: Literal["gif", "webp"] = "gif"


class EditRequest(Rewriting):
    input: Text
    spans: list[Annotated[list[int], Field(min_length=2, max_length=2)]] | None = None
    strength: float | None = Field(None, ge=0, le=1)
