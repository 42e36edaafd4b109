"""Fewer states for constraints that count far, such as strings of at most 1000 characters.

Two things make counting dear for tokens: a state for every count, each with states inside its multi-byte characters,
and a move for every length of token between them. So in large automata no character is split over tokens, and tokens
land on some counts only, rounded up. What is accepted shrinks but never grows.

Each token loses: tokens of 3.3 characters fill 86 % of a limit that is counted in twos, 67 % in fours, 40 %
in eights. So it is counted again, to the character, where a canvas ends (see `recount`), and what is rounded far from
the limit is not lost at all. Steps are fine only where a canvas may reach the limit.
"""

from __future__ import annotations

import numpy as np

from diffusiongemma.control.languages.dfa import DEAD, CharDfa
from diffusiongemma.kernels import automata

Steps = tuple[tuple[int, int], ...]
END = 10**9
# Up to so many counts before the limit, every so many; the first that is affordable for all chains together.
STEPS: tuple[Steps, ...] = (
    ((200, 1), (500, 2), (2000, 4), (END, 8)),
    ((100, 1), (500, 2), (1600, 4), (END, 8)),
    ((400, 2), (1600, 4), (END, 8)),
    ((300, 3), (1200, 6), (END, 8)),
)
CHEAPEST = ((600, ((END, 4),)), (END, ((END, 8),)))  # in chains of at most so many states, where none is
# A move leads to every stop within the length of a token, so each count costs the inverse of its step squared. On
# canvases of 96 one unit makes about 2,000 moves, and 560,000 take 7 % of a step of nano (one core, AVX-512).
AFFORDABLE = 250.0
WITHIN_A_CANVAS = 1200  # so many counts before the limit cost anything: those further off don't meet them on a canvas
SHORTEST_COUNT = 48  # shorter chains stay as they are


def landing_states(dfa: CharDfa) -> np.ndarray:
    """[S] where a token that leads to each state may land instead, DEAD where none may end."""
    landing = np.arange(dfa.num_states)
    chains = _counting_chains(dfa)
    for chain, stops in zip(chains, _stops_of([len(chain) for chain in chains]), strict=True):
        states = np.array(chain)
        landing[states] = states[stops[np.searchsorted(stops, np.arange(len(chain)))]]
    stays = landing == np.arange(dfa.num_states)
    source, atom = np.nonzero(dfa.next != DEAD)
    entered = np.zeros(dfa.num_states, bool)  # from a state where tokens land: others are between counts
    entered[dfa.next[source, atom][stays[source]]] = True
    entered[0] = True
    landing[np.flatnonzero(stays & ~entered)] = DEAD
    return landing


def is_exact(landing: np.ndarray) -> bool:
    """Tokens land where they lead to, wherever they may end."""
    return bool(((landing == np.arange(len(landing))) | (landing == DEAD)).all())


def _stops_of(lengths: list[int]) -> list[np.ndarray]:
    """The counts on which tokens land, ascending, in chains of these lengths."""
    for steps in STEPS:
        stops = [_stops(length, steps) for length in lengths]
        if sum(map(_moves, stops)) <= AFFORDABLE:
            return stops
    return [_stops(length, next(s for longest, s in CHEAPEST if length <= longest)) for length in lengths]


def _stops(length: int, steps: Steps) -> np.ndarray:
    left, near = [np.array([length - 1])], 0
    for far, step in steps:
        left.append(np.arange(near, min(far, length), step))
        near = min(far, length)
    return length - 1 - np.unique(np.concatenate(left))[::-1]


def _moves(stops: np.ndarray) -> float:
    """What these stops of one chain cost, in the unit of `AFFORDABLE`."""
    return float((1 / np.diff(stops[stops >= stops[-1] - WITHIN_A_CANVAS])).sum())


def _counting_chains(dfa: CharDfa) -> list[list[int]]:
    """Runs of states each of which accepts all that the next one does: one more character counted, less left."""
    following = _usual_next(dfa)
    included = _included(dfa, {(int(n), s) for s, n in enumerate(following) if n not in (DEAD, s)})
    link = {s: int(n) for s, n in enumerate(following) if (int(n), s) in included}
    chains, heads = [], set(link) - set(link.values())
    for head in sorted(heads):
        chain = [head]
        while chain[-1] in link:
            chain.append(link.pop(chain[-1]))  # popped: where two runs meet, the first keeps the rest
        if len(chain) > SHORTEST_COUNT:
            chains.append(chain)
    return chains


def _usual_next(dfa: CharDfa) -> np.ndarray:
    """[S] where most characters lead from each state."""
    lengths = np.diff(np.append(dfa.alphabet.starts, 0x110000))
    known = dfa.alphabet.atoms != DEAD
    size = np.bincount(dfa.alphabet.atoms[known], weights=lengths[known], minlength=dfa.alphabet.num_atoms)
    return dfa.next[:, int(size.argmax())]


def _included(dfa: CharDfa, candidates: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those pairs (a, b) of states for which every text accepted from a is accepted from b."""
    if automata.available():
        pairs = list(candidates)
        holds = automata.included(dfa.next, dfa.accepting, np.array(pairs, np.int32).reshape(-1, 2))
        return {pair for pair, does in zip(pairs, holds.tolist(), strict=True) if does}
    table, accepting = dfa.next.tolist(), dfa.accepting.tolist()
    pending, wrong = list(candidates), []
    causes: dict[tuple[int, int], list[tuple[int, int]]] = {pair: [] for pair in candidates}
    while pending:
        a, b = pair = pending.pop()
        if accepting[a] and not accepting[b]:
            wrong.append(pair)
        for x, y in zip(table[a], table[b], strict=True):
            if x in (y, DEAD):
                continue
            if y == DEAD:
                wrong.append(pair)
                break
            if (x, y) not in causes:
                causes[x, y] = []
                pending.append((x, y))
            causes[x, y].append(pair)
    refuted = set(wrong)
    while wrong:
        for pair in causes[wrong.pop()]:
            if pair not in refuted:
                refuted.add(pair)
                wrong.append(pair)
    return candidates - refuted
