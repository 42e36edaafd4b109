"""Bodies of /v1/infill and /v1/edits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from diffusiongemma.options import HOLE
from diffusiongemma.serve.body_types import Seed, Strict, Text
from diffusiongemma.serve.native.diffusion_field import DiffusionOptions


class Rewriting(Strict):
    """What infills and edits share."""

    model: Text | None = None
    instruction: Text | None = None
    seed: Seed | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1, description="cuts each position's distribution down to its nucleus")
    stream: bool | None = None
    diffusion: DiffusionOptions | None = None


class InfillRequest(Rewriting):
    prefix: Text | None = None
    suffix: Text | None = None
    text: Text | None = Field(None, description="a text with holes, in place of prefix and suffix")
    hole: Text = Field(HOLE, min_length=1)
    length: int | list[int] | Literal["auto"] | None = None


class EditRequest(Rewriting):
    input: Text
    spans: list[Annotated[list[int], Field(min_length=2, max_length=2)]] | None = None
    strength: float | None = Field(None, ge=0, le=1)
