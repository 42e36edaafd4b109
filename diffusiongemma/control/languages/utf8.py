"""From an automaton over characters to one over the bytes of their UTF-8 encoding, which is what tokens are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffusiongemma.control.languages.dfa import DEAD, Alphabet, CharDfa, TooLarge

LARGEST_BYTE_DFA = 160_000  # states of 2 kB each
BLOCK = 64  # code points that share all their bytes but the last
ASCII_BLOCKS, TWO_BYTE_BLOCKS = 2, 32  # where the blocks of one and of two bytes end


@dataclass(frozen=True, eq=False)
class ByteDfa:
    """State 0 is the start, -1 the dead state; states inside a multi-byte character follow those between characters."""

    next: np.ndarray  # [S, 256] int32
    accepting: np.ndarray  # [S] bool
    num_whole: int  # states 0 .. num_whole - 1 stand between characters

    @property
    def num_states(self) -> int:
        return len(self.accepting)

    def matches(self, text: bytes) -> bool:
        state = 0
        for byte in text:
            state = DEAD if state == DEAD else int(self.next[state, byte])
        return state != DEAD and bool(self.accepting[state])


def to_bytes(dfa: CharDfa, most: int = LARGEST_BYTE_DFA) -> ByteDfa:
    """The automaton that accepts the UTF-8 encoding of exactly the texts that `dfa` accepts.

    Raises `TooLarge` where it has more than `most` states.
    """
    return _Encoder(dfa, most).encoded()


class _Encoder:
    """Mid-character states are shared wherever the same continuation bytes lead to the same states."""

    def __init__(self, dfa: CharDfa, most: int) -> None:
        self.dfa, self.most = dfa, most
        self.blocks = _blocks_of(dfa.alphabet)
        self.rows: list[np.ndarray] = [_dead_row() for _ in range(dfa.num_states)]
        self.shared: dict[bytes, int] = {}

    def encoded(self) -> ByteDfa:
        by_transitions: dict[bytes, np.ndarray] = {}
        for state, transitions in enumerate(self.dfa.next):
            key = transitions.tobytes()
            if key not in by_transitions:
                by_transitions[key] = self._row(transitions)
            self.rows[state] = by_transitions[key]
        accepting = np.zeros(len(self.rows), bool)
        accepting[: self.dfa.num_states] = self.dfa.accepting
        return ByteDfa(np.stack(self.rows).astype(np.int32), accepting, self.dfa.num_states)

    def _row(self, transitions: np.ndarray) -> np.ndarray:
        """The 256 moves of a state whose moves by atom are `transitions`."""
        last = np.append(transitions, DEAD)[self.blocks.atoms]  # [distinct blocks, 64] by last byte
        row = _dead_row()
        row[:128] = last[self.blocks.ascii].ravel()
        if (last[self.blocks.beyond_ascii] == DEAD).all():
            return row
        last_two = self._middles(last)  # [distinct blocks + 1] the state before the last byte; the last one is dead
        row[0xC2:0xE0] = last_two[self.blocks.two_bytes]
        last_three = self._middles(last_two[self.blocks.groups])  # [distinct groups + 1]
        row[0xE0:0xF0] = last_three[self.blocks.three_bytes]
        row[0xF0:0xF5] = self._middles(last_three[self.blocks.four_bytes])[:-1]
        return row

    def _middles(self, continuations: np.ndarray) -> np.ndarray:
        """The states that wait for one of 64 continuation bytes 0x80-0xBF, for each row [n, 64]; a dead one after."""
        return np.array([*(self._middle(row) for row in continuations), DEAD])

    def _middle(self, continuations: np.ndarray) -> int:
        if (continuations == DEAD).all():
            return DEAD
        key = continuations.tobytes()
        if key not in self.shared:
            if len(self.rows) >= self.most:
                raise TooLarge("it counts too far over characters of several bytes: count less far, or ASCII only")
            self.shared[key] = len(self.rows)
            row = _dead_row()
            row[0x80:0xC0] = continuations
            self.rows.append(row)
        return self.shared[key]


def _dead_row() -> np.ndarray:
    return np.full(256, DEAD)


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Unicode in blocks of 64 code points (one last byte each), blocks in groups of 64 (one last byte but one each).

    Only distinct blocks and groups are listed. Index -1 is the dead one: surrogates, what lies beyond Unicode, and
    what three or four bytes would say that fewer can.
    """

    atoms: np.ndarray  # [distinct blocks, 64]
    ascii: np.ndarray  # [2] blocks
    beyond_ascii: np.ndarray  # the distinct blocks after them
    two_bytes: np.ndarray  # [30] blocks by lead byte 0xC2 ..
    groups: np.ndarray  # [distinct groups, 64] blocks
    three_bytes: np.ndarray  # [16] groups by lead byte 0xE0 ..
    four_bytes: np.ndarray  # [5, 64] groups by lead byte 0xF0 .. and second byte


def _blocks_of(alphabet: Alphabet) -> _Blocks:
    lengths = np.diff(np.append(alphabet.starts, 0x110000))
    atoms, block = _distinct_rows(np.repeat(alphabet.atoms, lengths).reshape(-1, BLOCK))  # block [17408]
    longer = block.copy()
    longer[:TWO_BYTE_BLOCKS] = DEAD
    groups, group = _distinct_rows(longer.reshape(-1, BLOCK))  # group [272]
    last_plane = np.full(5 * BLOCK, DEAD)
    last_plane[16 : len(group)] = group[16:]
    return _Blocks(
        atoms=atoms,
        ascii=block[:ASCII_BLOCKS],
        beyond_ascii=np.unique(block[ASCII_BLOCKS:]),
        two_bytes=block[ASCII_BLOCKS:TWO_BYTE_BLOCKS],
        groups=groups,
        three_bytes=group[:16],
        four_bytes=last_plane.reshape(5, BLOCK),
    )


def _distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows [n, 64] (small numbers, -1 allowed), and which of them each row is."""
    keys = np.random.default_rng(0).integers(1, 2**62, size=(int(rows.max()) + 2, rows.shape[1]))
    hashes = keys[rows, np.arange(rows.shape[1])].sum(1)
    _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    assert (rows == rows[first[which]]).all(), "hash collision"
    return rows[first], which
