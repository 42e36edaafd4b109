"""All token texts as one trie, with what it takes to pass over most of it: which kinds of characters lie below a node.

Where none of these changes anything, all tokens below a node do the same; to a JSON schema most words are just text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SYMBOLS = 0x110000  # bytes, or characters


def _kind_starts() -> tuple[list[int], list[int]]:
    """Where kinds of characters begin, and their numbers: what JSON and patterns tell apart is a kind of its own,
    beyond ASCII what begins with certain bytes."""
    control, digit, upper, lower = range(4)
    ascii_kinds = [control] * 128
    single = [*b"\t\n\r", *range(0x20, 0x30), *range(0x3A, 0x41), *range(0x5B, 0x61), *range(0x7B, 0x7F)]
    for number, c in enumerate(single, 4):
        ascii_kinds[c] = number
    for kind, chars in ((digit, range(0x30, 0x3A)), (upper, range(0x41, 0x5B)), (lower, range(0x61, 0x7B))):
        ascii_kinds[chars.start : chars.stop] = [kind] * len(chars)
    beyond = [0x80, 0xC0, 0x100, 0x800, 0x2000, 0x3000, 0x4000, 0xE000, 0x10000]
    return [*range(128), *beyond], [*ascii_kinds, *range(4 + len(single), 4 + len(single) + len(beyond))]


KIND_STARTS, KINDS = (np.array(column) for column in _kind_starts())
NUM_KINDS = int(KINDS.max()) + 1  # below 63
BROKEN = np.uint64(1 << 63)  # in place of kinds: what is no whole character


def kind_of(chars: np.ndarray) -> np.ndarray:
    """The kinds of some code points."""
    kinds: np.ndarray = KINDS[np.searchsorted(KIND_STARTS, chars, side="right") - 1]
    return kinds


@dataclass(frozen=True, eq=False)
class TokenTrie:
    """Of bytes or of characters, level by level. Node 0 is the root; children of a node are consecutive."""

    first_child: np.ndarray  # [N + 1] children of n are first_child[n] .. first_child[n + 1] - 1
    symbol: np.ndarray  # [N] the byte, or character, that leads to the node
    tokens: np.ndarray  # [T] token ids, ordered by their texts
    low: np.ndarray  # [N] the tokens of n and below it are tokens[low[n] .. high[n] - 1],
    middle: np.ndarray  # [N] those that end at n come before middle[n]
    high: np.ndarray  # [N]
    below: np.ndarray  # [N] uint64: bit k where a character of kind k lies below; BROKEN where other bytes do


def trie_of_bytes(entries: list[tuple[bytes, int]]) -> TokenTrie:
    """From the texts of tokens, with their ids, sorted."""
    flat = np.frombuffer(b"".join(written for written, _ in entries), np.uint8)
    broken = np.array([not _whole(written) for written, _ in entries], bool)
    return _trie(entries, flat, broken, _bits_of_bytes)


def trie_of_characters(entries: list[tuple[str, int]]) -> TokenTrie:
    """The same of texts."""
    flat = np.frombuffer("".join(text for text, _ in entries).encode("utf-32-le"), np.uint32)
    return _trie(entries, flat, np.zeros(len(entries), bool), lambda symbol, *_: (_bits(symbol), np.zeros(0, int)))


Levels = list[tuple[int, int]]  # first node and end of each, the root's not counted
Bits = Callable[[np.ndarray, np.ndarray, Levels], tuple[np.ndarray, np.ndarray]]


def _trie(
    entries: list[tuple[bytes, int]] | list[tuple[str, int]], flat: np.ndarray, broken: np.ndarray, bits: Bits
) -> TokenTrie:
    lengths = np.array([len(written) for written, _ in entries], np.int64)
    flat = flat.astype(np.int64)
    offset = np.cumsum(lengths) - lengths
    node = np.zeros(len(entries), np.int64)  # where each token's walk stands, level by level
    parents, symbols, lows, highs = ([np.zeros(1, np.int64)] for _ in range(4))
    highs[0][:] = len(entries)
    levels, nodes = [], 1
    for depth in range(int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > depth)
        key = node[longer] * SYMBOLS + flat[offset[longer] + depth]  # ascending, because the tokens are sorted
        first = np.flatnonzero(np.diff(key, prepend=-1))
        node[longer] = nodes + np.cumsum(np.diff(key, prepend=-1) > 0) - 1
        parents.append(key[first] // SYMBOLS)
        symbols.append(key[first] % SYMBOLS)
        lows.append(longer[first])
        highs.append(longer[np.append(first[1:], len(key)) - 1] + 1)
        levels.append((nodes, nodes := nodes + len(first)))
    parent, symbol, low, high = (np.concatenate(column) for column in (parents, symbols, lows, highs))
    own, inside = bits(symbol, parent, levels)
    below = np.zeros(nodes, np.uint64)
    below[node[broken]] = BROKEN
    for begin, end in reversed(levels):
        first = np.flatnonzero(np.diff(parent[begin:end], prepend=-1))
        below[parent[begin:end][first]] |= np.bitwise_or.reduceat(own[begin:end] | below[begin:end], first)
    below[inside] |= BROKEN
    return TokenTrie(
        first_child=1 + np.searchsorted(parent[1:], np.arange(nodes + 1)),
        symbol=symbol,
        tokens=np.array([token for _, token in entries], np.int64),
        low=low,
        middle=low + np.bincount(node, minlength=nodes),
        high=high,
        below=below,
    )


def _whole(written: bytes) -> bool:
    try:
        return bool(written.decode())
    except UnicodeDecodeError:
        return False


def _bits(chars: np.ndarray) -> np.ndarray:
    """[n] uint64, the bit of each character's kind."""
    return np.uint64(1) << kind_of(chars).astype(np.uint64)


def _bits_of_bytes(symbol: np.ndarray, parent: np.ndarray, levels: Levels) -> tuple[np.ndarray, np.ndarray]:
    """The bit of the character that each byte begins, if it begins one; and the nodes inside characters.

    Broken characters are no concern here: their tokens are marked.
    """
    lead = np.arange(256)
    first_char = np.select(
        [lead < 0x80, lead < 0xE0, lead < 0xF0],
        [lead, (lead & 0x1F) << 6, np.maximum((lead & 0x0F) << 12, 0x800)],
        0x10000,
    )
    more_bytes = np.select([lead < 0xC0, lead < 0xE0, lead < 0xF0], [0, 1, 2], 3)
    bit_of_lead, left = _bits(first_char), np.zeros(len(symbol), np.int64)  # bytes until the character is complete
    own = np.zeros(len(symbol), np.uint64)
    for begin, end in levels:
        before, byte = left[parent[begin:end]], symbol[begin:end]
        left[begin:end] = np.where(before > 0, before - 1, more_bytes[byte])
        own[begin:end] = np.where(before > 0, np.uint64(0), bit_of_lead[byte])
    return own, np.flatnonzero(left > 0)
