"""The automaton over tokens: which token may follow in which state, and where it leads.

Tokens that lead from every state to the same place are one *class*; all mathematics on the canvas runs over classes.
A token is allowed in a state exactly if its bytes lead the byte automaton to a state from which acceptance is still
reachable, so any split of the text into tokens is allowed, characters split over tokens included.

Measured at 262,144 tokens and a schema of twelve fields: 0.15 s here and 1.3 s once per tokenizer for its trie; an
index by outlines-core takes 4.2 s and knows no classes (bench/constraints.py, one core).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from diffusiongemma.control.languages.dfa import DEAD, CharDfa, TooLarge
from diffusiongemma.control.languages.minimal import UNREACHABLE, distances
from diffusiongemma.control.languages.utf8 import ByteDfa
from diffusiongemma.control.tokens.moves import MOST_EDGES, TELLS_APART, Rows, Walk, distinct_rows, moves_of_tokens
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.errors import InputError


class NotWritable(InputError):
    """A constraint that no text of this vocabulary's tokens meets."""


@dataclass(frozen=True, eq=False)
class TokenAutomaton:
    """States 0 .. S-1 (0 is the start), classes 0 .. K-1. Every state lies on a way from the start to acceptance.

    `done` is the absorbing state after an end token, in which only end tokens follow; it is accepting too.
    """

    accepting: np.ndarray  # [S] bool
    done: int
    class_of_token: np.ndarray  # [V] int32, -1 where the token is never allowed
    end_class: int
    source: np.ndarray  # [E] int32, edges sorted by (source, class)
    label: np.ndarray  # [E] int32, the class read
    target: np.ndarray  # [E] int32

    @property
    def num_states(self) -> int:
        return len(self.accepting)

    @cached_property
    def num_classes(self) -> int:
        return int(self.class_of_token.max(initial=-1)) + 1

    @cached_property
    def _edge_key(self) -> np.ndarray:
        return self.source * np.int64(self.num_classes) + self.label

    @cached_property
    def tokens_to_finish(self) -> np.ndarray:
        """[S] the fewest tokens from each state to acceptance, the end token not counted."""
        return distances(np.flatnonzero(self.accepting), self.target, self.source, self.num_states)

    def advance(self, state: int, token: int) -> int:
        """The state after `token`, or -1 if it is not allowed in `state`."""
        label = int(self.class_of_token[token])
        key = state * self.num_classes + label
        edge = int(np.searchsorted(self._edge_key, key))
        allowed = label != DEAD and edge < len(self._edge_key) and self._edge_key[edge] == key
        return int(self.target[edge]) if allowed else DEAD

    def run(self, tokens: Iterable[int], state: int = 0) -> int:
        """The state after all `tokens`, or -1 as soon as one is not allowed."""
        for token in tokens:
            state = self.advance(state, int(token))
            if state == DEAD:
                return DEAD
        return state


def compile_tokens(dfa: ByteDfa, vocabulary: Vocabulary, end_ids: Collection[int]) -> TokenAutomaton:
    """The automaton over the tokens of `vocabulary` that writes exactly the texts `dfa` accepts, then end tokens.

    `end_ids` finish an accepted text (and pad the rest of the canvas); they never stand for text. Raises `NotWritable`
    where this vocabulary can't write any accepted text, `TooLarge` where the tables outgrow memory.
    """
    byte, state = np.nonzero(dfa.next.T != DEAD)
    columns_of_bytes = Rows.of(byte, state, dfa.next[state, byte], 256)
    distinct, byte_class = distinct_rows(columns_of_bytes, dfa.num_states)
    table = np.full((dfa.num_states, distinct.count + 1), DEAD, np.int32)  # the last: bytes that nothing matches
    table[distinct.origin, distinct.row] = distinct.target
    columns = byte_class % table.shape[1]
    walk = Walk(vocabulary.trie, table, np.arange(256), columns, dfa.characters)
    return _compiled(walk, dfa.accepting, np.arange(dfa.num_states), len(vocabulary), end_ids)[0]


def compile_whole_characters(
    dfa: CharDfa, vocabulary: Vocabulary, end_ids: Collection[int], landing: np.ndarray
) -> tuple[TokenAutomaton, np.ndarray]:
    """The same for tokens of whole characters only, without the states inside them: for large automata.

    `landing` [states] gives the state to go on from after a token in place of the one it leads to, or -1 if it may not
    end there; it must accept no more (see `coarse`). With it come its states' numbers [states] in the result, or -1.
    """
    table = np.pad(dfa.next, ((0, 0), (0, 1)), constant_values=DEAD)  # the last column: characters that nothing matches
    columns = dfa.alphabet.atoms % table.shape[1]
    walk = Walk(vocabulary.trie_of_characters, table, dfa.alphabet.starts, columns, dfa)
    return _compiled(walk, dfa.accepting, landing, len(vocabulary), end_ids)


def _compiled(
    walk: Walk, accepting_states: np.ndarray, landing: np.ndarray, num_tokens: int, end_ids: Collection[int]
) -> tuple[TokenAutomaton, np.ndarray]:
    if not end_ids:
        raise InputError("a constraint needs at least one end token to close with: give end_ids")
    origins = np.unique(landing[landing != DEAD])
    moves, stretches = moves_of_tokens(walk, origins)
    used = stretches.used(moves.count, np.flatnonzero(np.isin(walk.trie.tokens, list(end_ids))))
    number, count = np.full(len(accepting_states) + 1, DEAD), moves.count
    number[origins] = np.arange(len(origins))
    landed = number[landing]  # origins counted anew
    moves = moves.chosen(used)
    moves = moves.leading_to(np.append(landed, DEAD)[moves.target])
    accepting = accepting_states[origins]
    live = _live_states(moves, accepting)
    if not live.any():
        raise NotWritable("this tokenizer can't write any text that matches the constraint")
    number = np.where(live, np.cumsum(live) - 1, DEAD)
    moves = moves.leading_to(np.where(live[moves.origin], number[moves.target], DEAD))
    classes, class_of_move = distinct_rows(moves, len(origins))
    class_of_used = np.full(count, DEAD)
    class_of_used[used] = class_of_move
    class_of_token = np.full(num_tokens, DEAD, np.int32)
    class_of_token[walk.trie.tokens] = stretches.painted(class_of_used, len(walk.trie.tokens))
    classes = Rows(classes.first, number[classes.origin].astype(np.int32), classes.target)
    automaton = _with_end_tokens(accepting[live], classes, class_of_token, sorted(end_ids))
    return automaton, np.append(number, DEAD)[landed].astype(np.int32)


def _live_states(moves: Rows, accepting: np.ndarray) -> np.ndarray:
    """[S] which states lie on a way from state 0 to acceptance."""
    states = len(accepting)
    reached = distances(np.zeros(1, np.int64), moves.origin, moves.target, states) < UNREACHABLE
    finishes = distances(np.flatnonzero(accepting), moves.target, moves.origin, states) < UNREACHABLE
    return reached & finishes


def _with_end_tokens(
    accepting: np.ndarray, classes: Rows, class_of_token: np.ndarray, end_ids: list[int]
) -> TokenAutomaton:
    """The automaton of these classes, with the end state."""
    done, end_class = len(accepting), classes.count
    if len(classes.target) > MOST_EDGES:
        raise TooLarge(TELLS_APART)
    closing = np.append(np.flatnonzero(accepting), done)
    ends = Rows.of(np.zeros_like(closing), closing, np.full_like(closing, done), 1)
    class_of_token[end_ids] = end_class
    source, label, target = classes.followed_by(ends).by_origin(done + 1)
    return TokenAutomaton(
        accepting=np.append(accepting, True),
        done=done,
        class_of_token=class_of_token,
        end_class=end_class,
        source=source,
        label=label,
        target=target,
    )
