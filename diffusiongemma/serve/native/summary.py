"""The field `diffusion` of replies: what an answer took."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from diffusiongemma.events import Result
from diffusiongemma.serve.body_types import Reply


class TokenAlternative(Reply):
    token: str
    logprob: float


class TokenDetail(Reply):
    token: str
    id: int
    logprob: float = Field(description="under the temperature-shaped distribution it was committed from")
    entropy: float = Field(description="nats")
    settled: int = Field(description="step since which the most probable token here did not change")
    alternatives: list[TokenAlternative] | None = Field(default=None, description="most probable tokens, if asked for")


class DiffusionSummary(Reply):
    mode: Literal["diffusion", "ar"]
    seed: int
    steps: list[int] = Field(description="of each canvas")
    forward_passes: int
    tokens_per_forward: float
    seconds: float
    note: str
    converged: list[bool] | None = Field(
        default=None,
        description="of each canvas: false where its steps ran out, or patience did",
    )
    checked: int = Field(default=0, description="canvases that the encoder checked")
    written_by_encoder: int = Field(default=0, description="tokens that the encoder wrote in place of the canvas's")
    tokens: list[TokenDetail] | None = Field(default=None, description="with diffusion.details")
    warnings: list[str] | None = Field(default=None, description="what of a schema is not kept, or written in part")


def summary(result: Result, tokens: list[dict[str, Any]] | None = None) -> DiffusionSummary:
    """What one answer took; `tokens` are the details of each, where they are asked for."""
    kept = TokenDetail.model_fields
    rows = None if tokens is None else [{name: row[name] for name in kept if name in row} for row in tokens]
    details: dict[str, Any] = {} if rows is None else {"tokens": rows}
    if result.warnings:
        details["warnings"] = list(result.warnings)
    return DiffusionSummary(
        mode=result.mode,  # type: ignore[arg-type]
        seed=result.seed,
        steps=list(result.steps),
        forward_passes=result.forward_passes,
        tokens_per_forward=round(result.tokens_per_forward, 3),
        seconds=round(result.seconds, 4),
        note=result.note,
        converged=list(result.converged),
        checked=result.checked,
        written_by_encoder=result.written_by_encoder,
        **details,
    )


@dataclass
class Spent:
    """What a job has taken so far, the candidates of a plan included."""

    results: list[Result] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def summary(self, seed: int, steps: tuple[int, ...], written: int) -> DiffusionSummary:
        """Of a plan as a whole."""
        passes = sum(result.forward_passes for result in self.results)
        return DiffusionSummary(
            mode="diffusion",
            seed=seed,
            steps=list(steps),
            forward_passes=passes,
            tokens_per_forward=round(written / passes, 3) if passes else 0.0,
            seconds=round(time.perf_counter() - self.started, 4),
            note="",
            converged=[converged for result in self.results for converged in result.converged],
            checked=sum(result.checked for result in self.results),
            written_by_encoder=sum(result.written_by_encoder for result in self.results),
        )
