"""
The automaton over tokens: which token may follow in which state, and where it leads.

Tokens that lead from every state to the same place are one *class*; all mathematics on the canvas runs over classes.
A token is allowed in a state exactly if its bytes lead the byte automaton to a state from which acceptance is still
reachable, so any split of the text into tokens is allowed, characters split over tokens included.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from diffusiongemma.control.dfa import DEAD, TooLarge
from diffusiongemma.control.utf8 import ByteDfa
from diffusiongemma.control.vocabulary import TokenTrie, Vocabulary
from diffusiongemma.errors import InputError

LARGEST_PRODUCT = 60_000_000  # (state, trie node) pairs visited; about 10 s and 3 GB
NO_FINISH = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class TokenAutomaton:
    """
    States 0 .. S-1 (0 is the start), classes 0 .. K-1. Every state lies on a way from the start to acceptance.

    `done` is the absorbing state after an end token, in which only end tokens follow; it is accepting too.
    """

    accepting: np.ndarray  # [S] bool
    done: int
    class_of_token: np.ndarray  # [V] int64, -1 where the token is never allowed
    end_class: int
    source: np.ndarray  # [E] int64, edges sorted by (source, class)
    label: np.ndarray  # [E] int64, the class read
    target: np.ndarray  # [E] int64

    @property
    def num_states(self) -> int:
        return len(self.accepting)

    @cached_property
    def num_classes(self) -> int:
        return int(self.class_of_token.max(initial=-1)) + 1

    @cached_property
    def _edge_key(self) -> np.ndarray:
        return self.source * self.num_classes + self.label

    @cached_property
    def tokens_to_finish(self) -> np.ndarray:
        """[S] the fewest tokens from each state to acceptance, the end token not counted."""
        return _distances(np.flatnonzero(self.accepting), self.target, self.source, self.num_states)

    def advance(self, state: int, token: int) -> int:
        """The state after `token`, or -1 if it is not allowed in `state`."""
        label = self.class_of_token[token]
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

    def allowed_tokens(self, state: int) -> np.ndarray:
        """The ids allowed in `state`, ascending."""
        classes = self.label[self.source == state]
        return np.flatnonzero(np.isin(self.class_of_token, classes))


def compile_tokens(
    dfa: ByteDfa, vocabulary: Vocabulary, end_ids: Collection[int], neutral_ids: Collection[int] = ()
) -> TokenAutomaton:
    """
    The automaton over the tokens of `vocabulary` that writes exactly the texts `dfa` accepts, then end tokens.

    `end_ids` finish an accepted text (and pad the rest of the canvas); they never stand for text. `neutral_ids` write
    nothing and may appear anywhere before the end. Raises `InputError` where this vocabulary can't write any accepted
    text, `TooLarge` where the product outgrows memory.
    """
    if not end_ids:
        raise InputError("a constraint needs at least one end token to close with: give end_ids")
    source, group, target, group_of_token = _token_edges(dfa, vocabulary)
    group_of_token[list({*end_ids, *neutral_ids})] = DEAD
    num_groups = int(max(group_of_token.max(initial=0), group.max(initial=0))) + 1
    used = np.bincount(group_of_token[group_of_token != DEAD], minlength=num_groups) > 0
    keep = used[group] & _live_edges(source, target, dfa.accepting)
    source, group, target = source[keep], group[keep], target[keep]
    live = np.union1d(np.append(source, 0), target)
    if not dfa.accepting[live].any():
        raise InputError("this tokenizer can't write any text that matches the constraint")
    class_of_group, first_edge = _merge_groups(source, group, target, num_groups)
    class_of_token = np.where(group_of_token == DEAD, DEAD, class_of_group[group_of_token])
    number = np.full(dfa.num_states, DEAD)
    number[live] = np.arange(len(live))
    return _with_special_tokens(
        dfa.accepting[live],
        class_of_token,
        (number[source[first_edge]], class_of_group[group[first_edge]], number[target[first_edge]]),
        sorted(end_ids),
        sorted(neutral_ids),
    )


def _token_edges(dfa: ByteDfa, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Edges (state, token group, state) and the group of each token; tokens of a group look alike to this automaton."""
    _, columns, byte_class = np.unique(dfa.next, axis=1, return_index=True, return_inverse=True)
    byte_class = byte_class.reshape(-1)  # NumPy 2.0 returned it as a column
    table = dfa.next[:, columns]  # [S, byte classes]
    usable = (table != DEAD).any(0)
    trie, group_of_node = _quotient(vocabulary.trie, byte_class, usable)
    group_of_token = np.full(len(vocabulary), DEAD)
    node_of_token = np.repeat(np.arange(len(vocabulary.trie.byte)), np.diff(vocabulary.trie.first_token))
    group_of_token[vocabulary.trie.tokens] = group_of_node[node_of_token]
    writes = np.zeros(len(trie.byte), bool)
    writes[group_of_token[group_of_token != DEAD]] = True
    return (*_walk(table, trie, writes), group_of_token)


def _quotient(trie: TokenTrie, byte_class: np.ndarray, usable: np.ndarray) -> tuple[TokenTrie, np.ndarray]:
    """
    The trie with bytes that the automaton can't tell apart merged, and the merged node of each node (-1: unusable).

    Most of a large vocabulary is text that a JSON schema, say, treats alike: the product shrinks some tenfold.
    """
    merged = np.full(len(trie.byte), DEAD)
    merged[0] = 0
    parent = np.repeat(np.arange(len(trie.byte)), np.diff(trie.first_child))  # of nodes 1, 2, …
    level_start, parents, classes = [0, 1], [], [np.zeros(1, np.int64)]
    for begin, end in zip(trie.level_start[1:-1], trie.level_start[2:], strict=True):
        nodes = np.arange(begin, end)
        above, read = merged[parent[nodes - 1]], byte_class[trie.byte[nodes]]
        nodes_kept = (above != DEAD) & usable[read]
        key = above[nodes_kept] * len(usable) + read[nodes_kept]
        distinct, number = np.unique(key, return_inverse=True)
        merged[nodes[nodes_kept]] = level_start[-1] + number
        parents.append(distinct // len(usable))
        classes.append(distinct % len(usable))
        level_start.append(level_start[-1] + len(distinct))
    count = level_start[-1]
    first_child = 1 + np.searchsorted(np.concatenate([*parents, np.zeros(0, np.int64)]), np.arange(count + 1))
    none = np.zeros(count + 1, np.int64)
    return TokenTrie(first_child, np.concatenate(classes), none, none[:0], np.array(level_start)), merged


def _walk(table: np.ndarray, trie: TokenTrie, writes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All (state, node, state reached) with a token ending at the node, walking every state down the trie at once."""
    origin = np.arange(len(table))
    current, node = origin, np.zeros(len(table), np.int64)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    visited = 0
    while len(node):
        fan = trie.first_child[node + 1] - trie.first_child[node]
        visited += int(fan.sum())
        if visited > LARGEST_PRODUCT:
            raise TooLarge("this constraint allows too much in too many places for this vocabulary: simplify it")
        parent = np.repeat(np.arange(len(node)), fan)
        child = np.arange(len(parent)) - np.repeat(np.cumsum(fan) - fan, fan) + trie.first_child[node][parent]
        reached = table[current[parent], trie.byte[child]]
        alive = np.flatnonzero(reached != DEAD)
        origin, current, node = origin[parent[alive]], reached[alive], child[alive]
        ends = writes[node]
        found.append((origin[ends], node[ends], current[ends]))
    source, group, target = (np.concatenate(part).astype(np.int64) for part in zip(*found, strict=True))
    return source, group, target


def _live_edges(source: np.ndarray, target: np.ndarray, accepting: np.ndarray) -> np.ndarray:
    """[E] which edges lie on a way from state 0 to acceptance."""
    pairs = np.zeros((len(accepting), len(accepting)), bool)
    pairs[source, target] = True
    s, t = np.nonzero(pairs)
    reached = _distances(np.zeros(1, np.int64), s, t, len(accepting)) < NO_FINISH
    finishes = _distances(np.flatnonzero(accepting), t, s, len(accepting)) < NO_FINISH
    return reached[source] & finishes[target]


def _distances(starts: np.ndarray, source: np.ndarray, target: np.ndarray, num_states: int) -> np.ndarray:
    """[S] the fewest edges from any of `starts`, NO_FINISH where there is no way."""
    distance = np.full(num_states, NO_FINISH, np.int64)
    distance[starts] = 0
    steps, frontier = 0, np.isin(np.arange(num_states), starts)
    while frontier.any():
        steps += 1
        reached = np.zeros(num_states, bool)
        reached[target[frontier[source]]] = True
        frontier = reached & (distance == NO_FINISH)
        distance[frontier] = steps
    return distance


def _merge_groups(
    source: np.ndarray, group: np.ndarray, target: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The class of each of `count` groups (-1: no edges) and the edges of one representative group per class."""
    hashes = np.zeros((2, count), np.uint64)  # 128 bits: sums over a group's edges of a mixed (source, target)
    for row, seed in zip(hashes, (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F), strict=True):
        np.add.at(row, group, _mixed(source * (int(target.max(initial=0)) + 1) + target, seed))
    has_edges = np.flatnonzero(np.bincount(group, minlength=count))
    order = np.lexsort(hashes[:, has_edges])
    sorted_hashes = hashes[:, has_edges[order]]
    new = np.append(True, (sorted_hashes[:, 1:] != sorted_hashes[:, :-1]).any(0))[: len(order)]
    class_of_group = np.full(count, DEAD)
    class_of_group[has_edges[order]] = np.cumsum(new) - 1
    representative = np.zeros(count, bool)
    representative[has_edges[order[new]]] = True
    return class_of_group, np.flatnonzero(representative[group])


def _mixed(numbers: np.ndarray, seed: int) -> np.ndarray:
    """A 64-bit mix of each number (the finaliser of SplitMix64)."""
    x = numbers.astype(np.uint64) + np.uint64(seed)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _with_special_tokens(
    accepting: np.ndarray,
    class_of_token: np.ndarray,
    edges: tuple[np.ndarray, np.ndarray, np.ndarray],
    end_ids: list[int],
    neutral_ids: list[int],
) -> TokenAutomaton:
    done, states = len(accepting), np.arange(len(accepting))
    end_class = int(class_of_token.max(initial=-1)) + 1
    class_of_token[end_ids] = end_class
    closing = np.append(np.flatnonzero(accepting), done)
    source, label, target = (list(part) for part in ([edges[0], closing], [edges[1]], [edges[2]]))
    label.append(np.full(len(closing), end_class))
    target.append(np.full(len(closing), done))
    if neutral_ids:
        class_of_token[neutral_ids] = end_class + 1
        source.append(states)
        label.append(np.full(done, end_class + 1))
        target.append(states)
    all_source, all_label, all_target = (np.concatenate(part) for part in (source, label, target))
    order = np.lexsort((all_label, all_source))
    return TokenAutomaton(
        accepting=np.append(accepting, True),
        done=done,
        class_of_token=class_of_token,
        end_class=end_class,
        source=all_source[order],
        label=all_label[order],
        target=all_target[order],
    )
