"""Little stories whose every sentence can be written in any tense and about anybody: the clean texts of `repair`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from diffusiongemma.tasks.example import chance, choose
from diffusiongemma.tasks.vocabulary import CITIES, MEN, WEEKDAYS, WOMEN, made_up_name

Tense = Literal["present", "past", "future"]
TENSES: tuple[Tense, ...] = ("present", "past", "future")

_PLURAL_SUBJECTS = ("we", "they", "the children", "my parents", "the neighbors", "I")  # those that take the plain verb
_SINGULAR_SUBJECTS = ("my sister", "the teacher", "our neighbor", "the old man", "her brother", "the doctor")
_LEADS = ("After lunch", "In the morning", "At noon", "In the evening", "Before dinner", "After school", "At midnight")
_TAILS = ("with a friend", "in the garden", "near the river", "at the station", "for an hour", "without a break")


class Verb(NamedTuple):
    plain: str
    third: str
    past: str
    objects: tuple[str, ...]


def _verb(forms: str, objects: str) -> Verb:
    plain, third, past = forms.split()
    return Verb(plain, third, past, tuple(objects.split("/")))


VERBS = (
    _verb("visit visits visited", "the museum/the old castle/a small village/the market/the library"),
    _verb("buy buys bought", "fresh bread/a blue jacket/two tickets/some flowers/a new lamp"),
    _verb("write writes wrote", "a long letter/a short story/a note/the report/a poem"),
    _verb("read reads read", "the newspaper/an old book/a funny story/the map/the letter"),
    _verb("cook cooks cooked", "a hot soup/dinner/rice and beans/a big meal/breakfast"),
    _verb("clean cleans cleaned", "the kitchen/the windows/the garage/the whole house/the table"),
    _verb("find finds found", "a golden key/the lost dog/a quiet place/an old coin/the answer"),
    _verb("carry carries carried", "a heavy box/the basket/wood/the suitcase/water"),
    _verb("paint paints painted", "the fence/a picture/the wall/a small boat/the door"),
    _verb("repair repairs repaired", "the bicycle/the roof/a broken chair/the radio/the clock"),
    _verb("watch watches watched", "a film/the birds/the game/the sunset/the boats"),
    _verb("sell sells sold", "the old car/apples/paintings/the piano/used books"),
    _verb("open opens opened", "the window/a small shop/the box/the gate/the letter"),
    _verb("lose loses lost", "the keys/a glove/the game/an umbrella/the way"),
    _verb("bring brings brought", "a cake/the tools/some water/good news/a camera"),
    _verb("make makes made", "a kite/tea/a paper boat/a plan/a warm fire"),
    _verb("play plays played", "the guitar/chess/football/a quiet song/cards"),
    _verb("drive drives drove", "the truck/a red car/the school bus/a tractor/the van"),
    _verb("take takes took", "the train/a photograph/a long walk/the last bus/a short rest"),
    _verb("learn learns learned", "a new language/a song/the rules/an old dance/the alphabet"),
    _verb("build builds built", "a tree house/a wall/a small bridge/a shelf/a sandcastle"),
    _verb("send sends sent", "a parcel/flowers/an invitation/a message/the documents"),
)


@dataclass(frozen=True)
class Clause:
    """One sentence. `lead` opens it, before a comma; `tail` ends it; either may be empty."""

    subject: str
    plain_form: bool
    verb: Verb
    object: str
    lead: str
    tail: str
    question: bool


@dataclass(frozen=True)
class Story:
    clauses: tuple[Clause, ...]
    names: tuple[str, ...]  # the people in it, main person first

    def render(self, tense: Tense) -> str:
        return " ".join(_render(clause, tense) for clause in self.clauses)

    def renamed(self, old: str, new: str) -> Story:
        clauses = tuple(
            replace(
                c,
                subject=_rename(c.subject, old, new),
                object=_rename(c.object, old, new),
                tail=_rename(c.tail, old, new),
            )
            for c in self.clauses
        )
        return Story(clauses, tuple(new if name == old else name for name in self.names))


def draw_story(rng: np.random.Generator, sentences: tuple[int, int] = (1, 4)) -> Story:
    """A story of one to four sentences in which one or two people appear by name."""
    names = (person(rng), person(rng))
    while names[0] == names[1]:
        names = (names[0], person(rng))
    size = int(rng.integers(sentences[0], sentences[1] + 1))
    clauses = [_draw_clause(rng, names, named=i == 0) for i in range(size)]
    order = rng.permutation(size)
    return Story(tuple(clauses[i] for i in order), names)


def person(rng: np.random.Generator) -> str:
    return made_up_name(rng) if chance(rng, 0.15) else choose(rng, WOMEN + MEN)


def story_words() -> set[str]:
    """Every lower-case word that a story may hold: a misspelling must be none of these."""
    texts: list[str] = [
        *_PLURAL_SUBJECTS,
        *_SINGULAR_SUBJECTS,
        *_LEADS,
        *_TAILS,
        "will",
        "did",
        "does",
        "do",
        "to",
        "on",
    ]
    for verb in VERBS:
        texts += [verb.plain, verb.third, verb.past, *verb.objects]
    return {word.lower() for text in texts for word in text.split()}


def _draw_clause(rng: np.random.Generator, names: Sequence[str], named: bool) -> Clause:
    verb = choose(rng, VERBS)
    if named or chance(rng, 0.4):
        subject, plain = names[0] if named else choose(rng, names), False
    else:
        plain = chance(rng, 0.5)
        subject = choose(rng, _PLURAL_SUBJECTS if plain else _SINGULAR_SUBJECTS)
    lead = choose(rng, (*_LEADS, f"On {choose(rng, WEEKDAYS)}")) if chance(rng, 0.35) else ""
    other = names[0] if subject == names[1] else names[1]
    tails = (*_TAILS, f"in {choose(rng, CITIES)}", f"for {other}", f"at {other}'s house")
    tail = choose(rng, tails) if chance(rng, 0.6) else ""
    question = not lead and chance(rng, 0.15)
    return Clause(subject, plain, verb, choose(rng, verb.objects), lead, tail, question)


def _render(clause: Clause, tense: Tense) -> str:
    rest = f"{clause.object} {clause.tail}".strip()
    if clause.question:
        helper = {"present": "do" if clause.plain_form else "does", "past": "did", "future": "will"}[tense]
        return f"{helper.capitalize()} {clause.subject} {clause.verb.plain} {rest}?"
    present = clause.verb.plain if clause.plain_form else clause.verb.third
    verb = {"present": present, "past": clause.verb.past, "future": f"will {clause.verb.plain}"}[tense]
    start = f"{clause.lead}, {clause.subject}" if clause.lead else clause.subject[0].upper() + clause.subject[1:]
    return f"{start} {verb} {rest}."


def _rename(text: str, old: str, new: str) -> str:
    return " ".join(new + word[len(old) :] if word in (old, f"{old}'s") else word for word in text.split(" "))
