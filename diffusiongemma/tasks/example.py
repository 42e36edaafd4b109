"""What every task makes — a prompt, the answer wanted, what its score needs — and how train and test are told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

Split = Literal["train", "test"]
T = TypeVar("T")

TEST_SHARE = 10  # one key in ten belongs to test


@dataclass(frozen=True)
class Example:
    """One exchange. `meta` is JSON-serialisable."""

    prompt: str
    answer: str
    meta: dict[str, Any] = field(default_factory=dict)


def in_split(key: str, split: Split) -> bool:
    """Whether content with this key may appear in `split`. Every key belongs to exactly one, by its hash.

    What a task takes as the key is what its test set promises never to have shown in training.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=4).digest()
    return (int.from_bytes(digest, "little") % TEST_SHARE == 0) == (split == "test")


def choose(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of `options`, each as likely."""
    return options[int(rng.integers(len(options)))]


def choose_several(rng: np.random.Generator, options: Sequence[T], n: int) -> list[T]:
    """`n` different ones of `options`, in random order."""
    return [options[int(i)] for i in rng.permutation(len(options))[:n]]


def chance(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)
