"""Deterministic automata over characters: the form in which languages are intersected, subtracted and minimised.

A `CharDfa` reads *atoms*, classes of characters that no part of the language tells apart, so tables stay small over
all of Unicode. State 0 is the start; -1 is the dead state. References: Hopcroft, Motwani, Ullman, "Introduction to
Automata Theory", chapters 2-4.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from diffusiongemma.control.languages.charset import ANY_CHAR, CharSet, intersection
from diffusiongemma.errors import InputError
from diffusiongemma.kernels import automata

DEAD = -1
UNREACHABLE = np.iinfo(np.int32).max
SLOW_ROUNDS = 12  # of refinement: after so many, runs are looked at, and distances whenever it is so many more
NEWEST = 8  # classes to which distances are taken
LARGEST_DFA = 20_000  # states; beyond it a constraint is refused, it would take minutes and gigabytes


class TooLarge(InputError):
    """A constraint whose automaton outgrows what can be compiled."""


@dataclass(frozen=True, eq=False)
class Alphabet:
    """Interval i starts at code point `starts[i]` and belongs to atom `atoms[i]` (-1: characters nothing matches)."""

    starts: np.ndarray  # [I] int64, ascending, starts[0] == 0
    atoms: np.ndarray  # [I] int64
    num_atoms: int

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
        first = [bisect_left(self.starts, low) for low, _ in s]
        last = [bisect_left(self.starts, high + 1) for _, high in s]
        found = {int(a) for i, j in zip(first, last, strict=True) for a in self.atoms[i:j]}
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

    def matches(self, text: str) -> bool:
        state = 0
        for c in text:
            atom = self.alphabet.atoms[np.searchsorted(self.alphabet.starts, ord(c), side="right") - 1]
            state = DEAD if atom == DEAD else int(self.next[state, atom])
            if state == DEAD:
                return False
        return bool(self.accepting[state])


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
    alphabet, atoms_a, atoms_b = _common_alphabet(a.alphabet, b.alphabet)
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


def _common_alphabet(a: Alphabet, b: Alphabet) -> tuple[Alphabet, list[int], list[int]]:
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


def _with_dead_row(next_state: np.ndarray, atoms: list[int]) -> np.ndarray:
    """Rows over the joint atoms, with the dead state as the last one."""
    padded = np.pad(next_state.astype(np.int64), ((0, 1), (0, 1)), constant_values=DEAD)[:, atoms]
    return np.where(padded == DEAD, len(next_state), padded)


def restricted(dfa: CharDfa, allowed: CharSet) -> CharDfa:
    """The minimal automaton of the texts of which every character is in a set."""
    alphabet, atoms, others = _common_alphabet(dfa.alphabet, alphabet_of([allowed]))
    kept = (np.array(atoms) != DEAD) & (np.array(others) != DEAD)
    table = np.where(kept, np.pad(dfa.next, ((0, 0), (0, 1)), constant_values=DEAD)[:, atoms], DEAD)
    return smallest(CharDfa(alphabet, table.astype(np.int32), dfa.accepting))


def refuse_above_limit(states: int) -> None:
    if states > LARGEST_DFA:
        raise too_many_states()


def too_many_states(most: int = LARGEST_DFA) -> TooLarge:
    return TooLarge(
        f"this constraint needs an automaton of more than {most:,} states: shorten its repetitions "
        "or give fewer alternatives"
    )


def smallest(dfa: CharDfa) -> CharDfa:
    """The minimal automaton, its states in breadth-first order."""
    if automata.available():
        return CharDfa(dfa.alphabet, *automata.minimal(dfa.next, dfa.accepting))
    return minimised(trimmed(dfa))


def trimmed(dfa: CharDfa) -> CharDfa:
    """Only states on some way from the start to acceptance (and the start itself), numbered in breadth-first order."""
    live = chars_to_end(dfa) < UNREACHABLE
    table = dfa.next.copy()
    table[(table != DEAD) & ~live[table]] = DEAD
    order, seen = [0], {0}
    rows = table.tolist()
    for state in order:
        for following in dict.fromkeys(rows[state]):
            if following != DEAD and following not in seen:
                seen.add(following)
                order.append(following)
    renumber = np.full(dfa.num_states + 1, DEAD)
    renumber[order] = np.arange(len(order))
    return CharDfa(dfa.alphabet, renumber[table[order]].astype(np.int32), dfa.accepting[order])


def chars_to_end(dfa: CharDfa) -> np.ndarray:
    """[S] the fewest characters from each state to acceptance, UNREACHABLE where there is no way."""
    source, atom = np.nonzero(dfa.next != DEAD)
    return distances(np.flatnonzero(dfa.accepting), dfa.next[source, atom], source, dfa.num_states)


def distances(starts: np.ndarray, source: np.ndarray, target: np.ndarray, num_states: int) -> np.ndarray:
    """[S] int64 the fewest edges from any of `starts`, UNREACHABLE where there is no way."""
    distance = np.full(num_states, UNREACHABLE, np.int64)
    distance[starts] = 0
    if automata.available():
        return automata.distances(distance, source, target)
    source, target = np.divmod(np.unique(source * np.int64(num_states) + target), num_states)
    steps, frontier = 0, distance == 0
    while frontier.any():
        steps += 1
        reached = np.zeros(num_states, bool)
        reached[target[frontier[source]]] = True
        frontier = reached & (distance == UNREACHABLE)
        distance[frontier] = steps
    return distance


def minimised(dfa: CharDfa) -> CharDfa:
    """The smallest equivalent automaton, by Moore's refinement; rows are compared by a 64-bit hash, then checked."""
    random = np.random.default_rng(0)
    column_key = random.integers(1, 2**63, size=dfa.next.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    label_key = random.integers(1, 2**63, size=dfa.num_states + 1, dtype=np.uint64)
    _, labels = np.unique(chars_to_end(dfa), return_inverse=True)  # equivalent states are equally far from the end
    count = rounds = 0
    before = labels
    while True:
        padded = np.append(labels, dfa.num_states)  # index -1, the dead state, has a label of its own
        hashes = (label_key[padded[dfa.next]] * column_key).sum(1) ^ (label_key[labels] >> np.uint64(1))
        _, representative, labels = np.unique(hashes, return_index=True, return_inverse=True)
        if len(representative) == count:
            break
        count, rounds = len(representative), rounds + 1
        if rounds == SLOW_ROUNDS:
            labels = _told_apart_by_runs(dfa.next, labels, label_key)
        elif rounds % SLOW_ROUNDS == 0:
            labels = _told_apart_by_distance(dfa.next, before, labels)
        before = labels
    padded = np.append(labels, DEAD)
    assert (padded[dfa.next] == padded[dfa.next[representative]][labels]).all(), "hash collision"
    smallest = CharDfa(dfa.alphabet, padded[dfa.next[representative]], dfa.accepting[representative])
    return starting_at(smallest, labels[0])


def _told_apart_by_runs(next_state: np.ndarray, labels: np.ndarray, label_key: np.ndarray) -> np.ndarray:
    """[S] finer labels: of states from which runs of one character, however long, meet different labels.

    Refinement tells the states of a counter apart one a round. Here runs double in length every round.
    """
    states = len(labels)
    finer = np.append(label_key[labels], np.uint64(0))
    for column in range(next_state.shape[1]):
        if (next_state[:, column] == next_state[0, column]).all():
            continue
        jump = np.append(next_state[:, column], DEAD)
        jump[jump == DEAD] = states
        seen = finer.copy()
        for _ in range(states.bit_length()):
            seen = (seen * np.uint64(0x9E3779B97F4A7C15)) ^ (seen[jump] + (seen >> np.uint64(29)))
            jump = jump[jump]
        finer = finer * np.uint64(0xBF58476D1CE4E5B9) + seen
    found: np.ndarray = np.unique(finer[:-1], return_inverse=True)[1]
    return found


def _told_apart_by_distance(next_state: np.ndarray, before: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[S] finer labels: of states that are not equally far from those that the last round told apart.

    Equivalent states are, from any class of a refinement. So a counter whose steps are many characters long, such as
    the number of an array's items, is told apart at once as soon as its end is, where rounds take as many as it counts.
    `before` are the labels that the round began with.
    """
    sizes = np.bincount(labels)
    first = np.unique(labels, return_index=True)[1]
    parts = np.bincount(before[first])  # of each class, how many it has come into
    split = np.flatnonzero(parts[before[first]] > 1)
    newest = split[np.argsort(sizes[split], kind="stable")[:NEWEST]]
    source, column = np.nonzero(next_state != DEAD)
    pairs = np.unique(source * len(labels) + next_state[source, column])
    coming = _by_target(pairs // len(labels), pairs % len(labels), len(labels))
    found = [labels, *(_steps_to(np.flatnonzero(labels == label).tolist(), coming) for label in newest)]
    finer: np.ndarray = np.unique(np.stack(found), axis=1, return_inverse=True)[1]
    return finer.reshape(-1)


def _by_target(source: np.ndarray, target: np.ndarray, num_states: int) -> list[list[int]]:
    """From which states edges come, for each state."""
    order = np.argsort(target, kind="stable")
    ends = np.searchsorted(target[order], np.arange(num_states + 1))
    sources = source[order].tolist()
    return [sources[a:b] for a, b in pairwise(ends.tolist())]


def _steps_to(goal: list[int], coming: list[list[int]]) -> np.ndarray:
    """[S] the fewest edges to any state of `goal`, -1 where there is no way."""
    steps = [-1] * len(coming)
    for state in goal:
        steps[state] = 0
    queue = list(goal)
    for state in queue:
        further = steps[state] + 1
        for other in coming[state]:
            if steps[other] < 0:
                steps[other] = further
                queue.append(other)
    return np.array(steps)


def starting_at(dfa: CharDfa, start: int) -> CharDfa:
    """The same automaton with `start` moved to number 0 and states in breadth-first order."""
    swap = np.arange(dfa.num_states + 1)
    swap[[0, start]] = swap[[start, 0]]
    swap[-1] = DEAD
    order = swap[:-1]
    return trimmed(CharDfa(dfa.alphabet, swap[dfa.next[order]], dfa.accepting[order]))
