"""POST /v1/responses: OpenAI's Responses, whole and in events. Nothing is stored."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from diffusiongemma.engine.request import Request
from diffusiongemma.events import Event, Finished, Result
from diffusiongemma.serve.body_types import Reply
from diffusiongemma.serve.errors import ApiError, FieldOf
from diffusiongemma.serve.job import Dialect, Job, Piece, ResponseOptions
from diffusiongemma.serve.native.diffusion_field import fields_of
from diffusiongemma.serve.native.summary import DiffusionSummary, Spent, summary
from diffusiongemma.serve.one_answer import OneAnswer
from diffusiongemma.serve.openai.chat import chat_requests
from diffusiongemma.serve.openai.errors import error_body
from diffusiongemma.serve.openai.responses_bodies import ResponsesRequest, chat_of
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.tool_calls import Call
from diffusiongemma.serve.transport.sse import sse


class ResponsesUsage(Reply):
    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


class ResponsesReply(Reply):
    id: str
    object: Literal["response"]
    created_at: float
    status: Literal["completed", "incomplete", "in_progress"]
    error: None
    incomplete_details: dict[str, str] | None
    instructions: str | None
    max_output_tokens: int | None
    model: str
    output: list[dict[str, Any]] = Field(description="items: reasoning, message, function_call")
    parallel_tool_calls: bool
    previous_response_id: None
    reasoning: dict[str, Any]
    store: bool
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float | None
    truncation: str
    usage: ResponsesUsage | None
    metadata: dict[str, Any]
    diffusion: DiffusionSummary | None = None


def responses_job(body: ResponsesRequest, service: Service) -> Job:
    """Raises `ApiError` or `InputError` for what cannot be honoured."""
    (request,), options = chat_requests(chat_of(body), service)
    return Job([request], ResponsesOutput(service, request, options, body), options.stream, options.frames)


def responses_fields(body: ResponsesRequest) -> FieldOf:
    own = {"prompt": "input", "max_new_tokens": "max_output_tokens", "json_schema": "text", "think": "reasoning"}
    return fields_of(body, own | {"images": "input"})


RESPONSES = Dialect(responses_job, responses_fields)


def _id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(16)}"


class ResponsesOutput(OneAnswer):
    """Items one after the other: a thought, a message, calls."""

    def __init__(self, service: Service, request: Request, options: ResponseOptions, body: ResponsesRequest):
        super().__init__(service, request, options, body.model)
        self.body, self.id, self.items = body, _id("resp"), list[dict[str, Any]]()
        self._number, self._open = -1, ""  # of the last event; the kind of the item that is being sent

    def reply(self, value: list[Result], spent: Spent) -> ResponsesReply:
        answer = self.answer
        items = [_thought(answer.thinking)] if answer.thinking else []
        items += [_message(answer.text)] if answer.text or not answer.calls else []
        return self._response(self._status(), items + [_call(call) for call in answer.calls])

    def _status(self) -> str:
        return "incomplete" if self.answer.finish_reason == "length" else "completed"

    def _response(self, status: str, items: list[dict[str, Any]]) -> ResponsesReply:
        body, cut = self.body, status == "incomplete"
        result = self.answer.result
        more: dict[str, Any] = {} if result is None else {"diffusion": summary(result)}
        return ResponsesReply(
            **self._echo(),
            id=self.id,
            object="response",
            created_at=self.created,
            status=status,  # type: ignore[arg-type]
            error=None,
            incomplete_details={"reason": "max_output_tokens"} if cut else None,
            instructions=body.instructions,
            max_output_tokens=body.max_output_tokens,
            model=self.model,
            output=items,
            previous_response_id=None,
            store=False,
            truncation="disabled",
            usage=None if result is None else self._usage(),
            metadata={},
            **more,
        )

    def _echo(self) -> dict[str, Any]:
        """What the body said, in the shape that it has in a response."""
        body = self.body
        form = body.text.format if body.text is not None else None
        told = {"type": "text"} if form is None else form.model_dump(exclude_none=True, by_alias=True)
        return {
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
            "temperature": body.temperature,
            "text": {"format": told},
            "tool_choice": body.tool_choice or "auto",
            "tools": [{"parameters": None, "strict": None} | tool.model_dump() for tool in body.tools or []],
            "top_p": body.top_p,
        }

    def _usage(self) -> ResponsesUsage:
        result = self.result
        written = len(result.tokens)
        return ResponsesUsage(
            input_tokens=self.prompt_tokens,
            input_tokens_details={"cached_tokens": result.cached_tokens, "cache_write_tokens": 0},
            output_tokens=written,
            output_tokens_details={"reasoning_tokens": 0},
            total_tokens=self.prompt_tokens + written,
        )

    # Events.

    def opening(self) -> Iterable[bytes]:
        started = self._response("in_progress", []).model_dump(exclude_unset=True)
        yield self._event("response.created", response=started)
        yield self._event("response.in_progress", response=started)

    def chunks(self, index: int, event: Event, piece: Piece) -> Iterable[bytes]:
        if piece.thinking:
            yield from self._begin(_thought(""))
            self.items[-1]["content"][0]["text"] += piece.thinking
            yield self._event("response.reasoning_text.delta", **self._here(), content_index=0, delta=piece.thinking)
        if piece.text:
            yield from self._begin(_message(""))
            self.items[-1]["content"][0]["text"] += piece.text
            yield self._event(
                "response.output_text.delta", **self._here(), content_index=0, delta=piece.text, logprobs=[]
            )
        if isinstance(event, Finished):
            yield from self._last()

    def closing(self, value: list[Result], spent: Spent) -> Iterable[bytes]:
        status = self._status()
        whole = self._response(status, self.items).model_dump(exclude_unset=True)
        yield self._event(f"response.{status}", response=whole)

    def error(self, error: ApiError) -> bytes:
        told = error_body(error).error
        return self._event("error", code=told.code, message=told.message, param=told.param)

    def _last(self) -> Iterable[bytes]:
        if not self.items and not self.answer.calls:
            yield from self._begin(_message(""))
        for call in self.answer.calls:
            yield from self._begin(_call(call) | {"arguments": "", "status": "in_progress"}, new=True)
            here, arguments = self._here(), call.arguments
            yield self._event("response.function_call_arguments.delta", **here, delta=arguments)
            yield self._event("response.function_call_arguments.done", **here, name=call.name, arguments=arguments)
            self.items[-1]["arguments"] = arguments
        yield from self._end()

    def _begin(self, item: dict[str, Any], new: bool = False) -> Iterable[bytes]:
        if self._open == item["type"] and not new:
            return
        yield from self._end()
        self._open = item["type"]
        self.items.append(item | {"status": "in_progress"})
        begun = self.items[-1] | ({} if self._open == "function_call" else {"content": []})
        yield self._event("response.output_item.added", output_index=len(self.items) - 1, item=begun)
        if self._open == "message":
            part = self.items[-1]["content"][0]
            yield self._event("response.content_part.added", **self._here(), content_index=0, part=dict(part))

    def _end(self) -> Iterable[bytes]:
        """The events that close the item that is being sent."""
        if not self._open:
            return
        item, here = self.items[-1], self._here()
        if self._open == "message":
            part = item["content"][0]
            yield self._event("response.output_text.done", **here, content_index=0, text=part["text"], logprobs=[])
            yield self._event("response.content_part.done", **here, content_index=0, part=part)
        elif self._open == "reasoning":
            text = item["content"][0]["text"]
            yield self._event("response.reasoning_text.done", **here, content_index=0, text=text)
        item["status"], self._open = "completed", ""
        yield self._event("response.output_item.done", output_index=len(self.items) - 1, item=item)

    def _here(self) -> dict[str, Any]:
        return {"item_id": self.items[-1]["id"], "output_index": len(self.items) - 1}

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return sse({"type": kind, "sequence_number": self._number} | fields, kind)


def _thought(text: str) -> dict[str, Any]:
    content = [{"type": "reasoning_text", "text": text}]
    return {"id": _id("rs"), "type": "reasoning", "summary": [], "content": content, "status": "completed"}


def _message(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": _id("msg"), "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def _call(call: Call) -> dict[str, Any]:
    told = {"call_id": call.id, "name": call.name, "arguments": call.arguments, "status": "completed"}
    return {"id": _id("fc"), "type": "function_call", **told}
