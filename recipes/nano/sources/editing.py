"""Changes to a text that keep all else: names and words replaced, lines added, removed, sorted, numbered.

Line ends stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from diffusiongemma.tasks.example import Example, Split, chance, choose, choose_several, in_split
from diffusiongemma.tasks.repair import misspell
from diffusiongemma.tasks.vocabulary import CITIES, COLOURS, MEN, WOMEN
from recipes.nano.phrases import read_phrases
from recipes.nano.sources import mending
from recipes.nano.sources.fact_tables import OPPOSITES, PASTS, PLURALS
from recipes.nano.sources.phrasing import is_probe, varied
from recipes.nano.writer.topics import THINGS

Rng = np.random.Generator
Change = tuple[str, str, str]  # instruction, before, after

_NAMES = WOMEN + MEN
VERBS = tuple((base, past) for base, past in PASTS.items() if base not in ("be", "have", "do", "read", "lie"))
_PHRASES = read_phrases("editing")
_THINGS = tuple(
    thing
    for kind in ("household things", "clothes", "tools", "furniture")
    for thing in THINGS[kind]
    if " " not in thing and thing not in ("scissors", "pliers", "glasses", "pyjamas")
)


def draw_sentences(rng: Rng, count: int) -> tuple[list[str], dict[str, str]]:
    """Sentences about the same few people, places and things, and what these are: n, m, c, x, t."""
    n, m = choose_several(rng, _NAMES, 2)
    shown = {"n": n, "m": m, "c": choose(rng, CITIES), "x": choose(rng, COLOURS), "t": choose(rng, _THINGS)}
    return [template.format(**shown) for template in choose_several(rng, _PHRASES["sentences"], count)], shown


def _replace(rng: Rng, old: str, new: str, what: str = "") -> str:
    named = f"the {what} {old}" if what else f'"{old}"'
    forms = (
        f"Change {named} to {new}.",
        f"Replace {old} with {new}.",
        f"Replace {named} by {new}.",
        f"Use {new} instead of {old}.",
        f"Rename {old} to {new}.",
        f'Change "{old}" to "{new}".',
        f'Replace "{old}" with "{new}".',
        f"{old} should be {new}.",
        f"Turn {old} into {new}.",
        f"Write {new} where it says {old}.",
    )
    return choose(rng, forms)


def _joined(rng: Rng, sentences: list[str]) -> str:
    return ("\n" if chance(rng, 0.35) else " ").join(sentences)


def replacing(rng: Rng) -> Change:
    sentences, shown = draw_sentences(rng, int(rng.integers(1, 5)))
    before = _joined(rng, sentences)
    kind, options, what = choose(
        rng,
        (
            ("n", _NAMES, "name"),
            ("n", _NAMES, "name"),
            ("m", _NAMES, "name"),
            ("c", CITIES, "city"),
            ("x", COLOURS, "colour"),
            ("t", _THINGS, ""),
        ),
    )
    old = shown[kind]
    if old not in before:
        return replacing(rng)
    new = choose(rng, [option for option in options if option not in shown.values()])
    return (
        _replace(rng, old, new, what if chance(rng, 0.4) else ""),
        before,
        re.sub(rf"\b{re.escape(old)}\b", new, before),
    )


_TENSES = _PHRASES["tenses"]
TENSE_TAILS: dict[str, str] = _TENSES["tails"]


def tenses(rng: Rng) -> Change:
    """Present, past and future of one to three sentences."""
    count = 1 if chance(rng, 0.6) else int(rng.integers(2, 4))
    verbs = choose_several(rng, [pair for pair in VERBS if pair[0] in TENSE_TAILS], count)
    subjects = [choose(rng, _TENSES["subjects"]) for _ in verbs]

    def told(tense: str) -> str:
        shown = {
            "present": lambda base, past: base,
            "past": lambda base, past: past,
            "future": lambda base, past: f"will {base}",
        }[tense]
        return " ".join(
            f"{subject} {shown(base, past)} {TENSE_TAILS[base]}."
            for subject, (base, past) in zip(subjects, verbs, strict=True)
        )

    before, after = choose_several(rng, ("present", "past", "future"), 2)
    instruction = choose(rng, _TENSES["asked"]).format(t=after)
    return instruction[0].upper() + instruction[1:], told(before), told(after)


_LIST_KINDS = ("fruits", "vegetables", "animals", "tools", "clothes", "household things", "foods", "birds", "vehicles")


_LINE_CHANGES = (
    "sort",
    "reverse",
    "number",
    "bullets",
    "first",
    "last",
    "remove",
    "add",
    "upper",
    "commas",
    "capital",
    "lines",
)
_OF_LINES: dict[str, Callable[[list[str]], list[str]]] = {  # what becomes of the lines
    "sort": sorted,
    "reverse": lambda lines: lines[::-1],
    "number": lambda lines: [f"{i}. {line}" for i, line in enumerate(lines, 1)],
    "bullets": lambda lines: [f"- {line}" for line in lines],
    "first": lambda lines: lines[1:],
    "last": lambda lines: lines[:-1],
    "upper": lambda lines: [line.upper() for line in lines],
    "commas": lambda lines: [", ".join(lines)],
    "capital": lambda lines: [line[0].upper() + line[1:] for line in lines],
}


def lists(rng: Rng) -> Change:
    """Something done with lines."""
    kind = choose(rng, _LIST_KINDS)
    lines = choose_several(rng, THINGS[kind], int(rng.integers(2, 7)))
    do = choose(rng, _LINE_CHANGES)
    if do == "remove":
        return _removing(rng, lines)
    if do == "add":
        return _adding(rng, lines, choose(rng, [thing for thing in THINGS[kind] if thing not in lines]))
    asked, text = choose(rng, _PHRASES["lines"][do]), "\n".join(lines)
    return (asked, ", ".join(lines), text) if do == "lines" else (asked, text, "\n".join(_OF_LINES[do](lines)))


def _removing(rng: Rng, lines: list[str]) -> Change:
    gone = choose(rng, lines)
    asked = choose(rng, _PHRASES["lines"]["remove"]).format(g=gone)
    return asked, "\n".join(lines), "\n".join(line for line in lines if line != gone)


def _adding(rng: Rng, lines: list[str], new: str) -> Change:
    where, after = ("add_at_end", [*lines, new]) if chance(rng, 0.5) else ("add_at_top", [new, *lines])
    return choose(rng, _PHRASES["lines"][where]).format(g=new), "\n".join(lines), "\n".join(after)


_WORD_CHANGES = tuple(["upper", "lower", "question", "opposite", "delete", "exclaim", "quotes", "plural", "twice"])
_OF_TEXT: dict[str, Callable[[str], str]] = {
    "upper": str.upper,
    "lower": str.lower,
    "exclaim": lambda text: text.replace(".", "!"),
    "quotes": lambda text: f'"{text}"',
    "twice": lambda text: text + ("\n" if "\n" in text else " ") + text,
}


def words(rng: Rng) -> Change:
    """Something done with the words of one or two sentences."""
    sentences, shown = draw_sentences(rng, int(rng.integers(1, 3)))
    before = _joined(rng, sentences)
    do = choose(rng, _WORD_CHANGES)
    if do == "delete" and shown["x"] in before:
        return _deleting(rng, before, shown["x"])
    if do == "opposite":
        return _opposite(rng)
    if do == "plural":
        return _plural(rng)
    if do in _OF_TEXT:
        return choose(rng, _PHRASES["words"][do]), before, _OF_TEXT[do](before)
    return choose(rng, _PHRASES["words"]["question"]), f"{shown['n']} is tired.", f"Is {shown['n']} tired?"


def _deleting(rng: Rng, before: str, word: str) -> Change:
    asked = choose(rng, _PHRASES["words"]["delete"]).format(x=word)
    return asked, before, re.sub(rf"\b{word} ", "", re.sub(rf" {word}\.", ".", before))


def _opposite(rng: Rng) -> Change:
    quality = choose(rng, [word for word in OPPOSITES if len(word) > 2])
    thing = choose(rng, _PHRASES["things"])
    return choose(rng, _PHRASES["words"]["opposite"]), f"{thing} is {quality}.", f"{thing} is {OPPOSITES[quality]}."


def _plural(rng: Rng) -> Change:
    one = choose(rng, [word for word in PLURALS if PLURALS[word] != word])
    verb, rest = choose(rng, ("is here", "was old", "is small", "was gone", "is new", "was red")).split()
    verbs = {"is": "are", "was": "were"}[verb]
    asked = choose(rng, _PHRASES["words"]["plural"])
    return asked, f"The {one} {verb} {rest}.", f"The {PLURALS[one]} {verbs} {rest}."


def lines_to_mend(rng: Rng, sentences: Sequence[str]) -> Change:
    """Several lines, of which some have mistakes; the lines stay lines."""
    lines = [choose(rng, sentences) for _ in range(int(rng.integers(2, 5)))]
    wrong = [misspell(line, rng, 1) if chance(rng, 0.7) else line for line in lines]
    request = choose(
        rng,
        mending.REQUESTS["spelling"] + ("Correct the spelling and keep the lines.", "Fix the spelling in every line."),
    )
    return request, "\n".join(wrong), "\n".join(lines)


def generate(rng: np.random.Generator, split: Split, sentences: Sequence[str] = ()) -> Example:
    """One change; meta holds `source` and `edit`. With `sentences`, some of the texts are theirs."""
    changes: list[tuple[str, Callable[[Rng], Change], float]] = [
        ("replace", replacing, 3.0),
        ("tense", tenses, 2.0),
        ("lines", lists, 2.5),
        ("words", words, 1.5),
    ]
    if sentences:
        changes.append(("spelling of lines", lambda rng: lines_to_mend(rng, sentences), 2.0))
    shares = np.array([share for *_, share in changes])
    while True:
        name, change, _ = changes[int(rng.choice(len(changes), p=shares / shares.sum()))]
        instruction, before, after = change(rng)
        if not after or not in_split(before, split) or is_probe(before) or is_probe(after):
            continue
        before, after = _with_line_ends(rng, before, after)
        instruction = varied(rng, instruction, keep=0.7) + choose(
            rng, ("", "", "", "", " Change nothing else.", " Output only the text.")
        )
        form = rng.random()
        if form < 0.75 or "\n" in before:
            prompt = f"{instruction}\n\n{before}"
        else:
            prompt = f"{instruction.rstrip('.')}: {before}" if form < 0.9 else f"{before}\n\n{instruction}"
        return Example(prompt, after, {"source": before, "edit": name})


def _with_line_ends(rng: Rng, before: str, after: str) -> tuple[str, str]:
    """Sometimes Windows' line ends, sometimes an empty line between; in both alike."""
    if "\n" in before and "\n" in after:
        if chance(rng, 0.12):
            return before.replace("\n", "\r\n"), after.replace("\n", "\r\n")
        if chance(rng, 0.08):
            return before.replace("\n", "\n\n"), after.replace("\n", "\n\n")
    return before, after
