"""One request on its way: tokens waiting to be encoded, then a canvas, then the next."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffusiongemma.chat import Prompt, ReplyStream
from diffusiongemma.diffusion.denoise import Canvas, Decoding
from diffusiongemma.diffusion.noise import SAMPLE, Noise
from diffusiongemma.diffusion.readout import Prediction, Reader
from diffusiongemma.engine.draft import Draft
from diffusiongemma.engine.holds import Holds
from diffusiongemma.engine.request import Request
from diffusiongemma.events import Alternatives, CanvasCommitted, CanvasStep, Event, Finished, Result, TextDelta
from diffusiongemma.model.model import ENCODE_CHUNK, Model

IMPOSSIBLE = -1e3  # the log-probability of a token that is left out, or nearly so
Span = tuple[int, int]
Chunk = tuple[Tensor, list[Span]]  # embeddings [T, D] and the image spans among them


class Generation:
    """The state of one request. The engine asks for work (`chunk`, `canvas`) and hands back its outcome."""

    def __init__(self, request: Request, model: Model, tokenizer: Any):
        self.request, self.model, self.config = request, model, request.config
        self.sequence = request.cache or model.new_sequence()
        self.cached = self.sequence.length
        self.decoding = Decoding.of(request.config)
        early = request.config.early_steps > 0
        self.reply = ReplyStream(tokenizer, request.thinking, binding=early) if tokenizer is not None else None
        # Where the answer stands in what it must match, and the same for the canvas that is open.
        self.constrained = request.begin_constraint()
        self.holds = Holds.of(request)
        self.canvas: Canvas | None = None
        self.early = 0  # tokens of the open canvas whose text has gone out
        self.draft: Draft | None = None  # a finished canvas that the encoder checks
        self.behind: Tensor | None = None  # [D], what the encoder predicts from behind all that is encoded
        self.tokens: list[int] = []
        self.columns: dict[str, list[float]] = {"logprobs": [], "entropies": [], "settled": []}
        self.alternatives: list[Alternatives] = []
        self.steps: list[int] = []
        self.trace: list[CanvasStep] = []
        self.forward_passes = 0
        self.finish_reason: str | None = None
        self.started = time.perf_counter()
        self._chunks = deque(_prompt_chunks(model, request, self.cached))

    # Encoding: the prompt in chunks, later each committed canvas or token.

    def chunk(self) -> Chunk | None:
        """What to encode next; None when nothing waits."""
        return self._chunks.popleft()() if self._chunks else None

    @property
    def waiting(self) -> bool:
        """Whether there is more to encode."""
        return bool(self._chunks)

    @property
    def autoregressive(self) -> bool:
        """Whether the next token is written behind those that are encoded."""
        return self.config.mode == "ar" if self.draft is None else self.draft.left

    @property
    def wants_canvas(self) -> bool:
        """Whether all is encoded and a canvas is to follow."""
        return not (self.waiting or self.autoregressive or self.draft) and self.finish_reason is None

    def _encode_next(self, tokens: list[int]) -> None:
        ids = torch.tensor(tokens, device=self.model.device)
        self._chunks.append(lambda: (self.model.backbone.embed(ids), []))
        self.forward_passes += 1

    # Diffusion.

    def open_canvas(self) -> Canvas:
        index, branch = len(self.steps), self.request.branch
        noise = Noise(self.config.seed, index) if branch is None else branch.noise(self.config.seed, index)
        decoding = self.decoding if branch is None else branch.decoding(self.decoding, index)
        config, offset = self.model.config, len(self.tokens)
        reader = self.reader(config.canvas_length)
        width = config.canvas_length if reader is None else getattr(reader, "positions", config.canvas_length)
        pins = self.holds.canvas_pins(offset, width, self.model.device)
        canvas = Canvas.open(self.sequence, width, config.vocab_size, noise, decoding, self.model.device, pins)
        self.holds.begin(canvas, offset, config.vocab_size)
        canvas.shown = self.request.record or self.request.frames
        canvas.reader, canvas.pinnable = reader, getattr(reader, "pinnable", len)
        self.canvas, self.early = canvas, 0
        return canvas

    def reader(self, positions: int) -> Reader | None:
        """How the next `positions` tokens, or fewer where a constraint's limit is near, are read."""
        frozen: list[int] = []
        if self.canvas is not None and self.canvas.pins is not None:
            frozen = self.canvas.pins.tokens[: self.canvas.frozen].tolist()
        return self.holds.reader(self.constrained, len(self.tokens), positions, self.model.device, tuple(frozen))

    @property
    def forced(self) -> int | None:
        """The token that the next position is pinned to."""
        return self.holds.pins.get(len(self.tokens))

    def take_step(self, event: CanvasStep) -> Iterator[Event]:
        """Account for a denoise step; commits the canvas when it is done."""
        assert self.canvas is not None
        self.forward_passes += 1
        canvas, before = self.canvas, self.early
        self.early = max(self.early, len(self._until_end(canvas)))
        event = replace(event, request=self.request.id, sent=self.early)
        if self.request.record:
            self.trace.append(event)
        yield event
        if canvas.done and self._to_be_checked(canvas):
            yield from self._emit(self._until_end(canvas)[before:])  # the event tells that it is sent: it stands
            self._verify(canvas)
        elif canvas.done:
            self.early = before
            yield from self._commit(canvas)
        elif self.early > before:
            yield from self._emit(self._until_end(canvas)[before:])
            canvas.reader = self.reader(len(canvas.tokens)) if self.constrained is not None else canvas.reader

    def _until_end(self, canvas: Canvas) -> list[int]:
        """The tokens of the canvas that are pinned as early text, as far as they are within the limit."""
        if not canvas.frozen or canvas.pins is None:
            return []
        return canvas.pins.tokens[: min(canvas.frozen, self.config.max_new_tokens - len(self.tokens))].tolist()

    def _commit(self, canvas: Canvas, encoded: bool = False) -> Iterator[Event]:
        """Make what a canvas says part of the answer, to be encoded unless it is."""
        assert canvas.prediction is not None and canvas.settled is not None
        assert canvas.logprob is not None and canvas.entropy is not None
        self.canvas = self.draft = None
        steps = canvas.step - canvas.entered
        self.steps.append(steps)
        kept = self._keep(canvas.prediction.argmax.tolist())
        for name, column in (
            ("logprobs", canvas.logprob),
            ("entropies", canvas.entropy),
            ("settled", canvas.settled),
        ):
            self.columns[name] += column[: len(kept)].tolist()
        self._tell(canvas.top, canvas.top_logprob, len(kept))
        yield self._committed(canvas.noise.canvas, kept, steps, canvas.converged)
        yield from self._emit(kept[self.early :])
        if self.finish_reason is None and not encoded:
            self._encode_next(kept)

    # Verification.

    def _to_be_checked(self, canvas: Canvas) -> bool:
        verify = self.config.verify
        return verify == "always" or (verify == "unconverged" and not canvas.converged)

    def _verify(self, canvas: Canvas) -> None:
        """Let the encoder read what the canvas says."""
        assert canvas.prediction is not None and self.behind is not None
        tokens, _ = self._until_stop(canvas.prediction.argmax.tolist())
        self.canvas, self.draft = None, Draft(canvas, tokens, self.behind, len(self.tokens))
        self._encode_next(tokens)

    def take_draft(self) -> Iterator[Event]:
        """The draft stands as it is."""
        assert self.draft is not None
        yield from self._commit(self.draft.canvas, encoded=True)

    def take_checked(self, token: int, prediction: Prediction | None) -> Iterator[Event]:
        """The encoder's word on the next token of the draft, as `take_token`."""
        draft = self.draft
        assert draft is not None and draft.canvas.settled is not None
        place, canvas = len(self.tokens) - draft.first, draft.canvas
        kept = self._write(token, prediction, canvas.step if draft.left else int(draft.canvas.settled[place]))
        if not draft.left and token == draft.tokens[place]:
            draft.agreed += 1
        elif not draft.left:
            draft.left = True
            self.sequence.forget(len(draft.tokens) - draft.agreed)
        complete = self.finish_reason is not None or draft.is_full_at(len(self.tokens))
        if complete:
            said, steps = self.tokens[draft.first :], canvas.step - canvas.entered
            self.steps.append(steps)
            event = self._committed(canvas.noise.canvas, said, steps, canvas.converged)
            yield replace(event, written=len(said) - draft.agreed)
        yield from self._emit(kept if place >= self.early else [])
        if self.finish_reason is None and draft.left:
            self._encode_next(kept)
        if complete:
            self.draft = None

    # Autoregressive decoding.

    def uniform(self, ahead: int = 0) -> Tensor:
        """The random number of the next token, [1], or of one so many tokens `ahead`."""
        return Noise(self.config.seed, 0).uniforms(len(self.tokens) + 1 + ahead, SAMPLE, 1)

    def take_token(self, token: int, prediction: Prediction | None) -> Iterator[Event]:
        """The next token, and the prediction [1] it is from; None where it was forced."""
        if self.draft is not None:
            yield from self.take_checked(token, prediction)
            return
        index = len(self.tokens)
        if index == 0:
            self.forward_passes += 1  # the prompt's last pass gave the first token
        kept = self._write(token, prediction, 1)
        yield self._committed(index, kept, 1, True)
        yield from self._emit(kept)
        if self.finish_reason is None:
            self._encode_next(kept)

    def _write(self, token: int, prediction: Prediction | None, settled: int) -> list[int]:
        """Note one token of the answer and what it is from -> the token, or none behind the limit."""
        logprob = entropy = 0.0
        if prediction is not None:
            logprob, entropy = float(prediction.sampled_logprob), float(prediction.entropy)
            self._tell(prediction.top, prediction.top_logprob, 1)
        elif self.config.top_logprobs:
            self.alternatives.append(((token, 0.0),))
        for name, value in (("logprobs", logprob), ("entropies", entropy), ("settled", settled)):
            self.columns[name].append(value)
        return self._keep([token])

    # The end.

    def _tell(self, top: Tensor | None, logprob: Tensor | None, count: int) -> None:
        """Note the alternatives [C, k] of the next `count` tokens, without those that are impossible."""
        if (most := self.config.top_logprobs) and top is not None and logprob is not None:
            rows = zip(top[:count, :most].tolist(), logprob[:count, :most].tolist(), strict=True)
            self.alternatives += [tuple((t, p) for t, p in zip(*row, strict=True) if p > IMPOSSIBLE) for row in rows]

    def _committed(self, canvas: int, kept: list[int], steps: int, converged: bool) -> CanvasCommitted:
        first = len(self.tokens) - len(kept)
        logprobs, entropies, settled = (self.columns[name][first:] for name in ("logprobs", "entropies", "settled"))
        columns = tuple(logprobs), tuple(entropies), tuple(map(int, settled)), tuple(self.alternatives[first:])
        return CanvasCommitted(canvas, tuple(kept), steps, converged, self.request.id, *columns)

    def _keep(self, tokens: list[int]) -> list[int]:
        """Tokens up to the first stop token or the limit, which are part of the answer now; sets the finish reason."""
        tokens, self.finish_reason = self._until_stop(tokens)
        self.tokens += tokens
        if self.constrained is not None:
            self.constrained = self.constrained.after(tokens)
        return tokens

    def _until_stop(self, tokens: list[int]) -> tuple[list[int], str | None]:
        """Tokens up to the first stop token or the limit, and the reason if the answer ends there."""
        stop = next((i for i, t in enumerate(tokens) if t in self.config.eos_token_ids), None)
        room = self.config.max_new_tokens - len(self.tokens)
        if stop is not None and stop < room:
            return tokens[: stop + 1], "stop"
        return tokens[:room], "length" if len(tokens) >= room else None

    def _emit(self, tokens: list[int]) -> Iterator[Event]:
        if self.reply is not None:
            deltas = [self.reply.push(tokens)] + ([self.reply.finish()] if self.finish_reason else [])
            for delta in deltas:
                if delta.text or delta.thinking:
                    yield TextDelta(delta.text, delta.thinking, self.request.id)
        if self.finish_reason is not None:
            yield Finished(self.result(self.finish_reason), self.request.id)

    def result(self, finish_reason: str) -> Result:
        """What there is so far, as a result."""
        reply = None
        if self.reply is not None:
            if self.finish_reason is None:
                self.reply.finish()
            reply = self.reply.reply
        return Result(
            text=reply.text if reply else "",
            thinking=reply.thinking if reply else None,
            tool_calls=reply.tool_calls if reply else (),
            tokens=tuple(self.tokens),
            finish_reason=finish_reason,
            mode=self.config.mode,
            seed=self.config.seed,
            canvases=len(self.steps),
            steps=tuple(self.steps),
            forward_passes=self.forward_passes,
            seconds=time.perf_counter() - self.started,
            logprobs=tuple(self.columns["logprobs"]),
            entropies=tuple(self.columns["entropies"]),
            settled=tuple(int(step) for step in self.columns["settled"]),
            alternatives=tuple(self.alternatives),
            prompt_tokens=len(self.request.prompt.ids),
            cached_tokens=self.cached,
            note=self.request.note,
            trace=tuple(self.trace),
        )


def _prompt_chunks(model: Model, request: Request, cached: int) -> Iterator[Callable[[], Chunk]]:
    """The prompt behind its `cached` first tokens, as chunks that are embedded when their turn comes."""
    prompt = request.prompt
    for start, end in request.chunks or chunk_bounds(cached, len(prompt.ids), prompt.image_spans):
        yield partial(_embed, model, prompt, start, end)


def _embed(model: Model, prompt: Prompt, start: int, end: int) -> Chunk:
    x = model.backbone.embed(torch.tensor(prompt.ids[start:end], device=model.device))
    spans = []
    for (first, last), image in zip(prompt.image_spans, prompt.images, strict=True):
        if start <= first and last <= end:
            x[first - start : last - start] = model.image_features(image.pixels, image.positions).to(x.dtype)
            spans.append((first - start, last - start))
    return x, spans


def chunk_bounds(start: int, length: int, spans: list[Span], size: int = ENCODE_CHUNK) -> Iterator[Span]:
    """Cut `start .. length` into chunks of about `size` that divide no image."""
    while start < length:
        end = min(start + size, length)
        for first, last in spans:
            if first < end < last:
                end = first if first > start else last
        yield start, end
        start = end
