"""Keys and values of encoded tokens, one sequence at a time.

They are kept as they are, or in 8 bits with a scale for each token and head: a quarter of float32, half of bfloat16.
What is kept in 8 bits is seen so by every token, also by those encoded with it: a text does not depend on how its
prompt was cut.

Sequences are kept apart rather than padded to one tensor: a request's attention then never sees another request,
needs no padding mask, and finished requests free their memory at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 256  # tokens by which a buffer grows
STRETCH = 256  # tokens
SCALE_BYTES = 4  # of the float32 that stands behind the codes of a token and head


def entry_bytes(head_dim: int, dtype: torch.dtype, eight_bits: bool) -> int:
    """What a key or value of one token and head takes."""
    return head_dim + SCALE_BYTES if eight_bits else head_dim * dtype.itemsize


class LayerCache:
    """One layer's keys and values of one sequence, [H, capacity, head_dim] each, or int8 [H, capacity, head_dim + 4].

    Tokens sit at `start .. end` of the buffer. A sliding layer forgets tokens that no later token can attend to
    (`keep` = window - 1); a global layer (`keep` None) keeps all.
    """

    def __init__(
        self,
        heads: int,
        head_dim: int,
        keep: int | None,
        dtype: torch.dtype,
        device: torch.device,
        eight_bits: bool = False,
        by_kernel: bool = False,
    ):
        self.by_kernel = by_kernel  # whether a kernel reads it for a token at a time
        self.keep, self.dtype, self.eight_bits = keep, dtype, eight_bits
        width, kept = (head_dim + SCALE_BYTES, torch.int8) if eight_bits else (head_dim, dtype)
        self.keys = torch.empty(heads, 0, width, dtype=kept, device=device)
        self.values = torch.empty_like(self.keys)
        self.end = 0

    @property
    def start(self) -> int:
        """First buffer index that the next token may attend to."""
        return 0 if self.keep is None else max(0, self.end - self.keep)

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store [H, T, head_dim]; returns what these T tokens may see: the tokens held before, then themselves."""
        start = self.store(keys, values)
        return self._seen(start, self.end)

    def store(self, keys: Tensor, values: Tensor) -> int:
        """Store [H, T, head_dim] -> the first index that these T tokens may see."""
        start = self._make_room(keys.shape[1])
        self.end += keys.shape[1]
        self._write(keys, values, self.end)
        return start

    def with_canvas(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens held followed by a canvas [H, C, head_dim], which is not stored.

        The canvas is written behind the last token, where the next `append` overwrites it: no copy of the prefix.
        """
        start, end = self._make_room(keys.shape[1]), self.end + keys.shape[1]
        self._write(keys, values, end)
        return self._seen(start, end)

    def place(self, extra: int) -> tuple[int, int, int, int, int]:
        """Where keys and values lie, with room for `extra` tokens more: their addresses, elements from a head to the
        next, the first token that is seen, and the number of those held."""
        start = self._make_room(extra)
        assert self.keys.stride()[1:] == (self.keys.shape[2], 1), "tokens of a head lie one behind the other"
        return self.keys.data_ptr(), self.values.data_ptr(), self.keys.stride(0), start, self.end

    def trim(self) -> None:
        """Give back what a long append needed beyond the window and what `forget` may go back to."""
        if self.keep is not None and self.keys.shape[1] > self.keep + 2 * BLOCK:
            self._move(self.keep + 2 * BLOCK, spare=BLOCK)

    def forget(self, count: int) -> None:
        """Drop the last `count` tokens, at most `BLOCK`, of what the last `append` has stored."""
        self.end -= count

    def copy(self) -> LayerCache:
        clone = copy(self)
        clone.keys = self.keys[:, self.start : self.end].clone()
        clone.values = self.values[:, self.start : self.end].clone()
        clone.end = self.end - self.start
        return clone

    def last(self, count: int) -> tuple[Tensor, Tensor]:
        """A copy of the last tokens' keys and values, as far as the window reaches."""
        held = slice(self.end - (count if self.keep is None else min(count, self.keep)), self.end)
        return self.keys[:, held].clone(), self.values[:, held].clone()

    def fill(self, parts: list[tuple[Tensor, Tensor]]) -> None:
        """Hold what `last` has copied, part by part, as far as the window reaches."""
        if self.keep is not None and parts[0][0].shape[1]:
            parts = parts[(-self.keep) // parts[0][0].shape[1] :]
        self.keys = torch.cat([keys for keys, _ in parts], dim=1)
        self.values = torch.cat([values for _, values in parts], dim=1)
        self.end = self.keys.shape[1]

    def _write(self, keys: Tensor, values: Tensor, end: int) -> None:
        at = slice(end - keys.shape[1], end)
        if self.eight_bits:
            keys, values = in_eight_bits(keys), in_eight_bits(values)
        self.keys[:, at], self.values[:, at] = keys, values

    def _seen(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        keys, values = self.keys[:, start:end], self.values[:, start:end]
        return (in_full(keys, self.dtype), in_full(values, self.dtype)) if self.eight_bits else (keys, values)

    def _make_room(self, extra: int) -> int:
        """Ensure capacity for `extra` more tokens; returns `start` after any move."""
        if self.end + extra > self.keys.shape[1]:
            held = self.end - self.start
            # Global layers double as they grow so that appending stays linear; sliding ones need only their window.
            spare = held // 4 if self.keep is None else 0
            self._move(-(-(held + extra + spare) // BLOCK) * BLOCK)
        return self.start

    def _move(self, capacity: int, spare: int = 0) -> None:
        """To another buffer, with `spare` tokens before those that the next one may attend to."""
        held = slice(max(0, self.start - spare), self.end)
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_empty(old.shape[0], capacity, old.shape[2])
            new[:, : held.stop - held.start] = old[:, held]
            setattr(self, name, new)
        self.end = held.stop - held.start


def in_eight_bits(x: Tensor) -> Tensor:
    """x [H, T, d] -> int8 [H, T, d + 4]: codes, and the bytes of the scale."""
    values = x.float()
    scale = values.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
    return torch.cat([(values / scale).round().to(torch.int8), scale.view(torch.int8)], dim=-1)


def in_full(stored: Tensor, dtype: torch.dtype) -> Tensor:
    """What `in_eight_bits` made, rounded, in `dtype`."""
    codes, scale = stored[..., :-SCALE_BYTES], stored[..., -SCALE_BYTES:].contiguous().view(torch.float32)
    if stored.device.type != "cpu":
        return (codes.float() * scale).to(dtype)
    out = torch.empty(codes.shape, dtype=dtype)
    # A stretch at a time, whose float32 stays in a core's cache: four times as fast at 32,768 tokens.
    for part, its_scale, to in zip(*(x.split(STRETCH, dim=-2) for x in (codes, scale, out)), strict=True):
        torch.mul(part.float(), its_scale, out=to)
    return out


@dataclass(frozen=True, eq=False)
class Block:
    """Keys and values [H, T, head_dim] of each layer; T is the block size, or the window where that is shorter."""

    layers: list[tuple[Tensor, Tensor]]

    @property
    def nbytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)


class SequenceCache:
    """All layers of one sequence, each on its device; `length` tokens have been encoded."""

    def __init__(self, layers: list[LayerCache]):
        self.length, self.layers = 0, layers

    def copy(self) -> SequenceCache:
        """An independent cache of the same tokens, for a branch or for a later return to this point."""
        clone = copy(self)
        clone.layers = [layer.copy() for layer in self.layers]
        return clone

    def forget(self, count: int) -> None:
        """Drop the last `count` tokens, at most `BLOCK`, of those that were encoded last, all at once."""
        self.length -= count
        for layer in self.layers:
            layer.forget(count)

    def block(self, size: int) -> Block:
        """A copy of the last `size` tokens, or of those in the window where that is shorter."""
        return Block([layer.last(size) for layer in self.layers])

    def restore(self, blocks: list[Block], length: int) -> None:
        """Hold the `length` tokens of these blocks, in order, and nothing else."""
        for layer, parts in zip(self.layers, zip(*(block.layers for block in blocks), strict=True), strict=True):
            layer.fill(list(parts))
        self.length = length

    def trim(self) -> None:
        for layer in self.layers:
            layer.trim()

    def nbytes(self) -> int:
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)


class KVCache:
    """A batch of sequences. `cache[i]` is a batch of one that shares row i's memory."""

    def __init__(self, rows: Iterable[SequenceCache]):
        self.rows = list(rows)

    @property
    def lengths(self) -> list[int]:
        return [row.length for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> KVCache:
        return KVCache([self.rows[index]])

    def copy(self) -> KVCache:
        return KVCache(row.copy() for row in self.rows)

    def nbytes(self) -> int:
        return sum(row.nbytes() for row in self.rows)
