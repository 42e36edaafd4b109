"""What a request has come to so far: its tokens, what they were drawn from, their text, and the events of it all."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from diffusiongemma.chat import ReplyStream
from diffusiongemma.control.inference.labels import LabelReader
from diffusiongemma.diffusion.denoise import Canvas
from diffusiongemma.diffusion.readout import Prediction
from diffusiongemma.engine.request import Request
from diffusiongemma.events import Alternatives, CanvasCommitted, CanvasStep, Event, Finished, Result, TextDelta
from diffusiongemma.text.stop_strings import StopFinder

IMPOSSIBLE = -1e3  # the log-probability of a token that is left out, or nearly so


class Output:
    """Tokens are added, then committed (an event), then sent (their text). The last of them finish the request."""

    def __init__(self, request: Request, tokenizer: Any, cached_tokens: int):
        self.request, self.config, self.cached_tokens = request, request.config, cached_tokens
        early = self.config.early is not None
        self.reply = ReplyStream(tokenizer, request.thinking, binding=early) if tokenizer is not None else None
        self.stop, self._before_stop = StopFinder(request.stops), ""
        self.constrained = request.constraint  # where the answer stands in what it must match
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.entropies: list[float] = []
        self.settled: list[int] = []
        self.alternatives: list[Alternatives] = []
        self.label_logprobs: tuple[float, ...] = ()
        self.steps: list[int] = []
        self.converged: list[bool] = []
        self.checked = self.written_by_encoder = 0
        self.trace: list[CanvasStep] = []
        self.forward_passes = 0
        self.finish_reason: str | None = None
        self.started = time.perf_counter()
        self._events: list[Event] = []

    def take_events(self) -> list[Event]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    def saw_step(self, step: CanvasStep) -> None:
        self.forward_passes += 1
        self._events.append(step)
        if self.request.record:
            self.trace.append(step)

    # Tokens.

    def add_canvas(self, canvas: Canvas) -> list[int]:
        """Make what a canvas says part of the answer -> its tokens up to the end."""
        assert canvas.prediction is not None and canvas.settled is not None
        assert canvas.logprob is not None and canvas.entropy is not None
        kept = self._keep(canvas.prediction.argmax.tolist())
        self.logprobs += canvas.logprob[: len(kept)].tolist()
        self.entropies += canvas.entropy[: len(kept)].tolist()
        self.settled += canvas.settled[: len(kept)].tolist()
        self._add_alternatives(canvas.top, canvas.top_logprob, len(kept))
        if isinstance(canvas.reader, LabelReader):
            self.label_logprobs = canvas.reader.log_probabilities
        self.commit_canvas(canvas, len(kept))
        return kept

    def add_token(self, prediction: Prediction, settled: int) -> int:
        """Make the token that a prediction [1] has drawn part of the answer."""
        token = int(prediction.sampled[0])
        self.logprobs.append(float(prediction.sampled_logprob))
        self.entropies.append(float(prediction.entropy))
        self.settled.append(settled)
        self._add_alternatives(prediction.top, prediction.top_logprob, 1)
        self._keep([token])
        return token

    def until_end(self, tokens: list[int]) -> tuple[list[int], str | None]:
        """Tokens up to the first stop token or the limit, and the finish reason if the answer ends there."""
        stop = next((i for i, t in enumerate(tokens) if t in self.config.eos_token_ids), None)
        room = self.config.max_new_tokens - len(self.tokens)
        if stop is not None and stop < room:
            return tokens[: stop + 1], "stop"
        return tokens[:room], "length" if len(tokens) >= room else None

    def _keep(self, tokens: list[int]) -> list[int]:
        tokens, self.finish_reason = self.until_end(tokens)
        self.tokens += tokens
        if self.constrained is not None:
            self.constrained = self.constrained.after(tokens)
            if self.finished and self.request.has_form and self.constrained.may_end:
                self.finish_reason = "stop"  # the form is complete, with the last token that there was room for
        return tokens

    def _add_alternatives(self, top: Tensor | None, logprob: Tensor | None, count: int) -> None:
        """Of the next `count` tokens, from [C, k], without those that are impossible."""
        if (most := self.config.reading.top_logprobs) and top is not None and logprob is not None:
            rows = zip(top[:count, :most].tolist(), logprob[:count, :most].tolist(), strict=True)
            self.alternatives += [tuple((t, p) for t, p in zip(*row, strict=True) if p > IMPOSSIBLE) for row in rows]

    # Events.

    def commit_canvas(self, canvas: Canvas, count: int, written: int = 0) -> None:
        """The last `count` tokens are a canvas; of them the encoder has `written` the last."""
        steps = canvas.step - canvas.entered
        self.steps.append(steps)
        self.converged.append(canvas.converged)
        self.written_by_encoder += written
        self._commit(canvas.noise.canvas, count, steps, canvas.converged, written)

    def commit_token(self) -> None:
        """The last token was written on its own."""
        self._commit(len(self.tokens) - 1, 1, 1, True)

    def _commit(self, canvas: int, count: int, steps: int, converged: bool, written: int = 0) -> None:
        last = slice(len(self.tokens) - count, None)
        event = CanvasCommitted(
            canvas,
            tuple(self.tokens[last]),
            steps,
            converged,
            self.request.id,
            tuple(self.logprobs[last]),
            tuple(self.entropies[last]),
            tuple(self.settled[last]),
            tuple(self.alternatives[last]),
            written,
        )
        self._events.append(event)

    def send(self, tokens: list[int]) -> None:
        """Tell the text of these tokens, and the result with the last of them. Behind a stop text nothing is told."""
        if self.stop.found:
            return
        if self.reply is not None:
            for delta in [self.reply.push(tokens)] + ([self.reply.finish()] if self.finished else []):
                self._tell(self.stop.push(delta.text), delta.thinking)
            if self.stop.found:
                self.finish_reason = "stop"
            elif self.finished:
                self._tell(self.stop.flush(), "")
        if self.finish_reason is not None:
            self._events.append(Finished(self.result(self.finish_reason), self.request.id))

    def _tell(self, text: str, thinking: str) -> None:
        self._before_stop += text
        if text or thinking:
            self._events.append(TextDelta(text, thinking, self.request.id))

    def result(self, finish_reason: str) -> Result:
        """What there is so far, as a result."""
        reply = None
        if self.reply is not None:
            if self.reply.reply is None:
                self.reply.finish()
            reply = self.reply.reply
        whole = reply.text if reply else ""
        return Result(
            text=self._before_stop if self.stop.found else whole,
            thinking=reply.thinking if reply else None,
            warnings=() if self.constrained is None else self.constrained.warnings,
            tool_calls=reply.tool_calls if reply else (),
            tokens=tuple(self.tokens),
            finish_reason=finish_reason,
            mode=self.config.mode,
            seed=self.config.seed,
            canvases=len(self.steps),
            steps=tuple(self.steps),
            converged=tuple(self.converged),
            checked=self.checked,
            written_by_encoder=self.written_by_encoder,
            forward_passes=self.forward_passes,
            seconds=time.perf_counter() - self.started,
            logprobs=tuple(self.logprobs),
            entropies=tuple(self.entropies),
            settled=tuple(self.settled),
            alternatives=tuple(self.alternatives),
            label_logprobs=self.label_logprobs,
            prompt_tokens=len(self.request.prompt.ids),
            cached_tokens=self.cached_tokens,
            note=self.request.note,
            trace=tuple(self.trace),
        )
