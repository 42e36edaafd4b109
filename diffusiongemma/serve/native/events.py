"""The events of the streaming protocol (docs/protocol.md), as they are sent."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from diffusiongemma.serve.body_types import Reply


class StartEvent(Reply):
    v: Literal[1]
    request: str
    model: str
    mode: str
    seed: int
    canvas_length: int
    steps: int
    vocab_size: int | None
    prompt_tokens: int
    end_tokens: list[str] | None = None
    prompt: str | None = None  # of a trace file


class CanvasEvent(Reply):
    v: Literal[1]
    n: int
    turn: int | None = None
    canvas: int
    step: int
    width: int
    level: float
    temperature: float
    ms: float
    at: str
    tokens: list[str]
    state: str
    entropy: str
    drafts: dict[str, str]
    cut: int | None = None


class CommitEvent(Reply):
    v: Literal[1]
    n: int
    turn: int | None = None
    canvas: int
    tokens: list[str]
    steps: int
    converged: bool
    logprobs: list[float]
    entropies: list[float]
    settled: list[int]
    written: int | None = None
    alternatives: list[list[list[Any]]] | None = None


class DoneEvent(Reply):
    v: Literal[1]
    n: int
    mode: str
    seed: int
    steps: list[int]
    forward_passes: int
    tokens_per_forward: float
    seconds: float
    note: str
    converged: list[bool]  # of each canvas
    checked: int
    written_by_encoder: int
    finish_reason: str


EVENTS: dict[str, type[BaseModel]] = {
    "start": StartEvent,
    "canvas": CanvasEvent,
    "commit": CommitEvent,
    "done": DoneEvent,
}
