"""From a language expression to its minimal automaton: by the kernels' library, or Thompson's construction and subsets.

Expressions nest as deeply as objects have properties, beyond Python's usual limit of 1000 calls, so what recurs is
written as generators that `run` keeps on a stack of its own.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.dfa import LARGEST_DFA, CharDfa, TooLarge, too_many_states
from diffusiongemma.control.languages.flat import Flattener
from diffusiongemma.control.languages.minimal import minimised, trimmed
from diffusiongemma.control.languages.nfa import TOO_MANY_ALTERNATIVES, NfaBuilder
from diffusiongemma.control.languages.operations import counter, difference_of, intersection_of, restricted
from diffusiongemma.control.languages.spelling import READABLE
from diffusiongemma.control.languages.subsets import determinised
from diffusiongemma.control.recent import Recent
from diffusiongemma.kernels import automata

NFA_STATES_OF_EACH, MOST_ENTRIES = 8, 40_000_000  # of the library: states before, for each after; of its tables


def run(steps: Generator[Any, Any, Any]) -> Any:
    """What a generator returns that yields further such generators to be given what they return."""
    stack, returned = [steps], None
    while stack:
        try:
            stack.append(stack[-1].send(returned))
            returned = None
        except StopIteration as stop:
            stack.pop()
            returned = stop.value
    return returned


def compile_language(expression: lang.Language, most_states: int = LARGEST_DFA) -> CharDfa:
    """The minimal automaton of an expression. Raises `TooLarge` beyond the limits.

    The library takes `most_states` where that is more than its plain twin can.
    """
    dfa: CharDfa = run(_compiled(expression, most_states))
    return dfa


def _compiled(expression: lang.Language, most_states: int = LARGEST_DFA) -> Generator[Any, Any, CharDfa]:
    if (known := _latest.get(expression)) is not None:
        return known
    if isinstance(expression, lang.Repeat) and isinstance(expression.body, lang.Chars) and expression.most is not None:
        return _latest.put(expression, counter(expression.body.allowed, expression.least, expression.most))
    dfa = (yield _by_library(expression, most_states)) if automata.available() else None
    return _latest.put(expression, dfa or (yield _by_twin(expression)))


def _by_twin(expression: lang.Language) -> Generator[Any, Any, CharDfa]:
    builder = NfaBuilder(_embedded)
    accept = builder.new_state()
    start = yield builder.build(expression, accept)
    return minimised(trimmed(determinised(builder, start, accept)))


def _by_library(expression: lang.Language, most_states: int = LARGEST_DFA) -> Generator[Any, Any, CharDfa | None]:
    """The same, or None for what the library does not take."""
    flattener = Flattener(_embedded)
    yield flattener.add(expression)
    if flattener.has_anchors:
        return None
    flat = flattener.flat()
    alphabet, atoms = flattener.alphabet()
    limits = NFA_STATES_OF_EACH * most_states, most_states, MOST_ENTRIES
    try:
        found = automata.minimal_automaton(flat, atoms, alphabet.num_atoms, limits)
    except automata.TooMany as error:
        raise TooLarge(TOO_MANY_ALTERNATIVES) if error.alternatives else too_many_states(most_states) from error
    return None if found is None else CharDfa(alphabet, *found)


def _embedded(node: lang.Language) -> Generator[Any, Any, CharDfa]:
    """The automaton that stands for a node in a larger one."""
    match node:
        case lang.Both(first, second):
            return intersection_of((yield _compiled(first)), (yield _compiled(second)))
        case lang.Without(first, second):
            return difference_of((yield _compiled(first)), (yield _compiled(second)))
        case lang.Quoted(content):
            return (yield _writable(content))
    assert isinstance(node, lang.Compiled), node
    return node.dfa


def _writable(content: lang.Language) -> Generator[Any, Any, CharDfa]:
    """The string values to write: without rare control characters where values without them exist."""
    if (known := _latest_writable.get(content)) is not None:
        return known
    everything = yield _compiled(content)
    readable = restricted(everything, READABLE)
    return _latest_writable.put(content, everything if readable.is_empty else readable)


_latest: Recent[lang.Language, CharDfa] = Recent(128)
_latest_writable: Recent[lang.Language, CharDfa] = Recent(128)
