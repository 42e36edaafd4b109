"""The inner loop: canvases from random tokens to committed text."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusiongemma.config import GenerationConfig
from diffusiongemma.diffusion.noise import INITIAL, SAMPLE, Noise
from diffusiongemma.diffusion.readout import Prediction, Reader, read
from diffusiongemma.diffusion.samplers import EntropyBound, Sampler, StepContext
from diffusiongemma.diffusion.stop import StableAndConfident, StopRule
from diffusiongemma.diffusion.temperature import LinearTemperature
from diffusiongemma.diffusion.trace import CanvasStep


@dataclass(frozen=True)
class Decoding:
    """The rules by which one canvas is denoised."""

    steps: int = 48
    temperature: LinearTemperature = field(default_factory=LinearTemperature)
    sampler: Sampler = field(default_factory=EntropyBound)
    stop: StopRule = field(default_factory=StableAndConfident)
    greedy: bool = False  # take the argmax where the sampler would draw

    @classmethod
    def of(cls, config: GenerationConfig) -> Decoding:
        greedy = config.temperature == 0
        scale = 1.0 if config.temperature is None or greedy else config.temperature
        return cls(
            config.steps,
            LinearTemperature(config.t_min, config.t_max, scale),
            config.sampler or EntropyBound(config.entropy_bound),
            config.stop_rule or StableAndConfident(config.stability_threshold, config.confidence_threshold),
            greedy,
        )


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
    reader: Reader | None = None  # None reads the model's own distribution

    @classmethod
    def open(cls, sequence: Any, width: int, vocab_size: int, noise: Noise, decoding: Decoding, device: Any) -> Canvas:
        return cls(sequence, noise.tokens(0, INITIAL, width, vocab_size).to(device), noise, decoding)

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
        context = StepContext(self.noise, self.step, self.decoding.steps, vocab_size)
        self.tokens, accepted = self.decoding.sampler(self.tokens, prediction, context)
        changed = torch.ones_like(accepted) if self.prediction is None else prediction.argmax != self.prediction.argmax
        self.settled = torch.where(changed, self.step, self.settled if self.settled is not None else self.step)
        self.prediction = prediction
        self.argmaxes.append(prediction.argmax)
        self.converged = self.decoding.stop(self.argmaxes, prediction.entropy)
        self.done = self.converged or self.step == self.decoding.steps
        return accepted


@torch.no_grad()
def denoise_step(model: Any, canvases: list[Canvas]) -> list[CanvasStep]:
    """One decoder pass over all canvases, each at its own step, width and rules."""
    started = time.perf_counter()
    sequences, tokens = [c.sequence for c in canvases], [c.tokens for c in canvases]
    hidden = model.denoise_rows(sequences, tokens, [c.soft for c in canvases])
    temperatures = [canvas.temperature for canvas in canvases]
    parts = _read(model.backbone, canvases, hidden, temperatures)
    vocab_size = model.config.vocab_size
    accepted = [canvas.advance(part, vocab_size) for canvas, part in zip(canvases, parts, strict=True)]
    seconds = time.perf_counter() - started
    return [_event(*row, seconds) for row in zip(canvases, accepted, temperatures, strict=True)]


def _read(head: Any, canvases: list[Canvas], hidden: Tensor, temperatures: list[float]) -> list[Prediction]:
    """Each canvas's predictions: those without a reader of their own together, in one pass."""
    widths = [len(canvas.tokens) for canvas in canvases]
    pieces = hidden.split(widths)
    uniforms = [
        c.noise.uniforms(c.step + 1, SAMPLE, w).to(hidden.device) for c, w in zip(canvases, widths, strict=True)
    ]
    parts: dict[int, Prediction] = {}
    for i, canvas in enumerate(canvases):
        if canvas.reader is not None:
            parts[i] = canvas.reader(head, pieces[i], temperatures[i], uniforms[i], canvas.decoding.greedy)
    free = [i for i in range(len(canvases)) if i not in parts]
    if free:
        chosen = [widths[i] for i in free]
        together = read(
            head,
            torch.cat([pieces[i] for i in free]),
            _spread([temperatures[i] for i in free], chosen, torch.float32).to(hidden.device),
            torch.cat([uniforms[i] for i in free]),
            _spread([canvases[i].decoding.greedy for i in free], chosen, torch.bool).to(hidden.device),
        )
        parts |= dict(zip(free, together.split(chosen), strict=True))
    return [parts[i] for i in range(len(canvases))]


def denoise(model: Any, canvas: Canvas) -> list[CanvasStep]:
    """Denoise one canvas to the end."""
    events = []
    while not canvas.done:
        events += denoise_step(model, [canvas])
    return events


def _spread(values: list[Any], widths: list[int], dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, dtype=dtype).repeat_interleave(torch.tensor(widths))


def _event(canvas: Canvas, accepted: Tensor, temperature: float, seconds: float) -> CanvasStep:
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
    )


def _array(tensor: Tensor, dtype: Any) -> np.ndarray:
    return tensor.cpu().numpy().astype(dtype)
