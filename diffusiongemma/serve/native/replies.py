"""Replies of /v1/infill, /v1/edits, /v1/info, /v1/boards and /v1/traces."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, create_model

from diffusiongemma.option_values import Number, Values, Whole
from diffusiongemma.options import OF_DECODING, of_surface
from diffusiongemma.serve.body_types import Reply
from diffusiongemma.serve.native.summary import DiffusionSummary
from diffusiongemma.serve.openai.usage import Usage


class InfillReply(Reply):
    object: Literal["infill"]
    text: str
    fills: list[str]
    lengths: list[int] = Field(description="tokens of each fill")
    usage: Usage
    diffusion: DiffusionSummary


class EditReply(Reply):
    object: Literal["edit"]
    text: str
    diff: list[tuple[Literal["same", "delete", "insert"], str]]
    changed_outside: float = Field(description="share of the words outside the spans that are not in their place")
    usage: Usage
    diffusion: DiffusionSummary


class BoardReply(Reply):
    """A sudoku found in a text."""

    board: list[int] | None = Field(description="81 digits row by row, 0 for a blank; null where there is none")
    prompt: str | None = Field(default=None, description="as models are taught it")
    verdict: str = Field(default="", description="what is wrong with the puzzle")


class AskedAgain(Reply):
    path: Literal["/v1/completions"]
    body: dict[str, Any]


class TraceReply(Reply):
    v: Literal[1]
    start: dict[str, Any]
    events: list[tuple[Literal["canvas", "commit", "done"], dict[str, Any]]]
    request: AskedAgain | None = Field(default=None, description="by which this server gives the same again")


def _default_type(values: Values) -> Any:
    return int if isinstance(values, Whole) else float if isinstance(values, Number) else str


# The options of decoding that HTTP has, by their names in Python, but for the length and the seed, which is drawn.
_SHOWN = [option for option in of_surface("http") if option.name in OF_DECODING and option.name != "seed"]
_DEFAULTS: dict[str, Any] = {
    "max_tokens" if option.name == "max_new_tokens" else option.name: (_default_type(option.values) | None, ...)
    for option in _SHOWN
}
Defaults: Any = create_model("Defaults", __base__=Reply, **_DEFAULTS)


class Limits(Reply):
    max_requests: int
    max_queue: int
    max_tokens: int
    max_body_bytes: int


class Machine(Reply):
    """What `auto` has measured."""

    step_ms: float | None
    token_ms: float | None
    steps: float = Field(description="denoise steps a canvas takes, on average")
    note: str


class InfoReply(Reply):
    v: Literal[1]
    version: str
    model: str
    canvas_length: int
    vocab_size: int
    context: int
    images: bool = Field(
        description="whether it was made to see: a vision tower, and nothing said of other skills alone"
    )
    parameters: int
    skills: list[str] = Field(
        description="what a small model was taught, where it says so; an answer to all else is chance"
    )
    about: str = Field(description='the same in two sentences; "" where it does not say')
    links: dict[str, str] = Field(description="addresses of the project, by what they are")
    modes: list[str]
    samplers: list[str]
    defaults: Defaults
    limits: Limits
    machine: Machine
