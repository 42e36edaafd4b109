"""What the writer is asked for: kinds of texts, how each is asked for, and what makes one acceptable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from recipes.nano.writer import topics
from recipes.nano.writer.topics import with_article


@dataclass(frozen=True)
class Shape:
    """Fewest and most words, sentences and lines of an acceptable text."""

    words: tuple[int, int]
    sentences: tuple[int, int] = (1, 1)
    lines: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Kind:
    """A kind of text.

    `requests` hold `{}` in the place of a topic as `shown`. The writer sees the exchanges of shots.txt before. `about`
    texts must name their topic; the mean log-likelihood per token must be `likely` at least.
    """

    name: str
    topics: Sequence[str]
    requests: tuple[str, ...]
    shape: Shape
    shown: Callable[[str], str] = with_article
    tokens: int = 60
    temperature: float = 0.8
    about: bool = True
    likely: float = -1.6
    share: float = 1.0

    @property
    def shots(self) -> tuple[tuple[str, str], ...]:
        return read_shots().get(self.name, ())


@cache
def read_shots() -> dict[str, tuple[tuple[str, str], ...]]:
    """(request, answer) by kind."""
    found: dict[str, list[tuple[str, str]]] = {}
    kind = ""
    for block in (Path(__file__).parent / "shots.txt").read_text(encoding="utf-8").split("\n\n")[1:]:
        lines = block.strip().split("\n")
        if lines[0].startswith("["):
            kind = lines.pop(0).strip("[]")
        found.setdefault(kind, []).append((lines[0].removeprefix("> "), "\n".join(lines[1:])))
    return {name: tuple(pairs) for name, pairs in found.items()}


def _as_is(topic: str) -> str:
    return topic


HEROES = ("people", "animals", "birds", "sea animals", "insects", "vehicles", "household things", "plants", "nature")
NAMES = topics._words(
    """
    Anna, Ben, Clara, Daniel, Emma, Felix, Grace, Henry, Ida, Jack, Kate, Leo, Mia, Noah, Olga, Paul, Rosa, Sam, Tina,
    Victor, Lily, Max, Ella, Oscar, Nora, Hugo, Alice, Theo, Ruby, Finn, Maya, Adam, Zoe, Lucas, Eva, Omar, Lena, Ali,
    Sofia, Ivan
    """
)
PLACES = tuple(f"in {with_article(place)}" for place in topics.THINGS["places"])
STORY_TOPICS = tuple(
    dict.fromkeys(name for kind in (*HEROES, "events", "feelings", "weather", "foods") for name in topics.THINGS[kind])
)
SEEN = tuple(
    dict.fromkeys(
        name for kind, names in topics.THINGS.items() if kind not in ("feelings", "school subjects") for name in names
    )
)

KINDS: tuple[Kind, ...] = (
    Kind(
        "story",
        STORY_TOPICS,
        (
            "Write a very short story about {}. Use three short sentences.",
            "Tell a tiny story about {} in three or four short sentences.",
            "Write a short, simple story for children about {}. Three sentences only.",
        ),
        Shape((14, 75), (2, 5)),
        tokens=100,
        temperature=0.7,
        likely=-1.75,
        share=1.5,
    ),
    Kind(
        "poem",
        topics.TOPICS,
        (
            "Write a short poem of four lines about {}.",
            "Write four short rhyming lines about {}.",
            "Write a tiny poem about {}. Four lines only.",
        ),
        Shape((10, 48), (1, 8), (2, 4)),
        tokens=72,
        temperature=0.7,
        likely=-1.9,
        share=1.0,
    ),
    Kind(
        "describe",
        SEEN,
        (
            "Describe {} in one sentence.",
            "Say something about {} in one simple sentence.",
            "Tell me one thing about {}.",
        ),
        Shape((5, 32)),
        share=1.5,
    ),
    Kind(
        "define",
        SEEN,
        ("What is {}? Answer in one short sentence.", "What is {}?"),
        Shape((5, 30)),
        temperature=0.6,
        likely=-1.3,
        share=0.4,
    ),
    Kind(
        "explain",
        topics.CONCEPTS,
        ("Explain {} in one simple sentence.", "Explain {} to a child in one sentence."),
        Shape((7, 36)),
        shown=_as_is,
        temperature=0.6,
        likely=-1.3,
        share=0.5,
    ),
    Kind(
        "why",
        topics.WHY,
        ("Explain in one simple sentence why {}.",),
        Shape((7, 36)),
        shown=_as_is,
        about=False,
        temperature=0.6,
        likely=-1.3,
        share=0.1,
    ),
    Kind(
        "tip",
        topics.HOW_TO,
        ("Give one short tip: how do I {}?", "How do I {}? Answer in one or two short sentences."),
        Shape((7, 45), (1, 2)),
        shown=_as_is,
        about=False,
        likely=-1.45,
        share=0.4,
    ),
    Kind(
        "remark",
        topics.REMARKS,
        ("{}.", "{}."),
        Shape((3, 26), (1, 2)),
        shown=lambda remark: remark[0].upper() + remark[1:],
        about=False,
        tokens=40,
        share=0.6,
    ),
    Kind(
        "things",
        tuple(f"{place}" for place in topics.THINGS["places"]),
        ("Name three things that one can find in {}.",),
        Shape((3, 20)),
        tokens=32,
        about=False,
        share=0.3,
    ),
    Kind(
        "sentence",
        SEEN,
        (
            "Write one simple sentence about {}.",
            "Write one sentence about {} in the past tense.",
            "Write one sentence that begins with a name and tells about {}.",
            "Write one long sentence about {} with two commas.",
            "Write one question about {}.",
            "Write one sentence about {} with a number in it.",
        ),
        Shape((4, 34)),
        tokens=48,
        temperature=0.8,
        likely=-2.1,
        share=4.0,
    ),
    Kind(
        "paragraph",
        SEEN,
        (
            "Write three short sentences about {}.",
            "Write three plain sentences about what happened with {} yesterday.",
            "Write a short note of two or three sentences about {}.",
            "Write three sentences about a person and {}.",
        ),
        Shape((14, 75), (2, 4)),
        tokens=96,
        temperature=0.7,
        likely=-1.75,
        share=2.0,
    ),
    Kind(
        "message",
        (*topics.THINGS["events"], *topics.THINGS["foods"], *topics.THINGS["places"], *topics.THINGS["people"]),
        (
            "Write a short message to a friend about {}. Two sentences.",
            "Write two polite sentences to a colleague about {}.",
            "Write a short thank-you note about {}. Two sentences.",
        ),
        Shape((8, 50), (1, 4)),
        tokens=72,
        temperature=0.7,
        likely=-1.75,
        share=0.8,
    ),
)
SAMPLES = 4

BY_NAME = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True)
class Item:
    """What is asked for: a kind, a topic, the words of the request; `number` makes it unique.

    `SAMPLES` items one after the other ask for the same, as a request costs as much to read as a text to write, and
    texts that agree can be told from those that do not.
    """

    number: int
    kind: str
    topic: str
    request: str


def item(number: int, seed: int = 0) -> Item:
    """The item of a number, the same whenever it is asked for."""
    rng = np.random.default_rng((seed, number // SAMPLES))
    shares = np.array([kind.share for kind in KINDS])
    kind = KINDS[int(rng.choice(len(KINDS), p=shares / shares.sum()))]
    topic = kind.topics[int(rng.integers(len(kind.topics)))]
    request = kind.requests[int(rng.integers(len(kind.requests)))].format(kind.shown(topic))
    return Item(number, kind.name, topic, _varied(request, kind.name, rng))


def _varied(request: str, kind: str, rng: np.random.Generator) -> str:
    """A name or a place in some requests, as one request over and over gives the same few texts."""
    if kind in ("story", "paragraph") and rng.random() < 0.5:
        name = NAMES[int(rng.integers(len(NAMES)))]
        where = PLACES[int(rng.integers(len(PLACES)))]
        return request + (f" Someone is called {name}." if rng.random() < 0.6 else f" It happens {where}.")
    if kind == "sentence" and rng.random() < 0.3:
        return request + f" Use the name {NAMES[int(rng.integers(len(NAMES)))]}."
    return request
