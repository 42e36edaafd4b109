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
        key = choose(rng, tuple(self.table))
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


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _ways(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().split("\n"))


FACTS: dict[str, Facts] = {
    "capital": Facts(
        _ways(
            """What is the capital of {k}?
            What's the capital of {k}?
            What is the capital city of {k}?
            Which city is the capital of {k}?
            Name the capital of {k}.
            Tell me the capital of {k}.
            Capital of {k}?
            The capital of {k} is?
            {K}: what is its capital?
            Do you know the capital of {k}?
            What is {k}'s capital?
            I need to know the capital of {k}."""
        ),
        "The capital of {k} is {v}.",
        tables.CAPITALS,
    ),
    "country": Facts(
        _ways(
            """{v} is the capital of which country?
            Which country has the capital {v}?
            Which country is {v} the capital of?
            What country is {v} the capital of?
            In which country is {v}?
            Where is {v}?
            In what country is the city of {v}?
            {v} is in which country?"""
        ),
        "{v} is the capital of {k}.",
        {k: v for k, v in tables.CAPITALS.items() if k != "England"},
    ),
    "language": Facts(
        _ways(
            """What language do people speak in {k}?
            Which language is spoken in {k}?
            What is the language of {k}?
            What do people in {k} speak?
            Name the main language of {k}.
            Language of {k}?"""
        ),
        "In {k} people speak {v}.",
        tables.LANGUAGES,
    ),
    "continent": Facts(
        _ways(
            """On which continent is {k}?
            Which continent is {k} in?
            Where is {k}?
            In what part of the world is {k}?
            What continent is {k} on?
            {K} is on which continent?"""
        ),
        "{K} is in {v}.",
        tables.CONTINENTS,
    ),
    "currency": Facts(
        _ways(
            """What is the currency of {k}?
            What money do people use in {k}?
            Which currency does {k} have?
            How do people pay in {k}?
            Currency of {k}?
            What is the money of {k} called?"""
        ),
        "The currency of {k} is {v}.",
        tables.CURRENCIES,
    ),
    "opposite": Facts(
        _ways(
            """What is the opposite of {k}?
            What's the opposite of {k}?
            Give the opposite of {k}.
            Which word means the opposite of "{k}"?
            Opposite of {k}?
            Tell me the opposite of {k}.
            Name the opposite of "{k}".
            {K} is the opposite of which word?
            What is the antonym of {k}?
            The opposite of {k} is?"""
        ),
        "The opposite of {k} is {v}.",
        tables.OPPOSITES,
    ),
    "synonym": Facts(
        _ways(
            """What is another word for {k}?
            Give a synonym of {k}.
            What is a synonym for {k}?
            Which word means the same as {k}?
            Say {k} in another word.
            Another word for {k}?"""
        ),
        "Another word for {k} is {v}.",
        tables.SYNONYMS,
    ),
    "plural": Facts(
        _ways(
            """What is the plural of {k}?
            Give the plural of {k}.
            What's the plural of "{k}"?
            Plural of {k}?
            How do you say {k} in the plural?
            One {k}, two what?
            Tell me the plural of {k}."""
        ),
        "The plural of {k} is {v}.",
        tables.PLURALS,
    ),
    "past": Facts(
        _ways(
            """What is the past tense of {k}?
            Give the past tense of {k}.
            What's the past tense of "{k}"?
            Past tense of {k}?
            What is the past of the verb {k}?
            Put "{k}" in the past.
            Tell me the past tense of to {k}."""
        ),
        "The past tense of {k} is {v}.",
        tables.PASTS,
    ),
    "comparative": Facts(
        _ways(
            """What is the comparative of {k}?
            Give the comparative of {k}.
            Comparative of "{k}"?
            What is the comparative form of {k}?
            How do you say more {k}?"""
        ),
        "The comparative of {k} is {v}.",
        tables.COMPARATIVES,
    ),
    "young": Facts(
        _ways(
            """What is a young {k} called?
            What is a baby {k} called?
            What do you call a young {k}?
            What do we call a baby {k}?
            Name the young of the {k}.
            What is the young of {a} called?
            How do you call a baby {k}?"""
        ),
        "A young {k} is called a {v}.",
        {k: v for k, v in tables.YOUNG.items() if v[0] not in "aeiou"},
    ),
    "sound": Facts(
        _ways(
            """What sound does {a} make?
            What does {a} do to make itself heard?
            What noise does {a} make?
            How does {a} sound?
            Which sound do you hear from {a}?
            What does the {k} say?
            What does {a} say?"""
        ),
        "{A} {v}.",
        tables.SOUNDS,
    ),
    "legs": Facts(
        _ways(
            """How many legs does {a} have?
            How many legs has {a}?
            How many legs has {a} got?
            What number of legs does {a} have?
            Tell me how many legs {a} has.
            {A} has how many legs?
            Number of legs of {a}?
            How many legs are there on {a}?"""
        ),
        "{A} has {v} legs.",
        tables.LEGS,
    ),
    "home": Facts(
        _ways(
            """Where does {a} live?
            Where can one find {a}?
            Where is the home of {a}?
            Where do you find {a}?
            In what place does {a} live?"""
        ),
        "{A} lives {v}.",
        tables.HOMES,
    ),
    "colour": Facts(
        _ways(
            """What colour is {k}?
            What color is {k}?
            Which colour is {k}?
            What is the colour of {k}?
            What is the color of {k}?
            Which color does {k} have?
            Name the colour of {k}.
            Tell me the color of {k}.
            Colour of {k}?
            {K} is what colour?"""
        ),
        "{K} is {v}.",
        tables.COLOURS,
    ),
    "made of": Facts(
        _ways(
            """What is {k} made of?
            What is {k} made from?
            From what is {k} made?
            What do you need to make {k}?
            What does one need to make {k}?
            Which material is {k} made of?
            Tell me what {k} is made of."""
        ),
        "{K} is made of {v}.",
        tables.MADE_OF,
    ),
    "symbol": Facts(
        _ways(
            """What is the chemical symbol of {k}?
            What is the symbol for {k}?
            Which symbol does {k} have in chemistry?
            Chemical symbol of {k}?
            Give the chemical symbol for {k}."""
        ),
        "The chemical symbol of {k} is {v}.",
        {k: v for k, v in tables.SYMBOLS.items() if k != "water"},
    ),
    "element": Facts(
        _ways(
            """Which element has the symbol {v}?
            What element is {v}?
            {v} is the symbol of which element?
            What does {v} stand for in chemistry?"""
        ),
        "{v} is the symbol of {k}.",
        {k: v for k, v in tables.SYMBOLS.items() if k != "water"},
    ),
    "author": Facts(
        _ways(
            """Who wrote {k}?
            Who is the author of {k}?
            Who was the writer of {k}?
            Name the author of {k}.
            Author of {k}?
            By whom is {k}?"""
        ),
        "{k} was written by {v}.",
        tables.AUTHORS,
    ),
    "inventor": Facts(
        _ways(
            """Who made {k}?
            Who is known for {k}?
            To whom do we owe {k}?
            Which name belongs to {k}?
            Who is behind {k}?
            Who gave us {k}?"""
        ),
        "We owe {k} to {v}.",
        tables.INVENTORS,
    ),
    "use": Facts(
        _ways(
            """What is {k} for?
            What is {k} used for?
            What do you use {k} for?
            What can you do with {k}?
            What do people use {k} for?
            Why do people have {k}?
            What is the use of {k}?"""
        ),
        "One uses {k} {v}.",
        tables.USES,
    ),
    "work": Facts(
        _ways(
            """What does a {k} do?
            What is the job of a {k}?
            What is a {k}?
            What work does a {k} do?
            Tell me what a {k} does.
            What do you call a person who {v}?
            Who {v}?
            Which person {v}?"""
        ),
        "A {k} {v}.",
        {k: v for k, v in tables.WORKS.items() if k[0] not in "aeiou"},
    ),
    "where": Facts(
        _ways(
            """Where do you find {k}?
            Where can I find {k}?
            Where does one find {k}?
            Where would you look for {k}?
            Where are {k} to be found?"""
        ),
        "One finds {k} {v}.",
        tables.WHERE,
    ),
    "superlative": Facts(
        _ways(
            """What is {k}?
            What's {k}?
            Name {k}.
            Do you know {k}?
            Tell me {k}.
            {K}?
            Which one is {k}?"""
        ),
        "{V} is {k}.",
        tables.SUPERLATIVES,
    ),
    "hello abroad": Facts(
        _ways(
            """How do you say hello in {k}?
            What is hello in {k}?
            What does hello mean in {k}?
            Hello in {k}?
            Greet me in {k}.
            How do people say hello in {k}?
            Translate hello into {k}.
            Say hello in {k}.
            Say hi in {k}.
            What is the {k} word for hello?"""
        ),
        "Hello in {k} is: {v}.",
        tables.GREETINGS,
    ),
    "thanks abroad": Facts(
        _ways(
            """How do you say thank you in {k}?
            What is thank you in {k}?
            Say thank you in {k}.
            Translate thank you into {k}.
            What is the {k} word for thanks?
            Thanks in {k}?"""
        ),
        "Thank you in {k} is: {v}.",
        tables.THANKS,
    ),
    "goodbye abroad": Facts(
        _ways(
            """How do you say goodbye in {k}?
            What is goodbye in {k}?
            Say goodbye in {k}.
            Translate goodbye into {k}.
            Say bye in {k}."""
        ),
        "Goodbye in {k} is: {v}.",
        tables.GOODBYES,
    ),
}


# --- questions that need more than a table --------------------------------------------------------------------------


_HAVING = re.compile(r"(?P<thing>.+) (?:does|do) (?P<owner>.+?) have(?P<where> on .+)?")


def _counted(rng: np.random.Generator) -> Asked:
    key = choose(rng, tuple(tables.COUNTS))
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
    other = choose(rng, tuple(set(tables.GROUPS.values()) - {group}))
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
    "spelling": (_spelling, 3.0),
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
