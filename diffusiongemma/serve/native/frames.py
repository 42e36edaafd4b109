"""Canvas events of the streaming protocol (docs/protocol.md): only what changed, in at most 6 KB for 256 tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from diffusiongemma.config import ModelConfig
from diffusiongemma.engine.request import Request
from diffusiongemma.events import CanvasCommitted, CanvasStep, Result
from diffusiongemma.serve.native.summary import summary
from diffusiongemma.serve.transport.sse import sse

VERSION = 1
BYTES_PER_POSITION = 24  # 6 KB for a canvas of 256
LEAST_LIMIT = 768
LEVELS = "0123456789abcdefghijklmnopqrstuvwxyz"
CUTS = (16, 8, 4, 2, 1, 0)  # characters left of a text in an event that would be too long
# A token's text longer than this is cut in every event: a vocabulary may hold runs of hundreds of spaces.
LONGEST_TEXT = 64

TextOf = Callable[[int], str]


class FrameEncoder:
    """Steps of one choice -> `canvas` events. Remembers what the reader has been told of the open canvas."""

    def __init__(self, text_of: TextOf, steps: int, choice: int = 0):
        self.text_of, self.steps, self.choice = text_of, steps, choice
        self._canvas = -1

    def __call__(self, step: CanvasStep) -> dict[str, Any]:
        first = step.canvas != self._canvas
        if first:
            self._canvas = step.canvas
            self._tokens = np.full(len(step.tokens), -1, np.int64)
            self._drafts = self._tokens.copy()
            self._accepted = np.zeros(len(step.tokens), bool)
        changed = np.flatnonzero(step.tokens != self._tokens)
        state = self._states(step)
        drafts = self._drafts_to_send(step, np.array([letter == "n" for letter in state]))
        event = {
            "v": VERSION,
            "n": self.choice,
            "canvas": step.canvas,
            "step": step.step,
            "width": len(step.tokens),
            "level": round(min(1.0, 1 - (step.step - 1) / self.steps), 4),
            "temperature": round(step.temperature, 4),
            "ms": round(step.seconds * 1e3, 2),
            "at": ranges(changed.tolist()),
            "tokens": [self.text_of(int(step.tokens[i])) for i in changed],
            "state": state,
            "entropy": "".join(entropy_letter(nats) for nats in step.entropy.tolist()),
            "drafts": {str(i): self.text_of(int(step.argmax[i])) for i in drafts},
        }
        self._tokens = step.tokens.astype(np.int64)
        self._accepted |= step.accepted
        event = _short_enough(event, changed.tolist())
        if "cut" in event:
            self._owe(event, step, changed)
        return event

    def noise(self, step: CanvasStep) -> dict[str, Any] | None:
        """What the first step of a canvas read, as a step 0 that nothing is known of; None for other steps."""
        if not len(step.read):
            return None
        held = step.pinned if len(step.pinned) else np.zeros(len(step.read), np.bool_)
        unsure = np.where(held, 0, np.inf).astype(np.float32)
        before = replace(
            step, step=step.step - 1, tokens=step.read, argmax=step.read, accepted=held, entropy=unsure, seconds=0.0
        )
        return self(before)

    def _owe(self, event: dict[str, Any], step: CanvasStep, changed: np.ndarray) -> None:
        """What was cut goes out in full with the next event, if it still stands then."""
        for i, text in zip(changed.tolist(), event["tokens"], strict=True):
            if text != self.text_of(int(step.tokens[i]))[:LONGEST_TEXT]:
                self._tokens[i] = -1
        for position, text in event["drafts"].items():
            if text != self.text_of(int(step.argmax[int(position)]))[:LONGEST_TEXT]:
                self._drafts[int(position)] = -1

    def _states(self, step: CanvasStep) -> str:
        letters: Any = np.where(step.accepted, np.where(self._accepted, "d", "a"), "n")
        if len(step.pinned):
            letters = np.where(step.pinned, "p", letters)
        letters[: step.sent] = "s"
        return "".join(letters.tolist())

    def _drafts_to_send(self, step: CanvasStep, noise: np.ndarray) -> list[int]:
        """Where the reader would otherwise have another draft: see the rule in the protocol."""
        argmax = step.argmax.astype(np.int64)
        expected = np.where(noise, self._drafts, step.tokens)
        self._drafts = argmax
        return np.flatnonzero(argmax != expected).tolist()


def entropy_letter(nats: float) -> str:
    """A level 0-9a-z: 0 is certain, z 7 nats and more."""
    return LEVELS[min(35, max(0, round(6 * math.log2(1 + 8 * min(nats, 7.0)))))]


def ranges(positions: list[int]) -> str:
    """[0, 1, 2, 5] -> "0-2,5"."""
    parts: list[str] = []
    start = end = -2
    for position in [*positions, None]:
        if position is not None and position == end + 1:
            end = position
            continue
        if start >= 0:
            parts.append(f"{start}-{end}" if end > start else f"{start}")
        start = end = -2 if position is None else position
    return ",".join(parts)


def start_event(
    request: Request, request_id: str, model_name: str, model: ModelConfig, text_of: TextOf
) -> dict[str, Any]:
    config = request.config
    return {
        "v": VERSION,
        "request": request_id,
        "model": model_name,
        "mode": config.mode,
        "seed": config.seed,
        "canvas_length": model.canvas_length,
        "steps": config.steps,
        "vocab_size": model.vocab_size,
        "prompt_tokens": len(request.prompt.ids),
        "end_tokens": [text_of(token) for token in config.eos_token_ids if token < model.vocab_size],
    }


def commit_event(committed: CanvasCommitted, text_of: TextOf, choice: int = 0) -> dict[str, Any]:
    event = {
        "v": VERSION,
        "n": choice,
        "canvas": committed.canvas,
        "tokens": [text_of(token) for token in committed.tokens],
        "steps": committed.steps,
        "converged": committed.converged,
        "logprobs": [round(x, 4) for x in committed.logprobs],
        "entropies": [round(x, 4) for x in committed.entropies],
        "settled": list(committed.settled),
    }
    if committed.written:
        event["written"] = committed.written
    if committed.alternatives:
        event["alternatives"] = [[[text_of(t), round(p, 4)] for t, p in row] for row in committed.alternatives]
    return event


def done_event(result: Result, finish_reason: str, choice: int = 0) -> dict[str, Any]:
    return {"v": VERSION, "n": choice, **summary(result).model_dump(exclude_unset=True), "finish_reason": finish_reason}


def _short_enough(event: dict[str, Any], changed: list[int]) -> dict[str, Any]:
    """Texts cut until the event is within its limit: those of noise first, then the drafts behind it, then all."""
    limit = max(LEAST_LIMIT, BYTES_PER_POSITION * event["width"])
    noise = {i for i, letter in enumerate(event["state"]) if letter == "n"}
    event["tokens"] = [text[:LONGEST_TEXT] for text in event["tokens"]]
    event["drafts"] = {i: text[:LONGEST_TEXT] for i, text in event["drafts"].items()}
    if _size(event) <= limit:
        return event
    everything = range(event["width"])
    for tokens, drafts in ((noise, ()), (noise, noise), (everything, everything)):
        for most in CUTS:
            event["cut"] = most
            event["tokens"] = _cut(zip(changed, event["tokens"], strict=True), tokens, most)
            event["drafts"] = dict(zip(event["drafts"], _cut(_numbered(event["drafts"]), drafts, most), strict=True))
            if _size(event) <= limit:
                return event
    return event


def _numbered(drafts: dict[str, str]) -> Iterable[tuple[int, str]]:
    return [(int(position), text) for position, text in drafts.items()]


def _cut(texts: Iterable[tuple[int, str]], which: Any, most: int) -> list[str]:
    return [text[:most] if position in which else text for position, text in texts]


def _size(event: dict[str, Any]) -> int:
    return len(sse(event, "canvas"))
