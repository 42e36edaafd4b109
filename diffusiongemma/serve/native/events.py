"""The events of the streaming protocol (docs/protocol.md), as they are sent."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

_EXACT = ConfigDict(extra="forbid")


@with_config(_EXACT)
class StartEvent(TypedDict):
    v: Literal[1]
    request: str
    model: str
    mode: str
    seed: int
    canvas_length: int
    steps: int
    vocab_size: int | None
    prompt_tokens: int
    end_tokens: NotRequired[list[str]]
    prompt: NotRequired[str]  # of a trace file


@with_config(_EXACT)
class CanvasEvent(TypedDict):
    v: Literal[1]
    n: int
    turn: NotRequired[int]
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
    cut: NotRequired[int]


@with_config(_EXACT)
class CommitEvent(TypedDict):
    v: Literal[1]
    n: int
    turn: NotRequired[int]
    canvas: int
    tokens: list[str]
    steps: int
    converged: bool
    logprobs: list[float]
    entropies: list[float]
    settled: list[int]
    written: NotRequired[int]
    alternatives: NotRequired[list[list[list[Any]]]]


@with_config(_EXACT)
class DoneEvent(TypedDict):
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
