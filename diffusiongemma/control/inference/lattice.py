"""The lattice of one canvas: every (position, state) pair and every move that some permitted path uses, and no others.

It depends on the automaton, the state carried in and the number of positions, not on the model, so it is built once
per canvas and used at every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from diffusiongemma.control.inference.bundles import Bundles
from diffusiongemma.control.inference.finishing import finishing_states, finishing_within_limits, no_path
from diffusiongemma.control.languages.dfa import TooLarge
from diffusiongemma.control.tokens.automaton import TokenAutomaton
from diffusiongemma.errors import InputError
from diffusiongemma.kernels.lattice import FlatLattice, available

MOST_MOVES = 4_000_000  # on one canvas; each takes about 75 ns of every step and 88 bytes (any JSON on 256: 700,000)
BYTES_OF_MOVE = 88  # in `Lattice` and `BothWays`


@dataclass(frozen=True, eq=False)
class Moves:
    """The moves of all positions, one position after the other, in the order in which a sweep adds them up.

    A sweep at position t takes the values of the nodes `leaves[t]`, combines them with the weights `slices[t]` and
    adds up the runs that begin at `begins[t]`, one run per node that it arrives at. Nodes count within a position.
    """

    leaves: tuple[np.ndarray, ...]  # [C] of [moves at t]
    begins: tuple[np.ndarray, ...]  # [C] of [nodes arrived at]
    slices: tuple[slice, ...]  # [C]
    cell: np.ndarray  # [M] t * sets + class set: where each move's weight is found


@dataclass(frozen=True, eq=False)
class Lattice:
    """`states[t]` are the live states before position t (t = 0 .. C); moves lead from states[t] to states[t + 1]."""

    states: tuple[np.ndarray, ...]
    backward: Moves  # sums arrive at the state before
    before: np.ndarray  # [M] of each move (in the order of `backward`), the node it leaves, within its position
    sets: int  # how many class sets there are

    @property
    def positions(self) -> int:
        return len(self.states) - 1

    @property
    def moves(self) -> int:
        return len(self.before)

    @property
    def nbytes(self) -> int:
        """About what it takes in memory once both ways have been asked for."""
        return BYTES_OF_MOVE * self.moves + sum(states.nbytes for states in self.states)

    def prepare(self) -> None:
        """Make now what the first sweep would make."""
        _ = self.flat if available() else self.both_ways

    @cached_property
    def read(self) -> np.ndarray:
        """[C, sets] whether a move reads the set at the position."""
        read = np.zeros((self.positions, self.sets), bool)
        read.ravel()[self.backward.cell] = True
        return read

    @cached_property
    def flat(self) -> FlatLattice:
        """For the library's sweeps."""
        moves = self.backward
        return FlatLattice(
            sets=self.sets,
            first_node=np.concatenate([[0], np.cumsum([len(states) for states in self.states])]),
            first_move=np.concatenate(
                [*(begins + at.start for begins, at in zip(moves.begins, moves.slices, strict=True)), [self.moves]]
            ),
            after=np.concatenate(moves.leaves).astype(np.int32),
            class_set=(moves.cell % self.sets).astype(np.int32),
        )

    @cached_property
    def forward(self) -> Moves:
        """Sums arrive at the state after."""
        after = np.concatenate(self.backward.leaves)
        position = self.backward.cell // self.sets
        order = np.lexsort((after, position))
        return _moves(position[order], self.before[order], after[order], self.backward.cell[order])

    @cached_property
    def both_ways(self) -> BothWays:
        return BothWays.of(self)


@dataclass(frozen=True, eq=False)
class BothWays:
    """The forward and the backward sweep in one loop, which halves the calls: turn i takes position i forward and
    position C - 1 - i backward. Its values are the forward ones of states[i], then the backward ones of states[C - i].
    """

    leaves: tuple[np.ndarray, ...]  # as in `Moves`, of one turn after the other
    begins: tuple[np.ndarray, ...]
    slices: tuple[slice, ...]
    values: tuple[slice, ...]  # [C + 1] where the values before each turn, and after the last, are kept
    split: tuple[int, ...]  # [C] after each turn, how many of them are forward ones
    cell: np.ndarray  # [2 M]
    backward_at: np.ndarray  # [M] where in `cell` the moves of `Lattice.backward` are, in their order
    before_at: np.ndarray  # [M] where in the values the node is that each of them leaves

    @classmethod
    def of(cls, lattice: Lattice) -> BothWays:
        ahead, back, turns = lattice.forward, lattice.backward, lattice.positions
        sizes = np.array([len(states) for states in lattice.states])
        count = np.array([at.stop - at.start for at in back.slices])  # as many go in as come out of each position
        first = np.concatenate([[0], np.cumsum(count + count[::-1])])
        first_value = np.concatenate([[0], np.cumsum(sizes + sizes[::-1])])
        leaves, begins, cells = [], [], []
        for i, j in zip(range(turns), reversed(range(turns)), strict=True):
            leaves.append(np.concatenate([ahead.leaves[i], back.leaves[j] + sizes[i]]))
            begins.append(np.concatenate([ahead.begins[i], back.begins[j] + count[i]]))
            cells += [ahead.cell[ahead.slices[i]], back.cell[back.slices[j]]]
        shift = first[:-1][::-1] + count[::-1] - np.cumsum(count) + count  # turn C - 1 - t, behind its forward moves
        return cls(
            leaves=tuple(leaves),
            begins=tuple(begins),
            slices=tuple(slice(a, b) for a, b in pairwise(first.tolist())),
            values=tuple(slice(a, b) for a, b in pairwise(first_value.tolist())),
            split=tuple(sizes[1:].tolist()),
            cell=np.concatenate(cells),
            backward_at=np.arange(lattice.moves) + np.repeat(shift, count),
            before_at=lattice.before + np.repeat(first_value[:turns], count),
        )


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
    closes = (bundles.target == automaton.done) & (bundles.source != automaton.done)
    allowed = ~closes[None, :] | (np.arange(positions) >= end_not_before)[:, None]  # [C, P]
    for t in [t for t in limited if t < positions]:
        allowed[t] &= limited[t]
    if any(t >= positions for t in limited):
        ahead = range(positions, positions + (0 if must_finish else remaining))
        ends &= finishing_within_limits(automaton, bundles, ahead, end_not_before, limited)
    live = _live_states(bundles, start, ends, allowed)
    if not live[0, start] and limited:
        message = "the pinned tokens and the constraint leave no text that fits: change the pins or the rest"
        raise InputError(message, option="pins")
    if not live[0, start]:
        budget = positions + (0 if must_finish else remaining)
        raise no_path(int(automaton.tokens_to_finish[start]), budget, end_not_before)
    usable = allowed & live[:-1, bundles.source] & live[1:, bundles.target]
    if (moves := int(np.count_nonzero(usable))) > MOST_MOVES:
        message = f"the constraint leaves {moves:,} moves on one canvas, {MOST_MOVES:,} are the most"
        raise TooLarge(f"{message}: simplify it, or lower `max_new_tokens`")
    return _numbered(bundles, live, usable)


def _numbered(bundles: Bundles, live: np.ndarray, usable: np.ndarray) -> Lattice:
    """The lattice of the live states [C + 1, S] and usable bundles [C, P]."""
    node = np.cumsum(live, axis=1) - 1  # [C + 1, S] counted within the position
    position, bundle = np.nonzero(usable)  # bundles are ordered by source
    before, after = node[position, bundles.source[bundle]], node[position + 1, bundles.target[bundle]]
    return Lattice(
        states=tuple(np.flatnonzero(row) for row in live),
        backward=_moves(position, after, before, position * bundles.num_sets + bundles.class_set[bundle]),
        before=before,
        sets=bundles.num_sets,
    )


def _moves(position: np.ndarray, leaves: np.ndarray, arrives: np.ndarray, cell: np.ndarray) -> Moves:
    positions = int(position[-1]) + 1
    bounds = np.searchsorted(position, np.arange(positions + 1))
    slices = tuple(slice(int(i), int(j)) for i, j in pairwise(bounds))
    return Moves(
        leaves=tuple(leaves[s] for s in slices),
        begins=tuple(np.flatnonzero(np.diff(arrives[s], prepend=-1)) for s in slices),
        slices=slices,
        cell=cell,
    )


def _live_states(bundles: Bundles, start: int, ends: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """[C + 1, S] states on some path from `start` to one of `ends`."""
    positions, live = len(allowed), np.zeros((len(allowed) + 1, len(ends)), bool)
    live[0, start] = True
    for t in range(positions):
        live[t + 1, bundles.target[live[t, bundles.source] & allowed[t]]] = True
    live[positions] &= ends
    for t in reversed(range(positions)):
        leads_on = np.zeros(len(ends), bool)
        leads_on[bundles.source[live[t + 1, bundles.target] & allowed[t]]] = True
        live[t] &= leads_on
    return live
