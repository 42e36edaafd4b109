"""Text repair: correct spelling or punctuation, change a name, a word or the tense, and leave the rest alone.

Texts are generated stories or, when `sentences` are given, human sentences (spelling and punctuation only). Train
and test never share a text, whatever was done to it; the patterns and words of the stories are shared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

import numpy as np

from diffusiongemma.tasks.example import Example, Split, chance, choose, choose_several, in_split
from diffusiongemma.tasks.stories import TENSES, Story, draw_story, person, story_words

_INSTRUCTIONS = {
    "spelling": ("Fix the spelling mistakes.", "Correct the spelling.", "Correct the typos in this text."),
    "punctuation": ("Add capital letters and punctuation.", "Restore capitals and punctuation."),
    "proofread": ("Correct the text.", "Fix all mistakes in this text.", "Proofread this text."),
    "name": ("Change the name {old} to {new}.", "Replace {old} with {new}.", "Use the name {new} instead of {old}."),
    "word": ('Replace "{old}" with "{new}".', 'Change "{old}" to "{new}".'),
    "tense": ("Put the text in the {tense} tense.", "Rewrite in the {tense} tense.", "Change the tense to {tense}."),
}
_ENDINGS = ("", " Output only the corrected text.", " Change nothing else.")
_NEIGHBOURS = {  # keys beside one another on a keyboard
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "wa", "r": "et", "s": "ad", "t": "ry",
    "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x",
}  # fmt: skip
_PLAIN_SENTENCE = re.compile(r"[A-Z][a-z]*(?: [a-z]+)+[.?!]")  # loses nothing but its first capital and its last mark


def generate(rng: np.random.Generator, split: Split, sentences: Sequence[str] | None = None) -> Example:
    """One text to mend; meta holds `source` (the text as given), `edit` (what was asked) and, for a
    change of content, its details (`old` and `new`, or `tense`).

    `sentences` are clean human sentences of at most 40 words; half of the spelling and punctuation tasks use them.
    """
    edit = choose(rng, ("spelling", "punctuation", "proofread", "name", "word", "tense"))
    if edit in ("name", "word", "tense"):
        story = _draw_story(rng, split)
        source, answer, details = _CONTENT_EDITS[edit](story, rng)
    else:
        answer = _clean_text(rng, split, sentences, edit)
        source, details = _DAMAGES[edit](answer, rng), {}
    request = choose(rng, _INSTRUCTIONS[edit]).format(**details) + choose(rng, _ENDINGS)
    return Example(f"{request}\n\n{source}", answer, {"source": source, "edit": edit, **details})


def score(example: Example, text: str) -> dict[str, Any]:
    """`exact` (same text, outer spaces aside), `over_correction` (words changed or added where none should be, as a
    share of the words that were to stay), and the kind of `edit`."""
    text = text.strip()
    over = over_correction(example.meta["source"], example.answer, text)
    return {"exact": text == example.answer, "over_correction": over, "edit": example.meta["edit"]}


def over_correction(source: str, wanted: str, output: str) -> float:
    """Share of the words of `source` that stay in `wanted` but not in `output`; words added among them count too."""
    kept, wanted_gaps = _kept_words(source, wanted)
    still, gaps = _kept_words(source, output)
    wrong = len(kept - still)
    for gap, added in gaps.items():  # additions at the edge of a passage that was to change are no over-correction
        if gap not in wanted_gaps and {gap - 1, gap} & set(range(len(source.split()))) <= kept:
            wrong += added
    return min(1.0, wrong / max(1, len(kept)))


def _kept_words(source: str, target: str) -> tuple[set[int], dict[int, int]]:
    """Indices of the words of `source` that `target` keeps; number of words that it adds before each index."""
    kept: set[int] = set()
    added: dict[int, int] = {}
    for tag, start, end, target_start, target_end in SequenceMatcher(
        None, source.split(), target.split(), autojunk=False
    ).get_opcodes():
        if tag == "equal":
            kept.update(range(start, end))
        elif tag == "insert":
            added[start] = target_end - target_start
    return kept, added


# --- clean texts ----------------------------------------------------------------------------------------------------


def _draw_story(rng: np.random.Generator, split: Split) -> Story:
    story = draw_story(rng)
    while not in_split(story.render("present"), split):
        story = draw_story(rng)
    return story


def _clean_text(rng: np.random.Generator, split: Split, sentences: Sequence[str] | None, edit: str) -> str:
    if sentences and chance(rng, 0.5):
        for _ in range(1000):
            sentence = choose(rng, sentences).strip()
            mendable = edit == "spelling" or _PLAIN_SENTENCE.fullmatch(sentence)
            if mendable and in_split(sentence, split) and 3 <= len(sentence.split()) <= 40:
                return sentence
    return _draw_story(rng, split).render(choose(rng, TENSES))


# --- damage: spelling and punctuation -------------------------------------------------------------------------------


def misspell(text: str, rng: np.random.Generator, mistakes: int) -> str:
    """Misspells up to `mistakes` different lower-case words of four letters or more, none into another known word."""
    words = re.split(r"([a-z]+)", text)
    places = [
        i
        for i, word in enumerate(words)
        if len(word) >= 4 and word.islower() and word.isalpha() and i % 2 == 1 and not words[i - 1][-1:].isalnum()
    ]
    for place in choose_several(rng, places, mistakes):
        words[place] = _misspell_word(words[place], rng)
    return "".join(words)


def _misspell_word(word: str, rng: np.random.Generator) -> str:
    for _ in range(20):
        i = int(rng.integers(1, len(word) - 1))
        wrong = choose(
            rng,
            (
                word[:i] + word[i + 1] + word[i] + word[i + 2 :],
                word[:i] + word[i + 1 :],
                word[: i + 1] + word[i:],
                word[:i] + choose(rng, _NEIGHBOURS[word[i]]) + word[i + 1 :],
            ),
        )
        if wrong != word and wrong not in _known_words():
            return wrong
    return word


@lru_cache(maxsize=1)
def _known_words() -> frozenset[str]:
    return frozenset(story_words())


def _spelling(text: str, rng: np.random.Generator) -> str:
    """One to four mistakes; one text in ten has none, and must come back as it is."""
    return text if chance(rng, 0.1) else misspell(text, rng, int(rng.integers(1, 5)))


def flatten(text: str) -> str:
    """Lower case, without commas and sentence marks."""
    return re.sub(r"[.,?!]", "", text).lower()


_DAMAGES: dict[str, Callable[[str, np.random.Generator], str]] = {
    "spelling": _spelling,
    "punctuation": lambda text, rng: flatten(text),
    "proofread": lambda text, rng: flatten(misspell(text, rng, int(rng.integers(1, 4)))),  # names stay spelt right
}

# --- changes of content: (story, rng) → source, wanted text, what the instruction needs ------------------------------

_Change = tuple[str, str, dict[str, str]]


def _change_name(story: Story, rng: np.random.Generator) -> _Change:
    tense, old = choose(rng, TENSES), story.names[0]
    new = person(rng)
    while new in story.names:
        new = person(rng)
    return story.render(tense), story.renamed(old, new).render(tense), {"old": old, "new": new}


def _change_word(story: Story, rng: np.random.Generator) -> _Change:
    source = story.render(choose(rng, TENSES))
    clause = choose(rng, story.clauses)
    old = clause.object
    new = choose(rng, [other for other in clause.verb.objects if other != old])
    return source, re.sub(rf"\b{re.escape(old)}\b", new, source), {"old": old, "new": new}


def _change_tense(story: Story, rng: np.random.Generator) -> _Change:
    before, after = choose_several(rng, TENSES, 2)
    return story.render(before), story.render(after), {"tense": after}


_CONTENT_EDITS: dict[str, Callable[[Story, np.random.Generator], _Change]] = {
    "name": _change_name,
    "word": _change_word,
    "tense": _change_tense,
}
