"""Automata of words and of counters are minimal from the start, and large ones are minimised soon."""

from __future__ import annotations

import random

import numpy as np

from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.charset import ANY_CHAR, chars
from diffusiongemma.control.languages.dfa import CharDfa, counter, minimised, of_words, restricted, trimmed
from diffusiongemma.control.languages.nfa import NfaBuilder, compile_language, run
from diffusiongemma.control.languages.regex import regex_language


def built(expression):
    """Through states and subsets, whatever is known of it."""
    builder = NfaBuilder()
    accept = builder.new_state()
    return minimised(trimmed(builder.determinised(run(builder.build(expression, accept)), accept)))


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
