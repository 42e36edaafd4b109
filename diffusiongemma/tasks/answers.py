"""Short questions with short answers: a table of plain facts, and pairs from conversations or definitions.

A small model cannot know a fact that it was never told: what is held out of the table's questions is a wording, so
that test asks for known facts in words not seen for that fact. A pair from documents is in one half by its question.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusiongemma.tasks.example import Example, Split, chance, choose, in_split
from diffusiongemma.tasks.vocabulary import MONTHS, WEEKDAYS

MAX_QUESTION_WORDS = 40
MAX_ANSWER_WORDS = 40

_DEFINITION = re.compile(r"(?P<word>[^,(]+?)(?:, [^(]*)? \((?P<kind>noun|verb|adjective|adverb)\): (?P<meaning>[^\n]+)")
_EXAMPLE = re.compile(r" Example: .*")


@dataclass(frozen=True)
class Facts:
    """Questions with `{}` in the place of a key, and the answer to each key."""

    wordings: tuple[str, ...]
    answers: dict[str, str]


def generate(rng: np.random.Generator, split: Split, pairs: Sequence[tuple[str, str]] | None = None) -> Example:
    """One question; meta holds its `kind`: a key of FACTS, or `pair`.

    `pairs`, when given, are (question, answer) texts, and half of the examples come from them.
    """
    if pairs and chance(rng, 0.5):
        for _ in range(1000):
            question, answer = choose(rng, pairs)
            if in_split(question, split):
                return Example(question, answer, {"kind": "pair"})
    while True:
        kind = choose(rng, tuple(FACTS))
        facts = FACTS[kind]
        key = choose(rng, tuple(facts.answers))
        question = choose(rng, facts.wordings).format(key)
        if in_split(question, split):
            return Example(question, facts.answers[key], {"kind": kind})


def score(example: Example, text: str) -> dict[str, Any]:
    """`exact` (same words, capitals and final mark aside), `overlap` (F1 of the words, 0-1), and the `kind`."""
    given, wanted = _plain_words(text), _plain_words(example.answer)
    common = sum(min(given.count(word), wanted.count(word)) for word in set(wanted))
    overlap = 2 * common / max(1, len(given) + len(wanted))
    return {"exact": given == wanted, "overlap": overlap, "kind": example.meta["kind"]}


def pairs_from_conversations(documents: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The first two turns of each conversation (one turn a line), where both are short."""
    for document in documents:
        turns = [line.strip() for line in document.split("\n") if line.strip()]
        if len(turns) >= 2 and _is_short(turns[0], turns[1]):
            yield turns[0], turns[1]


def pairs_from_definitions(documents: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What a word means, from documents like `recreation, refreshment (noun): activity that … Example: "…".`"""
    for document in documents:
        match = _DEFINITION.match(document)
        if match:
            meaning = _EXAMPLE.sub("", match["meaning"]).strip()
            question = f'What does the {match["kind"]} "{match["word"]}" mean?'
            if _is_short(question, meaning):
                yield question, meaning


def _is_short(question: str, answer: str) -> bool:
    return len(question.split()) <= MAX_QUESTION_WORDS and len(answer.split()) <= MAX_ANSWER_WORDS


def _plain_words(text: str) -> list[str]:
    return re.sub(r"[.!?]+$", "", text.strip()).lower().split()


def _table(text: str) -> dict[str, str]:
    """`key/answer` items, apart by commas or line ends."""
    items = [item.strip() for item in re.split(r"[,\n]", text) if item.strip()]
    return {key: answer for key, answer in (item.split("/") for item in items)}


def _next_in(names: Sequence[str]) -> dict[str, str]:
    return {name: names[(i + 1) % len(names)] for i, name in enumerate(names)}


_OPPOSITES = _table(
    """hot/cold, big/small, fast/slow, high/low, open/closed, wet/dry, full/empty, hard/soft, happy/sad, light/dark,
    old/new, rich/poor, strong/weak, early/late, near/far, long/short, clean/dirty, loud/quiet, thick/thin, wide/narrow,
    deep/shallow, heavy/light, sweet/sour, true/false, right/wrong, brave/afraid, cheap/expensive, easy/difficult,
    first/last, up/down, left/right, inside/outside, before/after, always/never, day/night, war/peace, love/hate,
    buy/sell, push/pull, begin/end, win/lose, give/take, laugh/cry, remember/forget"""
)
_CAPITALS = _table(
    """France/Paris, Germany/Berlin, Italy/Rome, Spain/Madrid, Portugal/Lisbon, Austria/Vienna, Greece/Athens,
    Poland/Warsaw, Hungary/Budapest, Finland/Helsinki, Sweden/Stockholm, Norway/Oslo, Denmark/Copenhagen,
    Ireland/Dublin, Belgium/Brussels, Russia/Moscow, Turkey/Ankara, Egypt/Cairo, Kenya/Nairobi, Morocco/Rabat,
    Ghana/Accra, Ethiopia/Addis Ababa, India/New Delhi, China/Beijing, Japan/Tokyo, South Korea/Seoul,
    Thailand/Bangkok, Vietnam/Hanoi, Nepal/Kathmandu, Iran/Tehran, Iraq/Baghdad, Canada/Ottawa, Mexico/Mexico City,
    Cuba/Havana, Brazil/Brasilia, Argentina/Buenos Aires, Chile/Santiago, Peru/Lima, Colombia/Bogota, Ecuador/Quito,
    Uruguay/Montevideo, Australia/Canberra, New Zealand/Wellington, Iceland/Reykjavik, Romania/Bucharest,
    Bulgaria/Sofia, Croatia/Zagreb, Serbia/Belgrade, Czechia/Prague, Slovakia/Bratislava"""
)
_PLURALS = _table(
    """mouse/mice, child/children, foot/feet, tooth/teeth, man/men, woman/women, goose/geese, person/people,
    leaf/leaves, knife/knives, wolf/wolves, city/cities, baby/babies, box/boxes, bus/buses,
    potato/potatoes, sheep/sheep, fish/fish,
    house/houses, dog/dogs, book/books, story/stories, wife/wives, half/halves, watch/watches, berry/berries"""
)
_PASTS = _table(
    """go/went, see/saw, eat/ate, run/ran, write/wrote, take/took, give/gave, come/came, make/made, find/found,
    think/thought, bring/brought, buy/bought, teach/taught, catch/caught, sleep/slept, keep/kept, leave/left, meet/met,
    sing/sang, swim/swam, drink/drank, fly/flew, grow/grew, know/knew, drive/drove, break/broke, speak/spoke,
    forget/forgot, build/built, send/sent, lose/lost, tell/told, say/said, stand/stood, win/won"""
)
_YOUNG = _table(
    """dog/a puppy, cat/a kitten, cow/a calf, horse/a foal, sheep/a lamb, pig/a piglet, goat/a kid, hen/a chick,
    duck/a duckling, goose/a gosling, lion/a cub, bear/a cub, frog/a tadpole, kangaroo/a joey, swan/a cygnet,
    deer/a fawn, eagle/an eaglet, owl/an owlet"""
)
_COLOURS = _table(
    """snow/white, grass/green, a ripe tomato/red, a lemon/yellow, coal/black, a carrot/orange, the clear sky/blue,
    milk/white, blood/red, a banana/yellow, an emerald/green, a ruby/red, cinnamon/brown, a sunflower/yellow,
    soot/black"""
)
_MADE_OF = _table(
    """bread/flour, cheese/milk, wine/grapes, paper/wood, glass/sand, butter/cream, a candle/wax, raisins/grapes,
    chocolate/cocoa, a brick/clay, cider/apples, an omelette/eggs, tofu/soybeans, ketchup/tomatoes"""
)

FACTS: dict[str, Facts] = {
    "opposite": Facts(
        (
            "What is the opposite of {}?",
            "Give the opposite: {}",
            'Which word means the opposite of "{}"?',
            "Opposite of {}:",
            "{} is the opposite of which word?",
        ),
        _OPPOSITES,
    ),
    "capital": Facts(
        (
            "What is the capital of {}?",
            "Name the capital of {}.",
            "Which city is the capital of {}?",
            "Capital of {}:",
            "Tell me the capital of {}.",
        ),
        _CAPITALS,
    ),
    "plural": Facts(
        (
            "What is the plural of {}?",
            "Give the plural: {}",
            'Write "{}" in the plural.',
            "Plural of {}:",
            "One {}, two what?",
        ),
        _PLURALS,
    ),
    "past": Facts(
        (
            "What is the past tense of {}?",
            "Give the past tense: {}",
            'Put the verb "{}" in the past.',
            "Past tense of {}:",
            "Today I {}. And yesterday?",
        ),
        _PASTS,
    ),
    "young": Facts(
        (
            "What is a young {} called?",
            "What do we call a young {}?",
            "Name the young of the {}.",
            "A young {} is called:",
            "What is the young of a {}?",
        ),
        _YOUNG,
    ),
    "colour": Facts(
        (
            "What color is {}?",
            "Name the color of {}.",
            "Which color does {} have?",
            "Color of {}:",
            "Tell me the color of {}.",
        ),
        _COLOURS,
    ),
    "made_of": Facts(
        (
            "What is {} made from?",
            "Name the main ingredient: {}",
            "From what do we make {}?",
            "Made from what: {}?",
            "What does one need to make {}?",
        ),
        _MADE_OF,
    ),
    "weekday": Facts(
        (
            "Which day comes after {}?",
            "What is the day after {}?",
            "Name the day that follows {}.",
            "Day after {}:",
            "Today is {}. Which day is tomorrow?",
        ),
        _next_in(WEEKDAYS),
    ),
    "month": Facts(
        (
            "Which month comes after {}?",
            "What is the month after {}?",
            "Name the month that follows {}.",
            "Month after {}:",
            "It is {}. Which month is next?",
        ),
        _next_in(MONTHS),
    ),
}
