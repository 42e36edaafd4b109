"""Automata made of words, of counts, and of other automata."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from diffusiongemma.control.languages.charset import CharSet
from diffusiongemma.control.languages.dfa import DEAD, CharDfa, alphabet_of, common_alphabet, refuse_above_limit
from diffusiongemma.control.languages.minimal import smallest, starting_at


def of_words(words: Iterable[str]) -> CharDfa:
    """The minimal automaton of a list of texts: built from the sorted list, ends that are equal shared at once.

    Daciuk et al. 2000, "Incremental construction of minimal acyclic finite-state automata", algorithm 1.
    """
    ordered = sorted(set(words))
    alphabet = alphabet_of([((c, c),) for c in sorted({ord(c) for word in ordered for c in word})])
    atom_of = {c: alphabet.atoms_in(((ord(c), ord(c)),))[0] for word in ordered for c in word}
    register: dict[tuple[bool, tuple[tuple[int, int], ...]], int] = {}

    def registered(node: tuple[list[bool], dict[int, int]]) -> int:
        return register.setdefault((node[0][0], tuple(sorted(node[1].items()))), len(register))

    path: list[tuple[list[bool], dict[int, int]]] = [([False], {})]  # the nodes of the latest word, not shared yet
    previous = ""
    for word in [*ordered, ""]:
        shared = 0
        while shared < min(len(word), len(previous)) and word[shared] == previous[shared]:
            shared += 1
        for depth in range(len(previous), shared, -1):
            done = registered(path.pop())
            path[-1][1][atom_of[previous[depth - 1]]] = done
        path += [([False], {}) for _ in word[shared:]]
        path[-1][0][0] |= bool(word) or "" in ordered[:1]
        previous = word
    start = registered(path[0])
    table = np.full((len(register), alphabet.num_atoms), DEAD, np.int32)
    accepting = np.zeros(len(register), bool)
    for (accepts, moves), state in register.items():
        accepting[state] = accepts
        for atom, target in moves:
            table[state, atom] = target
    refuse_above_limit(len(register))
    return starting_at(CharDfa(alphabet, table, accepting), start)


def counter(allowed: CharSet, least: int, most: int) -> CharDfa:
    """The minimal automaton of `least` to `most` characters of a set, which is not empty."""
    refuse_above_limit(most + 1)
    alphabet = alphabet_of([allowed, ((10, 10),)])
    table = np.full((most + 1, alphabet.num_atoms), DEAD, np.int32)
    table[:-1, alphabet.atoms_in(allowed)] = np.arange(1, most + 1, dtype=np.int32)[:, None]
    return CharDfa(alphabet, table, np.arange(most + 1) >= least)


def product(a: CharDfa, b: CharDfa, accept: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> CharDfa:
    """The minimal automaton that runs `a` and `b` side by side and accepts where `accept(a accepts, b accepts)`."""
    alphabet, atoms_a, atoms_b = common_alphabet(a.alphabet, b.alphabet)
    next_a, next_b = _with_dead_row(a.next, atoms_a), _with_dead_row(b.next, atoms_b)
    accepting_a, accepting_b = (np.append(d.accepting, False) for d in (a, b))
    width = len(next_b)
    number = {0: 0}
    frontier, found, rows = np.zeros(1, np.int64), [np.zeros(1, np.int64)], []
    dead = (len(next_a) - 1) * width + width - 1
    while len(frontier):
        following = next_a[frontier // width] * width + next_b[frontier % width]  # [F, atoms]
        keys = following.ravel().tolist()
        fresh = [key for key in dict.fromkeys(keys) if key not in number]
        number |= zip(fresh, range(len(number), len(number) + len(fresh)), strict=True)
        refuse_above_limit(len(number) - (dead in number))
        rows.append(np.array([number[key] for key in keys], np.int32).reshape(following.shape))
        frontier = np.array(fresh, np.int64)
        found.append(frontier)
    pairs = np.concatenate(found)
    accepting = accept(accepting_a[pairs // width], accepting_b[pairs % width])
    return smallest(CharDfa(alphabet, np.concatenate(rows), accepting))


def intersection_of(a: CharDfa, b: CharDfa) -> CharDfa:
    return product(a, b, np.logical_and)


def difference_of(a: CharDfa, b: CharDfa) -> CharDfa:
    return product(a, b, lambda x, y: x & ~y)


def restricted(dfa: CharDfa, allowed: CharSet) -> CharDfa:
    """The minimal automaton of the texts of which every character is in a set."""
    alphabet, atoms, others = common_alphabet(dfa.alphabet, alphabet_of([allowed]))
    kept = (np.array(atoms) != DEAD) & (np.array(others) != DEAD)
    table = np.where(kept, np.pad(dfa.next, ((0, 0), (0, 1)), constant_values=DEAD)[:, atoms], DEAD)
    return smallest(CharDfa(alphabet, table.astype(np.int32), dfa.accepting))


def _with_dead_row(next_state: np.ndarray, atoms: list[int]) -> np.ndarray:
    """Rows over the joint atoms, with the dead state as the last one."""
    padded = np.pad(next_state.astype(np.int64), ((0, 1), (0, 1)), constant_values=DEAD)[:, atoms]
    return np.where(padded == DEAD, len(next_state), padded)
