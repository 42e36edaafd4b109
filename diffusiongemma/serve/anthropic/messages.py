"""POST /v1/messages: Anthropic's Messages, whole and in events."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from diffusiongemma.events import Event, Finished, Result
from diffusiongemma.serve.anthropic.bodies import CountRequest, MessagesRequest, chat_of
from diffusiongemma.serve.anthropic.errors import anthropic_error
from diffusiongemma.serve.body_types import Reply
from diffusiongemma.serve.errors import ApiError, FieldOf
from diffusiongemma.serve.job import Dialect, Job, Piece
from diffusiongemma.serve.native.diffusion_field import fields_of
from diffusiongemma.serve.native.summary import DiffusionSummary, Spent, summary
from diffusiongemma.serve.one_answer import OneAnswer
from diffusiongemma.serve.openai.chat import chat_requests, prompt_of
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.transport.sse import sse

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class AnthropicUsage(Reply):
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int


class MessageReply(Reply):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]] = Field(description="blocks: thinking, text, tool_use")
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"] | None
    stop_sequence: str | None
    usage: AnthropicUsage
    diffusion: DiffusionSummary | None = None


class CountReply(Reply):
    input_tokens: int


def messages_job(body: MessagesRequest, service: Service) -> Job:
    """Raises `ApiError` or `InputError` for what cannot be honoured."""
    (request,), options = chat_requests(chat_of(body), service, cut=True)
    return Job([request], MessagesOutput(service, request, options, body.model), options.stream, options.frames)


def messages_fields(body: MessagesRequest) -> FieldOf:
    own = {"prompt": "messages", "max_new_tokens": "max_tokens", "json_schema": "output_config", "think": "thinking"}
    return fields_of(body, own)


MESSAGES = Dialect(messages_job, messages_fields)


def count_reply(body: CountRequest, service: Service) -> CountReply:
    """Raises `ApiError` or `InputError` for what cannot be a prompt."""
    return CountReply(input_tokens=len(prompt_of(chat_of(body), service).ids))


class MessagesOutput(OneAnswer):
    """Blocks one after the other: a thought, a text, calls."""

    id: str
    _open: str | None = None  # the type of the block that is being sent
    _index = -1

    def reply(self, value: list[Result], spent: Spent) -> MessageReply:
        told = summary(self.result, self.answer.tokens if self.options.details else None)
        return self._message(self._blocks(), self._reason(), told)

    def _message(self, content: list[dict[str, Any]], reason: Any, told: DiffusionSummary | None) -> MessageReply:
        more = {} if told is None else {"diffusion": told}
        return MessageReply(
            id=f"msg_{secrets.token_hex(12)}",
            type="message",
            role="assistant",
            model=self.model,
            content=content,
            stop_reason=reason,
            stop_sequence=self.answer.stop_string,
            usage=self._usage(),
            **more,
        )

    def _blocks(self) -> list[dict[str, Any]]:
        answer, blocks = self.answer, []
        if answer.thinking:
            blocks.append({"type": "thinking", "thinking": answer.thinking, "signature": ""})
        if answer.text or not answer.calls:
            blocks.append({"type": "text", "text": answer.text})
        return blocks + [_tool_use(call, json.loads(call.arguments)) for call in answer.calls]

    def _reason(self) -> str:
        return "stop_sequence" if self.answer.stopped else _REASONS[str(self.answer.finish_reason)]

    def _usage(self) -> AnthropicUsage:
        result = self.answer.result
        cached = 0 if result is None else result.cached_tokens
        return AnthropicUsage(
            input_tokens=self.prompt_tokens - cached,
            output_tokens=0 if result is None else len(result.tokens),
            cache_read_input_tokens=cached,
            cache_creation_input_tokens=0,
        )

    # Events.

    def opening(self) -> Iterable[bytes]:
        yield _event("message_start", message=self._message([], None, None).model_dump(exclude_unset=True))
        yield _event("ping")

    def chunks(self, index: int, event: Event, piece: Piece) -> Iterable[bytes]:
        if piece.thinking:
            yield from self._begin("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            yield self._delta({"type": "thinking_delta", "thinking": piece.thinking})
        if piece.text:
            yield from self._begin("text", {"type": "text", "text": ""})
            yield self._delta({"type": "text_delta", "text": piece.text})
        if isinstance(event, Finished):
            yield from self._last()

    def closing(self, value: list[Result], spent: Spent) -> Iterable[bytes]:
        told = summary(self.result).model_dump(exclude_unset=True)
        delta = {"stop_reason": self._reason(), "stop_sequence": self.answer.stop_string}
        yield _event("message_delta", delta=delta, usage=self._usage().model_dump(), diffusion=told)
        yield _event("message_stop")

    def error(self, error: ApiError) -> bytes:
        return sse(anthropic_error(error), "error")

    def _last(self) -> Iterable[bytes]:
        for call in self.answer.calls:
            yield from self._end()
            yield from self._begin("tool_use", _tool_use(call, {}))
            yield self._delta({"type": "input_json_delta", "partial_json": call.arguments})
        if self._index < 0:
            yield from self._begin("text", {"type": "text", "text": ""})
        yield from self._end()

    def _begin(self, kind: str, block: dict[str, Any]) -> Iterable[bytes]:
        if self._open != kind:
            yield from self._end()
            self._open, self._index = kind, self._index + 1
            yield _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _end(self) -> Iterable[bytes]:
        if self._open is not None:
            self._open = None
            yield _event("content_block_stop", index=self._index)


def _event(kind: str, **fields: Any) -> bytes:
    return sse({"type": kind} | fields, kind)


def _tool_use(call: Any, arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}
