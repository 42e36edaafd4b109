"""The shapes of OpenAI's answers: chat completions and plain completions, whole and in chunks."""

from __future__ import annotations

import secrets
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel

from diffusiongemma.events import Event, Finished, Result
from diffusiongemma.serve.answers import Answer
from diffusiongemma.serve.errors import ApiError
from diffusiongemma.serve.job import Output, Piece, ResponseOptions
from diffusiongemma.serve.native.summary import DiffusionSummary, Spent, summary
from diffusiongemma.serve.openai.errors import error_body
from diffusiongemma.serve.openai.replies import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    ChatReply,
    CompletionChunk,
    CompletionReply,
    FunctionReply,
    TextChoice,
    TextChunkChoice,
    TextLogprobs,
    ToolCallChunk,
    ToolCallReply,
)
from diffusiongemma.serve.openai.usage import Usage, usage
from diffusiongemma.serve.token_texts import Texts
from diffusiongemma.serve.transport.sse import DONE, sse


class OpenAIOutput(Output):
    """What all objects of OpenAI's dialect share, errors among them."""

    prefix: ClassVar[str]

    def __init__(self, model_name: str):
        self.envelope: dict[str, Any] = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model_name,
        }

    def error(self, error: ApiError) -> bytes:
        return sse(error_body(error))


class AnswersOutput(OpenAIOutput):
    """One choice for each request. `prompts` are the choices that count their prompt in the usage: choices of one
    prompt share it."""

    def __init__(self, model_name: str, options: ResponseOptions, texts: Texts, count: int, prompts: Sequence[int]):
        super().__init__(model_name)
        self.options, self.prompts = options, prompts
        self.answers = [Answer(options, texts) for _ in range(count)]

    def take(self, index: int, event: Event) -> Piece:
        return self.answers[index].take(event)

    def is_over(self, index: int) -> bool:
        return self.answers[index].stopped

    def finish_reason(self, index: int) -> str:
        return str(self.answers[index].finish_reason)

    def chunks(self, index: int, event: Event, piece: Piece) -> Iterable[bytes]:
        if piece.text or piece.thinking or (self.options.logprobs and piece.tokens):
            yield sse(self.chunk(index, piece))
        if isinstance(event, Finished):
            yield sse(self.last_chunk(index, self.answers[index]))

    def closing(self, value: list[Result], spent: Spent) -> Iterable[bytes]:
        if self.options.usage:
            yield sse(self.usage_chunk(self.usage(value)))
        yield DONE

    def usage(self, results: list[Result]) -> Usage:
        return usage([results[index] for index in self.prompts], sum(len(result.tokens) for result in results))

    def summary(self, answer: Answer) -> DiffusionSummary:
        assert answer.result is not None
        return summary(answer.result, answer.tokens if self.options.details else None)

    @abstractmethod
    def chunk(self, index: int, piece: Piece) -> BaseModel:
        """What can be sent of a choice now."""

    @abstractmethod
    def last_chunk(self, index: int, answer: Answer) -> BaseModel:
        """Why a choice ended, and what it took."""

    @abstractmethod
    def usage_chunk(self, usage: Usage) -> BaseModel:
        """After all choices."""


class CompletionOutput(AnswersOutput):
    """`keep` of the choices of each prompt are given, the most probable; `echoes` go before them."""

    prefix = "cmpl"
    keep = 1
    echoes: Sequence[str] = ()

    def opening(self) -> Iterable[bytes]:
        for index, echo in enumerate(self.echoes):
            choice = TextChunkChoice(index=index, text=echo, logprobs=None, finish_reason=None)
            yield sse(text_chunk(self.envelope, choice))

    def reply(self, value: list[Result], spent: Spent) -> CompletionReply:
        choices = [self._choice(index, place) for index, place in enumerate(self._kept())]
        return CompletionReply(**self.envelope, object="text_completion", choices=choices, usage=self.usage(value))

    def chunk(self, index: int, piece: Piece) -> CompletionChunk:
        logprobs = self._logprobs(piece.tokens)
        return text_chunk(
            self.envelope, TextChunkChoice(index=index, text=piece.text, logprobs=logprobs, finish_reason=None)
        )

    def last_chunk(self, index: int, answer: Answer) -> CompletionChunk:
        return text_chunk(self.envelope, last_text(index, answer.finish_reason, self.summary(answer)))

    def usage_chunk(self, usage: Usage) -> CompletionChunk:
        return CompletionChunk(**self.envelope, object="text_completion", choices=[], usage=usage)

    def _kept(self) -> Iterable[int]:
        """The places of the answers that are given."""
        tries = len(self.answers) // len(self.prompts)
        if tries <= self.keep:
            return range(len(self.answers))
        groups = [range(first, first + tries) for first in self.prompts]
        best = [sorted(group, key=self._improbability)[: self.keep] for group in groups]
        return [place for places in best for place in places]

    def _improbability(self, place: int) -> float:
        result = self.answers[place].result
        assert result is not None
        return -sum(result.logprobs) / max(1, len(result.logprobs))

    def _choice(self, index: int, place: int) -> TextChoice:
        answer = self.answers[place]
        return TextChoice(
            index=index,
            text=(self.echoes[place] if self.echoes else "") + answer.text,
            logprobs=self._logprobs(answer.tokens),
            finish_reason=answer.finish_reason,  # type: ignore[arg-type]
            diffusion=self.summary(answer),
        )

    def _logprobs(self, tokens: list[dict[str, Any]]) -> TextLogprobs | None:
        if not self.options.logprobs:
            return None
        alternatives = [_by_token(row) for row in tokens] if any("alternatives" in row for row in tokens) else None
        return TextLogprobs(
            tokens=[row["token"] for row in tokens],
            token_logprobs=[row["logprob"] for row in tokens],
            top_logprobs=alternatives,
            text_offset=[row["offset"] for row in tokens],
        )


def text_chunk(envelope: dict[str, Any], choice: TextChunkChoice) -> CompletionChunk:
    return CompletionChunk(**envelope, object="text_completion", choices=[choice])


def last_text(index: int, finish_reason: Any, spent: DiffusionSummary) -> TextChunkChoice:
    return TextChunkChoice(index=index, text="", logprobs=None, finish_reason=finish_reason, diffusion=spent)


class ChatOutput(AnswersOutput):
    prefix = "chatcmpl"

    def opening(self) -> Iterable[bytes]:
        for index in range(len(self.answers)):
            yield sse(self._chunk(index, ChatDelta(role="assistant", content="")))

    def reply(self, value: list[Result], spent: Spent) -> ChatReply:
        choices = [self._choice(index, answer) for index, answer in enumerate(self.answers)]
        return ChatReply(**self.envelope, object="chat.completion", choices=choices, usage=self.usage(value))

    def chunk(self, index: int, piece: Piece) -> ChatChunk:
        parts: dict[str, Any] = {"content": piece.text, "reasoning_content": piece.thinking}
        delta = ChatDelta(**{name: text for name, text in parts.items() if text})
        return self._chunk(index, delta, logprobs=self._logprobs(piece.tokens))

    def last_chunk(self, index: int, answer: Answer) -> ChatChunk:
        calls = [
            ToolCallChunk(index=i, **_call_fields(call.id, call.name, call.arguments))
            for i, call in enumerate(answer.calls)
        ]
        delta = ChatDelta(tool_calls=calls) if calls else ChatDelta()
        return self._chunk(index, delta, finish_reason=answer.finish_reason, diffusion=self.summary(answer))

    def usage_chunk(self, usage: Usage) -> ChatChunk:
        return ChatChunk(**self.envelope, object="chat.completion.chunk", choices=[], usage=usage)

    def _chunk(self, index: int, delta: ChatDelta, **fields: Any) -> ChatChunk:
        choice = ChatChunkChoice(index=index, delta=delta, **({"logprobs": None, "finish_reason": None} | fields))
        return ChatChunk(**self.envelope, object="chat.completion.chunk", choices=[choice])

    def _choice(self, index: int, answer: Answer) -> ChatChoice:
        return ChatChoice(
            index=index,
            message=self._message(answer),
            logprobs=self._logprobs(answer.tokens),
            finish_reason=answer.finish_reason,  # type: ignore[arg-type]
            diffusion=self.summary(answer),
        )

    def _message(self, answer: Answer) -> ChatMessage:
        parts: dict[str, Any] = {"content": answer.text}
        if answer.thinking:
            parts["reasoning_content"] = answer.thinking
        if answer.calls:
            parts["content"] = answer.text or None
            parts["tool_calls"] = [
                ToolCallReply(**_call_fields(call.id, call.name, call.arguments)) for call in answer.calls
            ]
        return ChatMessage(role="assistant", refusal=None, **parts)

    def _logprobs(self, tokens: list[dict[str, Any]]) -> ChatLogprobs | None:
        if not self.options.logprobs:
            return None
        content: Any = [
            _told(row, row["bytes"])
            | {"top_logprobs": list(map(_told, row.get("alternatives", []), row["alternative_bytes"]))}
            for row in tokens
        ]
        return ChatLogprobs(content=content, refusal=None)


def _call_fields(id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": FunctionReply(name=name, arguments=arguments)}


def _told(row: dict[str, Any], written: bytes) -> dict[str, Any]:
    return {"token": row["token"], "logprob": row["logprob"], "bytes": list(written)}


def _by_token(row: dict[str, Any]) -> dict[str, float]:
    """Log-probabilities by text: of a text that several tokens have the chosen one's, else the most probable one's."""
    return {one["token"]: one["logprob"] for one in [*reversed(row.get("alternatives", [])), row]}
