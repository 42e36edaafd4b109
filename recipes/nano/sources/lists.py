"""Lists that are asked for: three animals, a fruit that is yellow, things that begin with a letter."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from diffusiongemma.tasks.example import Example, Split, choose, choose_several, in_split
from diffusiongemma.tasks.vocabulary import MONTHS, NUMBER_WORDS, WEEKDAYS
from recipes.nano.phrases import read_phrases
from recipes.nano.sources.fact_tables import words
from recipes.nano.sources.knowledge import capital
from recipes.nano.sources.phrasing import is_probe, varied
from recipes.nano.writer.topics import THINGS, UNCOUNTABLE, with_article

KINDS = {
    name: things
    for name, things in THINGS.items()
    if name not in ("weather", "nature", "body parts", "household things")
} | {
    "colours": words("red, blue, green, yellow, black, white, brown, orange, purple, pink, grey"),
    "colors": words("red, blue, green, yellow, black, white, brown, orange, purple, pink, grey"),
    "countries": words(
        """
    France, Italy, Spain, Germany, Japan, China, India, Brazil, Canada, Mexico, Egypt, Kenya, Norway, Poland, Greece
    """
    ),
    "cities": words(
        "Paris, London, Rome, Berlin, Madrid, Tokyo, Vienna, Athens, Oslo, Cairo, Lima, Sydney, Toronto, Boston, Prague"
    ),
    "languages": words(
        "English, French, German, Spanish, Italian, Greek, Polish, Arabic, Chinese, Japanese, Turkish, Russian, Swedish"
    ),
    "planets": words("Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus, Neptune"),
    "metals": words("iron, gold, silver, copper, tin, zinc, lead, aluminium, nickel"),
    "continents": words("Europe, Asia, Africa, Australia, North America, South America, Antarctica"),
    "days of the week": WEEKDAYS,
    "months": MONTHS,
    "seasons": words("spring, summer, autumn, winter"),
    "rivers": words(
        "the Nile, the Amazon, the Rhine, the Danube, the Thames, the Seine, the Volga, the Ganges, the Mississippi"
    ),
    "numbers": words("one, two, three, four, five, six, seven, eight, nine, ten"),
    "first names": words(
        "Anna, Ben, Clara, David, Emma, Felix, Grace, Henry, Ida, Jack, Laura, Max, Nina, Oscar, Rosa, Tom"
    ),
    "professions": words(
        "teacher, baker, doctor, nurse, farmer, pilot, painter, cook, judge, tailor, carpenter, dentist, plumber"
    ),
    "pets": words("dog, cat, hamster, goldfish, rabbit, parrot, canary, guinea pig, turtle"),
    "farm animals": words("cow, pig, sheep, goat, horse, hen, duck, goose, donkey"),
    "wild animals": words("lion, tiger, elephant, wolf, bear, fox, giraffe, zebra, monkey, deer"),
    "shapes": words("circle, square, triangle, rectangle, oval, star, hexagon"),
    "things in a kitchen": words("stove, fridge, oven, kettle, pot, pan, spoon, plate, cup, knife"),
    "things in a school": words("desk, blackboard, chair, book, pencil, teacher, pupil, map"),
    "things to read": words("book, newspaper, letter, magazine, poem, map, menu"),
    "things that are round": words("ball, wheel, coin, plate, orange, the moon, the sun, ring, button"),
    "things that can fly": words("bird, plane, bee, butterfly, kite, balloon, rocket, helicopter, bat"),
    "things made of wood": words("table, chair, door, pencil, boat, fence, shelf, violin"),
    "cold things": words("ice, snow, ice cream, frost, iceberg, winter, snowman"),
    "hot things": words("fire, the sun, soup, tea, coffee, oven, stove, volcano"),
}
_PROPER = frozenset(
    ("countries", "cities", "languages", "planets", "continents", "days of the week", "months", "rivers", "first names")
)

_PHRASES = read_phrases("lists")
_ASKED = _PHRASES["asked"]
FITTING = _PHRASES["fitting"]  # "fruit that is yellow": what fits
# What is asked for first.
FIRST = (
    "animals", "birds", "fruits", "vegetables", "colours", "colors", "countries", "cities", "languages", "planets",
    "continents", "days of the week", "months", "seasons", "numbers", "pets", "sports and games", *FITTING,
)  # fmt: skip


def generate(
    rng: np.random.Generator, split: Split, kinds: Collection[str] | None = None, usual: bool = False
) -> Example:
    """A list, or one thing that fits, of `kinds` alone where these are given; meta holds `kind`, `number` and what
    would be `right`. `usual` ones begin with what comes to mind first, always the same. Test has requests in other
    words."""
    while True:
        draw = rng.random()
        if draw < 0.6:
            asked, answer, meta = _several(rng, usual)
        else:
            asked, answer, meta = _fitting(rng, usual) if draw < 0.85 else _with_letter(rng)
        if kinds is not None and meta["kind"] not in kinds:
            continue
        if not in_split(f"list {asked}", split):
            continue
        prompt = varied(rng, asked)
        if not is_probe(prompt):
            return Example(prompt, answer, meta)


def several(rng: np.random.Generator, kind: str, number: int) -> str:
    """A request for so many of a kind."""
    shown = NUMBER_WORDS[number] if rng.random() < 0.8 else str(number)
    return choose(rng, _ASKED["several"]).format(n=shown, N=capital(shown), kind=kind)


def _several(rng: np.random.Generator, usual: bool) -> tuple[str, str, dict]:
    kind = choose(rng, tuple(KINDS))
    number = int(choose(rng, (2, 3, 3, 3, 4, 5)))
    names = choose_several(rng, KINDS[kind], min(number, len(KINDS[kind])))
    if usual:
        names = list(KINDS[kind][: len(names)])
    number = len(names)
    asked = several(rng, kind, number)
    meta = {"kind": kind, "number": number, "right": list(KINDS[kind])}
    form = rng.random()
    if form < 0.12:
        return asked + choose(rng, _ASKED["as_lines"]), "\n".join(names), meta
    if form < 0.2:
        return (
            asked + choose(rng, _ASKED["as_numbers"]),
            "\n".join(f"{i}. {name}" for i, name in enumerate(names, 1)),
            meta,
        )
    names[0] = capital(names[0])
    return asked, f"{', '.join(names[:-1])} and {names[-1]}.", meta


def _fitting(rng: np.random.Generator, usual: bool) -> tuple[str, str, dict]:
    kind = choose(rng, tuple(FITTING))
    right = words(FITTING[kind])
    named = right[0] if usual else choose(rng, right)
    asked = choose(rng, _ASKED["one"]).format(a=f"a{'n' if kind[0] in 'aeiou' else ''} {kind}", b=kind)
    return asked, f"{capital(_shown(named))}.", {"kind": kind, "number": 1, "right": list(right)}


def _with_letter(rng: np.random.Generator) -> tuple[str, str, dict]:
    kind, one = choose(
        rng,
        (
            ("animals", "animal"),
            ("fruits", "fruit"),
            ("vegetables", "vegetable"),
            ("birds", "bird"),
            ("countries", "country"),
            ("cities", "city"),
            ("tools", "tool"),
            ("people", "profession"),
        ),
    )
    first = choose(rng, KINDS[kind])
    right = [name for name in KINDS[kind] if name[0].lower() == first[0].lower()]
    article = f"a{'n' if one[0] in 'aeiou' else ''} {one}"
    asked = choose(rng, _ASKED["letter"]).format(a=article, b=one, l=first[0].upper())
    return (
        asked,
        f"{capital(_shown(choose(rng, right)))}.",
        {"kind": f"{kind} with {first[0]}", "number": 1, "right": right},
    )


def _shown(name: str) -> str:
    bare = name[0].isupper() or name.startswith("the ") or name in UNCOUNTABLE or name in KINDS["sports and games"]
    return name if bare else with_article(name)
