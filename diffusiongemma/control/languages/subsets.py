"""The subset construction over atoms: from an automaton that also moves without reading to one that does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from diffusiongemma.control.languages.charset import CharSet, chars
from diffusiongemma.control.languages.dfa import DEAD, Alphabet, CharDfa, alphabet_of, refuse_above_limit
from diffusiongemma.control.languages.nfa import NfaBuilder

# A thread of the automaton is `state * MASKS + mask`: what may be read next, as anchors before it have left it.
WORD, NEWLINE, FINAL_NEWLINE, OTHER, END = 1, 2, 4, 8, 16  # a word character, a newline, one that ends the text, …
ANYTHING, MASKS = 31, 32
NOT_WORD, LINE_END = ANYTHING - WORD, NEWLINE | FINAL_NEWLINE | END


def determinised(nfa: NfaBuilder, start: int, accept: int) -> CharDfa:
    """The automaton of the texts that lead from `start` to `accept`; it may be far from minimal."""
    alphabet, moves = _moves_by_atoms(nfa)
    kinds = _kinds(alphabet, nfa.words)
    anchors = {anchor for row in nfa.free_moves for anchor, _ in row if anchor}
    looks_back = bool(nfa.words) or "line start" in anchors
    closures = _Closures(nfa, anchored=bool(anchors))

    first = closures.around(start * MASKS + ANYTHING, OTHER, at_start=True)
    number, order = {first: 0}, [first]
    numbers: dict[tuple[frozenset[int], int], int] = {}  # by the threads that lead there
    found: dict[int, tuple[list[int], list[int]]] = {}  # by atoms: states, and where these lead from them
    for state, subset in enumerate(order):  # grows while it is walked
        for atoms, threads in _disjoint(_moves(subset, moves, kinds)):
            for before, part in _by_kind(atoms, kinds) if looks_back else ((OTHER, atoms),):
                if (threads, before) not in numbers:
                    following = frozenset().union(*(closures.after(thread, before) for thread in threads))
                    if following not in number:
                        number[following] = len(order)
                        order.append(following)
                        refuse_above_limit(len(order))
                    numbers[threads, before] = number[following]
                states, targets = found.setdefault(part, ([], []))
                states.append(state)
                targets.append(numbers[threads, before])
    final = {accept * MASKS + mask for mask in range(MASKS) if mask & END}
    accepting = np.array([not final.isdisjoint(subset) for subset in order])
    return CharDfa(alphabet, _table_of(found, len(order), alphabet.num_atoms), accepting)


class _Closures:
    """The threads reached without reading, kept only where they read, accept or wait."""

    def __init__(self, nfa: NfaBuilder, anchored: bool) -> None:
        self._nfa, self._anchored = nfa, anchored
        self._free = [[target for _, target in row] for row in nfa.free_moves]
        self._known: dict[tuple[int, int], frozenset[int]] = {}

    def after(self, thread: int, before: int) -> frozenset[int]:
        """Those reached within a text; `before` is the kind of the last character."""
        key = thread, before
        if key not in self._known:
            if self._anchored:
                self._known[key] = self.around(thread, before, at_start=False)
            else:
                reached = _reached(self._free, thread // MASKS)
                self._known[key] = frozenset(s * MASKS + ANYTHING for s in reached if self._is_kept(s))
        return self._known[key]

    def around(self, thread: int, before: int, at_start: bool) -> frozenset[int]:
        """The same, anchors heeded."""
        seen, pending = {thread}, [thread]
        while pending:
            state, mask = divmod(pending.pop(), MASKS)
            for anchor, target in self._nfa.free_moves[state]:
                left = mask if anchor is None else _left(anchor, mask, before, at_start)
                reached = target * MASKS + left
                if left and reached not in seen:
                    seen.add(reached)
                    pending.append(reached)
        return frozenset(t for t in seen if self._is_kept(t // MASKS))

    def _is_kept(self, state: int) -> bool:
        return bool(self._nfa.char_moves[state]) or not self._free[state]


def _moves_by_atoms(nfa: NfaBuilder) -> tuple[Alphabet, list[list[tuple[int, int]]]]:
    """The atoms that all moves are made of; of each state the atoms that it reads, and the threads they lead to."""
    by_identity = {id(allowed): allowed for moves in nfa.char_moves for allowed, _ in moves}  # hashing takes long
    distinct = list(dict.fromkeys(by_identity.values()))
    alphabet = alphabet_of([*distinct, chars("\n"), *([nfa.words] if nfa.words else [])])
    atoms_of = {allowed: _mask(alphabet.atoms_in(allowed)) for allowed in distinct}
    atoms_by_id = {key: atoms_of[allowed] for key, allowed in by_identity.items()}
    moves = [[(atoms_by_id[id(allowed)], target * MASKS) for allowed, target in row] for row in nfa.char_moves]
    return alphabet, moves


def _kinds(alphabet: Alphabet, word_chars: CharSet) -> dict[int, int]:
    """For each kind that reading an atom counts as, the atoms."""
    words, newline = _mask(alphabet.atoms_in(word_chars)), _mask(alphabet.atoms_in(chars("\n")))
    others = _mask(range(alphabet.num_atoms)) & ~words & ~newline
    return {WORD: words & ~newline, NEWLINE: newline, OTHER: others}


def _reached(free: list[list[int]], state: int) -> set[int]:
    """The states reached without reading, where no anchor is in the way."""
    seen, pending = {state}, [state]
    while pending:
        for target in free[pending.pop()]:
            if target not in seen:
                seen.add(target)
                pending.append(target)
    return seen


def _moves(subset: Iterable[int], moves: list[list[tuple[int, int]]], kinds: dict[int, int]) -> dict[int, set[int]]:
    """For sets of atoms, which may overlap, the threads that reading one of them leads to (before free moves)."""
    found: dict[int, set[int]] = {}
    for thread in subset:
        state, mask = divmod(thread, MASKS)
        for atoms, target in moves[state]:
            if mask == ANYTHING:
                found.setdefault(atoms, set()).add(target + ANYTHING)
                continue
            if readable := atoms & sum(members for kind, members in kinds.items() if kind & mask):
                found.setdefault(readable, set()).add(target + ANYTHING)
            if mask & FINAL_NEWLINE and not mask & NEWLINE and (final := atoms & kinds[NEWLINE]):
                found.setdefault(final, set()).add(target + END)
    return found


def _disjoint(found: dict[int, set[int]]) -> list[tuple[int, frozenset[int]]]:
    """The same in sets that do not overlap."""
    regions: list[tuple[int, frozenset[int]]] = []
    for atoms, threads in found.items():
        split = []
        for region, before in regions:
            if common := region & atoms:
                split.append((common, before | threads))
            if rest := region & ~atoms:
                split.append((rest, before))
            atoms &= ~region
        regions = [*split, (atoms, frozenset(threads))] if atoms else split
    return regions


def _left(anchor: str, mask: int, before: int, at_start: bool) -> int:
    """What of `mask` may be read next where the anchor holds; 0 where it can't."""
    match anchor:
        case "start":
            return mask if at_start else 0
        case "line start":
            return mask if at_start or before == NEWLINE else 0
        case "end":
            return mask & END
        case "end or final newline":
            return (mask | (FINAL_NEWLINE if mask & NEWLINE else 0)) & (FINAL_NEWLINE | END)
        case "line end":
            return mask & LINE_END
        case "boundary":
            return mask & (NOT_WORD if before == WORD else WORD)
    assert anchor == "no boundary", anchor
    return mask & (WORD if before == WORD else NOT_WORD)


def _by_kind(atoms: int, kinds: dict[int, int]) -> Iterator[tuple[int, int]]:
    return ((kind, part) for kind, members in kinds.items() if (part := atoms & members))


def _table_of(found: dict[int, tuple[list[int], list[int]]], states: int, atoms: int) -> np.ndarray:
    """Where each state goes with each atom [states, atoms], from what is known by sets of atoms."""
    table = np.full((states, atoms), DEAD, np.int32)
    for part, (sources, targets) in found.items():
        table[np.ix_(sources, _members(part))] = np.array(targets, np.int32)[:, None]
    return table


def _members(atoms: int) -> list[int]:
    return [atom for atom in range(atoms.bit_length()) if atoms >> atom & 1]


def _mask(atoms: Iterable[int]) -> int:
    return sum(1 << atom for atom in atoms)
