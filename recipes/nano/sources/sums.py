"""Arithmetic to two digits in the ways people type it, by rule.

An answer says the sum with what it comes to, and on the way there a step that needs no carrying: a small model that
writes the highest digit first would have to know the lower ones before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusiongemma.tasks.example import Example, Split, choose, in_split
from diffusiongemma.tasks.vocabulary import MEN, WOMEN
from recipes.nano.sources.phrasing import is_probe, varied

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]

_SIGNS = {
    "plus": ("+", " + "),
    "minus": ("-", " - "),
    "times": ("*", " * ", "x", " x ", " × "),
    "divided by": ("/", " / ", " : ", " ÷ "),
}
_SIGN = {"plus": "+", "minus": "-", "times": "*", "divided by": "/"}  # in answers
_WORDS = {
    "plus": ("{a} plus {b}", "{a} and {b} together", "the sum of {a} and {b}", "{b} added to {a}"),
    "minus": ("{a} minus {b}", "{a} less {b}", "the difference of {a} and {b}", "{b} taken from {a}"),
    "times": ("{a} times {b}", "{a} multiplied by {b}", "the product of {a} and {b}"),
    "divided by": ("{a} divided by {b}", "{a} over {b}"),
}
_ORDERS = {
    "plus": ("Add {a} and {b}.", "Add {b} to {a}."),
    "minus": ("Subtract {b} from {a}.", "Take {b} from {a}."),
    "times": ("Multiply {a} by {b}.", "Multiply {a} and {b}."),
    "divided by": ("Divide {a} by {b}.",),
}
BY_HEART = 12  # sums of numbers up to this are all taught
_QUESTIONS = (
    "What is {x}?",
    "What is {x}?",
    "What's {x}?",
    "How much is {x}?",
    "Calculate {x}.",
    "Compute {x}.",
    "{x} = ?",
    "{x}=",
    "{x}",
    "{x}?",
    "Work out {x}.",
    "Solve {x}.",
    "What does {x} make?",
    "Tell me {x}.",
    "{x} is?",
    "Can you calculate {x}?",
    "What do you get for {x}?",
    "Do you know {x}?",
    "Please add up: {x}",
)


@dataclass(frozen=True)
class Sum:
    a: int
    operation: str
    b: int

    @property
    def result(self) -> int:
        if self.operation == "plus":
            return self.a + self.b
        if self.operation == "minus":
            return self.a - self.b
        return self.a * self.b if self.operation == "times" else self.a // self.b

    @property
    def key(self) -> str:
        """The same for a + b and b + a."""
        a, b = sorted((self.a, self.b)) if self.operation in ("plus", "times") else (self.a, self.b)
        return f"{a} {self.operation} {b}"

    @property
    def by_heart(self) -> bool:
        """Whether it is of the tables, which are learnt whole: nothing says what 7 times 8 is but that sum itself."""
        parts = (self.b, self.result) if self.operation == "divided by" else (self.a, self.b)
        return max(parts) <= BY_HEART

    def belongs(self, split: Split) -> bool:
        """Whether training, or the test, may have it: of what is not known by heart, the test has one in ten."""
        return split == "train" if self.by_heart else in_split(f"sum {self.key}", split)

    @property
    def said(self) -> str:
        return f"{self.a} {_SIGN[self.operation]} {self.b} = {self._step()}{self.result}"

    def _step(self) -> str:
        """What comes between a sum of two digits and its result: tens and ones by themselves."""
        a, b = self.a, self.b
        if self.operation == "plus" and min(a, b) >= 10 and a % 10 and b % 10:
            return f"{a - a % 10 + b - b % 10} + {a % 10 + b % 10} = "
        if self.operation == "minus" and a > b >= 10 and b % 10:
            return f"{a - b + b % 10} - {b % 10} = "
        low, high = sorted((a, b))
        if self.operation == "times" and 1 < low < 10 and high > BY_HEART and high % 10:
            return f"{low * (high - high % 10)} + {low * (high % 10)} = "
        return ""


def draw_sum(rng: np.random.Generator) -> Sum:
    """Up to two digits, small numbers more often; what is divided comes out even, and hardly anything is negative."""
    operation = choose(
        rng, ("plus", "plus", "plus", "minus", "minus", "minus", "times", "times", "times", "divided by")
    )
    if operation == "divided by":
        return _divided(rng)
    if operation == "times":
        return _multiplied(rng)
    most = choose(rng, (10, 20, 100, 100, 100))
    a, b = int(rng.integers(0, most + 1)), int(rng.integers(0, most + 1))
    if operation == "minus" and a < b and rng.random() < 0.95:
        a, b = b, a
    return Sum(a, operation, b)


def _multiplied(rng: np.random.Generator) -> Sum:
    """Half of the tables, half of a digit and two."""
    if rng.random() < 0.5:
        return Sum(int(rng.integers(0, BY_HEART + 1)), "times", int(rng.integers(0, BY_HEART + 1)))
    a, b = int(rng.integers(2, 10)), int(rng.integers(10, 100))
    return Sum(a, "times", b) if rng.random() < 0.5 else Sum(b, "times", a)


def _divided(rng: np.random.Generator) -> Sum:
    """Mostly of the tables, else of two digits by one."""
    if rng.random() < 0.75:
        b = int(rng.integers(1, BY_HEART + 1))
        return Sum(b * int(rng.integers(0, BY_HEART + 1)), "divided by", b)
    b = int(rng.integers(2, 8))
    return Sum(b * int(rng.integers(10, 99 // b + 1)), "divided by", b)


def held_out(rng: np.random.Generator) -> Sum:
    """One that training never has."""
    while not (one := draw_sum(rng)).belongs("test"):
        pass
    return one


def of_tables(rng: np.random.Generator) -> Sum:
    """One of those that are learnt by heart."""
    while not (one := draw_sum(rng)).by_heart:
        pass
    return one


def ask(one: Sum, rng: np.random.Generator) -> Example:
    """The question for a sum in numbers or words."""
    asked, answer = _asked(one, rng)
    return Example(_typed(rng, asked), answer, {"result": one.result, "operation": one.operation})


def _typed(rng: np.random.Generator, asked: str) -> str:
    return varied(rng, asked) if asked[0].isalpha() else asked


def in_words(number: int) -> str:
    """0 to 99."""
    if number < 20:
        return _ONES[number]
    return _TENS[number // 10] + (f"-{_ONES[number % 10]}" if number % 10 else "")


def generate(rng: np.random.Generator, split: Split) -> Example:
    """One sum, whose `result` meta holds, or a question about numbers. Test has pairs and questions that training never
    has."""
    while True:
        one = draw_sum(rng)
        if not one.belongs(split):
            continue
        kind = rng.random()
        meta: dict[str, Any] = {"result": one.result, "kind": "sum"}
        if kind < 0.72:
            asked, answer = _asked(one, rng)
        elif kind < 0.88:
            asked, answer = _told(one, rng)
        else:
            (asked, answer), meta = _about_numbers(rng), {"kind": "number"}
            if not in_split(f"number {asked}", split):
                continue
        prompt = _typed(rng, asked)
        if not is_probe(prompt):
            return Example(prompt, answer, meta)


def _asked(one: Sum, rng: np.random.Generator) -> tuple[str, str]:
    form = rng.random()
    if form < 0.12:
        return choose(rng, _ORDERS[one.operation]).format(a=one.a, b=one.b), f"{one.said}."
    if form < 0.6:
        shown = f"{one.a}{choose(rng, _SIGNS[one.operation])}{one.b}"
    else:
        spelled = rng.random() < 0.3 and max(one.a, one.b) < 100
        a, b = (in_words(one.a), in_words(one.b)) if spelled else (str(one.a), str(one.b))
        shown = choose(rng, _WORDS[one.operation]).format(a=a, b=b)
    return question(rng, shown), f"{one.said}."


def question(rng: np.random.Generator, shown: str) -> str:
    """One of the ways to ask for the result of what is `shown`."""
    asked = choose(rng, _QUESTIONS).format(x=shown)
    return asked[:1].upper() + asked[1:]


_GAIN = (
    "{n} has {a} {things} and gets {b} more. How many {things} does {n} have now?",
    "There are {a} {things} in a box. {n} puts in {b} more. How many are there now?",
    "{n} buys {a} {things} on Monday and {b} on Tuesday. How many {things} are that in all?",
)
_LOSS = (
    "{n} has {a} {things} and gives away {b}. How many {things} are left?",
    "There are {a} {things} on the table. {n} takes {b} of them. How many are left?",
    "{n} had {a} {things} and lost {b}. How many does {n} still have?",
)
_EACH = (
    "{n} has {a} boxes with {b} {things} in each. How many {things} are that?",
    "There are {a} bags with {b} {things} each. How many {things} are there in all?",
    "{n} eats {b} {things} a day. How many {things} does {n} eat in {a} days?",
)
_SHARED = (
    "{n} shares {a} {things} among {b} friends. How many {things} does each get?",
    "{a} {things} are packed into {b} boxes, the same number in each. How many {things} are in a box?",
)
_STORIES = {"plus": _GAIN, "minus": _LOSS, "times": _EACH, "divided by": _SHARED}
_GOODS = (
    "apples",
    "books",
    "coins",
    "marbles",
    "pens",
    "eggs",
    "cookies",
    "stamps",
    "flowers",
    "stones",
    "cards",
    "shells",
    "balls",
    "oranges",
    "nuts",
)


def _told(one: Sum, rng: np.random.Generator) -> tuple[str, str]:
    things = choose(rng, _GOODS)
    told = choose(rng, _STORIES[one.operation]).format(a=one.a, b=one.b, n=choose(rng, WOMEN + MEN), things=things)
    return told, f"{one.said}, so the answer is {one.result} {things}."


_ABOUT_NUMBERS = {
    "after": ("What number comes after {a}?", "Which number follows {a}?", "What is the number after {a}?"),
    "before": ("What number comes before {b}?", "Which number is before {b}?"),
    "greater": ("Which is {q}, {a} or {b}?", "Which number is {q}: {a} or {b}?", "What is {q}, {a} or {b}?"),
    "even": ("Is {a} {q}?", "Is {a} an {q} number?", "Is the number {a} {q}?"),
    "double": ("What is twice {a}?", "Double {a}.", "What is the double of {a}?", "What is two times {a}?"),
    "half": ("What is half of {b}?", "Halve {b}.", "How much is half of {b}?"),
    "digits": ("Write {w} as a number.", "Write {w} in digits.", "What number is {w}?"),
    "word": ("Write {a} in words.", "Write the number {a} as a word.", "How do you write {a} in words?"),
    "sequence": ("What comes next: {r}?", "Which number comes next: {r}?", "Continue: {r}", "Go on: {r}"),
}


def _about_numbers(rng: np.random.Generator) -> tuple[str, str]:
    a, b = int(rng.integers(0, 100)), int(rng.integers(0, 100))
    kind = choose(rng, ("after", "before", "greater", "even", "double", "half", "digits", "word", "sequence"))
    if kind == "greater" and a == b:
        kind = "digits"
    shown, answer = _number_question(rng, kind, a, b)
    return choose(rng, _ABOUT_NUMBERS[kind]).format(**{"a": a} | shown), answer


def _number_question(rng: np.random.Generator, kind: str, a: int, b: int) -> tuple[dict[str, Any], str]:
    """What a question of this kind shows besides `a`, and its answer."""
    if kind == "greater":
        return _greater(rng, a, b)
    if kind == "even":
        asked, truth = choose(rng, ("even", "odd")), "even" if a % 2 == 0 else "odd"
        return {"q": asked}, f"{'Yes' if asked == truth else 'No'}, {a} is {truth}."
    if kind == "sequence":
        step = int(rng.integers(1, 6))
        return {"r": ", ".join(str(a + i * step) for i in range(4))}, f"{a + 4 * step}"
    plain: dict[str, tuple[dict[str, Any], str]] = {
        "after": ({}, f"{a + 1} comes after {a}."),
        "before": ({"b": a + 1}, f"{a} comes before {a + 1}."),
        "double": ({}, f"Twice {a} is {2 * a}."),
        "half": ({"b": 2 * a}, f"Half of {2 * a} is {a}."),
        "word": ({}, in_words(a)),
        "digits": ({"w": in_words(a)}, f"{a}"),
    }
    return plain[kind]


def _greater(rng: np.random.Generator, a: int, b: int) -> tuple[dict[str, Any], str]:
    more = rng.random() < 0.5
    word = choose(rng, ("greater", "larger", "bigger") if more else ("smaller", "less"))
    right, wrong = (max(a, b), min(a, b)) if more else (min(a, b), max(a, b))
    return {"q": word, "b": b}, f"{right} is {word} than {wrong}."
