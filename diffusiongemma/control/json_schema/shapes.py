"""What a JSON Schema says about a value, type by type, in a form that can be intersected and negated.

A schema becomes a union of *shapes*, each about one JSON type. What it says about the values inside (properties,
items) stays unread as *terms* until it is needed, so recursive schemas stay finite. Shapes are exact: what is written
in the end may be less than a schema allows (see `writer`), never more.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from diffusiongemma.control.json_schema.scalars import BooleanShape, NotNegatable, NullShape, NumberShape, StringShape


@dataclass(frozen=True)
class Term:
    """A subschema that a value must meet (or, negated, must not), known by where it stands."""

    where: str
    raw: Any = field(compare=False)
    negated: bool = False

    @property
    def negation(self) -> Term:
        return replace(self, negated=not self.negated)


Terms = tuple[Term, ...]  # all of them hold; () is any value
NOTHING: Terms = (Term("(nothing)", False),)


@dataclass(frozen=True)
class Contains:
    terms: Terms
    least: int = 1
    most: int | None = None


@dataclass(frozen=True)
class ArrayShape:
    prefix: tuple[Terms, ...] = ()
    rest: Terms = ()  # of the items after the prefix
    least: int = 0
    most: int | None = None
    contains: tuple[Contains, ...] = ()
    unique: bool = False
    spoken: int = 0  # how many of the first items the schema has evaluated
    speaks_of_all: bool = False

    def item(self, i: int) -> Terms:
        return self.prefix[i] if i < len(self.prefix) else self.rest

    def opposite(self, whole: bool = True) -> list[Shape]:
        if whole and (self.unique or (self.prefix and self.rest) or any(c.most is not None for c in self.contains)):
            raise NotNegatable("the opposite of such an array")
        shapes: list[Shape] = [ArrayShape(most=self.least - 1)] if self.least else []
        if self.most is not None:
            shapes.append(ArrayShape(least=self.most + 1))
        for i, terms in enumerate(self.prefix):
            shapes += [ArrayShape(prefix=((),) * i + ((t.negation,),), least=i + 1) for t in terms]
        shapes += [ArrayShape(contains=(Contains((t.negation,)),)) for t in self.rest if not self.prefix]
        for contains in self.contains:  # fewer than `least` items meet all terms
            if len(contains.terms) == 1 and contains.least == 1:
                shapes.append(ArrayShape(rest=(contains.terms[0].negation,)))
            elif whole:
                raise NotNegatable("the opposite of 'contains'")
        return shapes


@dataclass(frozen=True)
class Rest:
    """What one schema says about properties it does not name."""

    names: frozenset[str] = frozenset()
    patterns: tuple[tuple[str, Terms], ...] = ()  # regular expression → what properties that match it must meet
    additional: Terms = ()  # what all others must meet
    declared: bool = False  # whether the schema asked for other properties
    unevaluated: bool = False  # of all that this way of meeting a schema did not evaluate; other ways may have

    def broken(self) -> list[Other]:
        """The properties each of which breaks it."""
        unmatched = tuple((pattern, False) for pattern, _ in self.patterns)
        found = [Other(self.names, unmatched, _negation(term)) for term in self.additional]
        for pattern, terms in self.patterns:
            found += [Other(frozenset(), ((pattern, True),), _negation(term)) for term in terms]
        return found


@dataclass(frozen=True)
class Other:
    """A property that there must be: none of these names, matching these patterns or not, its value meeting all terms.

    It is what breaks a rule about properties without a name.
    """

    names: frozenset[str] = frozenset()
    matches: tuple[tuple[str, bool], ...] = ()
    terms: Terms = ()

    def __and__(self, other: Other) -> Other:
        """One property that is both."""
        matches = tuple(dict.fromkeys(self.matches + other.matches))
        return Other(self.names | other.names, matches, merged(self.terms, other.terms))


@dataclass(frozen=True)
class Spoken:
    """The properties that a schema has evaluated, in the sense of `unevaluatedProperties`."""

    names: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()
    all: bool = False

    def __or__(self, other: Spoken) -> Spoken:
        patterns = tuple(dict.fromkeys(self.patterns + other.patterns))
        return Spoken(self.names | other.names, patterns, self.all or other.all)


@dataclass(frozen=True)
class ObjectShape:
    properties: tuple[tuple[str, Terms], ...] = ()
    required: tuple[str, ...] = ()
    rests: tuple[Rest, ...] = ()
    names: Terms = ()  # what every property name must meet
    least: int = 0
    most: int | None = None
    spoken: Spoken = Spoken()
    others: tuple[Other, ...] = ()

    @property
    def nothing_else(self) -> Terms:
        """What a single rule says of undeclared properties, if it is that there are none."""
        found = self.rests[0].additional if len(self.rests) == 1 else ()
        return found if len(found) == 1 and found[0].raw is False and not found[0].negated else NOTHING

    def opposite(self, whole: bool = True) -> list[Shape]:
        if whole and (self.names or any(other.matches or other.terms for other in self.others)):
            raise NotNegatable("the opposite of an object with rules for the names of its properties")
        if whole and any(rest.unevaluated for rest in self.rests):
            raise NotNegatable("the opposite of 'unevaluatedProperties'")
        return self.broken_rules()

    @property
    def is_closed(self) -> bool:
        """Whether there are just the named properties."""
        names = frozenset(name for name, _ in self.properties)
        return not self.names and not self.others and self.rests == (Rest(names, (), self.nothing_else, True),)

    def broken_rules(self) -> list[Shape]:
        """The objects that break a rule about the named properties or their number."""
        shapes: list[Shape] = [ObjectShape(properties=((name, NOTHING),)) for name in self.required]
        for name, terms in self.properties:
            shapes += [ObjectShape(properties=((name, (t.negation,)),), required=(name,)) for t in terms]
        if self.least:
            shapes.append(ObjectShape(most=self.least - 1))
        if self.most is not None:
            shapes.append(ObjectShape(least=self.most + 1))
        for rest in (rest for rest in self.rests if not rest.unevaluated):
            shapes += [ObjectShape(others=(broken,)) for broken in rest.broken()]
        for other in self.others:
            named = tuple((name, ()) for name in sorted(other.names))
            shapes.append(ObjectShape(properties=named, rests=(Rest(other.names, (), NOTHING, True),)))
        return shapes


Shape = NullShape | BooleanShape | StringShape | NumberShape | ArrayShape | ObjectShape
Shapes = list[Shape]  # any one of them; [] is no value at all
ANY_SHAPES: Shapes = [NullShape(), BooleanShape(), NumberShape(), StringShape(), ArrayShape(), ObjectShape()]


def _negation(term: Term) -> Terms:
    return () if term.raw is False and not term.negated else (term.negation,)


def merged(a: Terms, b: Terms) -> Terms:
    return tuple(dict.fromkeys(a + b))
