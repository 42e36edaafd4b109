"""Short reports of a cause and what came of it, to be summed up in a sentence, by rule."""

from __future__ import annotations

import numpy as np

from diffusiongemma.tasks.example import Example, Split, chance, choose, in_split
from diffusiongemma.tasks.vocabulary import MEN, WOMEN
from recipes.nano.sources.phrasing import is_probe, varied

# What happened, why, and what those concerned did: "{who}" is one of them.
_EVENTS = (
    ("the bus was late", "a flat tyre", "missed the film", "took a taxi"),
    ("the flight was cancelled", "a storm", "stayed at the hotel", "flew a day later"),
    ("the shop was closed", "a holiday", "found no bread", "ate rice instead"),
    ("the game was cancelled", "heavy rain", "stayed at home", "played cards"),
    ("the road was closed", "a fallen tree", "took another way", "came home late"),
    ("the lamp went out", "a power cut", "lit candles", "told stories"),
    ("the car did not start", "the cold", "walked to work", "came too late"),
    ("the cake was burnt", "a phone call", "bought a new one", "had tea without it for a while"),
    ("the picnic ended early", "a thunderstorm", "ran to the house", "ate inside"),
    ("the ferry did not sail", "high waves", "waited in the harbour", "slept in the car"),
    ("the concert began late", "a broken microphone", "waited for an hour", "missed the last train"),
    ("the school was closed", "snow", "built a snowman", "had a free day"),
    ("the bridge was blocked", "an accident", "turned round", "visited a friend instead"),
    ("the garden was dry", "the long heat", "carried water every evening", "saved the flowers"),
    ("the letter came back", "a wrong address", "wrote it again", "brought it in person"),
    ("the meeting was short", "a fire alarm", "left the building", "met again the next day"),
    ("the market was empty", "the early frost", "found no apples", "bought cheese"),
    ("the window broke", "a football", "swept up the glass", "called a workman"),
    ("the phone was dead", "an empty battery", "could not call", "went there on foot"),
    ("the dog ran away", "a loud noise", "looked for it all night", "found it in the barn"),
    ("the house was cold", "a broken stove", "put on coats", "slept in the kitchen"),
    ("the tomatoes were small", "too little sun", "made soup of them", "bought others"),
    ("the boat sank", "a hole in the side", "swam to the shore", "walked home wet"),
    ("the film was stopped", "a fault", "got the money back", "went to a cafe"),
    ("the lift stood still", "a fault", "climbed the stairs", "reached the office tired"),
    ("the wedding was moved", "an illness", "changed all plans", "celebrated in spring"),
    ("the river rose", "days of rain", "carried the furniture upstairs", "stayed with friends"),
    ("the exam was moved", "a strike", "learned for another week", "passed with good marks"),
    ("the bread did not rise", "old yeast", "baked flat cakes", "liked them"),
    ("the bicycle was stolen", "an open lock", "went to the police", "walked home"),
)
_FORMS = (
    "{E} because of {c}, so {w} {a} and {b}.",
    "{E} because of {c}. {W} {a} and {b}.",
    "Because of {c} {e}. So {w} {a} and then {b}.",
    "{E} on {day}. The reason was {c}. {W} {a}. In the end {w} {b}.",
    "There was {c} on {day}, and {e}. {W} {a} and {b}.",
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_REQUESTS = (
    "Summarise: {t}",
    "Summarize: {t}",
    "Summarise this: {t}",
    "Sum this up: {t}",
    "Sum up in one sentence: {t}",
    "Summarise this text in one sentence.\n\n{t}",
    "Summarize the text.\n\n{t}",
    "Give a short summary.\n\n{t}",
    "In one sentence:\n\n{t}",
    "What is this about, in one sentence?\n\n{t}",
    "{t}\n\nSummarise this in one sentence.",
    "{t}\n\nSum it up, please.",
    "Make this shorter: {t}",
    "Shorten this text.\n\n{t}",
    "TL;DR: {t}",
    "What happened? One sentence.\n\n{t}",
)
_WHY = (
    "Why {q}?\n\n{t}",
    "{t}\n\nWhy {q}?",
    "What was the reason?\n\n{t}",
    "{t}\n\nWhat was the reason?",
    "What is the cause?\n\n{t}",
)


def generate(rng: np.random.Generator, split: Split) -> Example:
    """A report and its summary, or a question for its reason; meta holds the `kind` and what the answer must name."""
    while True:
        event, cause, first, second = choose(rng, _EVENTS)
        if not in_split(f"event {event}", split):
            continue
        who = choose(rng, ("we", "they", "I", choose(rng, WOMEN), choose(rng, MEN)))
        shown = {
            "e": event,
            "E": event[0].upper() + event[1:],
            "c": cause,
            "w": who,
            "W": who[0].upper() + who[1:],
            "a": first,
            "b": second,
            "day": choose(rng, _DAYS),
        }
        text = choose(rng, _FORMS).format(**shown)
        if chance(rng, 0.25):
            subject, verb, rest = _split(event)
            prompt = choose(rng, _WHY).format(q=f"{verb} {subject} {rest}".strip(), t=text)
            answer, kind = f"Because of {cause}.", "reason"
        else:
            prompt = choose(rng, _REQUESTS).format(t=text)
            answer, kind = f"{shown['E']} because of {cause}, so {who} {first}.", "summary"
        first_line, _, rest_lines = prompt.partition("\n")
        if text not in first_line:
            prompt = varied(rng, first_line, keep=0.6) + ("\n" + rest_lines if rest_lines else "")
        if not is_probe(prompt) and not is_probe(text):
            return Example(prompt, answer, {"kind": kind, "names": [cause, first] if kind == "summary" else [cause]})


def _split(event: str) -> tuple[str, str, str]:
    """`the bus was late` -> the bus, was, late; `the river rose` -> the river rose, was it that, (nothing)."""
    for verb in (" was ", " were ", " did "):
        if verb in event:
            subject, rest = event.split(verb, 1)
            return subject, verb.strip(), rest
    return event, "is it that", ""
