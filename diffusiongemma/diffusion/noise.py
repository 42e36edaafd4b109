"""Randomness of a request, and the corruption it undoes. Sampling and training share this definition of noise."""

from __future__ import annotations

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


def corrupt(tokens: Tensor, level: Tensor, uniforms: Tensor, random_tokens: Tensor) -> Tensor:
    """Replace each token by a random one with probability `level`.

    tokens, uniforms and random_tokens [B, C]; level [B] in 0..1 -> [B, C].
    """
    return torch.where(uniforms < level[:, None], random_tokens, tokens)
