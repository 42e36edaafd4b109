"""Thompson's construction: an automaton that may move without reading, for a language expression.

Fragments are built backwards, from the state they continue to, and remembered by (node, continuation): an expression
whose subtrees are shared becomes an automaton whose states are shared, so `n` optional properties or all orders of a
few keys cost what their distinct situations cost, not what their written-out alternatives would.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.charset import CharSet, chars
from diffusiongemma.control.languages.dfa import CharDfa, TooLarge
from diffusiongemma.control.languages.spelling import Moves, escaped_moves_of, moves_of, spelt_text

LARGEST_NFA = 150_000
TOO_MANY_ALTERNATIVES = "this constraint has too many alternatives or repetitions to compile: simplify it"
Steps = Generator[Any, Any, Any]  # yields the steps of others, is sent what they return: see `compiler.run`


class NfaBuilder:
    """`automaton_of` gives the steps that find the automaton of a Both, a Without, or what a Quoted holds."""

    def __init__(self, automaton_of: Callable[[lang.Language], Steps]) -> None:
        self._automaton_of = automaton_of
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
                inside = self._embed((yield self._automaton_of(node)), closing, escaped_moves_of)
                return self._char_state(chars('"'), inside)
            case _:
                return self._embed((yield self._automaton_of(node)), target, moves_of)

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
