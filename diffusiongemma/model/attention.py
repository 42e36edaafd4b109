"""Attention, and who attends to what.

The projections are the same in both modes; a *context* decides which keys a token sees. `Encode` is causal and
stores keys and values; `Denoise` is bidirectional over each canvas, reads the stored ones and stores nothing.
Tokens of several sequences come flat as [N, ...] and each sequence attends on its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusiongemma.config import ModelConfig
from diffusiongemma.host import multiplies_bfloat16
from diffusiongemma.kernels.native import attend_one, kernels, softmax_in_place
from diffusiongemma.model.cache import SequenceCache
from diffusiongemma.model.layers import RMSNorm
from diffusiongemma.model.rope import Rotation, rotate

SCORES = 2**24  # of attention at a time, at most


class Context(Protocol):
    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [N, H, head_dim], k and v [N, KV heads, head_dim] -> [N, H, head_dim]."""
        ...


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.layer = layer
        self.kv_heads, self.head_dim = config.heads(layer)
        dim, q_dim, kv_dim = (
            config.hidden_size,
            config.num_attention_heads * self.head_dim,
            self.kv_heads * self.head_dim,
        )
        self.q_proj = nn.Linear(dim, q_dim, bias=False)
        self.k_proj = nn.Linear(dim, kv_dim, bias=False)
        # Global layers use one projection for keys and values.
        self.v_proj = nn.Linear(dim, kv_dim, bias=False) if config.is_sliding(layer) else None
        self.o_proj = nn.Linear(q_dim, dim, bias=False)
        self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps)
        self.v_norm = RMSNorm(self.head_dim, config.rms_norm_eps, scale=False)

    def project(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """x [N, D] -> q [N, H, head_dim], k and v [N, KV heads, head_dim]."""
        n = x.shape[0]
        q = self.q_proj(x).view(n, -1, self.head_dim)  # [N, H, head_dim]
        k = self.k_proj(x).view(n, self.kv_heads, self.head_dim)
        v = k if self.v_proj is None else self.v_proj(x).view(n, self.kv_heads, self.head_dim)
        return self.normed(q, k, v, rotation)

    def normed(self, q: Tensor, k: Tensor, v: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        return rotate(self.q_norm(q), rotation), rotate(self.k_norm(k), rotation), self.v_norm(v)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Softmax attention with scale 1; q [..., H, T, d], k and v [..., KV heads, S, d] -> [..., H, T, d]."""
    heads, width, dim = q.shape[-3:]
    grouped = heads != k.shape[-3]
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and not q.requires_grad and multiplies_bfloat16():
        return _by_products(q, k, v, mask, causal)
    if q.device.type == "cpu" and grouped and width == 1 and mask is None and not causal:
        # The queries of a group read the same keys: one behind the other they are read once, not once a head.
        folded = q.reshape(*q.shape[:-3], k.shape[-3], -1, dim)
        return F.scaled_dot_product_attention(folded, k, v, scale=1.0).reshape(q.shape)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=1.0, enable_gqa=grouped)


def _by_products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """The same by products of bfloat16: torch's own attention multiplies in float32 on CPUs, over four times slower.

    Scores are rounded to bfloat16 and summed up in float32, as the reference's eager attention does it.
    """
    heads, width, dim = q.shape[-3:]
    groups, visible = heads // k.shape[-3], k.shape[-2]
    if causal:
        mask = torch.ones(width, visible, dtype=torch.bool).tril()
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    keys, rows = k.contiguous().transpose(-1, -2), max(1, SCORES // (heads * visible))  # of a slice it would be slow
    for start in range(0, width, rows):
        part = q[..., start : start + rows, :]
        folded = part.reshape(*part.shape[:-3], k.shape[-3], -1, dim)  # the queries of a group read the same keys
        scores = folded @ keys
        if mask is not None:
            scores = scores.masked_fill_(~mask[start : start + rows].repeat(groups, 1), -torch.inf)
        shares = softmax_in_place(scores) if kernels()[0] is not None else scores.softmax(-1)
        out[..., start : start + rows, :] = (shares @ v).reshape(part.shape)
    return out


@dataclass
class Denoise:
    """Each canvas sees its whole sequence as far as the layer keeps it, and all of itself. Rows behind the last canvas
    fill up the batch and mean nothing.
    """

    rows: list[SequenceCache]
    widths: list[int]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = []
        for row, q_row, k_row, v_row in zip(self.rows, *_by_row(q, k, v, self.widths), strict=True):
            keys, values = row.layers[layer].with_canvas(k_row, v_row)
            out.append(attend(q_row[None], keys[None], values[None])[0].transpose(0, 1))
        return torch.cat([*out, q[sum(self.widths) :]])  # [N, H, head_dim]


@dataclass
class Encode:
    """Causal, within the window in sliding layers; stores keys and values. Rows behind the last sequence's fill up the
    batch and mean nothing.

    `images` holds per row the spans (start, end) of image tokens among the row's *new* tokens: in sliding layers,
    as in Gemma 4, the tokens of one image also see the later tokens of the same image.
    """

    rows: list[SequenceCache]
    widths: list[int]
    window: int
    images: list[list[tuple[int, int]]] | None = None
    _masks: dict[tuple[int, int, bool, torch.device], Tensor] = field(default_factory=dict)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = []
        for i, (row, q_row, k_row, v_row) in enumerate(zip(self.rows, *_by_row(q, k, v, self.widths), strict=True)):
            cache = row.layers[layer]
            if cache.by_kernel and self.widths[i] == 1:
                start = cache.store(k_row, v_row)
                out.append(attend_one(q_row, cache.keys[:, start : cache.end], cache.values[:, start : cache.end]))
                continue
            keys, values = cache.append(k_row, v_row)
            mask, causal = self._mask(i, keys.shape[1], sliding=cache.keep is not None, device=q.device)
            out.append(attend(q_row[None], keys[None], values[None], mask, causal)[0].transpose(0, 1))
        return torch.cat([*out, q[sum(self.widths) :]])

    def finish(self) -> None:
        """Count the new tokens, once all layers have stored them."""
        for row, width in zip(self.rows, self.widths, strict=True):
            row.length += width
            row.trim()

    def _mask(self, row: int, visible: int, sliding: bool, device: torch.device) -> tuple[Tensor | None, bool]:
        """(mask [T, visible] or None, whether plain causal is enough)."""
        width, spans = self.widths[row], (self.images[row] if self.images and sliding else [])
        if width == 1:
            return None, False  # the cache holds exactly what one more token may see
        if visible == width and not spans and (not sliding or width <= self.window):
            return None, True
        key = (row, visible, sliding, device)
        if key not in self._masks:
            self._masks[key] = self._build_mask(width, visible, sliding, spans).to(device)
        return self._masks[key], False

    def _build_mask(self, width: int, visible: int, sliding: bool, spans: list[tuple[int, int]]) -> Tensor:
        query = torch.arange(visible - width, visible)[:, None]
        key = torch.arange(visible)[None]
        allowed = key <= query
        for start, end in spans:
            block = slice(visible - width + start, visible - width + end)
            allowed[start:end, block] = True
        return allowed & (key > query - self.window) if sliding else allowed


def _by_row(q: Tensor, k: Tensor, v: Tensor, widths: list[int]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Split [N, H, d] into one [H, width, d] per row, without what is behind the last."""
    return tuple([part.transpose(0, 1) for part in x[: sum(widths)].split(widths)] for x in (q, k, v))  # type: ignore[return-value]
