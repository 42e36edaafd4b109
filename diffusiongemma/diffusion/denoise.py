"""The inner loop: canvases from random tokens to committed text."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.noise import CORRUPT, INITIAL, SAMPLE, Noise, corrupt
from diffusiongemma.diffusion.pins import Pins, at, noise_at
from diffusiongemma.diffusion.readout import OWN, Prediction, Reader, Unread, read_each
from diffusiongemma.diffusion.samplers import StepContext
from diffusiongemma.events import CanvasStep


@dataclass
class Canvas:
    """One canvas and its progress. `sequence` is the cache of everything before it."""

    sequence: Any
    tokens: Tensor  # [C]
    noise: Noise
    decoding: Decoding
    step: int = 0
    done: bool = False
    converged: bool = False
    prediction: Prediction | None = None
    argmaxes: list[Tensor] = field(default_factory=list)
    settled: Tensor | None = None  # [C] step since which the argmax has not changed
    logprob: Tensor | None = None  # [C] of the argmax, where it was pinned as early text as it was then
    entropy: Tensor | None = None  # [C] likewise
    top: Tensor | None = None  # [C, k] likewise
    top_logprob: Tensor | None = None  # [C, k] likewise
    reader: Reader = OWN
    shown: bool = False  # somebody looks at the argmax of every step: it is to be what a commit would write
    pins: Pins | None = None
    frozen: int = 0  # leading positions pinned as early text
    entered: int = 0  # steps of the schedule that were skipped at the start

    @classmethod
    def open(
        cls,
        sequence: Any,
        width: int,
        vocab_size: int,
        noise: Noise,
        decoding: Decoding,
        device: Any,
        pins: Pins | None = None,
    ) -> Canvas:
        """A canvas of random tokens, with the pinned ones in their places."""
        tokens = noise.tokens(0, INITIAL, width, vocab_size).to(device)
        return cls(sequence, tokens if pins is None else pins.on(tokens), noise, decoding, pins=pins)

    def start_from(self, tokens: Tensor, strength: float, vocab_size: int) -> None:
        """Begin with these tokens [n], each replaced by a random one with probability `strength`, at the step of the
        schedule that has this noise level."""
        n, device = len(tokens), self.tokens.device
        uniforms, fresh = self.noise.uniforms(0, CORRUPT, n), self.noise.tokens(0, INITIAL, n, vocab_size)
        level = torch.tensor([strength], dtype=uniforms.dtype)
        self.tokens[:n] = corrupt(tokens.cpu()[None], level, uniforms[None], fresh[None])[0].to(device)
        self.tokens = self.tokens if self.pins is None else self.pins.on(self.tokens)
        self.step = self.entered = self.decoding.entry(strength)

    @property
    def soft(self) -> Tensor | None:
        return self.prediction.soft if self.prediction is not None else None

    @property
    def temperature(self) -> float:
        """Of the step to come."""
        return self.decoding.temperature(1 - self.step / self.decoding.steps)

    def advance(self, prediction: Prediction, vocab_size: int) -> Tensor:
        """Take in a step's prediction -> which positions were accepted [C]."""
        self.step += 1
        self.tokens, accepted = self._sample(prediction, vocab_size)
        changed = torch.ones_like(accepted) if not self.argmaxes else prediction.argmax != self.argmaxes[-1]
        self.settled = torch.where(changed, self.step, self.settled if self.settled is not None else self.step)
        self.argmaxes.append(prediction.argmax)
        self.converged = self._converged(prediction)
        self.done = self.converged or self.step == self.decoding.steps or self._stalled()
        self.prediction = prediction = self._answer(prediction)
        for name in ("logprob", "entropy", "top", "top_logprob"):
            setattr(self, name, self._remembered(getattr(self, name), getattr(prediction, name)))
        self.converged = self.converged or self._freeze(prediction)
        self.done = self.converged or self.done
        return accepted

    def _answer(self, prediction: Prediction) -> Prediction:
        """The prediction with what would be committed as its argmax, where that is needed and another than its own."""
        needed = self.done or self.shown or self.decoding.early is not None
        return self.reader.answer(prediction) if needed else prediction

    def _sample(self, prediction: Prediction, vocab_size: int) -> tuple[Tensor, Tensor]:
        """The next canvas and the accepted positions. Pinned positions are kept from the sampler: it counts, ranks and
        renoises the free ones as if they were the whole canvas."""
        context = StepContext(self.noise, self.step, self.decoding.steps, vocab_size)
        if self.pins is None:
            return self.decoding.sampler(self.tokens, prediction, context)
        free, tokens, accepted = self.pins.free, self.tokens.clone(), self.pins.held.clone()
        if len(free):
            context = replace(context, noise=noise_at(self.noise, free))
            tokens[free], accepted[free] = self.decoding.sampler(self.tokens[free], at(prediction, free), context)
        return tokens, accepted

    def _remembered(self, before: Tensor | None, now: Tensor) -> Tensor:
        return now if before is None or not self.frozen else torch.cat([before[: self.frozen], now[self.frozen :]])

    def _converged(self, prediction: Prediction) -> bool:
        """The stop rule's word on the free positions: pinned ones are certain, and would vouch for the others."""
        if self.pins is None:
            return bool(self.decoding.stop(self.argmaxes, prediction.entropy))
        free = self.pins.free
        if not len(free):
            return True
        return bool(self.decoding.stop([argmax[free] for argmax in self.argmaxes], prediction.entropy[free]))

    def _stalled(self) -> bool:
        """Whether the argmax of the free positions has not changed for as long as there is patience."""
        patience, settled = self.decoding.patience, self.settled
        if not patience or settled is None:
            return False
        free = slice(None) if self.pins is None else self.pins.free
        return bool((settled[free] <= self.step - patience).all())

    def _freeze(self, prediction: Prediction) -> bool:
        """Pin the stable prefix, if early text is wanted -> whether an end token is in it, which ends the canvas."""
        stable = self._stable(prediction)
        if stable <= self.frozen:
            return False
        prefix = prediction.argmax[:stable].tolist()
        prefix = prefix[: self.reader.pinnable(prefix)]
        if len(prefix) <= self.frozen:
            return False
        pins = self.pins or Pins.of({}, len(self.tokens), self.tokens.device)
        self.pins, self.frozen = pins.with_prefix(prefix), len(prefix)
        self.tokens = self.pins.on(self.tokens)
        return any(token in self.decoding.eos_token_ids for token in prefix)

    def _stable(self, prediction: Prediction) -> int:
        """How many leading positions have kept their argmax for as many steps as early text asks for, and are sure."""
        early = self.decoding.early
        if early is None or len(self.argmaxes) <= early.steps:
            return 0
        sure = prediction.entropy < early.entropy
        for earlier in self.argmaxes[-1 - early.steps : -1]:
            sure &= earlier == prediction.argmax
        return int(sure.long().cumprod(0).sum())


@dataclass
class Predicted:
    """What one pass says of a canvas, of which nothing has changed yet."""

    canvas: Canvas
    prediction: Prediction
    vocab_size: int
    started: float  # by `time.perf_counter`, when the pass began

    def taken(self) -> CanvasStep:
        """Go on with the canvas."""
        canvas, tokens, temperature = self.canvas, self.canvas.tokens, self.canvas.temperature
        accepted = canvas.advance(self.prediction, self.vocab_size)
        return _event(canvas, tokens, accepted, temperature, time.perf_counter() - self.started)


@torch.no_grad()
def predict(model: Any, canvases: list[Canvas]) -> list[Predicted]:
    """One decoder pass over all canvases, each at its own step, width and rules."""
    started = time.perf_counter()
    sequences, tokens = [c.sequence for c in canvases], [c.tokens for c in canvases]
    hidden = model.denoise_rows(sequences, tokens, [c.soft for c in canvases])
    parts = _read(model.backbone, canvases, hidden)
    parts = [p if c.pins is None else c.pins.hold(p, model.backbone) for c, p in zip(canvases, parts, strict=True)]
    return [Predicted(c, p, model.config.vocab_size, started) for c, p in zip(canvases, parts, strict=True)]


def denoise_step(model: Any, canvases: list[Canvas]) -> list[CanvasStep]:
    """One step of all canvases."""
    return [predicted.taken() for predicted in predict(model, canvases)]


def _read(head: Any, canvases: list[Canvas], hidden: Tensor) -> list[Prediction]:
    """Each canvas's predictions."""
    widths = [len(canvas.tokens) for canvas in canvases]
    unread = []
    for canvas, piece in zip(canvases, hidden.split(widths), strict=True):
        uniforms, rules = canvas.noise.uniforms(canvas.step + 1, SAMPLE, len(piece)), canvas.decoding
        greedy, top = rules.temperature.greedy, rules.reading.top_logprobs
        unread.append(Unread(piece, uniforms, canvas.temperature, greedy, canvas.reader, top))
    return read_each(head, unread)


def denoise(model: Any, canvas: Canvas) -> list[CanvasStep]:
    """Denoise one canvas to the end."""
    events = []
    while not canvas.done:
        events += denoise_step(model, [canvas])
    return events


def _event(canvas: Canvas, read: Tensor, accepted: Tensor, temperature: float, seconds: float) -> CanvasStep:
    prediction = canvas.prediction
    assert prediction is not None
    return CanvasStep(
        canvas=canvas.noise.canvas,
        step=canvas.step,
        tokens=_array(canvas.tokens, np.int32),
        argmax=_array(prediction.argmax, np.int32),
        accepted=_array(accepted, np.bool_),
        entropy=_array(prediction.entropy, np.float32),
        temperature=temperature,
        seconds=seconds,
        read=_array(read, np.int32) if canvas.step == 1 + canvas.entered else np.zeros(0, np.int32),
        pinned=np.zeros(0, np.bool_) if canvas.pins is None else _array(canvas.pins.held, np.bool_),
    )


def _array(tensor: Tensor, dtype: Any) -> np.ndarray:
    return tensor.cpu().numpy().astype(dtype)
