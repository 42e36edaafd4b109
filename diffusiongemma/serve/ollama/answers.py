"""POST /api/chat and /api/generate: answers in lines of JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from diffusiongemma.engine.request import Request
from diffusiongemma.events import Event, Finished, Result
from diffusiongemma.serve.errors import ApiError, FieldOf
from diffusiongemma.serve.job import Dialect, Job, Output, Piece, ResponseOptions
from diffusiongemma.serve.native.diffusion_field import fields_of
from diffusiongemma.serve.native.summary import Spent
from diffusiongemma.serve.ollama.bodies import (
    OllamaAsking,
    OllamaChat,
    OllamaGenerate,
    chat_of,
    chat_of_prompt,
    completion_of,
    streams,
)
from diffusiongemma.serve.ollama.errors import ollama_error
from diffusiongemma.serve.ollama.replies import ChatLine, GenerateLine, OllamaReply
from diffusiongemma.serve.one_answer import OneAnswer
from diffusiongemma.serve.openai.chat import chat_requests
from diffusiongemma.serve.openai.completions import completion_requests
from diffusiongemma.serve.openai.suffix import fill_of, suffix_plan
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.transport.sse import compact

NDJSON = "application/x-ndjson"


def chat_job(body: OllamaChat, service: Service) -> Job:
    """Raises `ApiError` or `InputError` for what cannot be honoured."""
    if not body.messages:
        return loaded(body, ChatLine, {"message": {"role": "assistant", "content": ""}})
    (request,), options = chat_requests(chat_of(body), service, cut=True)
    return Job([request], ChatLines(service, request, options, body.model), streams(body))


def generate_job(body: OllamaGenerate, service: Service) -> Job:
    """Raises `ApiError` or `InputError` for what cannot be honoured."""
    if not body.prompt and not body.suffix:
        return loaded(body, GenerateLine, {"response": ""})
    if body.suffix:
        plan, stops = suffix_plan(completion_of(body), service)
        return Job.of_plan(plan, FillLine(body.model, stops), streams(body), False)
    if body.raw:
        (request,), options = completion_requests(completion_of(body), service, cut=True)
    else:
        (request,), options = chat_requests(chat_of_prompt(body), service, cut=True)
    return Job([request], GenerateLines(service, request, options, body.model), streams(body))


def fields(body: OllamaAsking) -> FieldOf:
    own = {"prompt": "messages", "max_new_tokens": "options", "json_schema": "format", "seed": "options"}
    return fields_of(body, own if isinstance(body, OllamaChat) else own | {"prompt": "prompt"})


CHAT = Dialect(chat_job, fields)
GENERATE = Dialect(generate_job, fields)


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def line(reply: BaseModel) -> bytes:
    return (reply.model_dump_json(exclude_unset=True) + "\n").encode("utf-8", "replace")


def failed(error: ApiError) -> bytes:
    return (compact(ollama_error(error).model_dump()) + "\n").encode("utf-8", "replace")


def loaded(body: OllamaAsking, kind: type[OllamaReply], said: dict[str, Any]) -> Job:
    """Nothing is asked: clients do so to have the model loaded, which it is."""
    reply = kind(model=body.model, created_at=now(), done=True, done_reason="load", **said)
    return Job([], Ready(reply), streams(body))


class Ready(Output):
    media_type = NDJSON

    def __init__(self, said: BaseModel):
        self.said = said

    def reply(self, value: Any, spent: Spent) -> BaseModel:
        return self.said

    def closing(self, value: Any, spent: Spent) -> Iterable[bytes]:
        yield line(self.said)

    def error(self, error: ApiError) -> bytes:
        return failed(error)


class Lines(OneAnswer):
    """What both have in common."""

    media_type = NDJSON

    def __init__(self, service: Service, request: Request, options: ResponseOptions, model: str):
        super().__init__(service, request, options, model)
        self._started = time.perf_counter_ns()

    def _line(self, text: str, thinking: str, calls: list[dict[str, Any]], **more: Any) -> BaseModel:
        raise NotImplementedError

    def chunks(self, index: int, event: Event, piece: Piece) -> Iterable[bytes]:
        if piece.text or piece.thinking:
            yield line(self._line(piece.text, piece.thinking, [], done=False))
        if isinstance(event, Finished) and self.answer.calls:
            yield line(self._line("", "", self._calls(), done=False))

    def reply(self, value: list[Result], spent: Spent) -> BaseModel:
        return self._line(self.answer.text, self.answer.thinking, self._calls(), **self._end())

    def closing(self, value: list[Result], spent: Spent) -> Iterable[bytes]:
        yield line(self._line("", "", [], **self._end()))

    def error(self, error: ApiError) -> bytes:
        return failed(error)

    def _calls(self) -> list[dict[str, Any]]:
        return [
            {"id": call.id, "function": {"name": call.name, "arguments": json.loads(call.arguments)}}
            for call in self.answer.calls
        ]

    def _end(self) -> dict[str, Any]:
        return {"done": True, **ending(self.result, self._started, self.answer.finish_reason == "length")}


class ChatLines(Lines):
    def _line(self, text: str, thinking: str, calls: list[dict[str, Any]], **more: Any) -> BaseModel:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        message |= ({"thinking": thinking} if thinking else {}) | ({"tool_calls": calls} if calls else {})
        return ChatLine(model=self.model, created_at=now(), message=message, **more)


class GenerateLines(Lines):
    def _line(self, text: str, thinking: str, calls: list[dict[str, Any]], **more: Any) -> BaseModel:
        thought: dict[str, Any] = {"thinking": thinking} if thinking else {}
        return GenerateLine(model=self.model, created_at=now(), response=text, **thought, **more)


def ending(result: Result, started: int, cut: bool) -> dict[str, Any]:
    """Why it ended, and what it took: the times are of the whole, as a canvas is not read and written in turn."""
    total = time.perf_counter_ns() - started
    return {
        "done_reason": "length" if cut else "stop",
        "total_duration": total,
        "load_duration": 0,
        "prompt_eval_count": result.prompt_tokens,
        "prompt_eval_duration": 0,
        "eval_count": len(result.tokens),
        "eval_duration": int(result.seconds * 1e9),
    }


class FillLine(Output):
    """What goes between a prompt and its suffix, in one line."""

    media_type = NDJSON

    def __init__(self, model: str, stops: tuple[str, ...]):
        self.model, self.stops, self._started = model, stops, time.perf_counter_ns()

    def reply(self, value: Any, spent: Spent) -> GenerateLine:
        end = ending(value.result, self._started, False) | {"eval_count": sum(value.lengths)}
        text = fill_of(value, self.stops)
        return GenerateLine(model=self.model, created_at=now(), response=text, done=True, **end)

    def closing(self, value: Any, spent: Spent) -> Iterable[bytes]:
        yield line(self.reply(value, spent))

    def error(self, error: ApiError) -> bytes:
        return failed(error)
