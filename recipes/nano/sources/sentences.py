"""Plain sentences to put mistakes into: everyday ones by rule, examples of WordNet, and what the writer wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffusiongemma.tasks.example import chance, choose
from diffusiongemma.tasks.vocabulary import CITIES, COLOURS, MEN, WEEKDAYS, WOMEN
from recipes.nano.sources.editing import TENSE_TAILS, VERBS
from recipes.nano.sources.fact_tables import words
from recipes.nano.writer.filters import loops
from recipes.nano.writer.shards import read
from recipes.nano.writer.topics import THINGS, with_article

Rng = np.random.Generator

# Subjects by the form of the verb that goes with them.
_ONE = words(
    """
    he, she, it, my brother, my sister, the teacher, the dog, our neighbour, her friend, the old man, his mother,
    the baby, the cat, this girl, that boy, the doctor
    """
)
_MANY = words(
    """
    we, they, you, the children, my parents, the dogs, our friends, his sisters, the teachers, many people, her cats,
    these boys, the birds, both girls
    """
)
_STATES = words(
    """
    very tired, late, ill, hungry, happy, at home, in the garden, ready, here, alone, afraid of the dark, in a hurry,
    from Italy, not here, too loud, always friendly, at school, in the kitchen, busy, thirsty, sorry, sad, angry,
    in the car, on holiday, outside, upstairs, right, wrong, cold, quite old, good at chess, new in town
    """
)
_OWNED = words(
    """
    two dogs, a dog, a cat, a red car, no time, three children, a new job, a big house, many books, a cold, long hair,
    an old piano, a good idea, blue eyes, an answer, a garden, no money, a question, a lot of work, a bicycle,
    an umbrella, an apple, a headache, a plan, two brothers, enough food, an exam tomorrow
    """
)
_LIKED = words(
    """
    coffee, tea, music, cats, dogs, football, chess, the sea, books, snow, rain, school, cheese, to read, to swim,
    to dance, to sing, long walks, loud music, spiders, chocolate, the city, to get up early, milk, old films,
    the winter, onions, fish, to cook, to travel, this song, that shop
    """
)
_SEVERAL = words("many, two, three, some, no, a few, a lot of")
_COUNTED = words(
    """
    people, books, children, chairs, birds, cars, letters, trees, apples, flowers, houses, dogs, stars, questions,
    mistakes, cups
    """
)
_SINGLE = words(
    """
    a dog, a letter, a lamp, a tree, an old man, an apple, a book, a problem, a bird, a chair, a spider, an answer,
    a picture, a hole, no milk, some bread, a bus stop
    """
)
_WHERE = words(
    """
    in the room, on the table, in the garden, at the station, in the street, under the bed, in the kitchen,
    at the door, near the river, in the box, on the wall, behind the house, in this town, on the roof, at the market,
    in my bag
    """
)
_WHEN = words(
    """
    yesterday, last week, this morning, on Monday, in the evening, last year, two days ago, at noon, in the summer,
    last night, on Sunday
    """
)
_OFTEN = words(
    """
    every day, every morning, on Sundays, at night, in winter, after lunch, once a week, all the time,
    before breakfast
    """
)


def _subject(rng: Rng) -> tuple[str, str]:
    """A subject, and its person: `I`, `one` or `many`."""
    draw = rng.random()
    if draw < 0.15:
        return "I", "I"
    if draw < 0.6:
        return (choose(rng, _ONE) if chance(rng, 0.6) else choose(rng, WOMEN + MEN)), "one"
    return (choose(rng, _MANY) if chance(rng, 0.85) else f"{choose(rng, WOMEN)} and {choose(rng, MEN)}"), "many"


def third(verb: str) -> str:
    """`goes`, `tries`, `likes`."""
    if verb.endswith(("s", "sh", "ch", "x", "o")):
        return verb + "es"
    return verb[:-1] + "ies" if verb.endswith("y") and verb[-2] not in "aeiou" else verb + "s"


def everyday(rng: Rng) -> str:
    """One sentence, correct, as people write them."""
    subject, person = _subject(rng)
    be = {"I": "am", "one": "is", "many": "are"}[person]
    was = "were" if person == "many" else "was"
    have = "has" if person == "one" else "have"
    do = "does" if person == "one" else "do"
    verb, past = choose(rng, [pair for pair in VERBS if pair[0] in TENSE_TAILS])
    tail = TENSE_TAILS[verb]
    now = third(verb) if person == "one" else verb
    like = choose(rng, ("like", "love", "want", "need", "hate", "know"))
    likes = third(like) if person == "one" else like
    several = int(rng.integers(0, 12))
    made = (
        f"{subject} {be} {choose(rng, _STATES)}",
        f"{subject} {was} {choose(rng, _STATES)}",
        f"{subject} {have} {choose(rng, _OWNED)}",
        f"{subject} {now} {tail} {choose(rng, _OFTEN)}" if " in the morning" not in tail else f"{subject} {now} {tail}",
        f"{subject} {past} {tail} {choose(rng, _WHEN)}" if chance(rng, 0.5) else f"{subject} {past} {tail}",
        f"{subject} {do}n't like {choose(rng, _LIKED)}",
        f"{subject} {do}n't {verb} {tail}",
        f"{subject} {likes} {choose(rng, _LIKED)}",
        f"there are {choose(rng, _SEVERAL)} {choose(rng, _COUNTED)} {choose(rng, _WHERE)}",
        f"there is {choose(rng, _SINGLE)} {choose(rng, _WHERE)}",
        f"the {choose(rng, THINGS['household things'])} {choose(rng, _WHERE)} is {choose(rng, COLOURS)}",
        f"{subject} {have} been to {choose(rng, CITIES)}"
        if chance(rng, 0.5)
        else f"{subject} didn't {verb} {tail} {choose(rng, _WHEN)}",
    )[several]
    if chance(rng, 0.12):
        other, person_2 = _subject(rng)
        was_2 = "were" if person_2 == "many" else "was"
        made += choose(
            rng,
            (
                f" because {other} {was_2} {choose(rng, _STATES)}",
                f", but {other} {was_2} {choose(rng, _STATES)}",
                f" and {other} {was_2} {choose(rng, _STATES)}",
            ),
        )
    elif chance(rng, 0.08):
        made = f"on {choose(rng, WEEKDAYS)} {made}"
    return made[0].upper() + made[1:] + "."


def shopping(rng: Rng) -> str:
    """About things, weather and places: words of everyday life to misspell."""
    kind = choose(
        rng, ("foods", "fruits", "vegetables", "clothes", "tools", "household things", "animals", "places", "people")
    )
    thing = choose(rng, THINGS[kind])
    forms = (
        "The {w} is beautiful today.",
        "I received {a} yesterday.",
        "Please bring {a} tomorrow.",
        "We bought {a} at the market.",
        "Where is the {t}?",
        "The {t} was very expensive.",
        "My friend gave me {a}.",
        "I have never seen such {a}.",
        "Tomorrow we will look for {a}.",
        "She believes that the {t} is hers.",
        "The weather was different in {c}.",
        "There was {a} in front of our house.",
        "He wrote a letter about {a}.",
        "Did you see the {t}?",
        "Nobody knows where the {t} is.",
        "It was a beautiful {s} morning.",
        "I think the {t} is broken.",
        "The children found {a} in the forest.",
        "We should always be careful with {a}.",
        "The {t} stands next to the window.",
    )
    season = choose(rng, ("spring", "summer", "autumn", "winter"))
    return choose(rng, forms).format(
        a=with_article(thing),
        t=thing,
        w=choose(rng, ("weather", "garden", "city", "sea", "forest")),
        c=choose(rng, CITIES),
        s=season,
    )


_EXAMPLE = re.compile(r'Example: "([^"]+)"')
_BEGINS = re.compile(
    r"(?:he|she|it|they|we|i|you|the|his|her|my|our|their|this|that|there|a|an|these|some) [a-z]", re.I
)
_HAS_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|will|would|can|could|did|do|does|must|should|may|made|went|took|gave|got|came|put|ran|saw|said|kept|left|let|\w{3,}ed)\b"
)


def of_definitions(documents: Iterable[str]) -> Iterator[str]:
    """Sentences among WordNet's examples, with a capital and a full stop."""
    for document in documents:
        for example in _EXAMPLE.findall(document):
            text = example.strip().rstrip(".")
            if (
                _BEGINS.match(text)
                and _HAS_VERB.search(text)
                and 4 <= len(text.split()) <= 16
                and re.fullmatch(r"[A-Za-z ,'-]+", text)
            ):
                text = re.sub(r"\bi\b", "I", text)
                yield text[0].upper() + text[1:] + "."


def of_writer(written: Path) -> Iterator[str]:
    """Single sentences of what was written, topics held out left out."""
    for record in read(written):
        if record["kind"] in ("sentence", "paragraph", "describe", "message", "story") and record["split"] == "train":
            for sentence in re.split(r"(?<=[.!?]) ", record["text"]):
                if (
                    4 <= len(sentence.split()) <= 20
                    and re.fullmatch(r"[A-Z][A-Za-z ,';-]+[.!?]", sentence)
                    and not loops(sentence)
                ):
                    yield sentence


class Sentences(Sequence[str]):
    """A never-ending supply, for `choose`: every other one from `texts`, the rest by rule."""

    def __init__(self, texts: Iterable[str]):
        self.texts = list(dict.fromkeys(texts))

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, index: Any) -> Any:
        rng = np.random.default_rng(index)
        if self.texts and index % 2:
            return choose(rng, self.texts)
        return everyday(rng) if chance(rng, 0.75) else shopping(rng)
