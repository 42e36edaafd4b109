"""How deeply values stand inside values: which schemas lead back to themselves, and how far these are unrolled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from diffusiongemma.control.json_schema.scalars import LONGEST_COUNT
from diffusiongemma.control.json_schema.shapes import Terms

ANY_VALUE: Terms = ()
MOST_ITEMS = 100_000
MOST_STATES = 70_000


@dataclass(frozen=True)
class Reach:
    """How far a language goes where a schema sets no limit, or one beyond what can be compiled."""

    recursions: int = 0  # how often schemas that lead back to one another may stand inside one another
    free: int = 0  # how often a value without a schema may stand inside another
    deepest: int | None = None  # values inside values, beyond which properties are written only where they are required
    states: int = 20_000  # how large the automaton may be
    counts: int = LONGEST_COUNT  # characters of a string
    items: int = MOST_ITEMS  # of an array, and properties without a name, where there is a limit to them


REACHES = (  # each allows less than the one before
    Reach(12, 2),
    Reach(6, 2, items=200),
    Reach(3, 2, items=100),
    Reach(3, 1, counts=1024, items=50),
    Reach(1, 1, counts=1024, items=25),
    Reach(1, 0, counts=512, items=25),
    Reach(0, 0, counts=512, items=12),
    Reach(0, 0, deepest=5, counts=256, items=12),
    Reach(0, 0, deepest=3, states=MOST_STATES, counts=256, items=6),
)


FURTHER = Reach(12, 3, states=1000)  # where that is small; each level of values without a schema doubles the automaton


@dataclass(frozen=True, eq=False)
class Nesting:
    """Of the terms that lead back to themselves: which of them lead to one another, and which come first on the way."""

    component: Mapping[Terms, int] = field(default_factory=lambda: {ANY_VALUE: 0})
    heads: frozenset[Terms] = frozenset({ANY_VALUE})

    @property
    def is_recursive(self) -> bool:
        """Whether more than values without a schema stand inside themselves."""
        return len(self.heads) > 1

    def knowing(self, heads: Iterable[Terms], inside: Mapping[Terms, Iterable[Terms]]) -> Nesting:
        """With more heads; `inside` has the terms that stand directly inside others."""
        component = {
            terms: number
            for number, members in enumerate(_components(inside))
            for terms in members
            if len(members) > 1 or terms in inside.get(terms, ())
        }
        return Nesting({ANY_VALUE: -1} | component, self.heads | frozenset(heads))


def _components(edges: Mapping[Terms, Iterable[Terms]]) -> Iterator[list[Terms]]:
    """The strongly connected components (Tarjan 1972)."""
    number: dict[Terms, int] = {}
    lowest: dict[Terms, int] = {}
    stack: list[Terms] = []
    for root in edges:
        path = [] if root in number else [(root, iter(edges[root]))]
        while path:
            node, following = path[-1]
            if node not in number:
                number[node] = lowest[node] = len(number)
                stack.append(node)
            for other in following:
                if other not in number:
                    path.append((other, iter(edges.get(other, ()))))
                    break
                if other in lowest:
                    lowest[node] = min(lowest[node], lowest[other])
            else:
                path.pop()
                if path:
                    lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[node])
                if lowest[node] == number[node]:
                    members = stack[stack.index(node) :]
                    del stack[len(stack) - len(members) :]
                    for member in members:
                        del lowest[member]
                    yield members
