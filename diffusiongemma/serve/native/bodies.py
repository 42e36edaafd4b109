"""Bodies of /v1/infill and /v1/edits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from diffusiongemma.options import HOLE
from diffusiongemma.serve.body_types import Seed, Strict, Text
from diffusiongemma.serve.native.diffusion_field import DiffusionOptions


class InfillRequest(Strict):
    model: Text | None = None
    prefix: Text | None = None
    suffix: Text | None = None
    text: Text | None = Field(None, description="a text with holes, in place of prefix and suffix")
    hole: Text = Field(HOLE, min_length=1)
    instruction: Text | None = None
    length: int | list[int] | Literal["auto"] | None = None
    seed: Seed | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    stream: bool | None = None
    diffusion: DiffusionOptions | None = None


class EditRequest(Strict):
    model: Text | None = None
    input: Text
    instruction: Text | None = None
    spans: list[Annotated[list[int], Field(min_length=2, max_length=2)]] | None = None
    strength: float | None = Field(None, ge=0, le=1)
    seed: Seed | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    stream: bool | None = None
    diffusion: DiffusionOptions | None = None
