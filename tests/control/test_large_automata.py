"""Automata of words and of counters are minimal from the start, and large ones are minimised soon."""

from __future__ import annotations

import random

import numpy as np

from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.charset import ANY_CHAR, chars
from diffusiongemma.control.languages.compiler import _embedded, compile_language, run
from diffusiongemma.control.languages.dfa import CharDfa
from diffusiongemma.control.languages.minimal import minimised, trimmed
from diffusiongemma.control.languages.nfa import NfaBuilder
from diffusiongemma.control.languages.operations import counter, of_words, restricted
from diffusiongemma.control.languages.regex import regex_language
from diffusiongemma.control.languages.subsets import determinised


def built(expression):
    """Through states and subsets, whatever is known of it."""
    return minimised(trimmed(by_subsets(expression)))


def by_subsets(expression):
    builder = NfaBuilder(_embedded)
    accept = builder.new_state()
    return determinised(builder, run(builder.build(expression, accept)), accept)


def test_words():
    rng = random.Random(1)
    for count in (1, 2, 5, 40, 300):
        words = ["".join(rng.choice("abcé") for _ in range(rng.randint(0, 5))) for _ in range(count)]
        dfa, slow = of_words(words), built(lang.either(*map(lang.literal, dict.fromkeys(words))))
        assert dfa.num_states == slow.num_states
        for _ in range(300):
            word = "".join(rng.choice("abcé") for _ in range(rng.randint(0, 5)))
            assert dfa.matches(word) == (word in words)


def test_counters():
    for allowed, least, most in ((chars("ab"), 0, 3), (ANY_CHAR, 2, 2), (chars("\n"), 1, 40)):
        dfa, slow = counter(allowed, least, most), built(lang.repeat(lang.Chars(allowed), least, most))
        assert (dfa.next == slow.next).all() and (dfa.accepting == slow.accepting).all()


def test_restricted():
    dfa = restricted(compile_language(regex_language("[a-z]{2}|x[0-9]*y?")), chars("abx1"))
    assert [dfa.matches(t) for t in ("ab", "xx", "x111", "x1y", "az", "x2")] == [True, True, True, False, False, False]


def test_long_runs_are_minimised_to_the_same():
    """Twice the same counter, its states in any order: half of them are left, and no others are merged."""
    rng = np.random.default_rng(0)
    single = built(regex_language("(?:[ab]c?){1,150}x"))
    states = single.num_states
    copies = np.where(single.next < 0, -1, single.next + rng.integers(0, 2, (2, *single.next.shape)) * states)
    shuffle = np.append(np.concatenate([[0], rng.permutation(2 * states - 1) + 1]), -1)
    table = np.empty((2 * states, single.next.shape[1]), np.int64)
    table[shuffle[:-1]] = shuffle[copies.reshape(2 * states, -1)]
    accepting = np.empty(2 * states, bool)
    accepting[shuffle[:-1]] = np.tile(single.accepting, 2)
    again = minimised(trimmed(CharDfa(single.alphabet, table, accepting)))
    assert (again.next == single.next).all() and (again.accepting == single.accepting).all()


def plainly_minimised(dfa) -> int:
    """The number of states of the smallest equivalent automaton, a round of refinement at a time."""
    labels = [int(accepting) for accepting in dfa.accepting]
    while True:
        rows = [
            (label, *(labels[t] if t >= 0 else -1 for t in row))
            for label, row in zip(labels, dfa.next.tolist(), strict=True)
        ]
        numbers = {row: number for number, row in enumerate(dict.fromkeys(rows))}
        finer = [numbers[row] for row in rows]
        if len(set(finer)) == len(set(labels)):
            return len(set(finer))
        labels = finer


def test_counters_of_many_characters_a_step_are_minimised_to_the_same():
    """Such as an array's items: rounds tell one count from the next only, distances all of them."""
    item = lang.sequence(lang.literal("<"), lang.repeat(lang.Chars(chars("ab")), 0, None), lang.literal(">"))
    for least, most, tail in ((0, 50, 30), (7, 60, 60), (40, 40, 3)):
        expression = lang.either(
            lang.sequence(lang.literal("x"), lang.repeat(item, least, most)),
            lang.sequence(lang.literal("y"), lang.repeat(lang.sequence(item, lang.literal(";")), 0, tail)),
        )
        large = trimmed(by_subsets(expression))
        assert minimised(large).num_states == plainly_minimised(large)
        assert minimised(large).matches("x" + "<ab>" * most) and not minimised(large).matches("x" + "<>" * (most + 1))
