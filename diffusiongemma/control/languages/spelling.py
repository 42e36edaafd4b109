"""The moves of finished automata, to be embedded in larger ones: as they are, or as a JSON string spells them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.charset import CharSet, chars, complement, difference, intersection, union
from diffusiongemma.control.languages.dfa import DEAD, CharDfa

# How a JSON string spells the characters it may not hold as they are (RFC 8259, section 7), one spelling each.
CONTROL = ((0, 0x1F),)
SHORT_ESCAPES = {'"': '"', "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
LONG_ESCAPES = {chr(c): f"u{c:04x}" for c in range(0x20) if chr(c) not in SHORT_ESCAPES}
PLAIN = complement(union(CONTROL, chars('"\\')))
READABLE = union(complement(CONTROL), chars("\n\r\t"))

Spelling = tuple[CharSet, ...]  # what is read one after the other


@dataclass(frozen=True, eq=False)
class Moves:
    """Of an automaton: one a pair of states and a spelling."""

    state: np.ndarray  # [M]
    target: np.ndarray  # [M]
    which: np.ndarray  # [M] of the spellings
    spellings: tuple[Spelling, ...]


@lru_cache(maxsize=256)
def moves_of(dfa: CharDfa) -> Moves:
    """Its moves."""
    state, atom = np.nonzero(dfa.next != DEAD)
    target = dfa.next[state, atom]
    order = np.lexsort((atom, target, state))
    state, atom, target = state[order], atom[order], target[order].astype(np.int64)
    first = np.flatnonzero(np.diff(state * dfa.num_states + target, prepend=-1))
    key = np.random.default_rng(0).integers(0, 2**63, size=dfa.alphabet.num_atoms, dtype=np.uint64)
    sums = np.add.reduceat(key[atom], first) if len(first) else np.zeros(0, np.uint64)
    _, sample, which = np.unique(sums, return_index=True, return_inverse=True)
    ends = np.append(first[1:], len(atom))
    spellings = tuple((dfa.alphabet.chars_of(atom[first[i] : ends[i]].tolist()),) for i in sample.tolist())
    return Moves(state[first], target[first], which, spellings)


@lru_cache(maxsize=256)
def escaped_moves_of(dfa: CharDfa) -> Moves:
    """The same, as a JSON string spells what is read."""
    moves = moves_of(dfa)
    of_each = [_spellings(allowed) for (allowed,) in moves.spellings]
    first = np.cumsum([0, *map(len, of_each)])
    count = np.diff(first)[moves.which]
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    which = np.repeat(first[moves.which], count) + within
    spellings = tuple(spelling for spellings in of_each for spelling in spellings)
    return Moves(np.repeat(moves.state, count), np.repeat(moves.target, count), which, spellings)


@lru_cache(maxsize=512)
def _spellings(allowed: CharSet) -> tuple[Spelling, ...]:
    plain, special = _plain_and_special(allowed)
    spellings: list[Spelling] = [(plain,)] if plain else []
    if short := [SHORT_ESCAPES[c] for c in special if c in SHORT_ESCAPES]:
        spellings.append((chars("\\"), chars("".join(short))))
    spellings += [(chars("\\"), *map(chars, LONG_ESCAPES[c])) for c in special if c in LONG_ESCAPES]
    return tuple(spellings)


def _plain_and_special(allowed: CharSet) -> tuple[CharSet, tuple[str, ...]]:
    """What a JSON string holds as it is, and the characters that it escapes."""
    special = (chr(c) for low, high in difference(allowed, PLAIN) for c in range(low, high + 1))
    return intersection(allowed, PLAIN), tuple(special)


@lru_cache(maxsize=512)
def spelt_text(content: lang.Language) -> lang.Language | None:
    """A JSON string of one text, or of a few without rare control characters, without an automaton in between."""
    options = content.options if isinstance(content, lang.Either) else (content,)
    texts = [_only_text(option) for option in options]
    if not texts or any(text is None for text in texts):
        return None
    if len(texts) > 1 and not all(c in "\n\r\t" or c >= " " for text in texts for c in text or ""):
        return None
    return lang.either(*(lang.literal(json.dumps(text, ensure_ascii=False)) for text in texts))


def _only_text(language: lang.Language) -> str | None:
    """The text of a language that is a plain one."""
    parts = language.parts if isinstance(language, lang.Sequence) else (language,)
    ranges = [part.allowed for part in parts if isinstance(part, lang.Chars)]
    if len(ranges) < len(parts) or any(len(allowed) != 1 or allowed[0][0] != allowed[0][1] for allowed in ranges):
        return None
    return "".join(chr(allowed[0][0]) for allowed in ranges)
