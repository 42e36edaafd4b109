"""Reading JSON Schema (draft 2020-12): every keyword is understood or refused by name, before anything is generated.

`SchemaReader.shapes` turns terms into a union of shapes; `json_text` then writes shapes as a language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from diffusiongemma.control.json_schema.keywords import (
    ANNOTATIONS,
    REFUSED,
    TYPED_KEYWORDS,
    listed_shapes,
    malformed,
    mapping,
    refusal,
    schema_error,
    strings,
    subschemas,
    typed_shapes,
)
from diffusiongemma.control.json_schema.shapes import (
    ANY_SHAPES,
    NOTHING,
    ArrayShape,
    NotNegatable,
    ObjectShape,
    Rest,
    Shape,
    Shapes,
    Term,
    Terms,
    intersected_unions,
    loosened,
    negated,
)

LARGEST_UNION = 200
MOST_REFERENCES = 50  # in a row
DEEPEST_PROOF = 4  # levels of nesting in which contradictions are looked for


class SchemaReader:
    """Reads one schema document. Shapes are remembered by where their terms stand."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._shapes: dict[Terms, Shapes] = {}
        self._open: list[Terms] = []

    @property
    def root_terms(self) -> Terms:
        return (Term("", self.root),)

    def shapes(self, terms: Terms) -> Shapes:
        """The union of shapes that a value meeting all terms has; [] if there is no such value, as far as seen."""
        if terms not in self._shapes:
            if terms in self._open:
                where = terms[0].where or "/"
                raise schema_error(f"$ref at {where} leads back to itself: put a property or an item in between")
            self._open.append(terms)
            union = ANY_SHAPES
            for term in terms:
                union = self._intersected(union, self._of_term(term), term.where)
            self._open.pop()
            self._shapes[terms] = union  # what a recursive schema sees of itself while it is looked through
            self._shapes[terms] = [shape for shape in union if self.possible(shape)]
        return self._shapes[terms]

    def resolved(self, terms: Terms) -> Terms:
        """The terms with those that only refer to a schema replaced by it, and without those that say nothing."""
        found: dict[Term, None] = {}
        for term in terms:
            for _ in range(MOST_REFERENCES):
                if not isinstance(term.raw, Mapping) or term.raw.keys() - ANNOTATIONS != {"$ref"}:
                    break
                term = replace(self._resolved(str(term.raw["$ref"]), term.where), negated=term.negated)
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
                return all(self._satisfiable(self.property_terms(shape, name), depth) for name in shape.required)
            case ArrayShape():
                needed = min(shape.least, len(shape.prefix) + 1)
                return all(self._satisfiable(shape.item(i), depth) for i in range(needed))
        return True

    def _satisfiable(self, terms: Terms, depth: int) -> bool:
        if terms in self._open or depth == 0:
            return True
        return any(self.possible(shape, depth - 1) for shape in self.shapes(terms))

    def property_terms(self, shape: ObjectShape, name: str) -> Terms:
        """Everything that the value of property `name` must meet."""
        terms = dict(shape.properties).get(name, ())
        for rest in shape.rests:
            matching = [t for pattern, t in rest.patterns if re.search(pattern, name)]
            for found in matching:
                terms += found
            if not matching and name not in rest.names:
                terms += rest.additional
        return tuple(dict.fromkeys(terms))

    def _intersected(self, a: Shapes, b: Shapes, where: str) -> Shapes:
        union = intersected_unions(a, b)
        if len(union) > LARGEST_UNION:
            raise schema_error(f"more than {LARGEST_UNION} alternatives at {where or '/'}: simplify it")
        return union

    def _of_term(self, term: Term) -> Shapes:
        shapes = self._of_schema(term.raw, term.where)
        if not term.negated:
            return shapes
        try:
            return negated(shapes)
        except NotNegatable as error:
            raise refusal("not", term.where, f"it needs {error}: say what is allowed instead") from error

    def _of_schema(self, raw: Any, where: str) -> Shapes:
        if isinstance(raw, bool):
            return ANY_SHAPES if raw else []
        if not isinstance(raw, Mapping):
            raise schema_error(f"what stands at {where or '/'} is not a schema (an object, true or false)")
        for keyword in raw:
            if keyword in REFUSED:
                raise refusal(keyword, where, REFUSED[keyword])
            if keyword not in TYPED_KEYWORDS | APPLICATORS.keys() | ANNOTATIONS and not keyword.startswith("x-"):
                raise refusal(keyword, where)
        union = self._intersected(listed_shapes(raw, where), typed_shapes(raw, where), where)
        for keyword, read in APPLICATORS.items():
            if keyword in raw and read is not None:
                union = self._intersected(union, read(self, raw, where), f"{where}/{keyword}")
        return _without_unevaluated(union, raw, where) if "unevaluatedProperties" in raw else union

    # -- applicators

    def ref(self, raw: Mapping[str, Any], where: str) -> Shapes:
        target = raw["$ref"]
        if not isinstance(target, str):
            raise malformed("$ref", where, "a string")
        return self.shapes((self._resolved(target, where),))

    def _resolved(self, target: str, where: str) -> Term:
        if target == "#" or target == (self.root.get("$id") if isinstance(self.root, Mapping) else None):
            return Term("", self.root)
        if not target.startswith("#"):
            raise refusal("$ref", where, f"{target!r} is another document: copy it under $defs")
        if not target.startswith("#/"):
            return self._anchored(target[1:], where)
        raw = self.root
        for part in unquote(target[2:]).split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                raw = raw[int(key)] if isinstance(raw, list) else raw[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise schema_error(f"$ref {target!r} at {where or '/'} points to nothing") from None
        return Term(target[1:], raw)

    def _anchored(self, anchor: str, where: str) -> Term:
        for collection in ("$defs", "definitions"):
            for name, raw in self.root.get(collection, {}).items():
                if isinstance(raw, Mapping) and raw.get("$anchor") == anchor:
                    return Term(f"/{collection}/{name}", raw)
        raise schema_error(f"$ref '#{anchor}' at {where or '/'} points to nothing")

    def all_of(self, raw: Mapping[str, Any], where: str) -> Shapes:
        union = ANY_SHAPES
        for term in subschemas(raw, "allOf", where):
            union = self._intersected(union, self.shapes((term,)), term.where)
        return union

    def any_of(self, raw: Mapping[str, Any], where: str) -> Shapes:
        return list(dict.fromkeys(s for term in subschemas(raw, "anyOf", where) for s in self.shapes((term,))))

    def one_of(self, raw: Mapping[str, Any], where: str) -> Shapes:
        """Each branch less whatever another branch allows too."""
        terms = subschemas(raw, "oneOf", where)
        union: Shapes = []
        for i, term in enumerate(terms):
            mine = self.shapes((term,))
            for j, other in enumerate(terms):
                if j != i and mine and self._overlap(mine, self.shapes((other,))):
                    mine = self._less(mine, other, f"{min(i, j)} and {max(i, j)}", where)
            union += [shape for shape in mine if shape not in union]
        return union

    def _overlap(self, a: Shapes, b: Shapes) -> bool:
        return any(self.possible(shape) for shape in intersected_unions(loosened(a), loosened(b)))

    def _less(self, mine: Shapes, other: Term, branches: str, where: str) -> Shapes:
        mend = f"a value can meet branches {branches}: part them by type, const or a required property, or use anyOf"
        try:
            left = self._intersected(mine, negated(self.shapes((other,))), where)
        except NotNegatable as error:
            raise refusal("oneOf", where, mend) from error
        left = [shape for shape in left if self.possible(shape)]
        if not left:
            raise refusal("oneOf", where, mend)
        return left

    def not_(self, raw: Mapping[str, Any], where: str) -> Shapes:
        return self.shapes((Term(f"{where}/not", raw["not"], negated=True),))

    def if_(self, raw: Mapping[str, Any], where: str) -> Shapes:
        condition = Term(f"{where}/if", raw["if"])
        branches = {key: (Term(f"{where}/{key}", raw[key]),) if key in raw else () for key in ("then", "else")}
        if not branches["then"] and not branches["else"]:
            return ANY_SHAPES
        return self.shapes((condition, *branches["then"])) + self.shapes((condition.negation, *branches["else"]))

    def dependent_required(self, raw: Mapping[str, Any], where: str) -> Shapes:
        union = ANY_SHAPES
        for name, needed in mapping(raw, "dependentRequired", where).items():
            present = ObjectShape(required=(name, *strings(needed, "dependentRequired", where)))
            union = self._intersected(union, [*NOT_OBJECTS, _lacking(name), present], where)
        return union

    def dependent_schemas(self, raw: Mapping[str, Any], where: str) -> Shapes:
        union = ANY_SHAPES
        for name, schema in mapping(raw, "dependentSchemas", where).items():
            then = self.shapes((Term(f"{where}/dependentSchemas/{name}", schema),))
            present = self._intersected([ObjectShape(required=(name,))], then, where)
            union = self._intersected(union, [*NOT_OBJECTS, _lacking(name), *present], where)
        return union


NOT_OBJECTS: Shapes = [shape for shape in ANY_SHAPES if not isinstance(shape, ObjectShape)]


def _lacking(name: str) -> ObjectShape:
    return ObjectShape(properties=((name, NOTHING),))


def _without_unevaluated(union: Shapes, raw: Mapping[str, Any], where: str) -> Shapes:
    rule = raw["unevaluatedProperties"]
    if rule is True:
        return union
    if rule is not False or "not" in raw:
        raise refusal("unevaluatedProperties", where, "only true, and false without 'not', can be")
    return [_closed(shape) if isinstance(shape, ObjectShape) else shape for shape in union]


def _closed(shape: ObjectShape) -> ObjectShape:
    """The same without properties that nothing has spoken about (a negated schema does not speak)."""
    if any(rest.declared and rest.additional != NOTHING for rest in shape.rests):
        return shape
    spoken = frozenset(name for name, terms in shape.properties if any(not term.negated for term in terms))
    patterns = tuple(p for rest in shape.rests for p in rest.patterns)
    return replace(shape, rests=(*shape.rests, Rest(spoken, patterns, NOTHING, declared=True)))


APPLICATORS: dict[str, Callable[[SchemaReader, Mapping[str, Any], str], Shapes] | None] = {
    "$ref": SchemaReader.ref,
    "allOf": SchemaReader.all_of,
    "anyOf": SchemaReader.any_of,
    "oneOf": SchemaReader.one_of,
    "not": SchemaReader.not_,
    "if": SchemaReader.if_,
    "then": None,  # read with 'if'
    "else": None,
    "dependentRequired": SchemaReader.dependent_required,
    "dependentSchemas": SchemaReader.dependent_schemas,
    "unevaluatedProperties": None,  # read after all others
}
