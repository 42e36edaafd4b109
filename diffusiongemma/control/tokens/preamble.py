"""A thought, or any other words between two special tokens, that may come before what an automaton accepts."""

from __future__ import annotations

import numpy as np

from diffusiongemma.control.languages.dfa import DEAD
from diffusiongemma.control.tokens.automaton import TokenAutomaton

BEGIN, WITHIN, SHIFT = 0, 1, 2  # the states before and inside the preamble; those of the automaton come after
Edges = tuple[np.ndarray, np.ndarray, np.ndarray]  # source, class, target


def with_preamble(automaton: TokenAutomaton, opens: int, closes: int, inside: np.ndarray) -> TokenAutomaton:
    """The same, optionally after a preamble from token `opens` to token `closes` (a thought channel) of any tokens that
    `inside` [V] bool allows there.

    Tokens that only a preamble may hold form a class of their own, and so do, class by class, those that none may hold.
    """
    other, opening, closing = (automaton.num_classes + i for i in range(3))
    class_of_token, moved = _split_classes(automaton, inside, other, closing + 1)
    class_of_token[[opens, closes]] = opening, closing
    source, label, target = _edges(automaton, moved, np.arange(other + 1), opening, closing)
    # Classes that were moved whole are empty now, and `other` may always have been: number the rest anew.
    used = np.unique(class_of_token[class_of_token != DEAD])
    number = np.full(class_of_token.max() + 2, DEAD)
    number[used] = np.arange(len(used))
    kept = np.isin(label, used)
    source, label, target = source[kept], number[label[kept]], target[kept]
    order = np.lexsort((label, source))
    return TokenAutomaton(
        accepting=np.concatenate([[automaton.accepting[0], False], automaton.accepting]),
        done=automaton.done + SHIFT,
        class_of_token=number[class_of_token],
        end_class=int(number[moved[automaton.end_class]]),
        source=source[order].astype(np.int32),
        label=label[order].astype(np.int32),
        target=target[order].astype(np.int32),
    )


def _split_classes(
    automaton: TokenAutomaton, inside: np.ndarray, other: int, first_moved: int
) -> tuple[np.ndarray, np.ndarray]:
    """[V] the classes, those tokens apart that no preamble may hold, and [K] the class that these are moved to."""
    before = automaton.class_of_token
    parted = np.unique(before[(before != DEAD) & ~inside])
    moved = np.full(automaton.num_classes, DEAD)
    moved[parted] = first_moved + np.arange(len(parted))
    return np.where(inside, np.where(before == DEAD, other, before), np.append(moved, DEAD)[before]), moved


def _edges(automaton: TokenAutomaton, moved: np.ndarray, inner: np.ndarray, opening: int, closing: int) -> Edges:
    """Those of the automaton, a moved class wherever its old one was, and those around and inside the preamble."""
    twins = np.flatnonzero(moved[automaton.label] != DEAD)
    source = np.concatenate([automaton.source, automaton.source[twins]])
    label = np.concatenate([automaton.label, moved[automaton.label[twins]]])
    target = np.concatenate([automaton.target, automaton.target[twins]])
    first = source == 0
    return (
        np.concatenate([[BEGIN], source[first] * 0, [WITHIN], inner * 0 + WITHIN, source + SHIFT]),
        np.concatenate([[opening], label[first], [closing], inner, label]),
        np.concatenate([[WITHIN], target[first] + SHIFT, [SHIFT], inner * 0 + WITHIN, target + SHIFT]),
    )
