"""The lattice of one canvas: every state that some permitted path is in, before and after each position, and no others.

It depends on the automaton, the state carried in and the number of positions, not on the model, so it is built once
per canvas and used at every step. The moves between these states are the automaton's bundles at every position, so
they are not written down: what a sweep takes in memory grows with states, not with moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from diffusiongemma.control.inference.bundles import Bundles
from diffusiongemma.control.inference.finishing import finishing_states, finishing_within_limits, no_path
from diffusiongemma.control.languages.dfa import TooLarge
from diffusiongemma.control.tokens.automaton import TokenAutomaton
from diffusiongemma.errors import InputError
from diffusiongemma.kernels.lattice import LatticeArrays, available

# On one canvas, as they take time at every step (docs/structure.md); `MOST_BUNDLES` on 256 positions are 77 million.
MOST_MOVES, MOST_MOVES_OF_TWIN = 80_000_000, 4_000_000
BYTES_OF_STEP = 24  # of each move, in `Lattice.steps`


@dataclass(frozen=True, eq=False)
class Lattice:
    """At position t paths take the bundles whose ends are live before and after it."""

    bundles: Bundles
    arrays: LatticeArrays
    read: np.ndarray  # [C, sets] bool, whether a move reads the set at the position
    moves: int

    @property
    def positions(self) -> int:
        return self.arrays.positions

    @property
    def live(self) -> np.ndarray:
        """[C + 1, S] bool, the states before each position and after the last."""
        return self.arrays.live

    @property
    def nbytes(self) -> int:
        """What it takes in memory, with the `steps` that are made where there is no library."""
        steps = 0 if available() else BYTES_OF_STEP * self.moves
        return self.live.nbytes + self.read.nbytes + self.bundles.nbytes + steps

    @cached_property
    def steps(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """[C] for the plain twins of the library's sweeps: the moves of a position, source, target and class set."""
        columns = [
            column.astype(np.intp) for column in (self.bundles.source, self.bundles.target, self.bundles.class_set)
        ]
        taken = (taken_at(self.bundles, self.arrays, t) for t in range(self.positions))
        return [tuple(column[bundles] for column in columns) for bundles in taken]


def build_lattice(
    automaton: TokenAutomaton,
    bundles: Bundles,
    start: int,
    positions: int,
    *,
    must_finish: bool = True,
    remaining: int = 0,
    end_not_before: int = 0,
    permitted: Mapping[int, np.ndarray] | None = None,
) -> Lattice:
    """The paths of exactly `positions` tokens from state `start`.

    With `must_finish` they end in acceptance (end tokens fill the rest); without, wherever acceptance is at most
    `remaining` tokens further. No end token is placed before position `end_not_before`, which may lie beyond this
    canvas. `permitted` [K] bool are the only classes for some positions, which may lie beyond this canvas too.
    Raises `InputError` if there is no such path, `TooLarge` where there are too many moves.
    """
    limited = {t: bundles.with_any_of(classes) for t, classes in (permitted or {}).items()}
    ends = finishing_states(automaton, bundles, end_not_before - positions, 0 if must_finish else remaining)
    if any(t >= positions for t in limited):
        ahead = range(positions, positions + (0 if must_finish else remaining))
        ends &= finishing_within_limits(automaton, bundles, ahead, end_not_before, limited)
    arrays = LatticeArrays(
        sets=bundles.num_sets,
        first=bundles.first_of_state,
        target=bundles.target,
        class_set=bundles.class_set,
        live=np.zeros((positions + 1, automaton.num_states), bool),
        permitted=limited,
    )
    read, moves = (
        arrays.find_paths(start, ends, automaton.done, end_not_before)
        if available()
        else find_paths(bundles, arrays, start, ends, automaton.done, end_not_before)
    )
    if not arrays.live[0, start] and limited:
        message = "the pinned tokens and the constraint leave no text that fits: change the pins or the rest"
        raise InputError(message, option="pins")
    if not arrays.live[0, start]:
        budget = positions + (0 if must_finish else remaining)
        raise no_path(int(automaton.tokens_to_finish[start]), budget, end_not_before)
    most = MOST_MOVES if available() else MOST_MOVES_OF_TWIN
    if moves > most:
        message = f"the constraint leaves {moves:,} moves on one canvas, {most:,} are the most"
        raise TooLarge(f"{message}: simplify it, or lower `max_new_tokens`")
    return Lattice(bundles, arrays, read, moves)


def find_paths(
    bundles: Bundles, arrays: LatticeArrays, start: int, ends: np.ndarray, done: int, not_before: int
) -> tuple[np.ndarray, int]:
    """The plain twin of `LatticeArrays.find_paths`."""
    live, closes = arrays.live, (bundles.target == done) & (bundles.source != done)
    live[0, start] = True
    for t in range(arrays.positions):
        usable = live[t, bundles.source] & ((t >= not_before) | ~closes) & arrays.permitted.get(t, True)
        live[t + 1, bundles.target[usable]] = True
    live[-1] &= ends
    read, moves = np.zeros((arrays.positions, arrays.sets), bool), 0
    for t in reversed(range(arrays.positions)):
        taken = taken_at(bundles, arrays, t)
        live[t] = False
        live[t, bundles.source[taken]] = True
        read[t, bundles.class_set[taken]] = True
        moves += len(taken)
    return read, moves


def taken_at(bundles: Bundles, arrays: LatticeArrays, t: int) -> np.ndarray:
    usable = arrays.live[t, bundles.source] & arrays.live[t + 1, bundles.target]
    return np.flatnonzero(usable & arrays.permitted.get(t, True))
