"""From an automaton over characters to one over the bytes of their UTF-8 encoding, which is what tokens are made of."""

from dataclasses import dataclass

import numpy as np

from diffusiongemma.control.dfa import DEAD, Alphabet, CharDfa

BLOCK = 64  # code points that share all their bytes but the last
ASCII_BLOCKS, TWO_BYTE_BLOCKS, BLOCKS_PER_PLANE_STEP = 2, 32, 64


@dataclass(frozen=True, eq=False)
class ByteDfa:
    """State 0 is the start, -1 the dead state; states inside a multi-byte character follow those between characters."""

    next: np.ndarray  # [S, 256] int32
    accepting: np.ndarray  # [S] bool

    @property
    def num_states(self) -> int:
        return len(self.accepting)

    def matches(self, text: bytes) -> bool:
        state = 0
        for byte in text:
            state = DEAD if state == DEAD else int(self.next[state, byte])
        return state != DEAD and bool(self.accepting[state])


def to_bytes(dfa: CharDfa) -> ByteDfa:
    """The automaton that accepts the UTF-8 encoding of exactly the texts that `dfa` accepts."""
    return _Encoder(dfa).encoded()


class _Encoder:
    """Mid-character states are shared wherever the same continuation bytes lead to the same states."""

    def __init__(self, dfa: CharDfa) -> None:
        self.dfa = dfa
        self.atom_blocks, self.block_of = _blocks_of(dfa.alphabet)
        self.rows: list[np.ndarray] = [np.full(256, DEAD, np.int32) for _ in range(dfa.num_states)]
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
        return ByteDfa(np.stack(self.rows).astype(np.int32), accepting)

    def _row(self, transitions: np.ndarray) -> np.ndarray:
        """The 256 moves of a state whose moves by atom are `transitions`."""
        targets = np.append(transitions, DEAD)[self.atom_blocks]  # [distinct blocks, 64] states
        row = np.full(256, DEAD, np.int32)
        row[:128] = targets[self.block_of[:ASCII_BLOCKS]].ravel()
        if (targets[self.block_of[ASCII_BLOCKS:]] == DEAD).all():
            return row
        after_last_but_one = np.array([self._middle(block) for block in targets])[self.block_of]  # [17408] states
        row[0xC2:0xE0] = after_last_but_one[ASCII_BLOCKS:TWO_BYTE_BLOCKS]
        after_last_but_one[:TWO_BYTE_BLOCKS] = DEAD  # what two bytes can say may not be said in three
        after_second = np.array([self._middle(g) for g in after_last_but_one.reshape(-1, BLOCKS_PER_PLANE_STEP)])
        row[0xE0:0xF0] = after_second[:16]
        after_second[:16] = DEAD
        row[0xF0:0xF5] = [self._middle(g) for g in np.pad(after_second, (0, 48), constant_values=DEAD).reshape(-1, 64)]
        return row

    def _middle(self, continuations: np.ndarray) -> int:
        """The state that waits for one of the 64 continuation bytes 0x80-0xBF."""
        if (continuations == DEAD).all():
            return DEAD
        key = continuations.tobytes()
        if key not in self.shared:
            self.shared[key] = len(self.rows)
            row = np.full(256, DEAD, np.int32)
            row[0x80:0xC0] = continuations
            self.rows.append(row)
        return self.shared[key]


def _blocks_of(alphabet: Alphabet) -> tuple[np.ndarray, np.ndarray]:
    """The distinct blocks of 64 atoms [distinct, 64], and which of them each of the 17,408 blocks of Unicode is."""
    lengths = np.diff(np.append(alphabet.starts, 0x110000))
    blocks = np.repeat(alphabet.atoms, lengths).reshape(-1, BLOCK)  # [17408, 64]
    keys = np.random.default_rng(0).integers(1, 2**62, size=(alphabet.num_atoms + 1, BLOCK))
    hashes = keys[blocks, np.arange(BLOCK)].sum(1)
    _, first, block_of = np.unique(hashes, return_index=True, return_inverse=True)
    assert (blocks == blocks[first[block_of]]).all(), "hash collision"
    return blocks[first], block_of
