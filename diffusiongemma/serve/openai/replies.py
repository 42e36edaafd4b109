"""Replies of OpenAI's chat completions and plain completions, whole and in chunks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from diffusiongemma.serve.body_types import Reply
from diffusiongemma.serve.native.summary import DiffusionSummary
from diffusiongemma.serve.openai.usage import Usage

Finish = Literal["stop", "length", "tool_calls"]


class FunctionReply(Reply):
    name: str
    arguments: str


class ToolCallReply(Reply):
    id: str
    type: Literal["function"]
    function: FunctionReply


class ToolCallChunk(ToolCallReply):
    index: int


class TokenLogprob(Reply):
    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(TokenLogprob):
    top_logprobs: list[TokenLogprob]


class ChatLogprobs(Reply):
    content: list[ContentLogprob]
    refusal: None


class TextLogprobs(Reply):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class ChatMessage(Reply):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallReply] | None = None


class ChatDelta(Reply):
    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallChunk] | None = None


class ChatChoice(Reply):
    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish
    diffusion: DiffusionSummary


class ChatChunkChoice(Reply):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: Finish | None
    diffusion: DiffusionSummary | None = None


class TextChoice(Reply):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Finish
    diffusion: DiffusionSummary


class TextChunkChoice(Reply):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Finish | None
    diffusion: DiffusionSummary | None = None


class Envelope(Reply):
    """What every object of one response says of itself."""

    id: str
    created: int
    model: str


class ChatReply(Envelope):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: Usage


class ChatChunk(Envelope):
    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: Usage | None = None


class CompletionReply(Envelope):
    object: Literal["text_completion"]
    choices: list[TextChoice]
    usage: Usage


class CompletionChunk(Envelope):
    object: Literal["text_completion"]
    choices: list[TextChunkChoice]
    usage: Usage | None = None


class ModelCard(Reply):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class NamedModel(Reply):
    """As clients of System One read it."""

    name: str
    description: str
    release_date: str = Field(description="the day on which this server was started")


class ModelList(Reply):
    object: Literal["list"]
    data: list[ModelCard]
    models: list[NamedModel] = Field(description="the same, for clients of System One")
