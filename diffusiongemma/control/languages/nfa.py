"""From a language expression to its minimal automaton: Thompson's construction, then subsets.

Fragments are built backwards, from the state they continue to, and remembered by (node, continuation): an expression
whose subtrees are shared becomes an automaton whose states are shared, so `n` optional properties or all orders of a
few keys cost what their distinct situations cost, not what their written-out alternatives would.

Expressions nest as deeply as objects have properties, beyond Python's usual limit of 1000 calls, so what recurs is
written as generators that `run` keeps on a stack of its own.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.charset import CharSet, chars, complement, difference, intersection, union
from diffusiongemma.control.languages.dfa import (
    DEAD,
    CharDfa,
    TooLarge,
    alphabet_of,
    difference_of,
    intersection_of,
    minimised,
    refuse_above_limit,
    trimmed,
)
from diffusiongemma.control.recent import Recent

LARGEST_NFA = 150_000
Steps = Generator[Any, Any, int]  # yields the steps of others, is sent what they return

# How a JSON string spells the characters it may not hold as they are (RFC 8259, section 7), one spelling each.
CONTROL = ((0, 0x1F),)
SHORT_ESCAPES = {'"': '"', "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
LONG_ESCAPES = {chr(c): f"u{c:04x}" for c in range(0x20) if chr(c) not in SHORT_ESCAPES}
PLAIN = complement(union(CONTROL, chars('"\\')))

# A thread of the automaton is `state * 3 + mode`; the anchors `$` and `\Z` restrict what may still follow.
ANYTHING, FINAL_NEWLINE, NOTHING = 0, 1, 2
AFTER_ANCHOR = {
    ("end", ANYTHING): (NOTHING,),
    ("end", NOTHING): (NOTHING,),
    ("end or final newline", ANYTHING): (FINAL_NEWLINE, NOTHING),
    ("end or final newline", FINAL_NEWLINE): (FINAL_NEWLINE,),
    ("end or final newline", NOTHING): (NOTHING,),
}


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


def compile_language(expression: lang.Language) -> CharDfa:
    """The minimal automaton of an expression. Raises `TooLarge` beyond the limits."""
    dfa: CharDfa = run(_compiled(expression))
    return dfa


def _compiled(expression: lang.Language) -> Generator[Any, Any, CharDfa]:
    if (known := _latest.get(expression)) is not None:
        return known
    builder = NfaBuilder()
    accept = builder.new_state()
    start = yield builder.build(expression, accept)
    return _latest.put(expression, minimised(trimmed(builder.determinised(start, accept))))


_latest: Recent[lang.Language, CharDfa] = Recent(128)


class NfaBuilder:
    def __init__(self) -> None:
        self.free_moves: list[list[tuple[str | None, int]]] = []  # (anchor or None, target)
        self.char_moves: list[list[tuple[CharSet, int]]] = []
        self._built: dict[tuple[int, int], int] = {}
        self._alive: list[lang.Language] = []  # keeps ids unique while they serve as keys

    def new_state(self, *free_targets: int) -> int:
        if len(self.free_moves) >= LARGEST_NFA:
            raise TooLarge("this constraint has too many alternatives or repetitions to compile: simplify it")
        self.free_moves.append([(None, target) for target in free_targets])
        self.char_moves.append([])
        return len(self.free_moves) - 1

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
                    target = yield self.build(part, target)
                return target
            case lang.Either(options):
                entries = []
                for option in options:
                    entries.append((yield self.build(option, target)))
                return self.new_state(*entries)
            case lang.Repeat():
                return (yield self._repeat(node, target))
            case lang.Anchor(at):
                state = self.new_state()
                self.free_moves[state].append((at, target))
                return state
            case lang.Both(first, second):
                both = intersection_of((yield _compiled(first)), (yield _compiled(second)))
                return self._embed(both, target)
            case lang.Without(first, second):
                without = difference_of((yield _compiled(first)), (yield _compiled(second)))
                return self._embed(without, target)
            case lang.Compiled(dfa):
                return self._embed(dfa, target)
            case lang.Quoted(content):
                closing = self._char_state(chars('"'), target)
                return self._char_state(chars('"'), self._embed(writable(content), closing, escaped=True))

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
            for _ in range(node.most - node.least):
                entry = self.new_state(target, (yield self.build(node.body, entry)))
        for _ in range(node.least):
            entry = yield self.build(node.body, entry)
        return entry

    def _embed(self, dfa: CharDfa, target: int, escaped: bool = False) -> int:
        """The states of a finished automaton, its acceptance leading on to `target`."""
        states = [self.new_state(*([target] if accepts else [])) for accepts in dfa.accepting]
        for state, row in zip(states, dfa.next, strict=True):
            for following in np.unique(row[row != DEAD]).tolist():
                allowed = dfa.alphabet.chars_of(np.flatnonzero(row == following))
                move = self._add_escaped if escaped else self._add_move
                move(state, allowed, states[following])
        return states[0]

    def _add_move(self, state: int, allowed: CharSet, target: int) -> None:
        self.char_moves[state].append((allowed, target))

    def _add_escaped(self, state: int, allowed: CharSet, target: int) -> None:
        if plain := intersection(allowed, PLAIN):
            self._add_move(state, plain, target)
        special = [chr(c) for low, high in difference(allowed, PLAIN) for c in range(low, high + 1)]
        if short := [SHORT_ESCAPES[c] for c in special if c in SHORT_ESCAPES]:
            self._add_move(state, chars("\\"), self._char_state(chars("".join(short)), target))
        for long in (LONG_ESCAPES[c] for c in special if c in LONG_ESCAPES):
            self._add_move(state, chars("\\"), run(self.build(lang.literal(long), target)))

    # -- subsets

    def determinised(self, start: int, accept: int) -> CharDfa:
        distinct = list(dict.fromkeys(s for moves in self.char_moves for s, _ in moves))
        alphabet = alphabet_of([*distinct, chars("\n")])
        atoms_of = {s: alphabet.atoms_in(s) for s in distinct}
        newline = alphabet.atoms_in(chars("\n"))[0]
        closures: dict[int, frozenset[int]] = {}

        def closure(thread: int) -> frozenset[int]:
            if thread not in closures:
                closures[thread] = self._closure([thread], at_start=False)
            return closures[thread]

        first = self._closure([start * 3 + ANYTHING], at_start=True)
        number, order, rows = {first: 0}, [first], []
        for subset in order:  # grows while it is walked
            row = [DEAD] * alphabet.num_atoms
            for atom, targets in self._moves(subset, atoms_of, newline).items():
                following = frozenset().union(*(closure(t) for t in targets))
                if following not in number:
                    number[following] = len(order)
                    order.append(following)
                    refuse_above_limit(len(order))
                row[atom] = number[following]
            rows.append(row)
        final = {accept * 3 + ANYTHING, accept * 3 + NOTHING}
        accepting = np.array([not final.isdisjoint(subset) for subset in order])
        return CharDfa(alphabet, np.array(rows).reshape(len(order), -1), accepting)

    def _moves(
        self, subset: Iterable[int], atoms_of: dict[CharSet, list[int]], newline: int
    ) -> dict[int, tuple[int, ...]]:
        """For each atom that can be read here, the threads it leads to (before free moves)."""
        by_set: dict[CharSet, set[int]] = {}
        after_newline = set()
        for thread in subset:
            state, mode = divmod(thread, 3)
            for allowed, target in self.char_moves[state]:
                if mode == ANYTHING:
                    by_set.setdefault(allowed, set()).add(target * 3 + ANYTHING)
                elif mode == FINAL_NEWLINE and newline in atoms_of[allowed]:
                    after_newline.add(target * 3 + NOTHING)
        moves: dict[int, set[int]] = {}
        for allowed, targets in by_set.items():
            for atom in atoms_of[allowed]:
                moves[atom] = moves[atom] | targets if atom in moves else targets
        if after_newline:
            moves[newline] = moves.get(newline, set()) | after_newline
        return {atom: tuple(targets) for atom, targets in moves.items()}

    def _closure(self, threads: list[int], at_start: bool) -> frozenset[int]:
        """All threads reached without reading, kept only where they read, accept or wait."""
        seen = set(threads)
        pending = list(threads)
        while pending:
            state, mode = divmod(pending.pop(), 3)
            for anchor, target in self.free_moves[state]:
                if anchor is None or (anchor == "start" and at_start):
                    modes: tuple[int, ...] = (mode,)
                else:
                    modes = AFTER_ANCHOR.get((anchor, mode), ())
                for reached in (target * 3 + m for m in modes):
                    if reached not in seen:
                        seen.add(reached)
                        pending.append(reached)
        return frozenset(t for t in seen if self.char_moves[t // 3] or not self.free_moves[t // 3])


@lru_cache(maxsize=128)
def writable(content: lang.Language) -> CharDfa:
    """The string values to write: without rare control characters where values without them exist."""
    everything = compile_language(content)
    readable = intersection_of(everything, compile_language(READABLE_TEXT))
    return everything if readable.is_empty else readable


READABLE_TEXT = lang.repeat(lang.Chars(union(complement(CONTROL), chars("\n\r\t"))))
