"""Expressions as arrays, for the kernels' library: each node once, children before parents."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.charset import CharSet, chars
from diffusiongemma.control.languages.dfa import Alphabet, CharDfa, alphabet_of
from diffusiongemma.control.languages.spelling import Moves, escaped_moves_of, moves_of, spelt_text
from diffusiongemma.kernels.automata import CHARS, EITHER, EMBEDDED, REPEAT, SEQUENCE, FlatExpression

Steps = Generator[Any, Any, Any]  # see `compiler.run`
QUOTE = chars('"')


class Flattener:
    """`automaton_of` gives the steps that find the automaton of a Both, a Without, or what a Quoted holds."""

    def __init__(self, automaton_of: Callable[[lang.Language], Steps]) -> None:
        self._automaton_of = automaton_of
        self._number: dict[int, int] = {}  # of nodes, by id
        self._alive: list[lang.Language] = []  # keeps ids unique
        self._sets: dict[CharSet, int] = {}
        self._set_by_id: dict[int, int] = {}  # hashing takes long
        self._kind: list[int] = []
        self._value: list[int] = []
        self._most: list[int] = []
        self._first_child, self._children = [0], list[int]()
        self._blocks: list[tuple[CharDfa, Moves]] = []
        self.has_anchors = False  # which the library does not know

    def add(self, expression: lang.Language) -> Steps:
        """The node and all below it, whose numbers come before."""
        pending = [expression]
        while pending and not self.has_anchors:
            node = pending[-1]
            if id(node) in self._number:
                pending.pop()
                continue
            children = _children(node)
            missing = [child for child in children if id(child) not in self._number]
            if missing:
                pending += reversed(missing)
                continue
            pending.pop()
            numbers = [self._number[id(child)] for child in children]
            if not self._has_added(node, numbers):
                yield from self._embed(node)

    def _has_added(self, node: lang.Language, children: list[int]) -> bool:
        """A node that needs no automaton of others."""
        match node:
            case lang.Sequence():
                self._append(node, SEQUENCE, children)
            case lang.Chars(allowed):
                self._append(node, CHARS, value=self._set(allowed))
            case lang.Either():
                self._append(node, EITHER, children)
            case lang.Repeat(_, least, most):
                self._append(node, REPEAT, children, least, -1 if most is None else most)
            case lang.Quoted() if children:
                self._append(node, SEQUENCE, children)
            case lang.Anchor():
                self.has_anchors = True
            case _:
                return False
        return True

    def _embed(self, node: lang.Language) -> Steps:
        dfa = yield self._automaton_of(node)
        if isinstance(node, lang.Quoted):
            inside = self._block(dfa, escaped_moves_of)
            quote = self._append(None, CHARS, value=self._set(QUOTE))
            self._append(node, SEQUENCE, [quote, self._append(None, EMBEDDED, value=inside), quote])
        else:
            self._append(node, EMBEDDED, value=self._block(dfa, moves_of))

    def _append(
        self, node: lang.Language | None, kind: int, children: Sequence[int] = (), value: int = 0, most: int = -1
    ) -> int:
        number = len(self._kind)
        self._kind.append(kind)
        self._value.append(value)
        self._most.append(most)
        self._children += children
        self._first_child.append(len(self._children))
        if node is not None:
            self._number[id(node)] = number
            self._alive.append(node)
        return number

    def _set(self, allowed: CharSet) -> int:
        key = id(allowed)
        if key not in self._set_by_id:
            self._set_by_id[key] = self._sets.setdefault(allowed, len(self._sets))
        return self._set_by_id[key]

    def _block(self, dfa: CharDfa, moves: Callable[[CharDfa], Moves]) -> int:
        self._blocks.append((dfa, moves(dfa)))
        return len(self._blocks) - 1

    def flat(self) -> FlatExpression:
        moves = [moves for _, moves in self._blocks]
        lengths, spelt = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for block in moves:
            sets = [[self._set(allowed) for allowed in spelling] for spelling in block.spellings]
            of_each, width = np.array([len(s) for s in sets], np.int64), max(map(len, sets), default=0)
            padded = np.array([s + [-1] * (width - len(s)) for s in sets], np.int64).reshape(len(sets), width)
            lengths.append(of_each[block.which])
            spelt.append(padded[block.which][np.arange(width) < of_each[block.which][:, None]])
        return FlatExpression(
            kind=self._kind,
            first_child=self._first_child,
            children=self._children,
            value=self._value,
            most=self._most,
            first_state=np.cumsum([0, *(dfa.num_states for dfa, _ in self._blocks)]),
            accepts=_joined([dfa.accepting for dfa, _ in self._blocks]),
            first_move=np.cumsum([0, *(len(block.state) for block in moves)]),
            move_state=_joined([block.state for block in moves]),
            move_next=_joined([block.target for block in moves]),
            first_spelt=np.append(0, np.cumsum(_joined(lengths))),
            spelt=_joined(spelt),
        )

    def alphabet(self) -> tuple[Alphabet, list[list[int]]]:
        """The atoms that all sets are made of, and those of each set."""
        alphabet = alphabet_of([*self._sets, chars("\n")])
        return alphabet, [alphabet.atoms_in(allowed) for allowed in self._sets]


def _children(node: lang.Language) -> tuple[lang.Language, ...]:
    match node:
        case lang.Sequence(parts):
            return parts
        case lang.Either(options):
            return options
        case lang.Repeat(body):
            return (body,)
        case lang.Quoted(content):
            return () if (spelt := spelt_text(content)) is None else (spelt,)
    return ()


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
