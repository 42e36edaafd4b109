"""Which states can still reach acceptance within the tokens left.

This is what lies beyond the canvas, in time that does not grow with how many tokens that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from diffusiongemma.control.inference.bundles import Bundles
from diffusiongemma.control.tokens.automaton import TokenAutomaton
from diffusiongemma.errors import InputError

MOST_STEPS = 20_000  # without coming round: only automata of many long cycles, side by side, take so many


def finishing_states(automaton: TokenAutomaton, bundles: Bundles, least: int, most: int) -> np.ndarray:
    """[S] states from which `least` to `most` more tokens, end tokens not counted, can reach acceptance.

    Raises `InputError` where the answer is not found in `MOST_STEPS` steps.
    """
    finishing = automaton.tokens_to_finish <= most - max(least, 0)
    return _states_before(bundles, finishing, bundles.target != automaton.done, max(least, 0))


def finishing_within_limits(
    automaton: TokenAutomaton, bundles: Bundles, ahead: range, end_not_before: int, limited: Mapping[int, np.ndarray]
) -> np.ndarray:
    """[S] states from which tokens at exactly the positions `ahead` lead to acceptance, end tokens counted.

    No end token is placed before `end_not_before`; `limited` has the bundles [P] bool that may be taken at some of the
    positions. Raises `InputError` as `finishing_states` does.
    """
    closes = (bundles.target == automaton.done) & (bundles.source != automaton.done)
    changes = {end_not_before, *(t + after for t in limited for after in (0, 1))}
    bounds = [ahead.start, *sorted(t for t in changes if ahead.start < t < ahead.stop), ahead.stop]
    live = automaton.accepting
    for begin, end in reversed(list(pairwise(bounds))):
        usable = (begin >= end_not_before) | ~closes
        live = _states_before(bundles, live, usable & limited[begin] if begin in limited else usable, end - begin)
    return live


def _states_before(bundles: Bundles, states: np.ndarray, usable: np.ndarray, steps: int) -> np.ndarray:
    """[S] the states from which exactly so many moves over usable bundles [P] lead to one of `states`.

    Sets of states are finite in number, so in the end they come round: Brent's search for the cycle, mostly of length
    1 and soon found, since text can be made longer token by token.
    """
    source, target = bundles.source[usable], bundles.target[usable]
    remembered, since, lap = states, 0, 1
    for step in range(steps):
        if step == MOST_STEPS:
            raise InputError(
                f"this constraint can't be followed over {steps:,} tokens: ask for a lower minimum",
                option="min_tokens",
            )
        before = np.zeros_like(states)
        before[source[states[target]]] = True
        states, since = before, since + 1
        if np.array_equal(states, remembered):
            return _states_before(bundles, states, usable, (steps - step - 1) % since)
        if since == lap:
            remembered, since, lap = states, 0, 2 * lap
    return states


def no_path(needed: int, budget: int, minimum: int) -> InputError:
    """For the user whose limits leave no text: `needed` tokens at least, `budget` at most, `minimum` asked."""
    if needed > budget:
        message = f"the constraint needs at least {needed} tokens more and {budget} are left: allow more"
        return InputError(message, option="max_new_tokens")
    message = f"no text that meets the constraint has {minimum} to {budget} tokens more"
    return InputError(f"{message}: change the minimum or `max_new_tokens`", option="min_tokens")
