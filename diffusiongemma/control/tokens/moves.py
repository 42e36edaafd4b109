"""Where every token leads from every state: the trie is walked once, and only where tokens differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from diffusiongemma.control.languages.dfa import DEAD, Alphabet, CharDfa, TooLarge
from diffusiongemma.control.tokens.trie import KIND_STARTS, KINDS, NUM_KINDS, TokenTrie

LARGEST_TABLE = 100_000_000  # entries (distinct move, state) of 4 bytes each
MOST_EDGES = 1_500_000
MOST_LEADING = 2 * MOST_EDGES  # entries of the table that lead anywhere: some moves will share a class
TELLS_APART = "this constraint tells too many tokens apart in too many places: simplify it"
ALL_KINDS = np.uint64((1 << NUM_KINDS) - 1)


@dataclass(frozen=True, eq=False)
class Walk:
    """What it takes to follow all tokens through an automaton over symbols."""

    trie: TokenTrie
    table: np.ndarray  # [S, columns] the state after a symbol of each column
    columns: Callable[[np.ndarray], np.ndarray]  # those of symbols
    characters: CharDfa | None  # the same over characters: its states come first, others are inside characters

    @cached_property
    def idle(self) -> np.ndarray:
        """[S + 1] uint64: bit k where no character of kind k leads away from the state; from -1, none does."""
        idle, dfa = np.zeros(len(self.table) + 1, np.uint64), self.characters
        idle[-1] = ALL_KINDS
        if dfa is None:
            return idle
        states = dfa.num_states
        moves_away = dfa.next != np.arange(states)[:, None]
        moves_away = np.pad(moves_away, ((0, 0), (0, 1)), constant_values=True)  # characters that nothing matches
        away = moves_away.astype(np.float32) @ _kinds_of_atoms(dfa.alphabet)  # [S, kinds]
        bits = (away == 0).astype(np.uint64) << np.arange(NUM_KINDS, dtype=np.uint64)
        idle[:states] = np.bitwise_or.reduce(bits, axis=1)
        return idle


def _kinds_of_atoms(alphabet: Alphabet) -> np.ndarray:
    """[atoms + 1, kinds] float32 1 where the atom has characters of the kind; the last row is of other characters."""
    starts = np.union1d(alphabet.starts, KIND_STARTS)
    atom = alphabet.atoms[np.searchsorted(alphabet.starts, starts, side="right") - 1]
    kind = KINDS[np.searchsorted(KIND_STARTS, starts, side="right") - 1]
    characters = (starts < 0xD800) | (starts >= 0xE000)
    table = np.zeros((alphabet.num_atoms + 1, NUM_KINDS), np.float32)
    table[atom[characters], kind[characters]] = 1
    return table


@dataclass(frozen=True, eq=False)
class Stretches:
    """Which tokens have which move: tokens[low .. high - 1] of the trie have one, stretch by stretch in order; what
    lies between stretches has none."""

    low: np.ndarray  # [n]
    high: np.ndarray  # [n] above low
    move: np.ndarray  # [n]

    @classmethod
    def of(cls, low: np.ndarray, high: np.ndarray, move: np.ndarray) -> Stretches:
        """From stretches in any order, empty ones among them, which do not overlap."""
        kept = np.flatnonzero(high > low)
        order = kept[np.argsort(low[kept])]
        return cls(low[order], high[order], move[order])

    def used(self, count: int, but: np.ndarray) -> np.ndarray:
        """Which of the moves 0 .. count - 1 any token has, those at some places [k] not counted."""
        tokens = np.bincount(self.move, weights=self.high - self.low, minlength=count)
        if len(self.low):
            stretch = np.searchsorted(self.low, but, side="right") - 1
            within = (stretch >= 0) & (but < self.high[stretch])
            tokens -= np.bincount(self.move[stretch[within]], minlength=count)
        return np.flatnonzero(tokens > 0)

    def painted(self, value_of_move: np.ndarray, length: int) -> np.ndarray:
        """[length] int32 the value of each token's move, in the order of the trie; DEAD for those without one."""
        values, counts = np.full(2 * len(self.low) + 1, DEAD, np.int32), np.empty(2 * len(self.low) + 1, np.int64)
        values[1::2] = value_of_move[self.move]
        counts[0::2] = np.append(self.low, length) - np.append(0, self.high)
        counts[1::2] = self.high - self.low
        return np.repeat(values, counts)


def moves_of_tokens(walk: Walk, origins: np.ndarray) -> tuple[np.ndarray, Stretches]:
    """The distinct moves [M, origins] of strings of symbols (where each leads from every origin), and who has which.

    The move of a trie node is its parent's followed by one symbol. However large the vocabulary, few moves differ, so
    each is computed once, and nodes below which nothing changes it are passed over with all their tokens.
    """
    trie, width = walk.trie, walk.table.shape[1]
    table = np.pad(walk.table, ((0, 1), (0, 0)), constant_values=DEAD)  # last row: from nowhere to nowhere
    moves = MoveTable(origins, walk.idle)
    nodes, numbers = np.zeros(1, np.int64), np.zeros(1, np.int64)
    low, high, move = [], [], []
    while len(nodes):
        same = (trie.below[nodes] & ~moves.idle[numbers]) == 0
        low.append(trie.low[nodes])
        high.append(np.where(same, trie.high[nodes], trie.middle[nodes]))
        move.append(numbers)
        parents, numbers = nodes[~same], numbers[~same]
        first, count = trie.first_child[parents], trie.first_child[parents + 1] - trie.first_child[parents]
        nodes = np.arange(count.sum()) + np.repeat(first - np.cumsum(count) + count, count)
        key = np.repeat(numbers, count) * width + walk.columns(trie.symbol[nodes])
        distinct, which = _number(key, moves.count * width)
        reached = table[moves.rows[distinct // width], (distinct % width)[:, None]]
        numbers = moves.add(reached)[which]
        nodes, numbers = nodes[numbers != DEAD], numbers[numbers != DEAD]
    return moves.rows, Stretches.of(np.concatenate(low), np.concatenate(high), np.concatenate(move))


def _number(keys: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct keys (all below `limit`), and which of them each key is."""
    present = np.zeros(limit, bool)
    present[keys] = True
    distinct = np.flatnonzero(present)
    number = np.cumsum(present) - 1
    return distinct, number[keys]


class MoveTable:
    """Distinct moves, found again by a 64-bit hash of where they lead."""

    def __init__(self, origins: np.ndarray, idle: np.ndarray | None = None) -> None:
        self.rows = origins[None].astype(np.int32)  # move 0: the empty string
        self._idle_in = idle
        self.idle = self._idle_after(self.rows)  # [M] the kinds of characters that change nothing after a move
        self._key = np.random.default_rng(0).integers(0, 2**64, size=len(origins), dtype=np.uint64) | np.uint64(1)
        self._found: dict[int, int] = {}
        self._leading = 0

    @property
    def count(self) -> int:
        return len(self.rows)

    def add(self, moves: np.ndarray) -> np.ndarray:
        """The numbers of these moves [n, origins], new ones added; DEAD for those that lead nowhere."""
        hashes = ((moves.astype(np.uint64) + np.uint64(2)) * self._key).sum(1)
        leads = (moves != DEAD).any(1)
        numbers = np.full(len(moves), DEAD)
        fresh: list[int] = []
        for i in np.flatnonzero(leads).tolist():
            number = self._found.setdefault(int(hashes[i]), self.count + len(fresh))
            if number == self.count + len(fresh):
                fresh.append(i)
            numbers[i] = number
        self._leading += int(np.count_nonzero(moves[fresh] != DEAD))
        if self._leading > MOST_LEADING or (self.count + len(fresh)) * self.rows.shape[1] > LARGEST_TABLE:
            raise TooLarge(TELLS_APART)
        self.rows = np.concatenate([self.rows, moves[fresh]])
        self.idle = np.concatenate([self.idle, self._idle_after(moves[fresh])])
        assert (self.rows[numbers[leads]] == moves[leads]).all(), "hash collision"
        return numbers

    def _idle_after(self, moves: np.ndarray) -> np.ndarray:
        if self._idle_in is None:
            return np.zeros(len(moves), np.uint64)
        idle: np.ndarray = np.bitwise_and.reduce(self._idle_in[moves], axis=1)
        return idle


def distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows that lead anywhere, and which of them each row is (DEAD: none)."""
    table = MoveTable(np.arange(rows.shape[1]))
    numbers = table.add(rows)
    return table.rows[1:], np.where(numbers == DEAD, DEAD, numbers - 1)
