"""The exact distribution of one canvas over a few labels, each a text of any number of tokens.

A canvas says a label where its first tokens write it and end tokens fill the rest. The model gives independent scores
per position, so the probability of a label is a sum over the ways to cut it into tokens, found in one sweep over
(position, bytes written). Renormalised over the labels, whatever they have in common cancels: the positions behind the
longest way, and constants of a row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from diffusiongemma.control.tokens.trie import TokenTrie
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.diffusion.readout import Head, Prediction, Reader
from diffusiongemma.errors import InputError
from diffusiongemma.kernels.rows import filled


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels laid out for one vocabulary: states 0 … S - 1 are the bytes written of one label after the other.

    A move writes a token of the label, or an end token behind it; those that reach the same state are consecutive.
    """

    tokens: np.ndarray  # [T] the token ids that a label can be made of, then the end tokens
    ends: int  # how many of them are end tokens
    source: np.ndarray  # [M] state before each move
    column: np.ndarray  # [M] its token, as a place in `tokens`; T - ends stands for any end token
    reached: np.ndarray  # [R] the states that moves lead to, ascending
    begins: np.ndarray  # [R] where in the moves those of each begin
    first: np.ndarray  # [K] state of each label before its first token
    last: np.ndarray  # [K] and behind its last
    positions: int  # of a canvas, that tell labels apart

    @classmethod
    def of(cls, texts: Sequence[str], vocabulary: Vocabulary, end_ids: Collection[int], positions: int) -> Labels:
        """For canvases of `positions` tokens. Raises `InputError` for a label that the vocabulary cannot write on one
        of them."""
        written = [text.encode("utf-8") for text in texts]
        sizes = np.array([len(label) + 1 for label in written])
        first = np.cumsum(sizes) - sizes
        rows = [(at + b, at + a, token) for at, label in zip(first, written, strict=True)
                for a, b, token in _pieces(label, vocabulary.trie)]  # fmt: skip
        known = sorted({token for _, _, token in rows})
        last = first + sizes - 1
        place = {token: i for i, token in enumerate(known)}
        moves = [(to, start, place[token]) for to, start, token in rows]
        moves = sorted(moves + [(int(state), int(state), len(known)) for state in last])
        target, source, column = np.array(moves, np.int64).T
        reached, begins = np.unique(target, return_index=True)
        tokens = np.array([*known, *end_ids], np.int64)
        depth = min(positions, max(map(len, written)))
        labels = cls(tokens, len(end_ids), source, column, reached, begins, first, last, depth)
        possible = labels.log_probabilities(np.zeros((depth, len(tokens))))
        if len(bad := np.flatnonzero(np.isneginf(possible))):
            message = f"{texts[bad[0]]!r} cannot be written on a canvas of {positions} tokens: choose another"
            raise InputError(message, option="questions")
        return labels

    def log_probabilities(self, scores: np.ndarray) -> np.ndarray:
        """[K] float64, of each label: how probable it is that a canvas which says one of them says this one.

        scores [positions, T]: log-probabilities or logits of `tokens`; a constant per row does not matter.
        """
        scores = scores.astype(np.float64)
        plain = scores.shape[1] - self.ends
        any_end = np.logaddexp.reduce(scores[:, plain:], axis=1)
        scores = np.concatenate([scores[:, :plain], any_end[:, None]], axis=1)
        value = np.full(int(self.last[-1]) + 1, -np.inf)
        value[self.first] = 0.0
        for row in scores:
            after = np.full_like(value, -np.inf)
            after[self.reached] = np.logaddexp.reduceat(value[self.source] + row[self.column], self.begins)
            value = after
        found = value[self.last]
        log_p: np.ndarray = found - np.logaddexp.reduce(found[np.isfinite(found)], initial=-np.inf)
        return log_p


def _pieces(label: bytes, trie: TokenTrie) -> Iterator[tuple[int, int, int]]:
    """(from, to, token) of every token that writes a part of the label."""
    for start in range(len(label)):
        node = 0
        for end in range(start, len(label)):
            low, high = int(trie.first_child[node]), int(trie.first_child[node + 1])
            node = low + int(np.searchsorted(trie.symbol[low:high], label[end]))
            if node == high or trie.symbol[node] != label[end]:
                break
            for token in trie.tokens[trie.low[node] : trie.middle[node]].tolist():
                yield start, end + 1, token


@dataclass(eq=False)
class LabelReader(Reader):
    """Reads a canvas as `inner` does, and beside it the labels' probabilities under the model's own distribution, at
    temperature 1. Those of the latest step stand in `log_probabilities`."""

    labels: Labels
    inner: Reader
    log_probabilities: tuple[float, ...] = field(default=(), init=False)

    @property
    def positions(self) -> int:
        return self.inner.positions

    def pinnable(self, tokens: Sequence[int]) -> int:
        return self.inner.pinnable(tokens)

    def answer(self, prediction: Prediction) -> Prediction:
        return self.inner.answer(prediction)

    def __call__(self, head: Head, hidden: Tensor, temperature: float, uniforms: Tensor, greedy: bool) -> Prediction:
        """hidden [C, D], uniforms [C]."""
        rows = hidden[: self.labels.positions]
        logits = head.logits(rows if head.eight_bits else filled(rows))[: len(rows)]
        scores = logits[:, self.labels.tokens.tolist()].float().cpu().numpy()
        self.log_probabilities = tuple(self.labels.log_probabilities(scores).tolist())
        return self.inner(head, hidden, temperature, uniforms, greedy)
