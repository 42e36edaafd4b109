"""Counting again, to the character, what tokens count coarsely.

Where limits are far, tokens land on some counts only, rounded up, and the difference adds up with every token (see
`coarse`). Of what is written every character is known, so the next canvas starts from the true count, rounded up once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from diffusiongemma.control.languages.dfa import DEAD, CharDfa
from diffusiongemma.control.tokens.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Recount:
    """The automaton over characters beside one over tokens that is coarser."""

    dfa: CharDfa
    number: np.ndarray  # [S] int32 the coarse state that accepts nothing else than each state does, or -1
    first: int = 0  # coarse states below are of a preamble, which is not counted
    vocabulary: Vocabulary | None = None  # not sent between processes

    def after_preamble(self, states: int) -> Recount:
        """The same for the automaton that has so many states more, before all others."""
        return replace(self, number=np.where(self.number == DEAD, DEAD, self.number + states), first=states)

    @property
    def nbytes(self) -> int:
        return int(self.dfa.next.nbytes + self.dfa.accepting.nbytes + self.number.nbytes)

    def after(self, exact: int, token: int, before: int, state: int) -> int:
        """The exact state after `token`, which leads the coarse automaton from `before` to `state`; -1 if unknown."""
        if 0 < before < self.first or state < self.first:
            return exact
        written = self.vocabulary.token_bytes[token] if self.vocabulary else None
        return DEAD if written is None or exact == DEAD else self.dfa.run(written.decode(), exact)
