"""Small arithmetic, and things to do with words, letters and lists of numbers; every answer is a few words long.

A problem (what is asked about which numbers or words, however it is phrased) is in train or in test, never in both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusiongemma.tasks.example import Example, Split, choose, choose_several, in_split
from diffusiongemma.tasks.vocabulary import COMMON_WORDS, WOMEN, made_up_name

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


@dataclass(frozen=True)
class Problem:
    """What is asked, in `phrasings` that mean the same; `key` is equal for equal problems."""

    key: str
    phrasings: tuple[str, ...]
    answer: str


def generate(rng: np.random.Generator, split: Split) -> Example:
    """One problem; meta holds its `kind`, a key of PROBLEMS."""
    kind = choose(rng, tuple(PROBLEMS))
    problem = PROBLEMS[kind](rng)
    while not in_split(f"{kind} {problem.key}", split):
        problem = PROBLEMS[kind](rng)
    return Example(choose(rng, problem.phrasings), problem.answer, {"kind": kind})


def score(example: Example, text: str) -> dict[str, Any]:
    """`exact`: the same text, outer spaces aside; and the `kind` of problem."""
    return {"exact": text.strip() == example.answer, "kind": example.meta["kind"]}


# --- arithmetic -----------------------------------------------------------------------------------------------------


def _number(rng: np.random.Generator, digits: int = 3) -> int:
    """One to `digits` digits, each length as likely."""
    length = int(rng.integers(1, digits + 1))
    return int(rng.integers(10 ** (length - 1) if length > 1 else 0, 10**length))


def _add(rng: np.random.Generator) -> Problem:
    a, b = _number(rng), _number(rng)
    key = f"{min(a, b)} {max(a, b)}"
    return Problem(key, (f"{a} + {b} =", f"What is {a} plus {b}?", f"Add {a} and {b}."), str(a + b))


def _subtract(rng: np.random.Generator) -> Problem:
    a, b = _number(rng), _number(rng)
    return Problem(f"{a} {b}", (f"{a} - {b} =", f"What is {a} minus {b}?", f"Subtract {b} from {a}."), str(a - b))


def _multiply(rng: np.random.Generator) -> Problem:
    a, b = int(rng.integers(2, 100)), int(rng.integers(2, 13))
    key = f"{min(a, b)} {max(a, b)}"
    return Problem(key, (f"{a} * {b} =", f"What is {a} times {b}?", f"Multiply {a} by {b}."), str(a * b))


def _chain(rng: np.random.Generator) -> Problem:
    numbers = [_number(rng, 2) for _ in range(int(rng.integers(3, 5)))]
    signs = [int(choose(rng, (1, -1))) for _ in numbers[1:]]
    text = str(numbers[0]) + "".join(
        f" {'+' if sign > 0 else '-'} {number}" for sign, number in zip(signs, numbers[1:], strict=True)
    )
    total = numbers[0] + sum(sign * number for sign, number in zip(signs, numbers[1:], strict=True))
    return Problem(text, (f"{text} =", f"What is {text}?", f"Calculate {text}."), str(total))


def _compare(rng: np.random.Generator) -> Problem:
    a, b = _number(rng, 4), _number(rng, 4)
    if a == b:
        b += 1
    larger = bool(rng.random() < 0.5)
    word = "larger" if larger else "smaller"
    phrasings = (f"Which is {word}, {a} or {b}?", f"Write the {word} of {a} and {b}.", f"{a} or {b}: which is {word}?")
    return Problem(f"{min(a, b)} {max(a, b)}", phrasings, str(max(a, b) if larger else min(a, b)))


def _sequence(rng: np.random.Generator) -> Problem:
    start, step = _number(rng, 2), int(choose(rng, [s for s in range(-12, 13) if s]))
    shown = ", ".join(str(start + i * step) for i in range(4))
    phrasings = (f"Continue: {shown}, ?", f"Which number comes next: {shown}?", f"What follows {shown}?")
    return Problem(f"{start} {step}", phrasings, str(start + 4 * step))


def _sort_numbers(rng: np.random.Generator) -> Problem:
    numbers = [_number(rng) for _ in range(int(rng.integers(3, 8)))]
    down = bool(rng.random() < 0.5)
    shown, order = ", ".join(map(str, numbers)), "descending" if down else "ascending"
    phrasings = (f"Sort in {order} order: {shown}", f"Put these numbers in {order} order: {shown}")
    return Problem(f"{sorted(numbers)}", phrasings, ", ".join(map(str, sorted(numbers, reverse=down))))


def _extreme(rng: np.random.Generator) -> Problem:
    numbers = [_number(rng) for _ in range(int(rng.integers(3, 8)))]
    largest = bool(rng.random() < 0.5)
    shown, word = ", ".join(map(str, numbers)), "largest" if largest else "smallest"
    phrasings = (f"What is the {word} of {shown}?", f"Find the {word} number: {shown}")
    return Problem(f"{sorted(numbers)}", phrasings, str(max(numbers) if largest else min(numbers)))


# --- words ----------------------------------------------------------------------------------------------------------


def _several_words(rng: np.random.Generator, low: int = 3, high: int = 7) -> list[str]:
    return choose_several(rng, COMMON_WORDS, int(rng.integers(low, high + 1)))


def _word(rng: np.random.Generator) -> str:
    """A common word, a name, or a word that does not exist, so that letters must be looked at."""
    return choose(rng, (choose(rng, COMMON_WORDS), choose(rng, WOMEN), made_up_name(rng))).lower()


def _spell_backward(rng: np.random.Generator) -> Problem:
    word = _word(rng)
    return Problem(word, (f"Spell backward: {word}", f'Write "{word}" from back to front.'), word[::-1])


def _spell_out(rng: np.random.Generator) -> Problem:
    word = _word(rng)
    return Problem(word, (f"Spell {word} letter by letter.", f"Which letters make up {word}?"), "-".join(word))


def _reverse_words(rng: np.random.Generator) -> Problem:
    chosen = _several_words(rng)
    shown = ", ".join(chosen)
    return Problem(shown, (f"Reverse this list: {shown}", f"Write in reverse order: {shown}"), ", ".join(chosen[::-1]))


def _sort_words(rng: np.random.Generator) -> Problem:
    chosen = _several_words(rng)
    shown = ", ".join(chosen)
    phrasings = (f"Sort alphabetically: {shown}", f"Put these words in alphabetical order: {shown}")
    return Problem(" ".join(sorted(chosen)), phrasings, ", ".join(sorted(chosen)))


def _count_words(rng: np.random.Generator) -> Problem:
    chosen = " ".join(_several_words(rng, 3, 10))
    phrasings = (f"How many words are there: {chosen}", f"Count the words: {chosen}")
    return Problem(chosen, phrasings, str(len(chosen.split())))


def _count_letter(rng: np.random.Generator) -> Problem:
    text = " ".join(_several_words(rng, 1, 4))
    letter = choose(rng, sorted(set(text) - {" "}))
    phrasings = (f'How often is the letter "{letter}" in "{text}"?', f'Count "{letter}" in "{text}".')
    return Problem(f"{letter} {text}", phrasings, str(text.count(letter)))


def _letter_at(rng: np.random.Generator) -> Problem:
    word = _word(rng)
    place = int(rng.integers(-1, min(len(word), len(ORDINALS))))
    ordinal = "last" if place == -1 else ORDINALS[place]
    phrasings = (f"What is the {ordinal} letter of {word}?", f"Give the {ordinal} letter: {word}")
    return Problem(f"{ordinal} {word}", phrasings, word[place])


def _word_at(rng: np.random.Generator) -> Problem:
    chosen = _several_words(rng)
    place = int(rng.integers(-1, min(len(chosen), len(ORDINALS))))
    ordinal, shown = "last" if place == -1 else ORDINALS[place], " ".join(chosen)
    phrasings = (f"What is the {ordinal} word: {shown}", f'Give the {ordinal} word of "{shown}".')
    return Problem(f"{ordinal} {shown}", phrasings, chosen[place])


def _longest_word(rng: np.random.Generator) -> Problem:
    chosen = _several_words(rng)
    while sum(len(word) == max(map(len, chosen)) for word in chosen) > 1:
        chosen = _several_words(rng)
    shown = ", ".join(chosen)
    return Problem(shown, (f"Which word is longest: {shown}?", f"Find the longest word: {shown}"), max(chosen, key=len))


def _remove_word(rng: np.random.Generator) -> Problem:
    chosen = _several_words(rng)
    gone = choose(rng, chosen)
    shown, left = ", ".join(chosen), ", ".join(word for word in chosen if word != gone)
    return Problem(f"{gone} {shown}", (f"Remove {gone}: {shown}", f"Leave out {gone} from this list: {shown}"), left)


def _upper_case(rng: np.random.Generator) -> Problem:
    shown = " ".join(_several_words(rng, 1, 4))
    return Problem(shown, (f"Write in capital letters: {shown}", f'Put "{shown}" in upper case.'), shown.upper())


PROBLEMS: dict[str, Callable[[np.random.Generator], Problem]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "chain": _chain,
    "compare": _compare,
    "sequence": _sequence,
    "sort_numbers": _sort_numbers,
    "extreme": _extreme,
    "spell_backward": _spell_backward,
    "spell_out": _spell_out,
    "reverse_words": _reverse_words,
    "sort_words": _sort_words,
    "count_words": _count_words,
    "count_letter": _count_letter,
    "letter_at": _letter_at,
    "word_at": _word_at,
    "longest_word": _longest_word,
    "remove_word": _remove_word,
    "upper_case": _upper_case,
}
