"""Pins: canvas positions held to given tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from diffusiongemma.diffusion.noise import Noise, NoiseAt
from diffusiongemma.diffusion.readout import Head, Prediction, Reader

FREE = -1


class Embedder(Protocol):
    def embed(self, ids: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Pins:
    """The pins of one canvas. A pin has two halves: the token stands on the canvas at every step, and whatever the
    model predicts there is replaced by certainty, so that what the next step is conditioned on agrees with it."""

    tokens: Tensor  # [C] the token each position is held to, FREE where it is free

    @classmethod
    def of(cls, pins: Mapping[int, int], width: int, device: torch.device | str = "cpu") -> Pins:
        """Positions 0 .. width - 1 -> tokens; others are left out."""
        tokens = torch.full((width,), FREE)
        for position, token in pins.items():
            if 0 <= position < width:
                tokens[position] = token
        return cls(tokens.to(device))

    @property
    def held(self) -> Tensor:
        """[C] bool"""
        return self.tokens != FREE

    @property
    def free(self) -> Tensor:
        """[F] positions that are not pinned, ascending."""
        return (self.tokens == FREE).nonzero()[:, 0]

    def with_prefix(self, tokens: Sequence[int] | Tensor) -> Pins:
        """The same, and the first positions held to `tokens`."""
        longer = self.tokens.clone()
        longer[: len(tokens)] = torch.as_tensor(tokens, device=longer.device)
        return Pins(longer)

    def on(self, canvas: Tensor) -> Tensor:
        """The canvas [C] with the pinned tokens in their places."""
        return torch.where(self.held, self.tokens, canvas)

    def hold(self, prediction: Prediction, head: Embedder) -> Prediction:
        """The prediction [C], certain of the pinned tokens; their soft embedding is the token's own."""
        held = self.held
        if not bool(held.any()):
            return prediction
        soft = prediction.soft
        if soft.shape[1]:
            soft = soft.clone()
            soft[held] = head.embed(self.tokens[held]).to(soft.dtype)
        top, top_logprob = prediction.top, prediction.top_logprob
        if top.shape[1]:
            top, top_logprob = top.clone(), top_logprob.masked_fill(held[:, None], -torch.inf)
            top[held, 0], top_logprob[held, 0] = self.tokens[held], 0.0
        return Prediction(
            argmax=self.on(prediction.argmax),
            sampled=self.on(prediction.sampled),
            entropy=prediction.entropy.masked_fill(held, 0.0),
            logprob=prediction.logprob.masked_fill(held, 0.0),
            sampled_logprob=prediction.sampled_logprob.masked_fill(held, 0.0),
            soft=soft,
            top=top,
            top_logprob=top_logprob,
        )


@dataclass(frozen=True)
class Pinned(Reader):
    """Reads positions that are held to one token: certain of it, whatever the model says."""

    token: int

    def __call__(self, head: Head, hidden: Tensor, temperature: float, uniforms: Tensor, greedy: bool) -> Prediction:
        tokens = torch.full((len(hidden),), self.token, device=hidden.device)
        zeros = torch.zeros(len(hidden), device=hidden.device)
        return Prediction(tokens, tokens, zeros, zeros, zeros, hidden[:, :0], tokens[:, None], zeros[:, None])


def at(prediction: Prediction, positions: Tensor) -> Prediction:
    """The predictions at some positions [F]."""
    return Prediction(*(getattr(prediction, f.name)[positions] for f in fields(prediction)))


def noise_at(noise: Noise, positions: Tensor) -> NoiseAt:
    """The random numbers of some positions: each position keeps its own, whatever is pinned beside it."""
    return NoiseAt(noise.seed, noise.canvas, noise, tuple(positions.tolist()))
