"""
From one row of scores per canvas position to a few numbers per class of tokens, and back to single tokens.

The vocabulary is laid out in blocks of equal width whose tokens belong to one class. Scores are gathered into that
layout a few rows at a time, so no second [C, V] tensor ever exists; what is kept per block (best, mass) is enough to
draw or maximise over tokens later by going class → block → token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from diffusiongemma.control.automaton import TokenAutomaton

FLOOR = -1e6  # scores below count as this: very unlikely, never impossible, so that structure always wins
PADDING = -1e30  # pads a block
NEGLIGIBLE = -80.0  # relative to the best of a block: exp() of it is 2e-35, and exp() of far less is six times slower
WIDEST_BLOCK, BLOCKS_PER_TILE = 32, 32  # measured at V = 262,144: 132 ms per 256 rows on one core, 300 ms untiled
GATHERED_AT_ONCE = {"cpu": 1_000_000}  # scores per chunk; few enough to stay in a CPU's cache
GATHERED_AT_ONCE_ELSEWHERE = 64_000_000

ClassSums = tuple[np.ndarray, ...]  # block_best, block_mass, best, log_mass, entropy of `Evidence`


@dataclass(frozen=True, eq=False)
class TokenBlocks:
    """
    Blocks of `width` tokens, ordered by class; token ids ascend within a class. Block b is `tokens[b // G, :, b % G]`:
    tiles of G blocks keep a gather local in memory and let sums over a block run over contiguous numbers.
    """

    tokens: torch.Tensor  # [tiles, width, G] int64, padded with 0
    padding: torch.Tensor  # [tiles, width, G] float32: PADDING where padded, else 0
    class_of_token: np.ndarray  # [V], -1 where never allowed
    first_block: np.ndarray  # [K + 1]: class k owns blocks first_block[k] .. first_block[k + 1] - 1

    @property
    def width(self) -> int:
        return self.tokens.shape[1]

    @cached_property
    def class_of_block(self) -> np.ndarray:
        """[blocks]"""
        return np.repeat(np.arange(len(self.first_block) - 1), np.diff(self.first_block))

    def of(self, blocks: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and padding [n, width] of n blocks."""
        tile, lane = (torch.from_numpy(part).to(self.tokens.device) for part in divmod(blocks, BLOCKS_PER_TILE))
        return self.tokens[tile, :, lane], self.padding[tile, :, lane]


def token_blocks(automaton: TokenAutomaton, device: torch.device | str = "cpu") -> TokenBlocks:
    """The layout of an automaton's classes. Wider blocks leave fewer to handle, narrower ones less padding."""
    used = np.flatnonzero(automaton.class_of_token >= 0)
    by_class = used[np.argsort(automaton.class_of_token[used], kind="stable")]
    sizes = np.bincount(automaton.class_of_token[used], minlength=automaton.num_classes)
    width = min(WIDEST_BLOCK, 2 ** max(1, round(np.log2(2 * np.sqrt(sizes.mean())))))
    first_block = np.concatenate([[0], np.cumsum(-(-sizes // width))])
    class_of_slot = automaton.class_of_token[by_class]
    slot = np.arange(len(by_class)) - (np.cumsum(sizes) - sizes)[class_of_slot] + first_block[class_of_slot] * width
    tiles = -(-int(first_block[-1]) // BLOCKS_PER_TILE)
    tokens = np.full(tiles * BLOCKS_PER_TILE * width, -1)
    tokens[slot] = by_class
    tiled = torch.from_numpy(tokens.reshape(tiles, BLOCKS_PER_TILE, width)).transpose(1, 2).contiguous()
    padding = torch.where(tiled < 0, PADDING, 0.0)
    return TokenBlocks(tiled.clamp_(min=0).to(device), padding.to(device), automaton.class_of_token, first_block)


@dataclass(frozen=True, eq=False)
class Evidence:
    """
    What the scores say about each class at each position. Masses are relative: a constant per row is immaterial.

    Scores are log-probabilities, or logits divided by the temperature. They need not be kept: `scores_of` is asked for
    a few of them again when tokens are picked (tokens [C, n] → their scores [C, n]).
    """

    blocks: TokenBlocks
    scores_of: Callable[[torch.Tensor], torch.Tensor]
    block_best: np.ndarray  # [C, blocks] float32, best score in the block
    block_mass: np.ndarray  # [C, blocks] float32, Σ exp(score - block_best)
    best: np.ndarray  # [C, K] best score in the class
    log_mass: np.ndarray  # [C, K] log Σ exp(score)
    entropy: np.ndarray  # [C, K] entropy, in nats, of the token given its class

    @classmethod
    def of(cls, scores: torch.Tensor, blocks: TokenBlocks) -> "Evidence":
        """From all scores [C, V]."""
        return cls.gathered(class_sums(scores, blocks), blocks, lambda tokens: scores.gather(1, tokens))

    @classmethod
    def gathered(
        cls, parts: Sequence[ClassSums], blocks: TokenBlocks, scores_of: Callable[[torch.Tensor], torch.Tensor]
    ) -> "Evidence":
        """From the `class_sums` of successive rows, where the scores themselves exist a few rows at a time."""
        return cls(blocks, scores_of, *(np.concatenate(part) for part in zip(*parts, strict=True)))

    def most_probable_tokens(self, classes: np.ndarray) -> torch.Tensor:
        """[C] the best token of the given class at each position (the lowest id among equals)."""
        row, items, starts = self._blocks_in(classes)
        blocks = items[first_maxima(self.block_best[row, items], starts)]
        tokens, scores = self._tokens_in(blocks)
        return self._as_tensor(tokens[np.arange(len(blocks)), scores.argmax(1)])

    def sampled_tokens(self, classes: np.ndarray, uniforms: np.ndarray) -> torch.Tensor:
        """[C] a token of the given class at each position, drawn by its probability within the class."""
        row, items, starts = self._blocks_in(classes)
        weights = np.exp(self.block_best[row, items] - self.best[row, classes[row]]) * self.block_mass[row, items]
        chosen, uniforms = draw(weights, starts, uniforms)
        tokens, scores = self._tokens_in(items[chosen])
        weights = np.exp(scores - scores.max(1, keepdims=True))
        chosen, _ = draw(weights.ravel(), np.arange(len(classes) + 1) * self.blocks.width, uniforms)
        return self._as_tensor(tokens.ravel()[chosen])

    def _blocks_in(self, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All blocks of each position's class, one after the other: (position, block), and where each begins."""
        return ranges(self.blocks.first_block, classes)

    def _tokens_in(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and scores [C, width] of one block per position."""
        tokens, padding = self.blocks.of(blocks)
        scores = self.scores_of(tokens).float().clamp(min=FLOOR) + padding
        return tokens.cpu().numpy(), scores.double().cpu().numpy()

    def _as_tensor(self, tokens: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(tokens).to(self.blocks.tokens.device)


def class_sums(scores: torch.Tensor, blocks: TokenBlocks) -> list[ClassSums]:
    """The columns of `Evidence` for these rows of scores [n, V], in parts."""
    limit = GATHERED_AT_ONCE.get(scores.device.type, GATHERED_AT_ONCE_ELSEWHERE)
    return [_class_sums(chunk, blocks) for chunk in scores.split(max(1, limit // blocks.tokens.numel()))]


def _class_sums(scores: torch.Tensor, blocks: TokenBlocks) -> ClassSums:
    block_best, block_mass, block_tilt = _block_sums(scores, blocks)
    first = blocks.first_block[:-1]
    best = np.maximum.reduceat(block_best, first, axis=1)
    below = block_best - best[:, blocks.class_of_block]  # [rows, blocks] ≤ 0
    share = np.exp(np.maximum(below, NEGLIGIBLE))
    mass = np.add.reduceat((share * block_mass).astype(np.float64), first, axis=1)
    tilt = np.add.reduceat((share * (block_tilt + block_mass * below)).astype(np.float64), first, axis=1)
    log_mass = np.log(mass)
    best = best.astype(np.float64)
    return block_best, block_mass, best, best + log_mass, log_mass - tilt / mass


def _block_sums(scores: torch.Tensor, blocks: TokenBlocks) -> tuple[np.ndarray, ...]:
    """Best, mass and tilt Σ exp(y)·y (y = score - best) of every block, each [rows, blocks] float32."""
    gathered = scores.index_select(1, blocks.tokens.reshape(-1)).float()
    y = gathered.view(-1, *blocks.tokens.shape).add_(blocks.padding)  # [rows, tiles, width, G]
    best = y.amax(2).clamp_(min=FLOOR)
    weight = y.sub_(best[:, :, None]).clamp_(min=NEGLIGIBLE).exp()
    mass = weight.sum(2)
    tilt = weight.mul_(y).sum(2)
    return tuple(part.flatten(1)[:, : blocks.first_block[-1]].cpu().numpy() for part in (best, mass, tilt))


def ranges(first: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    The items first[c] .. first[c + 1] - 1 of each c in `chosen` [n], one after the other.

    Returns which of the n each belongs to [N], the items [N], and where each of the n begins [n + 1].
    """
    counts = np.diff(first)[chosen]
    starts = np.concatenate([[0], np.cumsum(counts)])
    items = np.arange(starts[-1]) - np.repeat(starts[:-1] - first[chosen], counts)
    return np.repeat(np.arange(len(chosen)), counts), items, starts


def draw(weights: np.ndarray, starts: np.ndarray, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Draw one item per range by inverse transform.

    weights [N] lie in ranges starts[i] .. starts[i + 1] - 1, uniforms [n] in [0, 1). Returns the items drawn [n]
    (indices into `weights`) and what is left of each uniform, again uniform and independent of the choice.
    """
    total = np.cumsum(weights, dtype=np.float64)
    before = np.concatenate([[0.0], total])[starts]
    goal = before[:-1] + uniforms * np.diff(before)
    items = np.clip(np.searchsorted(total, goal, side="right"), starts[:-1], starts[1:] - 1)
    weight = np.maximum(weights[items], np.finfo(np.float64).tiny)
    left = (goal - (total[items] - weights[items])) / weight
    return items, np.clip(left, 0.0, np.nextafter(1.0, 0.0))


def first_maxima(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The index of the first maximum in each range starts[i] .. starts[i + 1] - 1 of `values`."""
    best = np.maximum.reduceat(values, starts[:-1])
    hits = np.flatnonzero(values == np.repeat(best, np.diff(starts)))
    return hits[np.searchsorted(hits, starts[:-1])]
