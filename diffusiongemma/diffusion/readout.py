"""From hidden states to what a step needs to know of each position, in one chunked pass over the vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 24  # logits held at a time: 64 MiB in float32


class Head(Protocol):
    config: Any

    def logits(self, hidden: Tensor) -> Tensor: ...
    def soft_embedding(self, probabilities: Tensor) -> Tensor: ...


@dataclass
class Prediction:
    """What a denoise step says of each position, under its temperature-shaped distribution."""

    argmax: Tensor  # [N] most probable token
    sampled: Tensor  # [N] token drawn at the position's uniform
    entropy: Tensor  # [N] nats
    logprob: Tensor  # [N] of the argmax
    sampled_logprob: Tensor  # [N]
    soft: Tensor  # [N, D] expected embedding; [N, 0] where it was not asked for

    def split(self, widths: list[int]) -> list[Prediction]:
        columns = [getattr(self, f.name).split(widths) for f in fields(self)]
        return [Prediction(*row) for row in zip(*columns, strict=True)]


class Reader(Protocol):
    """Another way to read one canvas's hidden states, such as under a constraint."""

    def __call__(self, head: Head, hidden: Tensor, temperature: float, uniforms: Tensor, greedy: bool) -> Prediction:
        """hidden [C, D], uniforms [C] in [0, 1) -> predictions at the C positions."""
        ...


# Changes the logits [n, V] of positions first, first + 1, … in place, before they are divided by the temperature.
Adjust = Callable[[Tensor, int], None]


def read(
    head: Head,
    hidden: Tensor,
    temperature: Tensor,
    uniforms: Tensor,
    greedy: Tensor,
    want_soft: bool = True,
    adjust: Adjust | None = None,
) -> Prediction:
    """Predictions at N positions; at most `CHUNK_ELEMENTS` logits exist at a time, however large the vocabulary.

    hidden [N, D], temperature [N], uniforms [N] in [0, 1) -> Prediction. Where `greedy` [N] is set the sampled
    token is the argmax. `adjust` may change the logits.
    """
    rows = max(1, CHUNK_ELEMENTS // head.config.vocab_size)
    chunks = zip(*(x.split(rows) for x in (hidden, temperature, uniforms, greedy)), strict=True)
    parts = [_read_chunk(head, h, t, u, g, want_soft, adjust, i * rows) for i, (h, t, u, g) in enumerate(chunks)]
    return Prediction(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Prediction)))


def _read_chunk(
    head: Head,
    hidden: Tensor,
    temperature: Tensor,
    uniforms: Tensor,
    greedy: Tensor,
    want_soft: bool,
    adjust: Adjust | None,
    first: int,
) -> Prediction:
    shaped = head.logits(hidden)  # [n, V]
    if adjust is not None:
        adjust(shaped, first)
    shaped = shaped.div_(temperature[:, None])
    top, argmax = shaped.max(-1)
    probabilities = shaped.sub_(top[:, None])
    entropy = _entropy(probabilities)
    probabilities = probabilities.exp_()
    total = probabilities.sum(-1)
    probabilities /= total[:, None]
    soft = head.soft_embedding(probabilities) if want_soft else hidden[:, :0]
    sampled = torch.where(greedy, argmax, inverse_cdf(probabilities, uniforms))
    sampled_logprob = probabilities.gather(1, sampled[:, None])[:, 0].log()
    return Prediction(argmax, sampled, entropy, -total.log(), sampled_logprob, soft)


def _entropy(shifted: Tensor) -> Tensor:  # logits minus their maximum [n, V] -> [n]
    weights = shifted.exp()
    total = weights.sum(-1)
    return total.log() - (weights.mul_(shifted)).sum(-1) / total


def inverse_cdf(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """The token at which the cumulative probability [n, V] passes uniforms [n] -> [n]."""
    cumulative = probabilities.cumsum(-1)
    # Rounding leaves the last sum a little off one. Staying below it keeps the search off trailing tokens of
    # probability zero.
    total = cumulative[:, -1]
    targets = torch.minimum(uniforms.to(total.dtype) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, targets[:, None], right=True)[:, 0]
