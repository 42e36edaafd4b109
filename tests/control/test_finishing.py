"""How many tokens an answer can still take, against the loop that counts them one by one."""

from __future__ import annotations

import random

import numpy as np
import pytest
from test_regex import random_regex

from diffusiongemma.control.compiling import compile_constraint
from diffusiongemma.control.inference import finishing
from diffusiongemma.control.inference.finishing import finishing_states, finishing_within_limits
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.errors import InputError

VOCABULARY = Vocabulary((None, *(bytes([b]) for b in range(128)), b"ab", b"abc", b"ba"))
HUGE = 2**31 - 1


def compiled(pattern):
    return compile_constraint(regex=pattern, vocabulary=VOCABULARY, end_ids=[0])


def counted(constraint, least, most):
    """[S] by definition: one move after the other."""
    automaton, bundles = constraint.automaton, constraint.bundles
    states = automaton.tokens_to_finish <= most - least
    for _ in range(least):
        before = np.zeros_like(states)
        before[bundles.source[states[bundles.target] & (bundles.target != automaton.done)]] = True
        states = before
    return states


def test_as_if_counted_one_by_one():
    rng = random.Random(5)
    for _ in range(60):
        try:
            constraint = compiled(random_regex(rng))
        except InputError as error:
            assert "no text at all" in str(error) or "can't write" in str(error)
            continue
        for least in (0, 1, 2, 5, 17, 60):
            for most in (least, least + 1, least + 7):
                found = finishing_states(constraint.automaton, constraint.bundles, least, most)
                assert (found == counted(constraint, least, most)).all()


@pytest.mark.parametrize("least", [HUGE - k for k in range(16)])
def test_however_many_tokens_are_asked_for(least):
    """Each of `x` and `y` is one token, so what fits is a matter of remainders."""
    constraint = compiled("(?:xxx)*|(?:yyyyy)*")
    assert finishing_states(constraint.automaton, constraint.bundles, least, least)[0] == (
        least % 3 == 0 or least % 5 == 0
    )
    assert finishing_states(constraint.automaton, constraint.bundles, least, least + 2)[0]
    assert compiled("[ab]*").begin(least, least).min_tokens == least


def test_what_does_not_come_round_is_refused(monkeypatch):
    monkeypatch.setattr(finishing, "MOST_STEPS", 8)
    with pytest.raises(InputError, match=r"min_tokens: .*lower minimum"):
        compiled("(?:xxx)*|(?:yyyyy)*").begin(HUGE, HUGE)


def test_limits_far_beyond_the_canvas():
    constraint = compiled("(?:xyz)*")
    automaton, bundles = constraint.automaton, constraint.bundles
    z = bundles.with_any_of(constraint.classes_of([1 + ord("z")]))
    for last in (3000, 3001, 3002):  # `z` at a position, in a text that may end anywhere after it
        live = finishing_within_limits(automaton, bundles, range(2, HUGE), 0, {last: z})
        state = automaton.run([1 + ord("x"), 1 + ord("y")])
        assert live[state] == (last % 3 == 2)
