"""Replies of Ollama's API. Each is a line of JSON in a stream."""

from __future__ import annotations

from typing import Any, Literal

from diffusiongemma.serve.body_types import Reply

Nanoseconds = int | None


class Timings(Reply):
    """Of the last line."""

    done_reason: Literal["stop", "length", "load"] | None = None
    total_duration: Nanoseconds = None
    load_duration: Nanoseconds = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: Nanoseconds = None
    eval_count: int | None = None
    eval_duration: Nanoseconds = None


class OllamaReply(Timings):
    model: str
    created_at: str
    done: bool


class ChatLine(OllamaReply):
    message: dict[str, Any]


class GenerateLine(OllamaReply):
    response: str
    thinking: str | None = None
    context: list[int] | None = None


class Details(Reply):
    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class Tag(Reply):
    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class Tags(Reply):
    models: list[Tag]


class Process(Tag):
    expires_at: str
    size_vram: int
    context_length: int


class Processes(Reply):
    models: list[Process]


class Version(Reply):
    version: str


class Shown(Reply):
    modelfile: str
    parameters: str
    template: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str
