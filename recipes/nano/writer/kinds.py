"""What the writer is asked for: kinds of texts, how each is asked for, and what makes one acceptable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from recipes.nano.phrases import read_phrases
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

_TOPICS: dict[str, Sequence[str]] = {
    "all": topics.TOPICS,
    "stories": STORY_TOPICS,
    "seen": SEEN,
    "concepts": topics.CONCEPTS,
    "why": topics.WHY,
    "how to": topics.HOW_TO,
    "remarks": topics.REMARKS,
    "places": topics.THINGS["places"],
    "occasions": tuple(name for kind in ("events", "foods", "places", "people") for name in topics.THINGS[kind]),
}
_SHOWN: dict[str, Callable[[str], str]] = {
    "with an article": with_article,
    "as it is": str,
    "capital": lambda topic: topic[0].upper() + topic[1:],
}


def _kind(name: str, said: dict[str, Any]) -> Kind:
    """A kind of data/writer.toml."""
    said = dict(said)
    shape = Shape(**{field.name: said.pop(field.name) for field in fields(Shape) if field.name in said})
    shown = _SHOWN[said.pop("shown", "with an article")]
    return Kind(name, _TOPICS[said.pop("topics")], shape=shape, shown=shown, **said)


KINDS = tuple(_kind(name, said) for name, said in read_phrases("writer").items())
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
