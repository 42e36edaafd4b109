"""From a language expression to its minimal automaton: Thompson's construction, then subsets.

Fragments are built backwards, from the state they continue to, and remembered by (node, continuation): an expression
whose subtrees are shared becomes an automaton whose states are shared, so `n` optional properties or all orders of a
few keys cost what their distinct situations cost, not what their written-out alternatives would.

Expressions nest as deeply as objects have properties, beyond Python's usual limit of 1000 calls, so what recurs is
written as generators that `run` keeps on a stack of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import numpy as np

from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.charset import CharSet, chars
from diffusiongemma.control.languages.dfa import (
    DEAD,
    LARGEST_DFA,
    Alphabet,
    CharDfa,
    TooLarge,
    alphabet_of,
    counter,
    difference_of,
    intersection_of,
    minimised,
    refuse_above_limit,
    restricted,
    too_many_states,
    trimmed,
)
from diffusiongemma.control.languages.flat import Flattener
from diffusiongemma.control.languages.spelling import READABLE, Moves, escaped_moves_of, moves_of, spelt_text
from diffusiongemma.control.recent import Recent
from diffusiongemma.kernels import automata

LARGEST_NFA = 150_000
NFA_STATES_OF_EACH, MOST_ENTRIES = 8, 40_000_000  # of the library: states before, for each after; of its tables
TOO_MANY_ALTERNATIVES = "this constraint has too many alternatives or repetitions to compile: simplify it"
Steps = Generator[Any, Any, int]  # yields the steps of others, is sent what they return

# A thread of the automaton is `state * MASKS + mask`: what may be read next, as anchors before it have left it.
WORD, NEWLINE, FINAL_NEWLINE, OTHER, END = 1, 2, 4, 8, 16  # a word character, a newline, one that ends the text, …
ANYTHING, MASKS = 31, 32
NOT_WORD, LINE_END = ANYTHING - WORD, NEWLINE | FINAL_NEWLINE | END


def run(steps: Generator[Any, Any, Any]) -> Any:
    """What a generator returns that yields further such generators to be given what they return."""
    stack, returned = [steps], None
    while stack:
        try:
            stack.append(stack[-1].send(returned))
            returned = None
        except StopIteration as stop:
            stack.pop()
            returned = stop.value
    return returned


def compile_language(expression: lang.Language, most_states: int = LARGEST_DFA) -> CharDfa:
    """The minimal automaton of an expression. Raises `TooLarge` beyond the limits.

    The library takes `most_states` where that is more than its plain twin can.
    """
    dfa: CharDfa = run(_compiled(expression, most_states))
    return dfa


def _compiled(expression: lang.Language, most_states: int = LARGEST_DFA) -> Generator[Any, Any, CharDfa]:
    if (known := _latest.get(expression)) is not None:
        return known
    if isinstance(expression, lang.Repeat) and isinstance(expression.body, lang.Chars) and expression.most is not None:
        return _latest.put(expression, counter(expression.body.allowed, expression.least, expression.most))
    dfa = (yield _by_library(expression, most_states)) if automata.available() else None
    return _latest.put(expression, dfa or (yield _by_twin(expression)))


def _by_twin(expression: lang.Language) -> Generator[Any, Any, CharDfa]:
    builder = NfaBuilder()
    accept = builder.new_state()
    start = yield builder.build(expression, accept)
    return minimised(trimmed(builder.determinised(start, accept)))


def _by_library(expression: lang.Language, most_states: int = LARGEST_DFA) -> Generator[Any, Any, CharDfa | None]:
    """The same, or None for what the library does not take."""
    flattener = Flattener(_embedded)
    yield flattener.add(expression)
    if flattener.has_anchors:
        return None
    flat = flattener.flat()
    alphabet, atoms = flattener.alphabet()
    limits = NFA_STATES_OF_EACH * most_states, most_states, MOST_ENTRIES
    try:
        found = automata.minimal_automaton(flat, atoms, alphabet.num_atoms, limits)
    except automata.TooMany as error:
        raise TooLarge(TOO_MANY_ALTERNATIVES) if error.alternatives else too_many_states(most_states) from error
    return None if found is None else CharDfa(alphabet, *found)


def _embedded(node: lang.Language) -> Generator[Any, Any, CharDfa]:
    """The automaton that stands for a node in a larger one."""
    match node:
        case lang.Both(first, second):
            return intersection_of((yield _compiled(first)), (yield _compiled(second)))
        case lang.Without(first, second):
            return difference_of((yield _compiled(first)), (yield _compiled(second)))
        case lang.Quoted(content):
            return (yield _writable(content))
    assert isinstance(node, lang.Compiled), node
    return node.dfa


_latest: Recent[lang.Language, CharDfa] = Recent(128)


class NfaBuilder:
    def __init__(self) -> None:
        self.free_moves: list[list[tuple[str | None, int]]] = []  # (anchor or None, target)
        self.char_moves: list[list[tuple[CharSet, int]]] = []
        self.words: CharSet = ()  # what \b takes for word characters; () where no anchor asks
        self._built: dict[tuple[int, int], int] = {}
        self._alive: list[lang.Language] = []  # keeps ids unique while they serve as keys

    def new_state(self, *free_targets: int) -> int:
        self._refuse_above_limit(1)
        self.free_moves.append([(None, target) for target in free_targets])
        self.char_moves.append([])
        return len(self.free_moves) - 1

    def _refuse_above_limit(self, more: int) -> None:
        if len(self.free_moves) + more > LARGEST_NFA:
            raise TooLarge(TOO_MANY_ALTERNATIVES)

    def build(self, node: lang.Language, target: int) -> Steps:
        """The state from which exactly `node` leads to `target`."""
        key = (id(node), target)
        if key not in self._built:
            self._built[key] = yield self._build(node, target)
            self._alive.append(node)
        return self._built[key]

    def _build(self, node: lang.Language, target: int) -> Steps:
        match node:
            case lang.Chars(allowed):
                return self._char_state(allowed, target)
            case lang.Sequence(parts):
                for part in reversed(parts):
                    if isinstance(part, lang.Chars):
                        target = self._char(part, target)
                    else:
                        target = yield self.build(part, target)
                return target
            case lang.Either(options):
                entries = []
                for option in options:
                    entries.append((yield self.build(option, target)))
                return self.new_state(*entries)
            case lang.Repeat():
                return (yield self._repeat(node, target))
            case lang.Anchor(at, words):
                state = self.new_state()
                self._know_words(words)
                self.free_moves[state].append((at, target))
                return state
            case lang.Quoted(content) if (spelt := spelt_text(content)) is not None:
                return (yield self.build(spelt, target))
            case lang.Quoted():
                closing = self._char_state(chars('"'), target)
                inside = self._embed((yield _embedded(node)), closing, escaped_moves_of)
                return self._char_state(chars('"'), inside)
            case _:
                return self._embed((yield _embedded(node)), target, moves_of)

    def _char(self, node: lang.Chars, target: int) -> int:
        """`build` for one character, of which most sequences consist."""
        key = (id(node), target)
        if key not in self._built:
            self._built[key] = self._char_state(node.allowed, target)
            self._alive.append(node)
        return self._built[key]

    def _know_words(self, words: CharSet) -> None:
        if words and self.words not in ((), words):
            raise TooLarge("word boundaries of two kinds stand in one pattern: use one")
        self.words = words or self.words

    def _char_state(self, allowed: CharSet, target: int) -> int:
        state = self.new_state()
        self.char_moves[state].append((allowed, target))
        return state

    def _repeat(self, node: lang.Repeat, target: int) -> Steps:
        entry = target
        if node.most is None:
            entry = self.new_state(target)
            self.free_moves[entry].append((None, (yield self.build(node.body, entry))))
        else:
            self._refuse_above_limit(node.most)
            for _ in range(node.most - node.least):
                entry = self.new_state(target, (yield self.build(node.body, entry)))
        self._refuse_above_limit(node.least)
        for _ in range(node.least):
            entry = yield self.build(node.body, entry)
        return entry

    def _embed(self, dfa: CharDfa, target: int, moves_of: Callable[[CharDfa], Moves]) -> int:
        """The states of a finished automaton, its acceptance leading on to `target`."""
        states = [self.new_state(*([target] if accepts else [])) for accepts in dfa.accepting.tolist()]
        moves = moves_of(dfa)
        for state, following, which in zip(
            *map(np.ndarray.tolist, (moves.state, moves.target, moves.which)), strict=True
        ):
            allowed, end = moves.spellings[which], states[following]
            for part in reversed(allowed[1:]):
                end = self._char_state(part, end)
            self.char_moves[states[state]].append((allowed[0], end))
        return states[0]

    # -- subsets

    def determinised(self, start: int, accept: int) -> CharDfa:
        alphabet, moves = self._moves_by_atoms()
        kinds = self._kinds(alphabet)
        looks_back = bool(self.words) or any(anchor == "line start" for moves in self.free_moves for anchor, _ in moves)
        closures: dict[tuple[int, int], frozenset[int]] = {}

        anchored = any(anchor for moves in self.free_moves for anchor, _ in moves)
        free = [[target for _, target in moves] for moves in self.free_moves]

        def closure(thread: int, before: int) -> frozenset[int]:
            key = thread, before
            if key not in closures:
                if anchored:
                    closures[key] = self._closure(thread, before, at_start=False)
                else:
                    reached = _reached(free, thread // MASKS)
                    closures[key] = frozenset(s * MASKS + ANYTHING for s in reached if moves[s] or not free[s])
            return closures[key]

        first = self._closure(start * MASKS + ANYTHING, OTHER, at_start=True)
        number, order = {first: 0}, [first]
        numbers: dict[tuple[frozenset[int], int], int] = {}  # by the threads that lead there
        found: dict[int, tuple[list[int], list[int]]] = {}  # by atoms: states, and where these lead from them
        for state, subset in enumerate(order):  # grows while it is walked
            for atoms, threads in _disjoint(_moves(subset, moves, kinds)):
                for before, part in _by_kind(atoms, kinds) if looks_back else ((OTHER, atoms),):
                    if (threads, before) not in numbers:
                        following = frozenset().union(*(closure(thread, before) for thread in threads))
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

    def _moves_by_atoms(self) -> tuple[Alphabet, list[list[tuple[int, int]]]]:
        """The atoms that all moves are made of; of each state the atoms that it reads, and the threads they lead to."""
        by_identity = {id(allowed): allowed for moves in self.char_moves for allowed, _ in moves}  # hashing takes long
        distinct = list(dict.fromkeys(by_identity.values()))
        alphabet = alphabet_of([*distinct, chars("\n"), *([self.words] if self.words else [])])
        atoms_of = {allowed: _mask(alphabet.atoms_in(allowed)) for allowed in distinct}
        atoms_by_id = {key: atoms_of[allowed] for key, allowed in by_identity.items()}
        moves = [[(atoms_by_id[id(allowed)], target * MASKS) for allowed, target in row] for row in self.char_moves]
        return alphabet, moves

    def _kinds(self, alphabet: Alphabet) -> dict[int, int]:
        """For each kind that reading an atom counts as, the atoms."""
        words, newline = _mask(alphabet.atoms_in(self.words)), _mask(alphabet.atoms_in(chars("\n")))
        others = _mask(range(alphabet.num_atoms)) & ~words & ~newline
        return {WORD: words & ~newline, NEWLINE: newline, OTHER: others}

    def _closure(self, thread: int, before: int, at_start: bool) -> frozenset[int]:
        """All threads reached without reading, kept only where they read, accept or wait; `before` is the kind of the
        last character."""
        seen, pending = {thread}, [thread]
        while pending:
            state, mask = divmod(pending.pop(), MASKS)
            for anchor, target in self.free_moves[state]:
                left = mask if anchor is None else _left(anchor, mask, before, at_start)
                reached = target * MASKS + left
                if left and reached not in seen:
                    seen.add(reached)
                    pending.append(reached)
        return frozenset(t for t in seen if self.char_moves[t // MASKS] or not self.free_moves[t // MASKS])


def _reached(free: list[list[int]], state: int) -> set[int]:
    """The states reached without reading, where no anchor is in the way."""
    seen, pending = {state}, [state]
    while pending:
        for target in free[pending.pop()]:
            if target not in seen:
                seen.add(target)
                pending.append(target)
    return seen


def _mask(atoms: Iterable[int]) -> int:
    return sum(1 << atom for atom in atoms)


def _table_of(found: dict[int, tuple[list[int], list[int]]], states: int, atoms: int) -> np.ndarray:
    """Where each state goes with each atom [states, atoms], from what is known by sets of atoms."""
    table = np.full((states, atoms), DEAD, np.int32)
    for part, (sources, targets) in found.items():
        table[np.ix_(sources, _members(part))] = np.array(targets, np.int32)[:, None]
    return table


def _members(atoms: int) -> list[int]:
    return [atom for atom in range(atoms.bit_length()) if atoms >> atom & 1]


def _by_kind(atoms: int, kinds: dict[int, int]) -> Iterator[tuple[int, int]]:
    return ((kind, part) for kind, members in kinds.items() if (part := atoms & members))


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


def _writable(content: lang.Language) -> Generator[Any, Any, CharDfa]:
    """The string values to write: without rare control characters where values without them exist."""
    if (known := _latest_writable.get(content)) is not None:
        return known
    everything = yield _compiled(content)
    readable = restricted(everything, READABLE)
    return _latest_writable.put(content, everything if readable.is_empty else readable)


_latest_writable: Recent[lang.Language, CharDfa] = Recent(128)
