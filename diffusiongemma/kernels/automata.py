"""Minimal automata by the library that `build` makes of `csrc/automata.cpp`; does without torch, as what compiles
constraints for a server does.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from ctypes import byref, c_int64, c_void_p
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np

from diffusiongemma.kernels.build import automata_library

VERSION = 5
DONE, TOO_MANY_ALTERNATIVES, TOO_MANY_STATES, TOO_DEEP, NO_MEMORY = range(5)  # `Outcome` of csrc/automata/nfa.h
CHARS, SEQUENCE, EITHER, REPEAT, EMBEDDED = range(5)  # `Kind` there


class TooMany(Exception):
    """An automaton outgrows its limits: those of states that are not deterministic yet, or those after that."""

    def __init__(self, alternatives: bool):
        super().__init__()
        self.alternatives = alternatives


@dataclass(frozen=True, eq=False)
class FlatExpression:
    """`Expression` of csrc/automata/nfa.h: nodes, children before parents, and the automata embedded in them."""

    kind: Sequence[int]
    first_child: Sequence[int]
    children: Sequence[int]
    value: Sequence[int]
    most: Sequence[int]
    first_state: np.ndarray
    accepts: np.ndarray
    first_move: np.ndarray
    move_state: np.ndarray
    move_next: np.ndarray
    first_spelt: np.ndarray
    spelt: np.ndarray


class _Expression(ctypes.Structure):
    _fields_ = [
        ("nodes", c_int64),
        *((field.name, c_void_p) for field in fields(FlatExpression)),
        ("sets", c_int64),
        ("atoms", c_int64),
        ("first_atom", c_void_p),
        ("atom", c_void_p),
    ]


def wanted() -> bool:
    """Whether the library is to be used where there is one."""
    return os.environ.get("DIFFUSIONGEMMA_KERNELS") != "none"


@cache
def _library() -> ctypes.CDLL | None:
    if not wanted() or not automata_library().exists():
        return None
    try:
        found = ctypes.CDLL(str(automata_library()))
    except OSError:
        return None
    if found.automata_version() != VERSION:
        return None
    found.automata_states.restype = c_int64
    return found


def available() -> bool:
    return _library() is not None


Automaton = tuple[np.ndarray, np.ndarray]  # where each state goes with each atom [S, atoms], -1 dead; acceptance [S]


def minimal_automaton(
    flat: FlatExpression, atoms_of_sets: Sequence[Sequence[int]], num_atoms: int, limits: tuple[int, int, int]
) -> Automaton | None:
    """The minimal automaton of the last node, or None where it is nested too deeply for this.

    limits: states before it is deterministic, states after that, entries of tables. Raises `TooMany`, `MemoryError`.
    """
    arrays: list[np.ndarray] = [
        np.ascontiguousarray(getattr(flat, f.name), _type_of(f.name)) for f in fields(FlatExpression)
    ]
    first_atom = np.cumsum([0, *map(len, atoms_of_sets)], dtype=np.int32)
    atom = np.array([a for atoms in atoms_of_sets for a in atoms], np.int32)
    addresses = (array.ctypes.data for array in arrays)
    described = _Expression(
        len(flat.kind), *addresses, len(atoms_of_sets), num_atoms, first_atom.ctypes.data, atom.ctypes.data
    )
    made = c_void_p()
    outcome = _loaded().automata_of(byref(described), *map(c_int64, limits), byref(made))
    return _taken(outcome, made, num_atoms)


def minimal(table: np.ndarray, accepting: np.ndarray) -> Automaton:
    """The minimal automaton of one given by its table."""
    table, accepts = np.ascontiguousarray(table, np.int32), np.ascontiguousarray(accepting, np.uint8)
    made = c_void_p()
    sizes = map(c_int64, table.shape)
    outcome = _loaded().automata_minimal(
        c_void_p(table.ctypes.data), c_void_p(accepts.ctypes.data), *sizes, byref(made)
    )
    found = _taken(outcome, made, table.shape[1])
    assert found is not None
    return found


class _Rows(ctypes.Structure):
    """`Rows` of csrc/automata.cpp."""

    _fields_ = [("first", c_void_p), ("origin", c_void_p), ("target", c_void_p)]


TRIE = ("first_child", "symbol", "low", "middle", "high", "below")  # columns of a `TokenTrie`
RowArrays = tuple[np.ndarray, np.ndarray, np.ndarray]  # int64, int32, int32, see `control/tokens/moves.py`


class _Trie(ctypes.Structure):
    """`Trie` of csrc/automata/moves.h."""

    _fields_ = [(name, c_void_p) for name in TRIE]


class _Columns(ctypes.Structure):
    """`Columns` there."""

    _fields_ = [("count", c_int64), ("start", c_void_p), ("column", c_void_p)]


def moves_of_strings(
    trie: Any,
    starts: np.ndarray,
    columns: np.ndarray,
    table: np.ndarray,
    idle: np.ndarray,
    origins: np.ndarray,
    most: int,
) -> tuple[RowArrays, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The distinct moves of the strings of a `TokenTrie`, whose symbols from starts [n] on stand for columns [n] of the
    table [S, width], with `idle` [S] as of `Walk`; then stretches of tokens and their moves: low, high and move, int64.

    Raises `TooMany` beyond `most` entries, `MemoryError`.
    """
    described = _Trie(*(_checked(getattr(trie, name), np.uint64 if name == "below" else np.int64) for name in TRIE))
    starts, columns = (np.ascontiguousarray(a, np.int64) for a in (starts, columns))
    intervals = _Columns(len(starts), starts.ctypes.data, columns.ctypes.data)
    table, origins = (np.ascontiguousarray(a, np.int32) for a in (table, origins))
    idle, made, sizes = np.ascontiguousarray(idle, np.uint64), c_void_p(), (c_int64 * 3)()
    arrays = _address(table), c_int64(table.shape[1]), _address(idle), _address(origins), c_int64(len(origins))
    described_by = byref(described), byref(intervals)
    if _work(_loaded().automata_moves, *described_by, *arrays, c_int64(most), byref(made), sizes) == TOO_MANY_STATES:
        raise TooMany(alternatives=False)
    rows, entries, stretches = sizes
    first, origin, target = np.empty(rows + 1, np.int64), np.empty(entries, np.int32), np.empty(entries, np.int32)
    low, high, move = (np.empty(stretches, np.int64) for _ in range(3))
    copied: list[np.ndarray] = [first, origin, target, low, high, move]
    _loaded().automata_moves_copy(made, *map(_address, copied))
    return (first, origin, target), (low, high, move)


def _checked(array: np.ndarray, dtype: type) -> int:
    assert array.dtype == dtype and array.flags.c_contiguous
    return array.ctypes.data


def same_rows(rows: RowArrays, chosen: np.ndarray, others: RowArrays) -> bool:
    """Whether rows `chosen` are the others, one by one, but for those that are -1."""
    chosen = np.ascontiguousarray(chosen, np.int64)
    count = c_int64(len(chosen))
    same: int = _loaded().automata_same_rows(
        byref(_described(rows)), _address(chosen), count, byref(_described(others))
    )
    return bool(same)


def by_origin(rows: RowArrays, origins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The entries of all rows ordered by origin, then row: origin, row and target, int32."""
    origin, row, target = (np.empty(len(rows[1]), np.int32) for _ in range(3))
    sizes = c_int64(len(rows[0]) - 1), c_int64(origins)
    _work(_loaded().automata_by_origin, byref(_described(rows)), *sizes, *map(_address, (origin, row, target)))
    return origin, row, target


def distances(distance: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[S] int64, 0 at some states and more than S at all others -> those within reach get the fewest edges to them."""
    edges = [np.ascontiguousarray(ends, np.int32) for ends in (source, target)]
    distance = np.ascontiguousarray(distance, np.int64)
    sizes = c_int64(len(source)), c_int64(len(distance))
    _work(_loaded().automata_distances, *map(_address, edges), *sizes, _address(distance))
    return distance


def included(table: np.ndarray, accepting: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Of pairs of states [n, 2] of an automaton given by its table: [n] bool, whether every text accepted from the
    first is accepted from the second."""
    table, pairs = (np.ascontiguousarray(a, np.int32) for a in (table, pairs))
    accepts, holds = np.ascontiguousarray(accepting, bool), np.empty(len(pairs), bool)
    inputs = _address(table), _address(accepts), c_int64(table.shape[1]), _address(pairs), c_int64(len(pairs))
    _work(_loaded().automata_included, *inputs, _address(holds))
    return holds


def bundled(source: np.ndarray, label: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, ...]:
    """Edges ordered by source, then label, in bundles with the same ends: their sources, targets and lists of labels,
    int32; where each list begins, and the labels of all lists, int64."""
    edges = [np.ascontiguousarray(column, np.int32) for column in (source, label, target)]
    made, sizes = c_void_p(), (c_int64 * 3)()
    _work(_loaded().automata_bundled, *map(_address, edges), c_int64(len(source)), byref(made), sizes)
    bundles, lists, labels = sizes
    found = [np.empty(bundles, np.int32) for _ in range(3)] + [np.empty(n, np.int64) for n in (lists + 1, labels)]
    _loaded().automata_bundled_copy(made, *map(_address, found))
    return tuple(found)


def _work(function: Callable[..., int], *arguments: Any) -> int:
    """The outcome, where memory sufficed."""
    outcome = function(*arguments)
    if outcome == NO_MEMORY:
        raise MemoryError
    return outcome


def _described(rows: RowArrays) -> _Rows:
    assert [array.dtype for array in rows] == [np.int64, np.int32, np.int32]
    assert all(array.flags.c_contiguous for array in rows)
    return _Rows(*(array.ctypes.data for array in rows))


def _address(array: np.ndarray) -> c_void_p:
    return c_void_p(array.ctypes.data)


def _type_of(name: str) -> type:
    return np.uint8 if name == "accepts" else np.int32


def _loaded() -> ctypes.CDLL:
    library = _library()
    assert library is not None
    return library


def _taken(outcome: int, made: c_void_p, num_atoms: int) -> Automaton | None:
    """The outcome as arrays; what it stands in is given back."""
    if outcome == NO_MEMORY:
        raise MemoryError
    library = _loaded()
    try:
        if outcome in (TOO_MANY_ALTERNATIVES, TOO_MANY_STATES):
            raise TooMany(alternatives=outcome == TOO_MANY_ALTERNATIVES)
        if outcome == TOO_DEEP:
            return None
        states = library.automata_states(made)
        table, accepting = np.empty((states, num_atoms), np.int32), np.empty(states, bool)
        library.automata_copy(made, c_void_p(table.ctypes.data), c_void_p(accepting.ctypes.data))
        return table, accepting
    finally:
        library.automata_free(made)
