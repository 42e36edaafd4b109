"""Reading JSON Schema: every keyword is understood, noted as one that says nothing, or refused by name and place,
before anything is generated.

`SchemaReader.shapes` turns terms into a union of shapes; `writer` then writes shapes as a language.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from diffusiongemma.control.json_schema.applicators import APPLICATORS
from diffusiongemma.control.json_schema.combining import intersected, intersected_unions, negated
from diffusiongemma.control.json_schema.dialects import ANNOTATIONS, Dialect, Resources
from diffusiongemma.control.json_schema.keywords import (
    TYPED_KEYWORDS,
    listed_shapes,
    typed_shapes,
    unknown_format,
)
from diffusiongemma.control.json_schema.patterns import is_found, is_other, most_repeats
from diffusiongemma.control.json_schema.problems import (
    TOO_LARGE,
    Notes,
    NotTold,
    Refusal,
    all_of,
    malformed,
    not_told,
    refusal,
    schema_error,
)
from diffusiongemma.control.json_schema.scalars import NotNegatable, StringShape
from diffusiongemma.control.json_schema.shapes import (
    ANY_SHAPES,
    ArrayShape,
    ObjectShape,
    Other,
    Rest,
    Shape,
    Shapes,
    Term,
    Terms,
    merged,
)
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.languages.minimal import chars_to_end

LARGEST_UNION, MANY = 200, 24
MOST_REFERENCES = 50  # in a row
DEEPEST_PROOF = 4  # levels of nesting in which contradictions are looked for


class _LeadsBack(Refusal):
    """Shapes are asked for while they are being found."""


class SchemaReader:
    """Reads one schema document. Shapes are remembered by where their terms stand.

    With `strict`, keywords and formats that JSON Schema does not know are refused; else they are noted in `notes`.
    """

    def __init__(self, root: Any, strict: bool = False) -> None:
        self.root, self.strict, self.notes = root, strict, Notes()
        self._dialect = Dialect(root)
        self.resources = Resources(root, self._dialect)
        self._shapes: dict[tuple[Terms, bool], Shapes] = {}
        self._open: list[tuple[Terms, bool]] = []
        self._proofs: dict[tuple[Terms, int, bool], bool] = {}  # by terms and depth, whether a value can meet them
        self._assumed = 0  # how often that was taken for granted, as the terms were being looked through
        self.negated = False  # whether what is read stands under an odd number of negations

    @property
    def root_terms(self) -> Terms:
        return (Term("", self.root),)

    def shapes(self, terms: Terms) -> Shapes:
        """The union of shapes that a value meeting all terms has; [] if there is no such value, as far as seen."""
        key = terms, self.negated  # what is allowed may be told in part, what is not must be told whole
        if key not in self._shapes:
            if key in self._open:
                where = terms[0].where or "/"
                message = f"$ref at {where} leads back to itself: put a property or an item in between"
                raise _LeadsBack(message, option="json_schema")
            self._open.append(key)
            try:
                union = ANY_SHAPES
                for term in terms:
                    union = self.intersected(union, self._of_term(term), term.where)
            finally:
                self._open.pop()
            self._shapes[key] = union  # what a recursive schema sees of itself while it is looked through
            self._shapes[key] = [shape for shape in union if self.possible(shape)]
        return self._shapes[key]

    def resolved(self, terms: Terms) -> Terms:
        """The terms with those that only refer to a schema replaced by it, and without those that say nothing."""
        found: dict[Term, None] = {}
        for term in terms:
            for _ in range(MOST_REFERENCES):
                if not isinstance(term.raw, Mapping) or term.raw.keys() - ANNOTATIONS != {"$ref"}:
                    break
                if (referred := self.referred(term.raw["$ref"], term.where)) is None:
                    break
                term = replace(referred, negated=term.negated)
            if term.negated or not (term.raw is True or term.raw == {}):
                found[term] = None
        return tuple(found)

    def possible(self, shape: Shape, depth: int = DEEPEST_PROOF) -> bool:
        """False where a required part plainly can't exist (looked for `depth` levels down)."""
        match shape:
            case ObjectShape():
                needed = len(set(shape.required))
                if shape.most is not None and needed > shape.most:
                    return False
                required = all(self._satisfiable(self.property_terms(shape, name), depth) for name in shape.required)
                return required and all(self._is_possible(other, shape, depth) for other in shape.others)
            case ArrayShape():
                needed = min(shape.least, len(shape.prefix) + 1)
                return all(self._satisfiable(shape.item(i), depth) for i in range(needed))
            case StringShape() if shape.content is not lang.ANY_TEXT and (shape.most is not None or shape.outer):
                if self.negated and shape.outer:  # what any reader takes counts
                    return True
                dfa = compile_language(shape.content)
                return not dfa.is_empty and (shape.most is None or int(chars_to_end(dfa)[0]) <= shape.most)
        return True

    def _is_possible(self, other: Other, shape: ObjectShape, depth: int) -> bool:
        """Whether an object of this shape can have such a property: a named one, or one without a name."""
        named = [name for name, _ in shape.properties if is_other(name, other)]
        found = [merged(self.property_terms(shape, name), other.terms) for name in named]
        known = other.names | {name for name, _ in shape.properties}
        of_all_others = [rest for rest in shape.rests if not rest.patterns and rest.names <= known]
        rules = dict.fromkeys(term for rest in of_all_others for term in rest.additional)
        return any(self._satisfiable(terms, depth) for terms in (*found, merged(tuple(rules), other.terms)))

    def _satisfiable(self, terms: Terms, depth: int) -> bool:
        if depth == 0 or any(terms == opened for opened, _ in self._open):
            self._assumed += depth > 0
            return True
        key, assumed = (terms, depth, self.negated), self._assumed
        if key in self._proofs:
            return self._proofs[key]
        try:
            found = any(self.possible(shape, depth - 1) for shape in self.shapes(terms))
        except (_LeadsBack, NotTold):  # it is being looked through, or can't be: no contradiction so far
            self._assumed += 1
            return True
        if not found or assumed == self._assumed:  # it would be found again
            self._proofs[key] = found
        return found

    def property_terms(self, shape: ObjectShape, name: str) -> Terms:
        """Everything that the value of property `name` must meet."""
        terms = dict(shape.properties).get(name, ())
        for rest in shape.rests:
            for pattern, found in rest.patterns:
                terms += found if is_found(pattern, name) is not False else ()
            if name not in rest.names and not any(is_found(pattern, name) for pattern, _ in rest.patterns):
                terms += rest.additional
        return tuple(dict.fromkeys(terms))

    def intersected(self, a: Shapes, b: Shapes, where: str) -> Shapes:
        union = intersected_unions(a, b)
        if len(union) > MANY:  # of conditions on one property most contradict each other
            union = [shape for shape in union if self.possible(shape, 1)]
        if len(union) > LARGEST_UNION:
            raise schema_error(f"more than {LARGEST_UNION} alternatives at {where or '/'}: simplify it")
        return union

    def _of_term(self, term: Term) -> Shapes:
        if not term.negated:
            return self._of_schema(term.raw, term.where)
        with self.under_negation():
            shapes = self._of_schema(term.raw, term.where)
        try:
            return negated(shapes)
        except NotNegatable as error:
            why = f"it needs {error}: say what is allowed instead"
            if self.negated:
                raise not_told("not", term.where, why) from error
            self.notes.narrow("not", term.where, why)
            return negated(shapes, whole=False)

    @contextmanager
    def under_negation(self) -> Iterator[None]:
        self.negated = not self.negated
        try:
            yield
        finally:
            self.negated = not self.negated

    def within(self, term: Term, context: Shapes) -> Shapes:
        """What a schema that is not negated leaves of a context."""
        return self._of_schema(term.raw, term.where, context)

    def _of_schema(self, raw: Any, where: str, context: Shapes = ANY_SHAPES) -> Shapes:
        if isinstance(raw, bool):
            return context if raw else []
        if not isinstance(raw, Mapping):
            raise schema_error(f"what stands at {where or '/'} is not a schema (an object, true or false)")
        raw = self._dialect.modern(raw, where, self.notes, self.negated)
        self._look_for_unknown(raw, where)
        union = self.intersected(listed_shapes(raw, where), typed_shapes(raw, where), where)
        self._note_repeats(raw, where)
        union = self.intersected(context, union, where)
        for keyword, read in APPLICATORS.items():
            if keyword in raw and read is not None:
                union = read(self, raw, where, union)
        return [_evaluated(shape, raw, where) for shape in union]

    def _look_for_unknown(self, raw: Mapping[str, Any], where: str) -> None:
        unknown = [(k, "JSON Schema does not know it") for k in raw.keys() - KNOWN if not k.startswith("x-")]
        if unknown_format(raw):
            unknown.append(("format", f"{raw['format']!r} is no format that is known here"))
        unknown.sort(key=lambda found: list(raw).index(found[0]))
        if self.strict and unknown:
            raise all_of([refusal(k, where, f"{why}: remove it, or leave strict_schema out") for k, why in unknown])
        for keyword, why in unknown:
            self.notes(keyword, where, why)

    def _note_repeats(self, raw: Mapping[str, Any], where: str) -> None:
        """What is said of patterns, read already, that are too large as they are."""
        read = [("pattern", raw["pattern"])] if "pattern" in raw else []
        for keyword, pattern in read + [("patternProperties", p) for p in raw.get("patternProperties", ())]:
            if (times := most_repeats(pattern)) is not None and not self.negated:
                self.notes.narrow(keyword, where, f"what it repeats, {times} times at most, {TOO_LARGE}")

    def referred(self, target: Any, where: str) -> Term | None:
        """What a reference that stands there refers to; None where that is in another document."""
        if not isinstance(target, str):
            raise malformed("$ref", where, "a string")
        if (found := self.resources.target(target, where)) is None:
            return None
        raw = self.root
        for part in unquote(found).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                raw = raw[int(key)] if isinstance(raw, list) else raw[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise schema_error(f"$ref {target!r} at {where or '/'} points to nothing") from None
        return Term(unquote(found), raw)


def _evaluated(shape: Shape, raw: Mapping[str, Any], where: str) -> Shape:
    """The shape with what `unevaluated…` says of the parts that nothing else has spoken of."""
    if isinstance(shape, ObjectShape) and "unevaluatedProperties" in raw:
        rule = (Term(f"{where}/unevaluatedProperties", raw["unevaluatedProperties"]),)
        rest = Rest(
            shape.spoken.names, tuple((p, ()) for p in shape.spoken.patterns), rule, declared=True, unevaluated=True
        )
        rests = shape.rests if shape.spoken.all else (*shape.rests, rest)
        return replace(shape, rests=rests, spoken=replace(shape.spoken, all=True))
    if isinstance(shape, ArrayShape) and "unevaluatedItems" in raw and not shape.speaks_of_all:
        if shape.contains:
            raise refusal("unevaluatedItems", where, "drafts differ on it beside contains: write items")
        rule = (Term(f"{where}/unevaluatedItems", raw["unevaluatedItems"]),)
        rest_of = ArrayShape(prefix=((),) * shape.spoken, rest=rule, spoken=shape.spoken, speaks_of_all=True)
        return intersected(shape, rest_of) or shape
    return shape


KNOWN = TYPED_KEYWORDS | APPLICATORS.keys() | ANNOTATIONS
