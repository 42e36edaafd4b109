"""The two shapes of OpenAI's answers: chat completions and plain completions, whole and in chunks."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from diffusiongemma.serve.answers import Answer, Piece
from diffusiongemma.serve.native.frames import summary


@dataclass(frozen=True)
class Style:
    """What every object of one response says of itself."""

    model: str
    kind = "text_completion"
    chunk_kind = "text_completion"
    prefix = "cmpl"
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"{self.prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def whole(self, answers: list[Answer], usage: dict[str, Any]) -> dict[str, Any]:
        choices = [self.choice(index, answer) for index, answer in enumerate(answers)]
        return self.envelope(self.kind, choices) | {"usage": usage}

    def usage_chunk(self, usage: dict[str, Any]) -> dict[str, Any]:
        return self.envelope(self.chunk_kind, []) | {"usage": usage}

    def first_chunk(self, index: int) -> dict[str, Any] | None:
        """Sent before any text, where the style has such a thing."""
        return None

    def chunk(self, index: int, piece: Piece, answer: Answer) -> dict[str, Any]:
        logprobs = self.logprobs(piece.tokens) if answer.wanted.logprobs else None
        choice = {"index": index, "text": piece.text, "logprobs": logprobs, "finish_reason": None}
        return self.envelope(self.chunk_kind, [choice])

    def last_chunk(self, index: int, answer: Answer) -> dict[str, Any]:
        choice = {"index": index, "text": "", "logprobs": None, "finish_reason": answer.finish_reason}
        return self.envelope(self.chunk_kind, [choice | self.extra(answer)])

    def choice(self, index: int, answer: Answer) -> dict[str, Any]:
        logprobs = self.logprobs(answer.tokens) if answer.wanted.logprobs else None
        choice = {"index": index, "text": answer.text, "logprobs": logprobs, "finish_reason": answer.finish_reason}
        return choice | self.extra(answer)

    def extra(self, answer: Answer) -> dict[str, Any]:
        """What diffusion adds to a finished choice."""
        assert answer.result is not None
        told = summary(answer.result)
        return {"diffusion": told | ({"tokens": answer.tokens} if answer.wanted.details else {})}

    def logprobs(self, tokens: list[dict[str, Any]]) -> dict[str, Any]:
        offsets, at = [], 0
        for row in tokens:
            offsets.append(at)
            at += len(row["token"])
        return {
            "tokens": [row["token"] for row in tokens],
            "token_logprobs": [row["logprob"] for row in tokens],
            "top_logprobs": [_by_token(row) for row in tokens]
            if any("alternatives" in row for row in tokens)
            else None,
            "text_offset": offsets,
        }


@dataclass(frozen=True)
class ChatStyle(Style):
    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"
    prefix = "chatcmpl"

    def first_chunk(self, index: int) -> dict[str, Any]:
        return self._delta(index, {"role": "assistant", "content": ""})

    def chunk(self, index: int, piece: Piece, answer: Answer) -> dict[str, Any]:
        delta: dict[str, Any] = {"content": piece.text} if piece.text else {}
        if piece.thinking:
            delta["reasoning_content"] = piece.thinking
        return self._delta(index, delta, self.logprobs(piece.tokens) if answer.wanted.logprobs else None)

    def last_chunk(self, index: int, answer: Answer) -> dict[str, Any]:
        calls = [{"index": i, **call} for i, call in enumerate(answer.tool_calls)]
        chunk = self._delta(index, {"tool_calls": calls} if calls else {})
        chunk["choices"][0] |= {"finish_reason": answer.finish_reason, **self.extra(answer)}
        return chunk

    def choice(self, index: int, answer: Answer) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
        if not answer.tool_calls:
            message["content"] = answer.text
        if answer.thinking:
            message["reasoning_content"] = answer.thinking
        if answer.tool_calls:
            message["tool_calls"] = answer.tool_calls
        logprobs = self.logprobs(answer.tokens) if answer.wanted.logprobs else None
        choice = {"index": index, "message": message, "logprobs": logprobs, "finish_reason": answer.finish_reason}
        return choice | self.extra(answer)

    def logprobs(self, tokens: list[dict[str, Any]]) -> dict[str, Any]:
        content = [_told(row) | {"top_logprobs": [_told(one) for one in row.get("alternatives", [])]} for row in tokens]
        return {"content": content, "refusal": None}

    def _delta(self, index: int, delta: dict[str, Any], logprobs: Any = None) -> dict[str, Any]:
        return self.envelope(
            self.chunk_kind, [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}]
        )


def _told(row: dict[str, Any]) -> dict[str, Any]:
    return {"token": row["token"], "logprob": row["logprob"], "bytes": list(row["token"].encode("utf-8", "replace"))}


def _by_token(row: dict[str, Any]) -> dict[str, float]:
    """Log-probabilities by text: of a text that several tokens have the chosen one's, else the most probable one's."""
    return {one["token"]: one["logprob"] for one in [*reversed(row.get("alternatives", [])), row]}
