"""Where every token leads from every state: the trie is walked once, and only where tokens differ."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from diffusiongemma.control.languages.dfa import DEAD, Alphabet, CharDfa, TooLarge
from diffusiongemma.control.tokens.trie import KIND_STARTS, KINDS, NUM_KINDS, TokenTrie
from diffusiongemma.kernels import automata

MOST_EDGES = 4_000_000
MOST_LEADING = 3 * MOST_EDGES  # entries of all moves together: some moves will share a class
AT_ONCE = 2_000_000  # entries of moves that are made at a time
TELLS_APART = "this constraint tells too many tokens apart in too many places: simplify it"
ALL_KINDS = np.uint64((1 << NUM_KINDS) - 1)


@dataclass(frozen=True, eq=False)
class Walk:
    """What it takes to follow all tokens through an automaton over symbols."""

    trie: TokenTrie
    table: np.ndarray  # [S, columns] the state after a symbol of each column
    starts: np.ndarray  # [n] symbols: from each of them on another column stands for them,
    column: np.ndarray  # [n] this one
    characters: CharDfa | None  # the same over characters: its states come first, others are inside characters

    def columns(self, symbols: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.column[np.searchsorted(self.starts, symbols, side="right") - 1]
        return found

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


@dataclass(frozen=True, eq=False)
class Rows:
    """Moves, one after the other: where each leads from those origins from which it leads anywhere, in order."""

    first: np.ndarray  # [n + 1] row i has entries first[i] .. first[i + 1] - 1
    origin: np.ndarray  # [E] int32
    target: np.ndarray  # [E] int32

    @classmethod
    def of(cls, row: np.ndarray, origin: np.ndarray, target: np.ndarray, count: int) -> Rows:
        """From entries in the order of their rows 0 .. count - 1."""
        first = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=count))])
        return cls(first, origin.astype(np.int32), target.astype(np.int32))

    @property
    def count(self) -> int:
        return len(self.first) - 1

    @property
    def arrays(self) -> automata.RowArrays:
        return self.first, self.origin, self.target

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.first)

    @property
    def row(self) -> np.ndarray:
        """[E] the row that each entry is in."""
        return np.repeat(np.arange(self.count), self.sizes)

    def chosen(self, rows: np.ndarray) -> Rows:
        """These rows, in this order."""
        sizes = self.sizes[rows]
        first = np.concatenate([[0], np.cumsum(sizes)])
        entries = np.arange(first[-1]) + np.repeat(self.first[rows] - first[:-1], sizes)
        return Rows(first, self.origin[entries], self.target[entries])

    def leading_to(self, target: np.ndarray) -> Rows:
        """With these targets [E], but for entries that lead nowhere now."""
        kept = target != DEAD
        return Rows.of(self.row[kept], self.origin[kept], target[kept], self.count)

    def followed_by(self, more: Rows) -> Rows:
        columns = zip((self.origin, self.target), (more.origin, more.target), strict=True)
        return Rows(np.append(self.first, more.first[1:] + self.first[-1]), *map(np.concatenate, columns))

    def by_origin(self, origins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All entries ordered by origin, then row: origin, row and target, int32."""
        if automata.available():
            return automata.by_origin(self.arrays, origins)
        order = np.argsort(self.origin, kind="stable")
        return self.origin[order], self.row[order].astype(np.int32), self.target[order]


def moves_of_tokens(walk: Walk, origins: np.ndarray) -> tuple[Rows, Stretches]:
    """The distinct moves of strings of symbols (where each leads from every origin), and who has which.

    The move of a trie node is its parent's followed by one symbol. However large the vocabulary, few moves differ, so
    each is computed once, and nodes below which nothing changes it are passed over with all their tokens.
    """
    if not automata.available():
        return _by_twin(walk, origins)
    known = walk.trie, walk.starts, walk.column, walk.table, walk.idle
    try:
        rows, stretches = automata.moves_of_strings(*known, origins, MOST_LEADING)
    except automata.TooMany as error:
        raise TooLarge(TELLS_APART) from error
    return Rows(*rows), Stretches(*stretches)


def _by_twin(walk: Walk, origins: np.ndarray) -> tuple[Rows, Stretches]:
    trie, width = walk.trie, walk.table.shape[1]
    moves = MoveTable(len(origins), walk.idle)
    moves.add(Rows.of(np.zeros(len(origins), np.int64), np.arange(len(origins)), origins, 1))  # of the empty string
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
        numbers = moves.add_following(distinct // width, walk.table, distinct % width)[which]
        nodes, numbers = nodes[numbers != DEAD], numbers[numbers != DEAD]
    return moves.rows, Stretches.of(np.concatenate(low), np.concatenate(high), np.concatenate(move))


def _number(keys: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct keys (all below `limit`), and which of them each key is."""
    present = np.zeros(limit, bool)
    present[keys] = True
    distinct = np.flatnonzero(present)
    number = np.cumsum(present) - 1
    return distinct, number[keys]


class _Growing:
    """An array that is added to at its end."""

    def __init__(self, values: np.ndarray) -> None:
        self._kept, self._size = values, len(values)

    @property
    def values(self) -> np.ndarray:
        return self._kept[: self._size]

    def extend(self, more: np.ndarray) -> None:
        before, self._size = self._size, self._size + len(more)
        if self._size > len(self._kept):
            grown = np.empty(2 * self._size, self._kept.dtype)
            grown[:before] = self._kept[:before]
            self._kept = grown
        self._kept[before : self._size] = more


class MoveTable:
    """Distinct moves, found again by a 64-bit hash of where they lead. Most lead anywhere from few origins."""

    def __init__(self, origins: int, idle: np.ndarray | None = None) -> None:
        self._first = _Growing(np.zeros(1, np.int64))
        self._origin, self._target = _Growing(np.zeros(0, np.int32)), _Growing(np.zeros(0, np.int32))
        self._idle_in, self._idle = idle, _Growing(np.zeros(0, np.uint64))
        self._key = np.random.default_rng(0).integers(0, 2**64, size=origins, dtype=np.uint64) | np.uint64(1)
        self._found: dict[int, int] = {}

    @property
    def rows(self) -> Rows:
        return Rows(self._first.values, self._origin.values, self._target.values)

    @property
    def idle(self) -> np.ndarray:
        """[M] uint64, the kinds of characters that change nothing after a move."""
        return self._idle.values

    @property
    def count(self) -> int:
        return len(self._first.values) - 1

    def add_following(self, moves: np.ndarray, table: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """`add` of some of the moves, each followed by a symbol of a column of the table."""
        numbers = [np.zeros(0, np.int64)]
        entries = np.cumsum(self.rows.sizes[moves])
        parts = np.searchsorted(entries, np.arange(AT_ONCE, entries[-1] if len(entries) else 0, AT_ONCE))
        for part in np.split(np.arange(len(moves)), parts):
            rows = self.rows.chosen(moves[part])
            numbers.append(self.add(rows.leading_to(table[rows.target, columns[part][rows.row]])))
        return np.concatenate(numbers)

    def add(self, moves: Rows) -> np.ndarray:
        """The numbers of these moves, new ones added; DEAD for those that lead nowhere."""
        leads, sums = np.flatnonzero(moves.sizes), np.zeros(moves.count, np.uint64)
        if len(leads):
            parts = (moves.target.astype(np.uint64) + np.uint64(2)) * self._key[moves.origin]
            sums[leads] = np.add.reduceat(parts, moves.first[leads])
        numbers, before = np.full(moves.count, DEAD), self.count
        if not len(leads):
            return numbers
        fresh: list[int] = []
        for i, value in zip(leads.tolist(), sums[leads].tolist(), strict=True):
            number = self._found.setdefault(value, before + len(fresh))
            if number == before + len(fresh):
                fresh.append(i)
            numbers[i] = number
        added = moves.chosen(np.array(fresh, np.int64))
        entries = self._first.values[-1]
        if entries + added.first[-1] > MOST_LEADING:
            raise TooLarge(TELLS_APART)
        self._first.extend(added.first[1:] + entries)
        self._origin.extend(added.origin)
        self._target.extend(added.target)
        self._idle.extend(self._idle_after(added))
        assert self._are(numbers, moves), "hash collision"
        return numbers

    def _are(self, numbers: np.ndarray, moves: Rows) -> bool:
        """Whether the moves of these numbers lead where these do."""
        if automata.available():
            return automata.same_rows(self.rows.arrays, numbers, moves.arrays)
        found = self.rows.chosen(numbers[numbers != DEAD])
        return np.array_equal(found.target, moves.target) and np.array_equal(found.origin, moves.origin)

    def _idle_after(self, moves: Rows) -> np.ndarray:
        if self._idle_in is None or not moves.count:
            return np.zeros(moves.count, np.uint64)
        idle: np.ndarray = np.bitwise_and.reduceat(self._idle_in[moves.target], moves.first[:-1])
        return idle


def distinct_rows(rows: Rows, origins: int) -> tuple[Rows, np.ndarray]:
    """The distinct rows that lead anywhere, and which of them each row is (DEAD: none)."""
    table = MoveTable(origins)
    numbers = table.add(rows)
    return table.rows, numbers
