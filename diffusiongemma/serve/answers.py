"""One answer as it comes from the engine: text without stop strings, thoughts, tool calls, what each token cost."""

from __future__ import annotations

from typing import Any

from diffusiongemma.events import CanvasCommitted, Finished, Result, TextDelta
from diffusiongemma.serve.job import Piece, ResponseOptions
from diffusiongemma.serve.token_texts import Texts
from diffusiongemma.serve.tool_calls import Call, calls_of
from diffusiongemma.text.stop_strings import StopFinder


class Answer:
    """Takes the events of one request, gives pieces; all of them together are the whole answer."""

    def __init__(self, options: ResponseOptions, texts: Texts):
        self.options, self._texts = options, texts
        self._stop, self._places = StopFinder(options.stops), texts.placed()
        self._tokens: list[dict[str, Any]] = []
        self.text, self.thinking = "", ""
        self.tokens: list[dict[str, Any]] = []  # `TokenDetail`, and for log-probabilities `bytes` and `offset`
        self.calls: list[Call] = []
        self.result: Result | None = None
        self.finish_reason: str | None = None

    @property
    def stopped(self) -> bool:
        """A stop string has come: the rest of the generation is not needed."""
        return self._stop.found

    @property
    def stop_string(self) -> str | None:
        return self._stop.match

    def take(self, event: Any) -> Piece:
        if isinstance(event, CanvasCommitted):
            self._tokens += self._described(event)
        elif isinstance(event, TextDelta):
            # Where a call must come, all the text is the call.
            text = "" if self.options.calls.forced else self._stop.push(event.text)
            return self._piece(text, event.thinking)
        elif isinstance(event, Finished):
            return self._finish(event.result)
        return Piece()

    def _described(self, event: CanvasCommitted) -> list[dict[str, Any]]:
        columns = zip(event.tokens, event.logprobs, event.entropies, event.settled, strict=True)
        names = ("id", "logprob", "entropy", "settled")
        rows: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in columns]
        for row, alternatives in zip(rows, event.alternatives, strict=False):
            row["alternatives"] = [{"token": self._texts.of(token), "logprob": p} for token, p in alternatives]
            row["alternative_ids"] = [token for token, _ in alternatives]
        if self.options.logprobs:
            self._add_bytes(rows)
        return [{"token": self._texts.of(row["id"]), **row} for row in rows if row["id"] not in self._texts.end_ids]

    def _add_bytes(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["bytes"], row["offset"] = self._places.of(row["id"])
            row["alternative_bytes"] = [self._texts.bytes_of(token) for token in row.get("alternative_ids", ())]

    def _piece(self, text: str, thinking: str) -> Piece:
        self.text += text
        self.thinking += thinking
        tokens = [] if self.stopped else self._tokens
        if self.stopped:
            tokens = self._up_to_stop()
        self._tokens = []
        self.tokens += tokens
        return Piece(text, thinking, tokens)

    def _up_to_stop(self) -> list[dict[str, Any]]:
        """The tokens that write what was kept of the text; more is not known to be wanted."""
        length, kept = sum(len(row["token"]) for row in self.tokens), []
        for row in self._tokens:
            if length >= len(self.thinking) + len(self.text):
                break
            kept.append(row)
            length += len(row["token"])
        return kept

    def _finish(self, result: Result) -> Piece:
        self.result = result
        piece = self._piece("" if self.stopped else self._stop.flush(), "")
        if not self.stopped:
            self.calls = calls_of(result, self.options.calls, self._texts)
        ended = "length" if result.finish_reason == "length" else "stop"
        self.finish_reason = "tool_calls" if self.calls else "stop" if self.stopped else ended
        return piece
