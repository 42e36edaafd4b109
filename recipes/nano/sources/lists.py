"""Lists that are asked for: three animals, a fruit that is yellow, things that begin with a letter."""

from __future__ import annotations

import numpy as np

from diffusiongemma.tasks.example import Example, Split, choose, choose_several, in_split
from diffusiongemma.tasks.vocabulary import MONTHS, NUMBER_WORDS, WEEKDAYS
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

# "a fruit that is yellow": kind, quality, what fits.
FITTING = {
    "fruit that is yellow": "banana, lemon, pineapple, pear, mango",
    "fruit that is red": "apple, cherry, strawberry, raspberry",
    "fruit that is green": "lime, kiwi, pear, grape",
    "fruit that is orange": "orange, apricot, mango",
    "fruit that is sour": "lemon, lime, grapefruit",
    "fruit that grows on trees": "apple, pear, cherry, plum, orange",
    "vegetable that is green": "cucumber, spinach, broccoli, pea, lettuce",
    "vegetable that is red": "tomato, radish, beetroot, pepper",
    "vegetable that is orange": "carrot, pumpkin",
    "vegetable that grows underground": "potato, carrot, onion, beetroot",
    "animal that can fly": "bird, bat, bee, eagle, butterfly",
    "animal that can swim": "fish, duck, dolphin, seal, otter",
    "animal that is grey": "elephant, mouse, donkey, dolphin",
    "animal that is black and white": "zebra, panda, penguin",
    "animal that lives in water": "fish, whale, shark, dolphin, octopus",
    "animal that lives in Africa": "lion, elephant, giraffe, zebra",
    "animal that lays eggs": "hen, duck, turtle, snake, frog",
    "animal that gives milk": "cow, goat, sheep",
    "animal with a long neck": "giraffe, swan, ostrich",
    "animal with four legs": "dog, cat, horse, cow, sheep",
    "animal with eight legs": "spider",
    "animal with horns": "cow, goat, deer",
    "animal without legs": "snake, worm, fish",
    "bird that cannot fly": "penguin, ostrich",
    "bird that hunts at night": "owl",
    "flower that is red": "rose, tulip, poppy",
    "flower that is yellow": "sunflower, dandelion, daffodil",
    "drink that is hot": "tea, coffee, cocoa",
    "drink that is cold": "lemonade, juice, milk, water",
    "food that is sweet": "cake, honey, chocolate, jam, ice cream",
    "food that is made of milk": "cheese, butter, yogurt",
    "vehicle with two wheels": "bicycle, motorbike, scooter",
    "vehicle that flies": "plane, helicopter, rocket",
    "vehicle that goes on water": "boat, ship, ferry, canoe",
    "vehicle that runs on rails": "train, tram",
    "instrument with strings": "violin, guitar, cello, harp, banjo",
    "instrument with keys": "piano, accordion",
    "instrument that one blows": "flute, trumpet, clarinet, saxophone",
    "tool that cuts": "saw, knife, axe, scissors",
    "thing that gives light": "lamp, candle, the sun, lantern",
    "thing that tells the time": "clock, watch, sundial",
    "thing that is soft": "pillow, blanket, feather, kitten",
    "thing that is sharp": "knife, needle, saw, axe",
    "month in summer": "July, August, June",
    "month in winter": "January, February, December",
    "day at the weekend": "Saturday, Sunday",
    "country in Europe": "France, Italy, Spain, Germany, Norway, Poland",
    "country in Asia": "China, India, Japan, Thailand",
    "country in Africa": "Egypt, Kenya, Ghana, Morocco",
    "country in South America": "Brazil, Peru, Chile, Argentina",
    "city in France": "Paris, Lyon, Marseille",
    "city in Italy": "Rome, Milan, Venice",
    "city in Germany": "Berlin, Hamburg, Munich",
    "planet that is red": "Mars",
    "planet with rings": "Saturn",
    "sport with a ball": "football, tennis, basketball, golf",
    "sport in water": "swimming, rowing, sailing",
    "winter sport": "skiing, skating",
    "piece of clothing for the feet": "sock, shoe, boot",
    "piece of clothing for cold days": "coat, scarf, glove, sweater",
}

_ASKED = (
    "Name {n} {kind}.",
    "Name {n} {kind}.",
    "List {n} {kind}.",
    "Give me {n} {kind}.",
    "Tell me {n} {kind}.",
    "Can you name {n} {kind}?",
    "Write down {n} {kind}.",
    "I need {n} {kind}.",
    "{N} {kind}, please.",
    "What are {n} {kind}?",
    "Give {n} examples of {kind}.",
    "Which {n} {kind} do you know?",
    "Enumerate {n} {kind}.",
)
_AS_LINES = (" One per line.", " One in each line.", " Each on a line of its own.", " As a list with one per line.")
_AS_NUMBERS = (" Number them.", " As a numbered list.", " With numbers.")
_ONE = (
    "Name {a}.",
    "Name {a}.",
    "Tell me {a}.",
    "Can you name {a}?",
    "Give me an example of {a}.",
    "Which {b}?",
    "I am looking for {a}.",
    "Do you know {a}?",
    "Give me {a}.",
    "What is {a}?",
    "Say {a}.",
    "Give an example: {a}.",
)
_LETTER = (
    "Name {a} that begins with {l}.",
    "Name {a} that starts with {l}.",
    "Give me {a} with {l}.",
    "Which {b} begins with {l}?",
    "Tell me {a} starting with {l}.",
)


def generate(rng: np.random.Generator, split: Split) -> Example:
    """A list, or one thing that fits; meta holds `kind`, `number` and what would be `right`."""
    while True:
        draw = rng.random()
        asked, answer, meta = _several(rng) if draw < 0.6 else _fitting(rng) if draw < 0.85 else _with_letter(rng)
        if not in_split(f"list {meta['kind']} {meta['number']}", split):
            continue
        prompt = varied(rng, asked)
        if not is_probe(prompt):
            return Example(prompt, answer, meta)


def _several(rng: np.random.Generator) -> tuple[str, str, dict]:
    kind = choose(rng, tuple(KINDS))
    number = int(choose(rng, (2, 3, 3, 3, 4, 5)))
    names = choose_several(rng, KINDS[kind], min(number, len(KINDS[kind])))
    number = len(names)
    shown = NUMBER_WORDS[number] if rng.random() < 0.8 else str(number)
    asked = choose(rng, _ASKED).format(n=shown, N=capital(shown), kind=kind)
    meta = {"kind": kind, "number": number, "right": list(KINDS[kind])}
    form = rng.random()
    if form < 0.12:
        return asked + choose(rng, _AS_LINES), "\n".join(names), meta
    if form < 0.2:
        return asked + choose(rng, _AS_NUMBERS), "\n".join(f"{i}. {name}" for i, name in enumerate(names, 1)), meta
    names[0] = capital(names[0])
    return asked, f"{', '.join(names[:-1])} and {names[-1]}.", meta


def _fitting(rng: np.random.Generator) -> tuple[str, str, dict]:
    kind = choose(rng, tuple(FITTING))
    right = words(FITTING[kind])
    asked = choose(rng, _ONE).format(a=f"a{'n' if kind[0] in 'aeiou' else ''} {kind}", b=kind)
    return asked, f"{capital(_shown(choose(rng, right)))}.", {"kind": kind, "number": 1, "right": list(right)}


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
    asked = choose(rng, _LETTER).format(a=article, b=one, l=first[0].upper())
    return (
        asked,
        f"{capital(_shown(choose(rng, right)))}.",
        {"kind": f"{kind} with {first[0]}", "number": 1, "right": right},
    )


def _shown(name: str) -> str:
    bare = name[0].isupper() or name.startswith("the ") or name in UNCOUNTABLE or name in KINDS["sports and games"]
    return name if bare else with_article(name)
