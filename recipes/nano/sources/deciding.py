"""Decisions: yes or no, one of several labels, a score from 1 to 5, on short texts put together by rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from diffusiongemma.tasks.example import Example, Split, chance, choose, choose_several, in_split
from diffusiongemma.tasks.vocabulary import MEN, WOMEN
from recipes.nano.sources.fact_tables import words
from recipes.nano.sources.phrasing import varied

_THINGS = words(
    """
    hotel, film, book, soup, pizza, concert, phone, car, train ride, teacher, museum, room, service, game, lamp, shop,
    coffee, trip, party, garden, chair, bicycle
    """
)
_OPINIONS: dict[int, tuple[str, ...]] = {  # by stars
    5: words("excellent, wonderful, perfect, fantastic, the best ever, superb, great"),
    4: words("good, nice, very pleasant, quite good, fine, enjoyable"),
    3: words("okay, average, neither good nor bad, acceptable, so-so"),
    2: words("not good, rather bad, disappointing, too slow, poor"),
    1: words("terrible, awful, horrible, a disaster, the worst ever, dreadful"),
}
_MORE: dict[int, tuple[str, ...]] = {
    5: words(
        "I loved every minute of it., We will surely come back., I recommend it to everyone., It made me very happy."
    ),
    4: words("I liked it., We had a good time., I would do it again., It was worth the money."),
    3: words("I have seen better and worse., It did its job., Nothing special., It was all right."),
    2: words("I expected more., I would not do it again., It was not worth the money., We were not happy."),
    1: words("I want my money back., Never again., I hated it., It ruined our day., Stay away from it."),
}
_OPINION_FORMS = (
    "The {t} was {o}.",
    "The {t} was {o}. {m}",
    "{m} The {t} was {o}.",
    "I think that the {t} was {o}.",
    "{n} says: The {t} was {o}. {m}",
    "What a {t}! It was {o}.",
)

_TOPICS: dict[str, tuple[str, ...]] = {
    "sports": words(
        """
    The team won the final by two goals., She ran the race in record time., The players train every day.,
    He scored twice before the break., The match was cancelled because of rain., Our swimmer took the gold medal.,
    The coach is happy with the new goalkeeper.
    """
    ),
    "weather": words(
        """
    It will rain all day tomorrow., A storm is coming from the west., The snow will melt at the weekend.,
    It is sunny and warm., Fog covers the valley this morning., Temperatures fall below zero tonight.,
    A strong wind blew all night.
    """
    ),
    "food": words(
        """
    Bake the cake for forty minutes., This soup needs more salt., We had pasta with tomatoes.,
    The bread is fresh from the oven., Add two eggs and some milk., The restaurant serves fish on Fridays.,
    She cut the onions into small pieces.
    """
    ),
    "travel": words(
        """
    The train to Rome leaves at nine., We booked a room by the sea., The flight was late by two hours.,
    Our hotel was near the station., They crossed the border at noon., He packed his suitcase for a month.,
    The ferry to the island runs twice a day.
    """
    ),
    "music": words(
        """
    The orchestra played for two hours., She learns the violin., The singer has a new song.,
    The concert begins at eight., He wrote a song for his guitar., The choir sang three old songs.,
    The drummer lost his sticks.
    """
    ),
    "health": words(
        """
    The doctor told him to rest., She has a cold and a fever., Take the pills after dinner.,
    He broke his arm last week., The nurse measured his blood pressure., My tooth hurts since Monday.,
    Walking is good for the heart.
    """
    ),
    "school": words(
        """
    The pupils wrote a test., The teacher explained the lesson., Our class goes to the museum.,
    He forgot his homework., The holidays begin on Friday., She got the best mark in history.,
    The new pupil sits next to me.
    """
    ),
    "business": words(
        """
    The company sold more cars this year., The bank raised its interest., They opened a second shop.,
    The price of oil went up., The firm hired fifty people., Profits fell by ten percent.,
    The contract was signed on Monday.
    """
    ),
    "animals": words(
        """
    The dog ran after the cat., Two lions sleep under a tree., The owl caught a mouse., The cow gave birth to a calf.,
    Birds built a nest in the roof., The horse jumped over the fence., The whale came up to breathe.
    """
    ),
}
_SPAM = words(
    """
    You have won a million dollars! Click here now., Cheap pills without a doctor! Order today.,
    Your account will be closed. Send us your password., Make money fast from home!!!,
    Free phone for the first hundred callers!, Congratulations! You are our lucky winner.,
    Buy now and save 90 percent!
    """
)
_HAM = words(
    """
    Are we still meeting at noon?, Here are the minutes of the meeting., Thank you for the book.,
    Can you call me back?, The parcel arrived this morning., Please find the report attached.,
    I will be ten minutes late., Mother sends her love., Could you water the plants on Friday?
    """
)
_URGENT = words(
    """
    The kitchen is on fire!, Water is running into the cellar, please come at once!,
    The server is down and nobody can work., The patient cannot breathe!, Help, the child has fallen into the river!,
    The gas pipe leaks, come now!
    """
)
_NOT_URGENT = words(
    """
    Please send me the photos when you have time., The lamp in the hall could be brighter.,
    Some day we should paint the fence., Have you read this book?, I would like to know your opinion on the colour.,
    There is no hurry, but the chair squeaks.
    """
)
_LANGUAGES: dict[str, tuple[str, ...]] = {
    "English": words(
        """
    Where is the station?, I would like a cup of tea., The house is old., We are going home., My brother is a doctor.,
    Good morning!
    """
    ),
    "German": words(
        """
    Wo ist der Bahnhof?, Ich möchte eine Tasse Tee., Das Haus ist alt., Wir gehen nach Hause., Mein Bruder ist Arzt.,
    Guten Morgen!
    """
    ),
    "French": words(
        """
    Où est la gare?, Je voudrais une tasse de thé., La maison est vieille., Nous allons à la maison.,
    Mon frère est médecin., Bonjour!
    """
    ),
    "Spanish": words(
        """
    ¿Dónde está la estación?, Quisiera una taza de té., La casa es vieja., Vamos a casa., Mi hermano es médico.,
    ¡Buenos días!
    """
    ),
    "Italian": words(
        """
    Dov'è la stazione?, Vorrei una tazza di tè., La casa è vecchia., Andiamo a casa., Mio fratello è medico.,
    Buongiorno!
    """
    ),
}

_YES_NO = (" Answer yes or no.", " Yes or no?", " Answer with yes or no.", "")


def _opinion(rng: np.random.Generator) -> tuple[str, int]:
    stars = int(rng.integers(1, 6))
    form = choose(rng, _OPINION_FORMS)
    return form.format(
        t=choose(rng, _THINGS), o=choose(rng, _OPINIONS[stars]), m=choose(rng, _MORE[stars]), n=choose(rng, WOMEN + MEN)
    ), stars


def _labels(
    rng: np.random.Generator, text: str, asked: tuple[str, ...], right: str, others: list[str]
) -> tuple[str, str, list[str]]:
    options = [right, *others]
    options = [options[int(i)] for i in rng.permutation(len(options))]
    shown = choose(rng, (f"{', '.join(options[:-1])} or {options[-1]}", ", ".join(options), " / ".join(options)))
    return _joined(rng, choose(rng, asked).format(o=shown), text), right, options


def _joined(rng: np.random.Generator, question: str, text: str) -> str:
    question = varied(rng, question, keep=0.7)
    return choose(
        rng, (f"{question}\n\n{text}", f"{text}\n\n{question}", f"{question}\n{text}", f'{question}\n"{text}"')
    )


def _sentiment(rng: np.random.Generator) -> tuple[str, str, list[str]]:
    text, stars = _opinion(rng)
    while stars == 3:
        text, stars = _opinion(rng)
    good = stars > 3
    if chance(rng, 0.4):
        question = choose(
            rng,
            ("Is this review positive?", "Is the writer happy?", "Did the writer like it?", "Is this a good review?"),
        )
        return _joined(rng, question + choose(rng, _YES_NO), text), "Yes" if good else "No", ["Yes", "No"]
    asked = (
        "Positive or negative?",
        "Is this positive or negative?",
        "Classify the sentiment: {o}",
        "Sentiment ({o}):",
        "Choose one: {o}",
    )
    return _labels(rng, text, asked, "positive" if good else "negative", ["negative" if good else "positive"])


def _stars(rng: np.random.Generator) -> tuple[str, str, list[str]]:
    text, stars = _opinion(rng)
    asked = (
        "How many stars from 1 to 5?",
        "Rate this review from 1 (bad) to 5 (good).",
        "Score from 1 to 5:",
        "Give the number of stars, 1 to 5.",
        "How satisfied is the writer, from 1 to 5?",
        "Rate the satisfaction on a scale from 1 to 5.",
    )
    return _joined(rng, choose(rng, asked), text), str(stars), list("12345")


def _topic(rng: np.random.Generator) -> tuple[str, str, list[str]]:
    right = choose(rng, tuple(_TOPICS))
    text = choose(rng, _TOPICS[right])
    others = choose_several(rng, [name for name in _TOPICS if name != right], int(rng.integers(1, 5)))
    if chance(rng, 0.3):
        about = right if chance(rng, 0.5) else others[0]
        question = choose(rng, ("Is this about {t}?", "Is the text about {t}?", "Does this text belong to {t}?"))
        question = question.format(t=about) + choose(rng, _YES_NO)
        return _joined(rng, question, text), "Yes" if about == right else "No", ["Yes", "No"]
    asked = (
        "What is this about: {o}?",
        "Topic: {o}?",
        "Choose the topic: {o}",
        "Which topic fits: {o}?",
        "Classify as {o}.",
        "Label this text: {o}",
        "Is this about {o}?",
    )
    return _labels(rng, text, asked, right, others)


@dataclass(frozen=True)
class Judged:
    """Texts that are something or not, how one asks whether, and the labels of both."""

    texts: tuple[tuple[str, ...], tuple[str, ...]]
    questions: tuple[str, ...]
    asked: tuple[str, ...]
    labels: tuple[str, str]


SPAM = Judged(
    (_SPAM, _HAM),
    ("Is this spam?", "Is this message spam?", "Would you call this spam?", "Is this an advertisement?"),
    ("Classify: {o}", "Which is it: {o}?", "Label this mail: {o}"),
    ("spam", "not spam"),
)
URGENT = Judged(
    (_URGENT, _NOT_URGENT),
    ("Is this urgent?", "Is this message urgent?", "Must one act at once?", "Is there a hurry?"),
    ("Priority: {o}?", "Choose the priority: {o}", "How urgent is it: {o}?"),
    ("high", "low"),
)


def _judged(rng: np.random.Generator, judged: Judged) -> tuple[str, str, list[str]]:
    """A question to be answered by yes or no, or one for a label."""
    yes = chance(rng, 0.5)
    text = choose(rng, judged.texts[not yes])
    if chance(rng, 0.6):
        question = choose(rng, judged.questions) + choose(rng, _YES_NO)
        return _joined(rng, question, text), "Yes" if yes else "No", ["Yes", "No"]
    return _labels(rng, text, judged.asked, judged.labels[not yes], [judged.labels[yes]])


def _language(rng: np.random.Generator) -> tuple[str, str, list[str]]:
    right = choose(rng, tuple(_LANGUAGES))
    others = choose_several(rng, [name for name in _LANGUAGES if name != right], int(rng.integers(1, 5)))
    asked = (
        "Which language is this: {o}?",
        "What language is this: {o}?",
        "Choose the language: {o}",
        "Language: {o}?",
    )
    return _labels(rng, choose(rng, _LANGUAGES[right]), asked, right, others)


def _question(rng: np.random.Generator) -> tuple[str, str, list[str]]:
    text = choose(
        rng,
        [sentence for sentences in _TOPICS.values() for sentence in sentences]
        + [t for t in _HAM + _NOT_URGENT if t.endswith("?")] * 4,
    )
    asked = choose(rng, ("Is this a question?", "Does this sentence ask something?", "Is the sentence a question?"))
    return _joined(rng, asked + choose(rng, _YES_NO), text), "Yes" if text.endswith("?") else "No", ["Yes", "No"]


def _same(rng: np.random.Generator) -> tuple[str, str, list[str]]:
    topic = choose(rng, tuple(_TOPICS))
    a, b = choose_several(rng, _TOPICS[topic], 2)
    alike = chance(rng, 0.5)
    if not alike:
        b = choose(rng, _TOPICS[choose(rng, [name for name in _TOPICS if name != topic])])
    asked = choose(
        rng, ("Are these two sentences about the same topic?", "Do both sentences have the same topic?", "Same topic?")
    )
    return _joined(rng, asked + choose(rng, _YES_NO), f"A: {a}\nB: {b}"), "Yes" if alike else "No", ["Yes", "No"]


_KINDS: dict[str, Callable[[np.random.Generator], tuple[str, str, list[str]]]] = {
    "sentiment": _sentiment,
    "stars": _stars,
    "topic": _topic,
    "spam": partial(_judged, judged=SPAM),
    "urgent": partial(_judged, judged=URGENT),
    "language": _language,
    "question": _question,
    "same topic": _same,
}


def generate(rng: np.random.Generator, split: Split) -> Example:
    """One decision; meta holds its `kind` and the `options`, of which the answer is one."""
    while True:
        kind = choose(rng, tuple(_KINDS))
        prompt, answer, options = _KINDS[kind](rng)
        if in_split(prompt, split):
            meta: dict[str, Any] = {"kind": kind, "options": options}
            return Example(prompt, answer, meta)
