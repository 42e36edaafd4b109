"""The edges of a token automaton in the form in which a canvas adds them up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from diffusiongemma.control.languages.dfa import TooLarge
from diffusiongemma.control.tokens.automaton import TokenAutomaton
from diffusiongemma.control.tokens.moves import TELLS_APART
from diffusiongemma.kernels import automata

MOST_BUNDLES = 300_000


@dataclass(frozen=True, eq=False)
class Bundles:
    """Edges with the same two ends, bundled. Bundles with the same classes share one *class set*, whose mass at a
    position is computed once for all of them.
    """

    source: np.ndarray  # [P] int32, ascending
    target: np.ndarray  # [P] int32
    class_set: np.ndarray  # [P] int32
    first_of_state: np.ndarray  # [S + 1] where the bundles of each state begin
    classes: np.ndarray  # [N] the classes of set 0, then of set 1, …
    first: np.ndarray  # [sets + 1] where each set begins in `classes`
    by_class: np.ndarray  # [N] positions in `classes`, ordered by class
    first_by_class: np.ndarray  # [K] where each class begins in `by_class`

    @classmethod
    def of(cls, automaton: TokenAutomaton) -> Bundles:
        """Raises `TooLarge` beyond `MOST_BUNDLES`."""
        work = automata.bundled if automata.available() else bundled
        source, target, class_set, first, classes = work(automaton.source, automaton.label, automaton.target)
        if len(source) > MOST_BUNDLES:
            raise TooLarge(TELLS_APART)
        by_class = np.argsort(classes, kind="stable")
        return cls(
            source=source,
            target=target,
            class_set=class_set,
            first_of_state=np.searchsorted(source, np.arange(automaton.num_states + 1)),
            classes=classes,
            first=first,
            by_class=by_class,
            first_by_class=np.searchsorted(classes[by_class], np.arange(automaton.num_classes)),
        )

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in vars(self).values())

    @property
    def num_sets(self) -> int:
        return len(self.first) - 1

    @cached_property
    def single(self) -> np.ndarray:
        """The sets of one class, most of them."""
        return np.flatnonzero(np.diff(self.first) == 1)

    @cached_property
    def several(self) -> np.ndarray:
        """The other sets."""
        return np.flatnonzero(np.diff(self.first) > 1)

    @cached_property
    def membership(self) -> np.ndarray:
        """[K, several] 1.0 where the class is in the set: a matrix product sums all sets at once."""
        table = np.zeros((len(self.first_by_class), self.num_sets))
        table[self.classes, self.set_of] = 1.0
        return np.ascontiguousarray(table[:, self.several])

    def with_any_of(self, classes: np.ndarray) -> np.ndarray:
        """[P] which bundles read at least one of the classes, given as [K] bool."""
        in_set = np.bincount(self.set_of, weights=classes[self.classes], minlength=self.num_sets) > 0
        return in_set[self.class_set]

    @cached_property
    def set_of(self) -> np.ndarray:
        """[N] the set each entry of `classes` is in."""
        return np.repeat(np.arange(self.num_sets), np.diff(self.first))


def bundled(source: np.ndarray, label: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, ...]:
    """The plain twin of `kernels.automata.bundled`."""
    order = np.lexsort((label, target, source))
    starts = np.flatnonzero((np.diff(source[order], prepend=-1) != 0) | (np.diff(target[order], prepend=-1) != 0))
    sets: dict[bytes, int] = {}
    labels = label[order].astype(np.int64)
    bounds = pairwise((np.append(starts, len(order)) * labels.itemsize).tolist())
    text = labels.tobytes()
    class_set = np.array([sets.setdefault(text[a:b], len(sets)) for a, b in bounds], np.int32)
    distinct = [np.frombuffer(key, np.int64) for key in sets]
    first = np.concatenate([[0], np.cumsum([len(d) for d in distinct])])
    return source[order][starts], target[order][starts], class_set, first, np.concatenate(distinct)
