"""From one row of scores per canvas position to a few numbers per class of tokens, and back to single tokens.

The vocabulary is laid out in blocks of equal width whose tokens belong to one class. Scores are gathered into that
layout a few rows at a time and become weights relative to the best of their block, the only [C, V] numbers that are
kept: times one factor per block they are the constrained marginals.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from diffusiongemma.control.tokens.automaton import TokenAutomaton
from diffusiongemma.kernels.lattice import BLOCKS_OF_TILE, class_sums, takes_class_sums

FLOOR = -1e6  # scores below count as this: very unlikely, never impossible, so that structure always wins
PADDING = -1e30  # pads a block
NEGLIGIBLE = -80.0  # relative to the best of a block: exp() of it is 2e-35, and exp() of far less is six times slower
WIDTHS, COST_OF_BLOCK = (2, 4, 8, 16, 32), 4  # what a block costs beyond its tokens, in tokens
JUST_BELOW_ONE = 1 - 1e-9  # so that rounding never draws what has no weight at the end of a range
GATHERED_AT_ONCE = {"cpu": 1_000_000}  # scores per chunk; few enough to stay in a CPU's cache
GATHERED_AT_ONCE_ELSEWHERE = 64_000_000


@dataclass(frozen=True, eq=False)
class TokenBlocks:
    """Blocks of `width` tokens, ordered by class; token ids ascend within a class.

    Block b is `tokens[b // G, :, b % G]`: tiles of G blocks keep a gather local in memory and let sums over a block run
    over contiguous numbers.
    """

    tokens: Tensor  # [tiles, width, G] int64, padded with 0
    padding: Tensor  # [tiles, width, G] float32: PADDING where padded, else 0
    class_of_token: np.ndarray  # [V], -1 where never allowed
    first_block: np.ndarray  # [K + 1]: class k owns blocks first_block[k] .. first_block[k + 1] - 1
    slot_of_token: Tensor  # [V] int64 where in `tokens`, flattened, a token is; a padded slot where never allowed

    @property
    def width(self) -> int:
        return self.tokens.shape[1]

    @property
    def num_blocks(self) -> int:
        return int(self.first_block[-1])

    @cached_property
    def class_of_block(self) -> np.ndarray:
        """[blocks]"""
        return np.repeat(np.arange(len(self.first_block) - 1), np.diff(self.first_block))

    @cached_property
    def narrow_tokens(self) -> Tensor:
        """`tokens` as int32."""
        return self.tokens.int()

    @cached_property
    def is_token(self) -> Tensor:
        """[slots] 0 where padded, else 1."""
        return (self.padding == 0).flatten().float()

    def slots(self, blocks: np.ndarray) -> Tensor:
        """[n, width] where in `tokens`, flattened, the members of n blocks are."""
        tile, lane = divmod(blocks, BLOCKS_OF_TILE)
        slots = (tile * (self.width * BLOCKS_OF_TILE) + lane)[:, None] + np.arange(self.width) * BLOCKS_OF_TILE
        return torch.from_numpy(slots).to(self.tokens.device)


def token_blocks(automaton: TokenAutomaton, device: torch.device | str = "cpu") -> TokenBlocks:
    """The layout of an automaton's classes. Wider blocks leave fewer to handle, narrower ones less padding."""
    used = np.flatnonzero(automaton.class_of_token >= 0)
    classes = automaton.class_of_token[used]
    if automaton.num_classes < 2**15:
        classes = classes.astype(np.int16)  # sorted by radix: 3 ms for 262,144 in place of 20
    by_class = used[np.argsort(classes, kind="stable")]
    sizes = np.bincount(automaton.class_of_token[used], minlength=automaton.num_classes)
    width = min(WIDTHS, key=lambda width: int((-(-sizes // width)).sum()) * (width + COST_OF_BLOCK))
    first_block = np.concatenate([[0], np.cumsum(-(-sizes // width))])
    class_of_slot = automaton.class_of_token[by_class]
    slot = np.arange(len(by_class)) - (np.cumsum(sizes) - sizes)[class_of_slot] + first_block[class_of_slot] * width
    tiles = int(first_block[-1]) // BLOCKS_OF_TILE + 1  # at least one block is all padding
    tokens = np.full(tiles * BLOCKS_OF_TILE * width, -1)
    tokens[slot] = by_class
    tiled = torch.from_numpy(tokens.reshape(tiles, BLOCKS_OF_TILE, width)).transpose(1, 2).contiguous()
    padding = torch.where(tiled < 0, PADDING, 0.0)
    flat = tiled.flatten()
    slot_of_token = torch.full((len(automaton.class_of_token),), len(flat) - 1)
    slot_of_token[flat[flat >= 0]] = (flat >= 0).nonzero()[:, 0]
    return TokenBlocks(
        tiled.clamp(min=0).to(device),
        padding.to(device),
        automaton.class_of_token,
        first_block,
        slot_of_token.to(device),
    )


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the scores say about each class at each position. Masses are relative: a constant per row is immaterial.

    Scores are log-probabilities, or logits divided by the temperature; within a block those more than 80 below the
    best count as 80 below.
    """

    blocks: TokenBlocks
    weight: Tensor  # [C, tiles, width, G] float32, exp(score - best of its block)
    block_best: np.ndarray  # [C, blocks] float32, best score in the block
    block_mass: np.ndarray  # [C, blocks] float32, Σ weight
    block_tilt: np.ndarray  # [C, blocks] float32, Σ weight·log(weight)
    share: np.ndarray  # [C, blocks] float32, exp(block_best - best)
    best: np.ndarray  # [C, K] best score in the class
    mass: np.ndarray  # [C, K] Σ exp(score - best)

    @classmethod
    def of(cls, scores: Tensor, blocks: TokenBlocks) -> Evidence:
        """From all scores [C, V], any float type."""
        return cls.gathered([scores], len(scores), blocks)

    @classmethod
    def gathered(
        cls, rows: Iterable[Tensor], positions: int, blocks: TokenBlocks, weight: Tensor | None = None
    ) -> Evidence:
        """From the scores of successive rows [n, V], each of which need exist only until the next is asked for.

        `weight` is that of evidence that is no longer needed: its memory is used again.
        """
        if weight is None:
            weight = torch.empty(positions, *blocks.tokens.shape, device=blocks.tokens.device)
        limit = GATHERED_AT_ONCE.get(weight.device.type, GATHERED_AT_ONCE_ELSEWHERE)
        parts, done = [], 0
        for scores in rows:
            at_once = len(scores) if takes_class_sums(scores, weight) else max(1, limit // blocks.tokens.numel())
            for chunk in scores.split(at_once):
                parts.append(_class_sums(chunk, blocks, weight[done : done + len(chunk)]))
                done += len(chunk)
        assert done == positions, (done, positions)
        return cls(blocks, weight, *(np.concatenate(part) for part in zip(*parts, strict=True)))

    @cached_property
    def log_mass(self) -> np.ndarray:
        """[C, K] log Σ exp(score)"""
        log_mass: np.ndarray = self.best + np.log(self.mass)
        return log_mass

    def block_scale(self, class_probability: np.ndarray) -> np.ndarray:
        """[C, blocks] float32: times `weight` it is the probability of each token, given those of the classes."""
        per_class = (class_probability / self.mass).astype(np.float32)
        scale: np.ndarray = per_class[:, self.blocks.class_of_block] * self.share
        return scale

    def most_probable_tokens(self, classes: np.ndarray) -> Tensor:
        """[C] the best token of the given class at each position (the lowest id among equals)."""
        row, items, starts = ranges(self.blocks.first_block, classes)
        return self.best_tokens(items[first_maxima(self.block_best[row, items], starts)])

    def best_tokens(self, blocks: np.ndarray) -> Tensor:
        """[C] the best token of one block per position."""
        slots = self.blocks.slots(blocks)
        best = self.weight.flatten(1).gather(1, slots).argmax(1, keepdim=True)
        return self.blocks.tokens.flatten()[slots.gather(1, best)[:, 0]]

    def drawn_tokens(self, blocks: np.ndarray, uniforms: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """[C] a token of one block per position, drawn by its probability within the block, and its weight."""
        slots = self.blocks.slots(blocks)
        weights = (self.weight.flatten(1).gather(1, slots) * self.blocks.is_token[slots]).cpu().numpy()
        chosen, _ = draw_in_rows(weights, uniforms)
        rows = np.arange(len(blocks))
        tokens = self.blocks.tokens.flatten()[slots.gather(1, torch.from_numpy(chosen[:, None]).to(slots.device))[:, 0]]
        return tokens, weights[rows, chosen]

    def log_share_in_class(self, tokens: Tensor) -> np.ndarray:
        """[C] log probability of one token per position within its class; meaningless where never allowed."""
        slots = self.blocks.slot_of_token[tokens]
        weight = self.weight.flatten(1).gather(1, slots[:, None])[:, 0].double().cpu().numpy()
        slot, row = slots.cpu().numpy(), np.arange(len(tokens))
        block = slot // (self.blocks.width * BLOCKS_OF_TILE) * BLOCKS_OF_TILE + slot % BLOCKS_OF_TILE
        block = np.minimum(block, self.blocks.num_blocks - 1)
        classes = self.blocks.class_of_token[tokens.cpu().numpy()]
        log_share: np.ndarray = np.log(weight) + self.block_best[row, block] - self.log_mass[row, classes]
        return log_share


def _class_sums(scores: Tensor, blocks: TokenBlocks, weight: Tensor) -> tuple[np.ndarray, ...]:
    """The columns of `Evidence` for these rows of scores [n, V]; fills weight [n, tiles, width, G]."""
    if takes_class_sums(scores, weight):
        sums = class_sums(scores, blocks.narrow_tokens, blocks.padding, blocks.first_block, weight)
        return (*(part[:, : blocks.num_blocks] for part in sums[:4]), *sums[4:])
    block_best, block_mass, block_tilt = _block_sums(scores, blocks, weight)
    first = blocks.first_block[:-1]
    best = np.maximum.reduceat(block_best, first, axis=1)
    share = block_best - best[:, blocks.class_of_block]  # [rows, blocks] ≤ 0
    share = np.exp(np.maximum(share, NEGLIGIBLE, out=share), out=share)
    mass = np.add.reduceat((share * block_mass).astype(np.float64), first, axis=1)
    return block_best, block_mass, block_tilt, share, best.astype(np.float64), mass


def _block_sums(scores: Tensor, blocks: TokenBlocks, weight: Tensor) -> tuple[np.ndarray, ...]:
    """Best, mass and tilt of every block, each [rows, blocks] float32."""
    y = scores.index_select(1, blocks.tokens.flatten()).float().view_as(weight).add_(blocks.padding)
    best = y.amax(2).clamp_(min=FLOOR)
    log_weight = y.sub_(best[:, :, None]).clamp_(min=NEGLIGIBLE)
    torch.exp(log_weight, out=weight)
    tilt = log_weight.mul_(weight).sum(2)
    return tuple(part.flatten(1)[:, : blocks.num_blocks].cpu().numpy() for part in (best, weight.sum(2), tilt))


def ranges(first: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The items first[c] .. first[c + 1] - 1 of each c in `chosen` [n], one after the other.

    Returns which of the n each belongs to [N], the items [N], and where each of the n begins [n + 1].
    """
    counts = np.diff(first)[chosen]
    starts = np.concatenate([[0], np.cumsum(counts)])
    items = np.arange(starts[-1]) - np.repeat(starts[:-1] - first[chosen], counts)
    return np.repeat(np.arange(len(chosen)), counts), items, starts


def draw_in_rows(weights: np.ndarray, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw one column per row by inverse transform: weights [n, N], uniforms [n] in [0, 1).

    Returns the columns [n] and what is left of each uniform, again uniform and independent of the choice.
    """
    total = torch.from_numpy(weights).double().cumsum(1).numpy()  # twice as fast as numpy's
    goal = np.minimum(uniforms, JUST_BELOW_ONE) * total[:, -1]
    items, rows = (total <= goal[:, None]).sum(1), np.arange(len(weights))
    weight = weights[rows, items]
    return items, np.clip((goal - (total[rows, items] - weight)) / weight, 0.0, JUST_BELOW_ONE)


def first_maxima(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The index of the first maximum in each range starts[i] .. starts[i + 1] - 1 of `values`."""
    best = np.maximum.reduceat(values, starts[:-1])
    hits = np.flatnonzero(values == np.repeat(best, np.diff(starts)))
    return hits[np.searchsorted(hits, starts[:-1])]
