"""Randomness of a request, and the corruption it undoes. Sampling and training share this definition of noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

INITIAL, SAMPLE, RENOISE, ANCESTRAL, CORRUPT = range(5)  # independent streams within a step


@dataclass(frozen=True)
class Noise:
    """Counter-based random numbers of one canvas, a pure function of (seed, canvas, step, stream, position).

    Philox 4x64 (Salmon et al. 2011): nothing is drawn in sequence, so a request's numbers do not depend on the
    batch it runs in, and a prefix of positions gets the same numbers whatever the canvas width.
    """

    seed: int
    canvas: int

    def uniforms(self, step: int, stream: int, n: int) -> Tensor:
        """n float64 numbers in [0, 1)."""
        key = np.array([self.seed, self.canvas], dtype=np.uint64)
        counter = np.array([0, stream, step, 0], dtype=np.uint64)
        return torch.from_numpy(np.random.Generator(np.random.Philox(key=key, counter=counter)).random(n))

    def tokens(self, step: int, stream: int, n: int, vocab_size: int) -> Tensor:
        """n token ids, uniform over the vocabulary."""
        return (self.uniforms(step, stream, n) * vocab_size).long()


@dataclass(frozen=True)
class NoiseAt(Noise):
    """The random numbers that `whole` has for some positions of the canvas."""

    whole: Noise
    positions: tuple[int, ...]

    def uniforms(self, step: int, stream: int, n: int) -> Tensor:
        assert n == len(self.positions), (n, self.positions)
        return self.whole.uniforms(step, stream, max(self.positions, default=-1) + 1)[list(self.positions)]


@dataclass(frozen=True)
class NoiseOfSeveral:
    """The random numbers that `Noise` has for k canvases of these seeds, each at a step of its own."""

    seeds: tuple[int, ...]
    canvas: int = 0

    def uniforms(self, step: Tensor, stream: int, n: int) -> Tensor:
        """float64 numbers in [0, 1) for n positions of each canvas, at its own of the steps [k, 1] -> [k, n]."""
        numbers = np.empty((len(self.seeds), n))
        # A new generator takes three times as long as another state of the same one.
        bits = np.random.Philox(0)
        generator, state = np.random.Generator(bits), bits.state
        for row, (seed, at) in enumerate(zip(self.seeds, step.flatten().tolist(), strict=True)):
            state["state"]["key"][:] = seed, self.canvas
            state["state"]["counter"][:] = 0, stream, int(at), 0
            bits.state = state
            generator.random(out=numbers[row])
        return torch.from_numpy(numbers)

    def tokens(self, step: Tensor, stream: int, n: int, vocab_size: int) -> Tensor:
        return (self.uniforms(step, stream, n) * vocab_size).long()


@dataclass(frozen=True)
class GivenNoise:
    """Random numbers [k, n] of several canvases that were drawn before, by stream: for a step on a device that is not
    to wait for them."""

    drawn: Mapping[int, Tensor]

    def uniforms(self, step: Tensor, stream: int, n: int) -> Tensor:
        return self.drawn[stream]

    def tokens(self, step: Tensor, stream: int, n: int, vocab_size: int) -> Tensor:
        return (self.uniforms(step, stream, n) * vocab_size).long()


def corrupt(tokens: Tensor, level: Tensor, uniforms: Tensor, random_tokens: Tensor) -> Tensor:
    """Replace each token by a random one with probability `level`.

    tokens, uniforms and random_tokens [B, C]; level [B] in 0..1 -> [B, C].
    """
    return torch.where(uniforms < level[:, None], random_tokens, tokens)
