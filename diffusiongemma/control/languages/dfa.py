"""Deterministic automata over characters: the form in which languages are intersected, subtracted and minimised.

A `CharDfa` reads *atoms*, classes of characters that no part of the language tells apart, so tables stay small over
all of Unicode. State 0 is the start; -1 is the dead state. References: Hopcroft, Motwani, Ullman, "Introduction to
Automata Theory", chapters 2-4.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from diffusiongemma.control.languages.charset import ANY_CHAR, CharSet, intersection
from diffusiongemma.errors import InputError

DEAD = -1
LARGEST_DFA = 20_000  # states; beyond it a constraint is refused, it would take minutes and gigabytes


class TooLarge(InputError):
    """A constraint whose automaton outgrows what can be compiled."""


def refuse_above_limit(states: int) -> None:
    if states > LARGEST_DFA:
        raise too_many_states()


def too_many_states(most: int = LARGEST_DFA) -> TooLarge:
    return TooLarge(
        f"this constraint needs an automaton of more than {most:,} states: shorten its repetitions "
        "or give fewer alternatives"
    )


@dataclass(frozen=True, eq=False)
class Alphabet:
    """Interval i starts at code point `starts[i]` and belongs to atom `atoms[i]` (-1: characters nothing matches)."""

    starts: np.ndarray  # [I] int64, ascending, starts[0] == 0
    atoms: np.ndarray  # [I] int64
    num_atoms: int

    @cached_property
    def looked_up(self) -> tuple[list[int], list[int]]:
        """Starts and atoms as lists, for one character after another: numpy takes ten times as long for each."""
        return self.starts.tolist(), self.atoms.tolist()

    def atom_of(self, c: str) -> int:
        starts, atoms = self.looked_up
        return atoms[bisect_right(starts, ord(c)) - 1]

    def chars_of(self, wanted: Iterable[int]) -> CharSet:
        """The characters of these atoms."""
        ends = np.append(self.starts[1:], 0x110000) - 1
        is_wanted = np.zeros(self.num_atoms + 1, bool)  # the last: of characters that nothing matches
        is_wanted[list(wanted)] = True
        chosen = is_wanted[self.atoms]
        ranges = zip(self.starts[chosen].tolist(), ends[chosen].tolist(), strict=True)
        return intersection(merge_adjacent(ranges), ANY_CHAR)

    def atoms_in(self, s: CharSet) -> list[int]:
        """The atoms that make up the set `s`, which must be a union of atoms."""
        starts, atoms = self.looked_up
        found = {a for low, high in s for a in atoms[bisect_left(starts, low) : bisect_left(starts, high + 1)]}
        return sorted(found - {DEAD})


def merge_adjacent(ranges: Iterable[tuple[int, int]]) -> CharSet:
    merged: list[tuple[int, int]] = []
    for low, high in ranges:
        if merged and merged[-1][1] + 1 == low:
            merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return tuple(merged)


def alphabet_of(charsets: Iterable[CharSet]) -> Alphabet:
    """The coarsest partition in which every given set is a union of atoms."""
    distinct = list(dict.fromkeys(charsets))
    bounds = {0, 0xD800, 0xE000}
    bounds.update(edge for s in distinct for low, high in s for edge in (low, high + 1) if edge <= 0x10FFFF)
    starts = sorted(bounds)
    members: list[list[int]] = [[] for _ in starts]
    for number, s in enumerate(distinct):
        for low, high in s:
            for i in range(bisect_left(starts, low), bisect_left(starts, high + 1)):
                members[i].append(number)
    atom_of_signature: dict[tuple[int, ...], int] = {(): DEAD}
    atoms = [atom_of_signature.setdefault(tuple(m), len(atom_of_signature) - 1) for m in members]
    return Alphabet(np.array(starts), np.array(atoms), len(atom_of_signature) - 1)


def common_alphabet(a: Alphabet, b: Alphabet) -> tuple[Alphabet, list[int], list[int]]:
    """The joint refinement, and for each of its atoms the atom of `a` and of `b` it lies in (-1: dead there)."""
    starts = np.union1d(a.starts, b.starts)
    pairs = [
        (int(x), int(y))
        for x, y in zip(
            a.atoms[np.searchsorted(a.starts, starts, side="right") - 1],
            b.atoms[np.searchsorted(b.starts, starts, side="right") - 1],
            strict=True,
        )
    ]
    distinct = [pair for pair in dict.fromkeys(pairs) if pair != (DEAD, DEAD)]
    number = {pair: i for i, pair in enumerate(distinct)} | {(DEAD, DEAD): DEAD}
    joint = Alphabet(starts, np.array([number[pair] for pair in pairs]), len(distinct))
    return joint, [x for x, _ in distinct], [y for _, y in distinct]


@dataclass(frozen=True, eq=False)
class CharDfa:
    alphabet: Alphabet
    next: np.ndarray  # [S, atoms], -1 dead
    accepting: np.ndarray  # [S] bool

    @property
    def num_states(self) -> int:
        return len(self.accepting)

    @property
    def is_empty(self) -> bool:
        """True when no text at all is accepted (the automaton is trimmed, so nothing but a bare start is left)."""
        return not self.accepting.any()

    def run(self, text: str, state: int = 0) -> int:
        """The state after `text`, or -1."""
        for c in text:
            atom = self.alphabet.atom_of(c)
            state = DEAD if atom == DEAD else int(self.next[state, atom])
            if state == DEAD:
                break
        return state

    def matches(self, text: str) -> bool:
        state = self.run(text)
        return state != DEAD and bool(self.accepting[state])
