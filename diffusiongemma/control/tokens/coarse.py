"""Fewer states for constraints that count far, such as strings of at most 1000 characters.

Two things make counting dear for tokens: a state for every count, each with states inside its multi-byte characters,
and a move for every length of token between them. So in large automata no character is split over tokens, and tokens
land on every fourth count only, rounded up. What is accepted shrinks (a string may have to close a little before its
limit) but never grows. Measured at a limit of 255: 38,631 moves between states become 1,900.
"""

from __future__ import annotations

import numpy as np

from diffusiongemma.control.languages.dfa import DEAD, CharDfa
from diffusiongemma.kernels import automata

GRIDS = ((600, 4), (10**9, 8))  # in chains of at most so many states, every so many counts
SHORTEST_COUNT = 48  # shorter chains stay as they are


def landing_states(dfa: CharDfa) -> np.ndarray:
    """[S] where a token that leads to each state may land instead, DEAD where none may end."""
    landing = np.arange(dfa.num_states)
    for chain in _counting_chains(dfa):
        grid = next(grid for longest, grid in GRIDS if len(chain) <= longest)
        stops = sorted({*range(0, len(chain), grid), len(chain) - 1})
        landing[chain] = [chain[stops[np.searchsorted(stops, count)]] for count in range(len(chain))]
    stays = landing == np.arange(dfa.num_states)
    source, atom = np.nonzero(dfa.next != DEAD)
    entered = np.zeros(dfa.num_states, bool)  # from a state where tokens land: others are between counts
    entered[dfa.next[source, atom][stays[source]]] = True
    entered[0] = True
    landing[np.flatnonzero(stays & ~entered)] = DEAD
    return landing


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
