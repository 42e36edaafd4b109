"""What texts to extract from are about: sentences that state facts, and the names under which these are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusiongemma.tasks import vocabulary
from diffusiongemma.tasks.example import chance, choose
from diffusiongemma.tasks.vocabulary import MONTHS, NUMBER_WORDS, WEEKDAYS
from recipes.nano.phrases import read_phrases
from recipes.nano.sources.fact_tables import CAPITALS, words
from recipes.nano.writer.topics import THINGS

Rng = np.random.Generator


@dataclass(frozen=True)
class Value:
    """A fact: how a text states it, and the JSON value of it."""

    shown: str
    json: Any


def _text(options: Callable[[Rng], str]) -> Callable[[Rng], Value]:
    def draw(rng: Rng) -> Value:
        text = options(rng)
        return Value(text, text)

    return draw


def _of(*options: str) -> Callable[[Rng], Value]:
    return _text(lambda rng: choose(rng, options))


def _number(least: int, most: int, spelled: float = 0.25) -> Callable[[Rng], Value]:
    def draw(rng: Rng) -> Value:
        number = int(rng.integers(least, most + 1))
        shown = NUMBER_WORDS[number] if 2 <= number <= 10 and chance(rng, spelled) else str(number)
        return Value(shown, number)

    return draw


def _decimal(least: int, most: int) -> Callable[[Rng], Value]:
    def draw(rng: Rng) -> Value:
        whole, part = int(rng.integers(least, most)), int(rng.integers(1, 10))
        return Value(f"{whole}.{part}", float(f"{whole}.{part}"))

    return draw


def _price(rng: Rng) -> Value:
    if chance(rng, 0.5):
        number = int(rng.integers(2, 900))
        return Value(str(number), number)
    cents = int(choose(rng, (50, 99, 95, 25, 75, 49)))
    text = f"{int(rng.integers(1, 200))}.{cents}"
    return Value(text, float(text))


def _date(rng: Rng) -> str:
    day, month, year = int(rng.integers(1, 29)), choose(rng, MONTHS), int(rng.integers(1990, 2031))
    return choose(
        rng,
        (
            f"{month} {day}",
            f"{month} {day}",
            f"{day} {month}",
            f"{day} {month} {year}",
            f"{month} {day}, {year}",
            f"{year}-{MONTHS.index(month) + 1:02d}-{day:02d}",
            f"{day}.{MONTHS.index(month) + 1}.{year}",
        ),
    )


def _clock(rng: Rng) -> str:
    hour, minute = int(rng.integers(0, 24)), int(choose(rng, (0, 0, 15, 30, 45, 10, 20)))
    return choose(
        rng, (f"{hour}:{minute:02d}", f"{hour:02d}:{minute:02d}", f"{hour % 12 + 1} pm", f"{hour % 12 + 1} am")
    )


def _full_name(rng: Rng) -> str:
    last = vocabulary.surname(rng) if chance(rng, 0.5) else choose(rng, vocabulary.LAST_NAMES)
    return f"{choose(rng, vocabulary.WOMEN + vocabulary.MEN)} {last}"


def _email(rng: Rng) -> str:
    first, last = choose(rng, vocabulary.WOMEN + vocabulary.MEN).lower(), choose(rng, vocabulary.LAST_NAMES).lower()
    user = choose(rng, (first, f"{first}.{last}", f"{first[0]}{last}"))
    return f"{user}@{choose(rng, ('example.com', 'mail.org', 'post.net', 'home.org'))}"


def _code(rng: Rng) -> str:
    letters = "".join(choose(rng, "ABCDEFGHKLMNPRSTUVWXZ") for _ in range(int(rng.integers(1, 4))))
    return choose(
        rng,
        (
            f"{letters}-{int(rng.integers(10, 9999))}",
            f"{letters}{int(rng.integers(10, 999))}",
            f"{int(rng.integers(1000, 99999))}",
        ),
    )


def _phone(rng: Rng) -> str:
    return choose(
        rng,
        (f"555-{int(rng.integers(0, 10000)):04d}", f"0{int(rng.integers(20, 99))} {int(rng.integers(10000, 999999))}"),
    )


def _thing(rng: Rng) -> str:
    kind = choose(rng, ("clothes", "furniture", "tools", "household things", "musical instruments"))
    thing = choose(rng, THINGS[kind])
    return f"{choose(rng, _ADJECTIVES)} {thing}" if chance(rng, 0.6) else thing


_ADJECTIVES = words(
    """
    red, blue, green, black, white, yellow, brown, old, new, small, large, wooden, round, heavy, light, grey, long,
    short, soft, cheap
    """
)
_GOODS = tuple(thing for kind in ("fruits", "vegetables", "foods") for thing in THINGS[kind])
_TITLES = words(
    """
    The Long Winter, A House by the Sea, The Last Train, Night Over Rome, The Glass Key, Silent River, The Red Door,
    Letters from Home, The Blue Lamp, Under the Bridge, The Third Summer, A Cup of Tea, Stone and Water, The Lost Map,
    Seven Days, The Old Clock, Birds of Passage, The Empty Chair, White Sand, The Baker's Son
    """
)
_TEAMS = words(
    """
    the Lions, the Tigers, the Eagles, the Sharks, the Wolves, the Bears, the Hawks, the Falcons, the Rockets,
    the Foxes
    """
)
_EVENTS = words(
    """
    concert, meeting, wedding, exhibition, lecture, market, party, workshop, race, film festival, interview, class,
    reading, picnic, dinner
    """
)
_PLACES = tuple(place for place in THINGS["places"] if place not in ("mountain", "hill", "swamp", "cellar", "attic"))
_COMPLAINTS = words(
    "broken, late, too small, too loud, dirty, damaged, empty, torn, wet, scratched, missing, too expensive"
)

VALUES: dict[str, Callable[[Rng], Value]] = {
    "name": _text(_full_name),
    "first": _text(lambda rng: choose(rng, vocabulary.WOMEN + vocabulary.MEN)),
    "city": _text(vocabulary.city),
    "country": _text(lambda rng: choose(rng, tuple(CAPITALS)).removeprefix("the ")),
    "age": _number(2, 95, 0.1),
    "small": _number(2, 12),
    "number": _number(2, 200, 0.1),
    "many": _number(100, 9000, 0),
    "price": _price,
    "decimal": _decimal(1, 60),
    "date": _text(_date),
    "day": _of(*WEEKDAYS),
    "month": _of(*MONTHS),
    "time": _text(_clock),
    "year": _number(1900, 2030, 0),
    "job": _of(*vocabulary.PROFESSIONS),
    "hobby": _of(*vocabulary.HOBBIES),
    "company": _text(vocabulary.company),
    "thing": _text(_thing),
    "colour": _of(*vocabulary.COLOURS),
    "animal": _of(*THINGS["animals"]),
    "food": _of(*_GOODS),
    "email": _text(_email),
    "phone": _text(_phone),
    "code": _text(_code),
    "title": _of(*_TITLES),
    "team": _of(*_TEAMS),
    "event": _of(*_EVENTS),
    "place": _of(*_PLACES),
    "language": _of(
        *words(
            """
    English, French, German, Spanish, Italian, Greek, Polish, Arabic, Chinese, Turkish
    """
        )
    ),
    "street": _text(
        lambda rng: (
            f"{int(rng.integers(1, 200))} {choose(rng, vocabulary.STREETS)} {choose(rng, vocabulary.STREET_KINDS)}"
        )
    ),
    "complaint": _of(*_COMPLAINTS),
    "percent": _number(1, 100, 0),
    "score": _number(1, 10, 0.2),
    "weather": _of("sunny", "rainy", "cloudy", "windy", "foggy", "snowy"),
    "plant": _of(*THINGS["plants"]),
    "instrument": _of(*THINGS["musical instruments"]),
    "vehicle": _of(*THINGS["vehicles"]),
    "subject": _of(*THINGS["school subjects"]),
}


@dataclass(frozen=True)
class Fact:
    """`kind` of value; `keys` it may be asked under, the first where no shape is shown; the `unit` of a number."""

    kind: str
    keys: tuple[str, ...]
    unit: str = ""


@dataclass(frozen=True)
class Subject:
    """`opening` sentences state the first facts; each of the others states what stands in its braces."""

    name: str
    facts: dict[str, Fact]
    opening: tuple[str, ...]
    others: tuple[str, ...]


def _subject(name: str, facts: str, opening: str, others: str) -> Subject:
    found = {}
    for line in facts.strip().split("\n"):
        key, kind, *rest = (part.strip() for part in line.split("|"))
        unit = rest[1] if len(rest) > 1 else ""
        found[key] = Fact(kind, (key, *(rest[0].split() if rest else ())), unit)
    return Subject(name, found, _lines(opening), _lines(others))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().split("\n"))


SUBJECTS = tuple(_subject(name, **told) for name, told in read_phrases("subjects").items())
