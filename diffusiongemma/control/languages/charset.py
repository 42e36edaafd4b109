"""Sets of characters as sorted, disjoint, inclusive ranges of code points. Surrogates are in no set."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

CharSet = tuple[tuple[int, int], ...]

LAST_CODE_POINT = 0x10FFFF
NO_CHARS: CharSet = ()
ANY_CHAR: CharSet = ((0, 0xD7FF), (0xE000, LAST_CODE_POINT))


def charset(ranges: Iterable[tuple[int, int]]) -> CharSet:
    """The set of all code points in `ranges` (any order, overlaps allowed), surrogates left out."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return intersection(tuple(merged), ANY_CHAR)


@lru_cache(maxsize=4096)
def chars(text: str) -> CharSet:
    """The set of the characters of `text`."""
    return charset((ord(c), ord(c)) for c in text)


def char_range(first: str, last: str) -> CharSet:
    return charset([(ord(first), ord(last))])


def union(*sets: CharSet) -> CharSet:
    return charset(r for s in sets for r in s)


def intersection(a: CharSet, b: CharSet) -> CharSet:
    shared, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        low, high = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if low <= high:
            shared.append((low, high))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return tuple(shared)


def complement(s: CharSet) -> CharSet:
    gaps, following = [], 0
    for low, high in s:
        if following < low:
            gaps.append((following, low - 1))
        following = high + 1
    if following <= LAST_CODE_POINT:
        gaps.append((following, LAST_CODE_POINT))
    return intersection(tuple(gaps), ANY_CHAR)


def difference(a: CharSet, b: CharSet) -> CharSet:
    return intersection(a, complement(b))


def contains(s: CharSet, code_point: int) -> bool:
    return any(low <= code_point <= high for low, high in s)
