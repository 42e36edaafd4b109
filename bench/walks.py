"""Random texts that an automaton accepts."""

from __future__ import annotations

import random

import numpy as np

from diffusiongemma.control.languages.dfa import CharDfa
from diffusiongemma.control.languages.minimal import chars_to_end

LENGTHS = (0, 8, 30, 80)
NEAR = 300  # of a range of characters, so many of the first are drawn from


def random_texts(dfa: CharDfa, rng: random.Random, count: int) -> list[str]:
    """Random walks, each of which heads for acceptance after a length out of `LENGTHS`."""
    to_end = chars_to_end(dfa)
    return [_walk(dfa, to_end, rng, rng.choice(LENGTHS)) for _ in range(count)]


def _walk(dfa: CharDfa, to_end: np.ndarray, rng: random.Random, length: int) -> str:
    text, state = "", 0
    while True:
        atoms = np.flatnonzero(dfa.next[state] >= 0).tolist()
        if dfa.accepting[state] and (len(text) >= length or not atoms):
            return text
        if len(text) >= length:
            atoms = [a for a in atoms if to_end[dfa.next[state, a]] < to_end[state]]
        chosen = rng.choice(atoms)
        low, high = rng.choice(dfa.alphabet.chars_of([chosen]))
        text += chr(rng.randint(low, min(high, low + NEAR)))
        state = int(dfa.next[state, chosen])
