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
    characters: CharDfa | None = None  # what it encodes: its states, between characters, come first

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
    """States inside characters are shared wherever the same continuation bytes lead to the same states."""

    def __init__(self, dfa: CharDfa, most: int) -> None:
        self.dfa, self.most = dfa, most
        self.blocks = _blocks_of(dfa.alphabet)
        self.inside: list[np.ndarray] = []  # [n, 64] where the continuation bytes lead, of states inside characters
        self.states = dfa.num_states

    def encoded(self) -> ByteDfa:
        distinct, which = _distinct_rows(self.dfa.next)
        whole = self._first_bytes(distinct)[which]
        waiting = np.full((self.states - len(whole), 256), DEAD, np.int32)
        waiting[:, 0x80:0xC0] = np.concatenate([*self.inside, np.zeros((0, BLOCK), np.int32)])
        accepting = np.zeros(self.states, bool)
        accepting[: len(whole)] = self.dfa.accepting
        return ByteDfa(np.concatenate([whole, waiting]), accepting, self.dfa)

    def _first_bytes(self, by_atom: np.ndarray) -> np.ndarray:
        """[n, 256] the moves of states whose moves by atom are [n, atoms]."""
        blocks, rows = self.blocks, np.full((len(by_atom), 256), DEAD, np.int32)
        by_atom = np.pad(by_atom, ((0, 0), (0, 1)), constant_values=DEAD)
        rows[:, :128] = by_atom[:, blocks.atoms[blocks.ascii].ravel()]
        last = np.full((len(by_atom), len(blocks.atoms) + 1), DEAD, np.int32)  # before the last byte; the end is dead
        last[:, blocks.beyond_ascii] = self._waiting(by_atom, blocks.atoms[blocks.beyond_ascii])
        rows[:, 0xC2:0xE0] = last[:, blocks.two_bytes]
        last_two = np.pad(self._waiting(last, blocks.groups), ((0, 0), (0, 1)), constant_values=DEAD)
        rows[:, 0xE0:0xF0] = last_two[:, blocks.three_bytes]
        rows[:, 0xF0:0xF5] = self._waiting(last_two, blocks.four_bytes)
        return rows

    def _waiting(self, after: np.ndarray, bytes_: np.ndarray) -> np.ndarray:
        """[n, w] the states that wait for one of 64 continuation bytes, which stands for a column of `after` [n, m]:
        bytes_ [w, 64]. Equal ones are found by a hash of what they lead to, which is linear in it."""
        keys = np.random.default_rng(0).integers(1, 2**63, size=BLOCK, dtype=np.uint64)
        weights = np.zeros((after.shape[1], len(bytes_)), np.uint64)
        np.add.at(weights, (bytes_, np.arange(len(bytes_))[:, None]), keys)  # index -1 is the last column, the dead one
        hashes = (after + 1).astype(np.uint64) @ weights
        _, first, which = np.unique(hashes.ravel(), return_index=True, return_inverse=True)
        row, column = np.divmod(first, len(bytes_))
        reached = after[row[:, None], bytes_[column]]
        alive = (reached != DEAD).any(1)
        if self.states + np.count_nonzero(alive) > self.most:
            raise TooLarge("it counts too far over characters of several bytes: count less far, or ASCII only")
        number = np.where(alive, self.states + np.cumsum(alive) - 1, DEAD)
        self.inside.append(reached[alive])
        self.states += int(np.count_nonzero(alive))
        return number[which].reshape(hashes.shape)


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
    atoms, block = _distinct_blocks(alphabet)  # block [17408]
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


def _distinct_blocks(alphabet: Alphabet) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows [n, 64] of atoms, and which of them each block of Unicode is."""
    first = np.arange(0, 0x110000, BLOCK)
    broken = np.unique(alphabet.starts[alphabet.starts % BLOCK != 0] // BLOCK)  # the others are of one atom each
    of_one = alphabet.atoms[np.searchsorted(alphabet.starts, first, side="right") - 1]
    chars = first[broken][:, None] + np.arange(BLOCK)
    mixed = alphabet.atoms[np.searchsorted(alphabet.starts, chars, side="right") - 1]
    plain = np.repeat(np.arange(DEAD, alphabet.num_atoms)[:, None], BLOCK, axis=1)
    kinds = of_one + 1
    kinds[broken] = len(plain) + np.arange(len(broken))
    used, kinds = np.unique(kinds, return_inverse=True)
    rows, which = _distinct_rows(np.concatenate([plain, mixed])[used])
    return rows, which[kinds]


def _distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows (small numbers, -1 allowed), and which of them each row is."""
    keys = np.random.default_rng(0).integers(0, 2**63, size=rows.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(
        1
    )
    _, first, which = np.unique((rows + 1).astype(np.uint64) @ keys, return_index=True, return_inverse=True)
    assert (rows == rows[first[which]]).all(), "hash collision"
    return rows[first], which
