"""The smallest automaton of a language: only states that matter, and each only once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from diffusiongemma.control.languages.dfa import DEAD, CharDfa
from diffusiongemma.kernels import automata

UNREACHABLE = np.iinfo(np.int32).max
SLOW_ROUNDS = 12  # of refinement: after so many, runs are looked at, and distances whenever it is so many more
NEWEST = 8  # classes to which distances are taken


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


def starting_at(dfa: CharDfa, start: int) -> CharDfa:
    """The same automaton with `start` moved to number 0 and states in breadth-first order."""
    swap = np.arange(dfa.num_states + 1)
    swap[[0, start]] = swap[[start, 0]]
    swap[-1] = DEAD
    order = swap[:-1]
    return trimmed(CharDfa(dfa.alphabet, swap[dfa.next[order]], dfa.accepting[order]))


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
