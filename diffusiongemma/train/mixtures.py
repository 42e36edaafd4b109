"""Mixtures of examples as batches that depend on the step alone: parts, their shares, and sources of a few kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusiongemma.config import ModelConfig
from diffusiongemma.errors import InputError
from diffusiongemma.tasks import TASKS, Example
from diffusiongemma.train.data import Tokenised, collate, tokenise
from diffusiongemma.train.objective import Batch, Batches

Source = Callable[[np.random.Generator, int, int], list[Tokenised]]  # (rng, how many, step from 0)

MOST_DRAWS = 100  # of a source whose examples are mostly too long


@dataclass(frozen=True)
class Part:
    """A source and its share of every batch, of which it makes a batch of its own.

    Examples of more than `length` tokens of prompt and answer are passed over, unless that is 0. `runs` is that of
    `Batch`. Without `encoder` the encoder learns nothing of it.
    """

    source: Source
    share: float
    length: int = 0
    runs: float = 1.0
    encoder: bool = True

    def draw(self, rng: np.random.Generator, count: int, step: int) -> list[Tokenised]:
        """`count` examples. Raises `InputError` where hardly any are short enough."""
        found: list[Tokenised] = []
        for _ in range(MOST_DRAWS):
            made = self.source(rng, count - len(found), step)
            found += [e for e in made if not self.length or e.tokens <= self.length]
            if len(found) == count:
                return found
        raise InputError(f"too few examples of at most {self.length} tokens: raise the length")


@dataclass(frozen=True)
class Mixture:
    """Parts of every batch.

    The encoder learns to predict on every `encoder_every`-th step only, 0 for none: give its loss that weight for the
    same mean gradient. The other steps need not encode the answers, which for sudoku makes 1.7 times as many examples
    a second.
    """

    parts: tuple[Part, ...]
    encoder_every: int = 1

    def batches(self, config: ModelConfig, size: int, seed: int) -> Batches:
        counts = divided(size, [part.share for part in self.parts])

        def batches(step: int) -> list[Batch]:
            rng = np.random.default_rng((seed, step))
            encoder = self.encoder_every > 0 and step % self.encoder_every == 0
            made = [(part, part.draw(rng, n, step)) for part, n in zip(self.parts, counts, strict=True) if n]
            return [collate(some, config, rng, encoder and part.encoder, part.runs) for part, some in made]

        return batches


def divided(total: int, shares: Sequence[float]) -> list[int]:
    """`total` in whole numbers as near to the shares as can be (largest remainders)."""
    exact = [total * share / sum(shares) for share in shares]
    counts = [int(x) for x in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def task_source(name: str, tokenizer: Any, config: ModelConfig, **options: Any) -> Source:
    """Examples of the training half of a task."""
    generate: Callable[..., Example] = TASKS[name].generate

    def source(rng: np.random.Generator, count: int, step: int) -> list[Tokenised]:
        examples = [generate(rng, "train", **options) for _ in range(count)]
        return tokenise([(e.prompt, e.answer) for e in examples], tokenizer, config)

    return source


def mixed_source(*parts: tuple[Source, float]) -> Source:
    """Examples of several sources, each with its share."""

    def source(rng: np.random.Generator, count: int, step: int) -> list[Tokenised]:
        # Which source each one is from is drawn, as there may be fewer examples than sources.
        shares = np.array([share for _, share in parts])
        counts = rng.multinomial(count, shares / shares.sum())
        made = [e for (one, _), n in zip(parts, counts, strict=True) if n for e in one(rng, int(n), step)]
        return [made[i] for i in rng.permutation(len(made))]

    return source


def pair_source(pairs: Sequence[tuple[str, str]], tokenizer: Any, config: ModelConfig) -> Source:
    """Questions and answers out of a list."""

    def source(rng: np.random.Generator, count: int, step: int) -> list[Tokenised]:
        return tokenise([pairs[int(i)] for i in rng.integers(len(pairs), size=count)], tokenizer, config)

    return source
