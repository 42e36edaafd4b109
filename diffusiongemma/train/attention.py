"""Attention contexts for training: whole padded batches, keys and values kept with their gradients.

What each token sees is the same as in `model.attention`; the tests compare the two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusiongemma.config import ModelConfig
from diffusiongemma.model.attention import attend as fused_attention


class EncodeBatch:
    """Causal attention over a batch [B, S] padded on the right, where padding is never looked back at.

    Not a dataclass: FSDP2 hands layers copies of those, and what they store would be lost.
    """

    def __init__(self, batch: int, size: int, config: ModelConfig):
        self.batch, self.size, self.window = batch, size, config.sliding_window
        self.sliding = [config.is_sliding(layer) for layer in range(config.num_layers)]
        self.keys: dict[int, Tensor] = {}  # layer -> [B, KV, S, d]
        self.values: dict[int, Tensor] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (_heads_first(x, self.batch) for x in (q, k, v))
        # Gradient checkpointing comes by a second time, when canvases read what was stored the first time.
        self.keys.setdefault(layer, k)
        self.values.setdefault(layer, v)
        return _attention(q, k, v, self._mask(layer, q.device))

    def _mask(self, layer: int, device: torch.device) -> Tensor:  # [S, S]
        index = torch.arange(self.size, device=device)
        allowed = index[None] <= index[:, None]
        return allowed & (index[None] > index[:, None] - self.window) if self.sliding[layer] else allowed


class DenoiseBatch:
    """Canvas n sees the first `start[n]` tokens of encoded row n % B, within the layer's window, and all of itself.

    Where all canvases start alike, at `shared`, what they do not see is cut off instead of masked: 4 to 7 % less time
    for the whole loss of the embedded model on sudoku, where all do.
    """

    def __init__(self, encoded: EncodeBatch, start: Tensor, width: int, shared: int | None = None):
        self.encoded, self.start, self.width, self.shared = encoded, start, width, shared

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (_heads_first(x, len(self.start)) for x in (q, k, v))
        keys = torch.cat([self._seen(layer, self.encoded.keys[layer]), k], dim=2)
        values = torch.cat([self._seen(layer, self.encoded.values[layer]), v], dim=2)
        return _attention(q, keys, values, None if self.shared is not None else self._mask(layer))

    def _seen(self, layer: int, x: Tensor) -> Tensor:
        """The encoded keys or values [B, KV, S, d], cut where all start alike -> [N, KV, S', d]."""
        count = len(self.start)
        if self.shared is not None:
            first = max(0, self.shared - self.encoded.window + 1) if self.encoded.sliding[layer] else 0
            x = x[:, :, first : self.shared]
        return x[:count] if count <= len(x) else x.repeat(-(-count // len(x)), 1, 1, 1)[:count]

    def _mask(self, layer: int) -> Tensor:  # [N, 1, 1, S + C]
        index = torch.arange(self.encoded.size, device=self.start.device)
        seen = index < self.start[:, None]  # [N, S]
        if self.encoded.sliding[layer]:
            seen = seen & (index > self.start[:, None] - self.encoded.window)
        return F.pad(seen, (0, self.width), value=True)[:, None, None]


def shared_start(start: Tensor) -> int | None:
    """The start [N] that all canvases have in common, if they do."""
    first = int(start[0])
    return first if bool((start == first).all()) else None


def _heads_first(x: Tensor, batch: int) -> Tensor:  # [B*T, H, d] -> [B, H, T, d]
    return x.view(batch, -1, *x.shape[1:]).transpose(1, 2)


def _attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
    """q [B, H, T, d], k and v [B, KV, S, d], allowed broadcast to [B, H, T, S] -> [B*T, H, d]."""
    if q.device.type == "cpu":
        out = explicit_attention(q, k, v, allowed)
    else:
        groups = q.shape[1] // k.shape[1]  # repeated, as not every fused kernel knows grouped heads
        out = fused_attention(q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), allowed)
    return out.transpose(1, 2).flatten(0, 1)


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
    """q [B, H, T, d], k and v [B, KV, S, d], allowed broadcast to [B, H, T, S] or None for all -> [B, H, T, d].

    Matrix products rather than the fused kernel, whose backward is several times slower on the CPU at small heads.
    """
    q = q.unflatten(1, (k.shape[1], -1))  # [B, KV, G, T, d]
    scores = q @ k[:, :, None].transpose(-1, -2)  # [B, KV, G, T, S]
    if allowed is not None:
        allowed = allowed[:, None] if allowed.ndim == 4 else allowed
        scores = scores.masked_fill(~allowed, float("-inf"))
    weights = scores.softmax(-1, dtype=torch.float32).to(v.dtype)
    return (weights @ v[:, :, None]).flatten(1, 2)
