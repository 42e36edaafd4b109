"""Requests that a model of a few million parameters cannot meet, and an honest answer to each kind of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from diffusiongemma.tasks.example import Example, Split, choose, in_split
from diffusiongemma.tasks.vocabulary import MEN, WOMEN
from recipes.nano.sources import explanations, lists, sums
from recipes.nano.sources.phrasing import is_probe, varied
from recipes.nano.writer.topics import THINGS, with_article

LARGEST = 10  # of the numbers in a small sum
UNKNOWN = "I do not know enough about that. I am a very small model."
NO_LIST = "I do not know enough to list that. I am a very small model."
NO_SUM = "I cannot calculate. I am a very small model."
NO_TEXT = "I cannot write that. I am a very small model."
_FACTS = (
    "Who is {p}?",
    "Who was {p}?",
    "What do you know about {p}?",
    "Tell me about {p}.",
    "When was {p} born?",
    "Where does {p} live?",
    "How old is {p}?",
    "What did {p} do?",
    "Is {p} famous?",
    "Have you heard of {p}?",
    "Who invented the {n}?",
    "How much is a {n}?",
    "How much does a {n} cost?",
    "How do I make a {n}?",
    "How does a {n} work?",
    "How can I use a {n}?",
    "Where can I find a {n}?",
    "What happened to the {n}?",
    "Who won the {n}?",
    "When did the {n} begin?",
    "Why is there a {n}?",
    "What is the best {n}?",
    "What do you think about the {n}?",
    "What is the difference between a {n} and a {m}?",
)
_DECLINED: dict[str, tuple[str, float]] = {
    "explanation": (UNKNOWN, 2.0),
    "fact": (UNKNOWN, 1.5),
    "list": (NO_LIST, 0.7),
    "large sum": ("I cannot calculate with numbers as large as these.", 0.7),
}
_OPERATIONS = ("{a} + {b}", "{a}+{b}", "{a} - {b}", "{a} * {b}", "{a} times {b}", "{a} divided by {b}", "{a} x {b}")


def unknown(words: Iterable[str]) -> list[str]:
    """Those of these nouns about which nothing else is taught."""
    known = {word for names in THINGS.values() for word in names} | {
        word for kind in lists.KINDS for word in kind.split()
    }
    known |= {key.split()[-1] for key in (*explanations.MEANINGS, *explanations.SIMPLE)}
    return sorted({word for word in words if word not in known and f"{word}s" not in known})


def generate(rng: np.random.Generator, split: Split, nouns: Sequence[str]) -> Example:
    """A request and that it cannot be met; `nouns` are unknown. meta holds the `kind`."""
    kinds = list(_DECLINED)
    shares = np.array([share for _, share in _DECLINED.values()])
    while True:
        kind = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
        asked = _ASK[kind](rng, choose(rng, nouns), choose(rng, nouns))
        if in_split(f"declined {asked}", split):
            prompt = varied(rng, asked)
            if not is_probe(prompt):
                return Example(prompt, _DECLINED[kind][0], {"kind": kind})


def _explanation(rng: np.random.Generator, noun: str, other: str) -> str:
    return explanations.what_is(rng, noun if rng.random() < 0.5 else with_article(noun))


def _fact(rng: np.random.Generator, noun: str, other: str) -> str:
    names = (*WOMEN, *MEN)
    person = choose(rng, names) if rng.random() < 0.2 else f"{choose(rng, names)} {other.capitalize()}"
    return choose(rng, _FACTS).format(p=person, n=noun, m=other)


def _list(rng: np.random.Generator, noun: str, other: str) -> str:
    return lists.several(rng, noun if noun.endswith("s") else f"{noun}s", int(choose(rng, (2, 3, 4, 5))))


def _large_sum(rng: np.random.Generator, noun: str, other: str) -> str:
    a, b = (int(10 ** rng.uniform(3, 7)) for _ in range(2))
    return sums.question(rng, choose(rng, _OPERATIONS).format(a=a, b=b if rng.random() < 0.7 else b % 1000))


_ASK: dict[str, Callable[[np.random.Generator, str, str], str]] = {
    "explanation": _explanation,
    "fact": _fact,
    "list": _list,
    "large sum": _large_sum,
}


def generate_beyond(
    rng: np.random.Generator, make: Callable[[np.random.Generator], Example], answer: str, known: frozenset[str]
) -> Example:
    """What `make` asks, but for the keys, or kinds where it has none, that are `known`, and that it cannot be met."""
    while True:
        asked = make(rng)
        if asked.meta.get("key", asked.meta["kind"]) not in known:
            return Example(asked.prompt, answer, {"kind": "beyond"})


def generate_small_sum(rng: np.random.Generator, split: Split) -> Example:
    """A sum of numbers up to LARGEST, and its result."""
    while True:
        asked = sums.generate(rng, split)
        if 0 <= max(map(int, re.findall(r"\d+", asked.prompt)), default=-1) <= LARGEST:
            return asked
