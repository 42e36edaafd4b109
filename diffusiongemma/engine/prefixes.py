"""Prompts that begin alike share their beginning: keys and values of token blocks, kept for later prompts.

A block is known by the tokens in it and before it. With reuse on, every prompt is cut at the same multiples of the
block size whether or not a block was at hand, so that the same products are computed over the same rows: the text
does not depend on what other requests left behind.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

from diffusiongemma.model.cache import Block, SequenceCache
from diffusiongemma.model.model import Model

BLOCK = 256  # tokens


class Prefixes:
    """Blocks of at most `budget` bytes in all; the ones used longest ago make room."""

    def __init__(self, model: Model, budget: int, block: int = BLOCK):
        self.model, self.budget, self.block = model, budget, block
        self.nbytes = 0
        self._blocks: OrderedDict[bytes, Block] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def bounds(self, start: int, length: int) -> list[tuple[int, int]]:
        """The chunks in which tokens `start .. length` are encoded; `start` is a multiple of the block size."""
        cuts = [*range(start, length, self.block)]
        return list(zip(cuts, [*cuts[1:], length], strict=True))

    def restore(self, ids: list[int]) -> SequenceCache:
        """A new cache of as many of the prompt's first blocks as are at hand, perhaps none."""
        known = []
        for key in self._keys(ids):
            if key not in self._blocks:
                break
            known.append(key)
        self._touch(known)
        sequence = self.model.new_sequence()
        if known:
            sequence.restore([self._blocks[key] for key in known], len(known) * self.block)
        return sequence

    def keep(self, ids: list[int], sequence: SequenceCache) -> None:
        """Store the block that ends where the sequence, which holds the first tokens of `ids`, ends now."""
        if sequence.length % self.block or not 0 < sequence.length < len(ids):
            return
        keys = list(self._keys(ids[: sequence.length + 1]))
        if keys[-1] not in self._blocks and all(key in self._blocks for key in keys[:-1]):
            block = self._blocks[keys[-1]] = sequence.block(self.block)
            self.nbytes += block.nbytes
        self._touch([key for key in keys if key in self._blocks])
        self.shrink(self.budget)

    def shrink(self, nbytes: int) -> None:
        """Forget the blocks used longest ago until at most `nbytes` are held."""
        while self._blocks and self.nbytes > nbytes:
            self.nbytes -= self._blocks.popitem(last=False)[1].nbytes

    def _keys(self, ids: list[int]) -> Iterator[bytes]:
        key = b""
        for start, end in self.bounds(0, len(ids))[:-1]:
            key = hashlib.sha256(key + np.array(ids[start:end], np.uint32).tobytes()).digest()
            yield key

    def _touch(self, keys: list[bytes]) -> None:
        # The first block last: a block is of no use without those before it, so it must not outlive them.
        for key in reversed(keys):
            self._blocks.move_to_end(key)
