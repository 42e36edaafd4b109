"""Bodies of answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = Field(description="the field at fault")
    code: str | None


class ErrorBody(BaseModel):
    error: ErrorDetail


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int] = Field(description="cached_tokens: reused from earlier prompts")


class TokenDetail(BaseModel):
    token: str
    id: int
    logprob: float = Field(description="under the temperature-shaped distribution it was committed from")
    entropy: float = Field(description="nats")
    settled: int = Field(description="step since which the most probable token here did not change")


class DiffusionSummary(BaseModel):
    mode: Literal["diffusion", "ar"]
    seed: int
    steps: list[int] = Field(description="of each canvas")
    forward_passes: int
    tokens_per_forward: float
    seconds: float
    note: str
    tokens: list[TokenDetail] | None = Field(None, description="with diffusion.details")


Finish = Literal["stop", "length", "tool_calls"]


class ChatMessage(BaseModel):
    role: Literal["assistant"]
    content: str | None
    refusal: None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class ChatChoice(BaseModel):
    index: int
    message: ChatMessage
    logprobs: dict[str, Any] | None
    finish_reason: Finish
    diffusion: DiffusionSummary


class TextChoice(BaseModel):
    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Finish
    diffusion: DiffusionSummary


class _Answer(BaseModel):
    id: str
    created: int
    model: str
    usage: Usage


class ChatReply(_Answer):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class CompletionReply(_Answer):
    object: Literal["text_completion"]
    choices: list[TextChoice]


class InfillReply(BaseModel):
    object: Literal["infill"]
    text: str
    fills: list[str]
    lengths: list[int] = Field(description="tokens of each fill")
    usage: Usage
    diffusion: DiffusionSummary


class EditReply(BaseModel):
    object: Literal["edit"]
    text: str
    diff: list[tuple[Literal["same", "delete", "insert"], str]]
    changed_outside: float = Field(description="share of the words outside the spans that are not in their place")
    usage: Usage
    diffusion: DiffusionSummary


class ModelCard(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[ModelCard]


class Health(BaseModel):
    status: Literal["ready"]


class TraceReply(BaseModel):
    v: Literal[1]
    start: dict[str, Any]
    events: list[list[Any]]
    request: dict[str, Any] | None = None


class InfoReply(BaseModel):
    v: Literal[1]
    version: str
    model: str
    canvas_length: int
    vocab_size: int
    context: int
    images: bool
    modes: list[str]
    samplers: list[str]
    defaults: dict[str, Any]
    limits: dict[str, int]
    machine: dict[str, Any]
