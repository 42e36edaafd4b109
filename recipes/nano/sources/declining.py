"""Requests that a model of two million parameters cannot meet, and an honest answer to each kind of them."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from diffusiongemma.tasks.example import Example, Split
from recipes.nano.sources import explanations, lists, sums

LARGEST = 10  # of the numbers that it learns to calculate with
Generate = Callable[..., Example]
DECLINED: dict[str, tuple[Generate, str, float]] = {
    "explanation": (explanations.generate, "I do not know enough to explain that. I am a very small model.", 1.5),
    "list": (lists.generate, "I do not know enough to list that. I am a very small model.", 1.0),
    "large sum": (sums.generate, "I cannot calculate with numbers as large as these.", 1.0),
}


def generate(rng: np.random.Generator, split: Split) -> Example:
    """A request and that it cannot be met. meta holds the `kind`."""
    kinds = list(DECLINED)
    shares = np.array([share for _, _, share in DECLINED.values()])
    kind = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
    ask, answer, _ = DECLINED[kind]
    while True:
        asked = ask(rng, split)
        if kind != "large sum" or _largest(asked) > LARGEST:
            return Example(asked.prompt, answer, {"kind": kind})


def generate_small_sum(rng: np.random.Generator, split: Split) -> Example:
    """A sum of numbers that are not declined, and its result."""
    while True:
        asked = sums.generate(rng, split)
        if 0 <= _largest(asked) <= LARGEST:
            return asked


def _largest(asked: Example) -> int:
    """Of the numbers in digits; -1 where there are none."""
    return max(map(int, re.findall(r"\d+", asked.prompt)), default=-1)
