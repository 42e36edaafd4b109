"""`mode="auto"`: measure both ways of decoding on this machine and take the faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.denoise import Canvas, denoise_step
from diffusiongemma.diffusion.noise import Noise
from diffusiongemma.events import Result
from diffusiongemma.kernels.native import rows_alone
from diffusiongemma.model.model import Model

# Steps a canvas takes until the model's own runs say better: the mean of the published tasks is about 13 (tech
# report, arXiv 2608.00146).
TYPICAL_STEPS = 13.0
PREFIX = 64  # tokens encoded before timing
MOST_OFF, FEWEST_PASSES = 3.0, 8  # how far a request's pace may be from what was measured; passes that tell


@dataclass
class Auto:
    """The two costs on this machine, measured until requests run otherwise, and the steps seen so far."""

    model: Model
    step_seconds: float | None = None
    token_seconds: float | None = None
    steps: float = TYPICAL_STEPS

    surprises: int = 0  # requests in a row that ran much faster or slower than measured

    def saw(self, result: Result, alone: bool = False) -> None:
        """Learn from a finished request how many steps its canvases took; from one that ran `alone`, which is what is
        measured, also whether the measured seconds still hold, as other programs come and go."""
        for count in result.steps:
            self.steps += 0.1 * (count - self.steps)
        measured = self.token_seconds if result.mode == "ar" else self.step_seconds
        if alone and measured is not None and result.forward_passes >= FEWEST_PASSES:
            pace = result.seconds / result.forward_passes / measured
            self.surprises = 0 if 1 / MOST_OFF <= pace <= MOST_OFF else self.surprises + 1
        if self.surprises == 2:
            self.step_seconds = self.token_seconds = None
            self.surprises = 0

    def choose(self, config: Decoding) -> tuple[str, str]:
        """("diffusion" or "ar", the reason in one sentence)."""
        step, token = self._measured()
        tokens = min(config.max_new_tokens, self.model.config.canvas_length)
        steps = min(self.steps, config.steps)
        diffusion, ar = steps * step / tokens, token
        mode = "diffusion" if diffusion <= ar else "ar"
        reason = (
            f"{mode} is faster here: {1 / diffusion:,.0f} tokens/s by diffusion "
            f"({step * 1e3:.1f} ms a step, about {steps:.0f} steps for {tokens} tokens), "
            f"{1 / ar:,.0f} autoregressive ({token * 1e3:.1f} ms a token)"
        )
        return mode, reason

    @torch.no_grad()
    def _measured(self) -> tuple[float, float]:
        if self.step_seconds is None or self.token_seconds is None:
            model, ids = self.model, torch.ones(1, PREFIX, dtype=torch.long)
            row = model.encode(ids).rows[0]
            size = model.config.canvas_length
            canvas = Canvas.open(row, size, model.config.vocab_size, Noise(0, 0), Decoding(), model.device)
            self.step_seconds = _median_seconds(lambda: denoise_step(model, [canvas]), model)
            embedding = model.backbone.embed(torch.ones(1, dtype=torch.long, device=model.device))
            token = lambda: model.backbone.logits(model.encode_rows([row], [embedding]))  # noqa: E731
            with rows_alone():
                self.token_seconds = _median_seconds(token, model)
        return self.step_seconds, self.token_seconds


def _median_seconds(work: Callable[[], object], model: Model, times: int = 5) -> float:
    seconds = []
    for _ in range(times + 1):
        started = time.perf_counter()
        work()
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds[1:])[times // 2]  # the first warms up
