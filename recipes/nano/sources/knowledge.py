"""Simple questions with one right answer, by rule: every fact in many wordings, answered by a whole sentence.

A small model cannot know a fact that it was never told. What is held out is a wording of each fact: test asks for known
facts in words that training never used for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusiongemma.tasks.example import Example, Split, choose, choose_several, in_split
from diffusiongemma.tasks.vocabulary import MONTHS, WEEKDAYS
from recipes.nano.phrases import read_phrases
from recipes.nano.sources import fact_tables as tables
from recipes.nano.sources.phrasing import is_probe, varied
from recipes.nano.writer.topics import THINGS, with_article

Asked = tuple[str, str]  # question, answer


@dataclass(frozen=True)
class Facts:
    """`{k}` and `{v}` stand for key and value, `{a}` for the key with an article, `{K}`, `{V}`, `{A}` capitals."""

    wordings: tuple[str, ...]
    answer: str
    table: dict[str, str]

    def draw(self, rng: np.random.Generator) -> Asked:
        key = choose_early(rng, tuple(self.table))
        value = self.table[key]
        shown = {
            "k": key,
            "v": value,
            "K": capital(key),
            "V": capital(value),
            "a": with_article(key),
            "A": capital(with_article(key)),
        }
        return capital(choose(rng, self.wordings).format(**shown)), self.answer.format(**shown)


def choose_early(rng: np.random.Generator, keys: Sequence[str]) -> str:
    """One of them, the earlier ones more often: of a hundred the first ten a third of the time. Tables begin with what
    people ask for most."""
    return keys[int(len(keys) * rng.random() ** 2)]


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# The table that each kind of fact in data/facts.toml asks for.
_TABLES: dict[str, dict[str, str]] = {
    "capital": tables.CAPITALS,
    "country": {k: v for k, v in tables.CAPITALS.items() if k != "England"},
    "language": tables.LANGUAGES,
    "continent": tables.CONTINENTS,
    "currency": tables.CURRENCIES,
    "opposite": tables.OPPOSITES,
    "synonym": tables.SYNONYMS,
    "plural": tables.PLURALS,
    "past": tables.PASTS,
    "comparative": tables.COMPARATIVES,
    "young": {k: v for k, v in tables.YOUNG.items() if v[0] not in "aeiou"},
    "sound": tables.SOUNDS,
    "legs": tables.LEGS,
    "home": tables.HOMES,
    "colour": tables.COLOURS,
    "made of": tables.MADE_OF,
    "symbol": {k: v for k, v in tables.SYMBOLS.items() if k != "water"},
    "element": {k: v for k, v in tables.SYMBOLS.items() if k != "water"},
    "author": tables.AUTHORS,
    "inventor": tables.INVENTORS,
    "use": tables.USES,
    "work": {k: v for k, v in tables.WORKS.items() if k[0] not in "aeiou"},
    "where": tables.WHERE,
    "superlative": tables.SUPERLATIVES,
    "hello abroad": tables.GREETINGS,
    "thanks abroad": tables.THANKS,
    "goodbye abroad": tables.GOODBYES,
}
FACTS = {
    kind: Facts(asked["wordings"], asked["answer"], _TABLES[kind]) for kind, asked in read_phrases("facts").items()
}


# --- questions that need more than a table --------------------------------------------------------------------------


_HAVING = re.compile(r"(?P<thing>.+) (?:does|do) (?P<owner>.+?) have(?P<where> on .+)?")


def _counted(rng: np.random.Generator) -> Asked:
    key = choose_early(rng, tuple(tables.COUNTS))
    value = tables.COUNTS[key]
    having = _HAVING.fullmatch(key)
    thing, inside, place = re.fullmatch(r"(.+?)(?: are (in|on) (.+))?", key).groups()  # type: ignore[union-attr]
    if having:
        has, where = "have" if having["owner"] == "you" else "has", having["where"] or ""
        told = f"{having['owner']} {has}{where}"
        wordings: tuple[str, ...] = (
            f"Tell me how many {having['thing']} {told}.",
            f"{capital(told)} how many {having['thing']}?",
        )
        counted = having["thing"].rstrip("s") if value == "one" else having["thing"]
        answer = f"{capital(having['owner'])} {has} {value} {counted}{where}."
    elif inside:
        wordings = (
            f"Tell me how many {thing} there are {inside} {place}.",
            f"How many {thing} does {place} have?",
            f"How many {thing} make up {place}?",
            f"Number of {thing} {inside} {place}?",
            f"{capital(place)} has how many {thing}?",
            f"How many {thing} {inside} {place}?",
        )
        answer = f"There are {value} {thing} {inside} {place}."
    else:
        wordings, answer = (f"Tell me how many {key}.",), f"The answer is {value}."
    wordings += (f"How many {key}?", f"How many {key}?", f"What is the number: how many {key}?")
    return choose(rng, wordings), answer


def _word_abroad(rng: np.random.Generator) -> Asked:
    key = choose(rng, tuple(tables.WORDS_ABROAD))
    word, language = key.rsplit(" in ", 1)
    wordings = (
        f"How do you say {word} in {language}?",
        f"What is {word} in {language}?",
        f"Say {word} in {language}.",
        f"Translate {word} into {language}.",
        f'What is the {language} word for "{word}"?',
        f"Translate to {language}: {word}",
        f"{capital(word)} in {language}?",
    )
    return choose(rng, wordings), f"{capital(word)} in {language} is: {tables.WORDS_ABROAD[key]}."


_NEXT = (
    "What {unit} comes after {x}?",
    "Which {unit} comes after {x}?",
    "Which {unit} follows {x}?",
    "What is the {unit} after {x}?",
    "What {unit} is after {x}?",
    "Name the {unit} after {x}.",
    "Today it is {x}. Which {unit} comes next?",
    "After {x} comes which {unit}?",
)
_LAST = (
    "What {unit} comes before {x}?",
    "Which {unit} comes before {x}?",
    "Which {unit} is before {x}?",
    "What is the {unit} before {x}?",
    "Name the {unit} before {x}.",
    "Which {unit} precedes {x}?",
)


def _neighbour(rng: np.random.Generator) -> Asked:
    unit, names = choose(rng, (("day", WEEKDAYS), ("month", MONTHS), ("letter", tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))))
    i = int(rng.integers(len(names)))
    after = rng.random() < 0.6
    j = i + 1 if after else i - 1
    if unit == "letter" and not 0 <= j < 26:
        return _neighbour(rng)
    wording = choose(rng, _NEXT if after else _LAST).format(unit=unit, x=names[i])
    other = names[j % len(names)]
    return wording, f"{other} comes {'after' if after else 'before'} {names[i]}."


_COMPARED: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (tables.SIZES, "bigger", "smaller"),
    (tables.SIZES, "larger", "smaller"),
    (tables.SPEEDS, "faster", "slower"),
    (tables.WEIGHTS, "heavier", "lighter"),
    (tables.HEIGHTS, "taller", "shorter"),
    (tables.AGES, "older", "younger"),
)


def _compared(rng: np.random.Generator) -> Asked:
    names, more, less = choose(rng, _COMPARED)
    i, j = sorted(choose_several(rng, range(len(names)), 2))
    small, big = names[i], names[j]
    quality, right = choose(rng, ((more, big), (less, small)))
    wrong = small if right == big else big
    a, b = (right, wrong) if rng.random() < 0.5 else (wrong, right)
    answer = f"{capital(right)} is {quality} than {wrong}."
    if rng.random() < 0.3:
        yes = a == right
        asked = f"Is {a} {quality} than {b}?"
        return asked, f"Yes, {a} is {quality} than {b}." if yes else f"No, {answer[0].lower()}{answer[1:]}"
    wordings = (
        f"Which is {quality}, {a} or {b}?",
        f"What is {quality}, {a} or {b}?",
        f"What is {quality}: {a} or {b}?",
        f"Which one is {quality}, {a} or {b}?",
        f"{capital(a)} or {b}: which is {quality}?",
        f"Is {a} or {b} {quality}?",
        f"Tell me which is {quality}, {a} or {b}.",
    )
    return choose(rng, wordings), answer


def _quality(rng: np.random.Generator) -> Asked:
    thing = choose(rng, tuple(tables.QUALITIES))
    quality = tables.QUALITIES[thing]
    asked = quality if rng.random() < 0.55 else tables.CONTRARY[quality]
    wording = choose(
        rng,
        (
            "Is {t} {q}?",
            "Is {t} {q} or not?",
            "Would you say that {t} is {q}?",
            "Is it true that {t} is {q}?",
            "{T} is {q}, right?",
        ),
    )
    said = wording.format(t=thing, T=capital(thing), q=asked)
    return said, f"Yes, {thing} is {quality}." if asked == quality else f"No, {thing} is {quality}."


def _able(rng: np.random.Generator) -> Asked:
    yes = rng.random() < 0.5
    table = tables.ABLE if yes else tables.UNABLE
    thing = choose(rng, tuple(table))
    wording = choose(
        rng,
        (
            "Can {t} {v}?",
            "Is {t} able to {v}?",
            "Is it true that {t} can {v}?",
            "Do you think {t} can {v}?",
            "{T} can {v}, right?",
        ),
    )
    said = wording.format(t=thing, T=capital(thing), v=table[thing])
    return said, f"Yes, {thing} can {table[thing]}." if yes else f"No, {thing} cannot {table[thing]}."


def _grouped(rng: np.random.Generator) -> Asked:
    thing = choose(rng, tuple(tables.GROUPS))
    group = tables.GROUPS[thing]
    shown = thing if thing[0].isupper() or " " in thing or group.split()[-1] in _UNCOUNTED else with_article(thing)
    answer = f"{capital(shown)} is {group}."
    kind = rng.random()
    if kind < 0.35:
        return choose(
            rng,
            (
                f"What is {shown}?",
                f"What kind of thing is {shown}?",
                f"What sort of thing is {shown}?",
                f"{capital(shown)} is what?",
            ),
        ), answer
    other = choose(rng, tuple(sorted(set(tables.GROUPS.values()) - {group})))
    if kind < 0.65:
        wording = choose(
            rng, ("Is {t} {g}?", "Is it true that {t} is {g}?", "{T} is {g}, right?", "Would you call {t} {g}?")
        )
        asked = group if rng.random() < 0.5 else other
        said = wording.format(t=shown, T=capital(shown), g=asked)
        return said, f"Yes, {shown} is {group}." if asked == group else f"No, {shown} is {group}."
    a, b = (group, other) if rng.random() < 0.5 else (other, group)
    return choose(
        rng, (f"Is {shown} {a} or {b}?", f"What is {shown}, {a} or {b}?", f"{capital(shown)}: {a} or {b}?")
    ), answer


_UNCOUNTED = frozenset(("metal", "sport", "language", "colour", "number", "month", "day", "clothing"))


_SPELLING: dict[str, tuple[str, ...]] = {
    "backwards": (
        "Spell {w} backwards.",
        "Spell the word {w} backwards.",
        "Write {w} backwards.",
        "What is {w} backwards?",
        "Reverse the word {w}.",
        "What is {w} spelled backwards?",
    ),
    "spell": (
        "Spell the word {w}.",
        "How do you spell {w}?",
        "Spell {w}.",
        "Spell {w} for me.",
        "What are the letters of {w}?",
    ),
    "first": (
        "What is the first letter of {w}?",
        "Which letter does {w} begin with?",
        "{w} starts with which letter?",
        "First letter of {w}?",
    ),
    "last": (
        "What is the last letter of {w}?",
        "Which letter does {w} end with?",
        "{w} ends with which letter?",
        "Last letter of {w}?",
    ),
    "count": (
        "How many letters does {w} have?",
        "How many letters are in {w}?",
        "Count the letters of {w}.",
        "How long is the word {w}?",
        "How many letters are in the word {w}?",
    ),
    "double": ("Write {w} twice.", "Say {w} twice.", "Write the word {w} two times."),
    "upper": (
        "Write {w} in capital letters.",
        "Write {w} in capitals.",
        "Put {w} in upper case.",
        "{w} in capital letters?",
    ),
}


def _spelling(rng: np.random.Generator) -> Asked:
    kind = choose(rng, tuple(THINGS))
    word = choose(rng, [w for w in THINGS[kind] if " " not in w and len(w) <= 8] or ["dog"])
    task = choose(rng, tuple(_SPELLING))
    answers = {
        "backwards": word[::-1],
        "spell": "-".join(word.upper()),
        "first": f"The first letter of {word} is {word[0].upper()}.",
        "last": f"The last letter of {word} is {word[-1].upper()}.",
        "count": f"The word {word} has {len(word)} letters.",
        "double": f"{word} {word}",
        "upper": word.upper(),
    }
    return choose(rng, _SPELLING[task]).format(w=word), answers[task]


_SHORTER: dict[str, str] = {
    "capital": "The capital of ",
    "opposite": "The opposite of ",
    "plural": "The plural of ",
    "past": "The past tense of ",
}

MORE: dict[str, tuple[Callable[[np.random.Generator], Asked], float]] = {
    "count": (_counted, 3.0),
    "word abroad": (_word_abroad, 1.5),
    "neighbour": (_neighbour, 2.0),
    "compared": (_compared, 3.0),
    "quality": (_quality, 1.5),
    "able": (_able, 1.0),
    "group": (_grouped, 2.5),
    "spelling": (_spelling, 1.5),
}
_WEIGHTS = {
    "capital": 4.0,
    "country": 2.0,
    "opposite": 3.0,
    "colour": 2.5,
    "legs": 2.0,
    "superlative": 2.5,
    "hello abroad": 1.5,
    "plural": 1.5,
    "past": 2.0,
}
_ONE_WORD = (" Answer with one word.", " One word only.", " Just the word, please.", " Only the answer.")


def generate(rng: np.random.Generator, split: Split, kinds: Sequence[str] | None = None) -> Example:
    """One question; meta holds its `kind`, and the `value` that a right answer holds where there is one."""
    names = list(kinds or (*FACTS, *MORE))
    shares = np.array([MORE[name][1] if name in MORE else _WEIGHTS.get(name, 1.0) for name in names])
    while True:
        kind = names[int(rng.choice(len(names), p=shares / shares.sum()))]
        asked, answer = FACTS[kind].draw(rng) if kind in FACTS else MORE[kind][0](rng)
        if not in_split(f"asked {asked}", split):
            continue
        meta: dict[str, Any] = {"kind": kind}
        if kind in _SHORTER and rng.random() < 0.08:
            asked += choose(rng, _ONE_WORD)
            answer = answer.rsplit(" is ", 1)[1].rstrip(".")
        prompt = varied(rng, asked)
        if not is_probe(prompt):
            return Example(prompt, answer, meta)


IN_A_WORD = ("capital", "colour", "made of", "neighbour", "opposite", "past", "plural", "young")
_LAST_WORDS = re.compile(r".+ is (?:called |made of )?(?P<last>.+?)\.|(?P<first>.+?) comes (?:after|before) .+")


def generate_short(rng: np.random.Generator, split: Split) -> Example:
    """One question of the kinds IN_A_WORD, answered as the task `answers` does: by what is asked for alone."""
    asked = generate(rng, split, kinds=IN_A_WORD)
    found = _LAST_WORDS.fullmatch(asked.answer)
    return Example(asked.prompt, found["last"] or found["first"] if found else asked.answer, asked.meta)
