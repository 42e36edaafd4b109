"""The keywords that apply other schemas to the same value, and references.

Each function says what its keyword leaves of a context: of what the keywords read before it allow. Branches of `oneOf`
that only differ together with these (`required` beside it, say) are told apart by that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from diffusiongemma.control.json_schema.combining import intersected_unions, loosened, without
from diffusiongemma.control.json_schema.dialects import at
from diffusiongemma.control.json_schema.keywords import mapping, strings, subschemas
from diffusiongemma.control.json_schema.problems import not_told, refusal
from diffusiongemma.control.json_schema.scalars import NotNegatable
from diffusiongemma.control.json_schema.shapes import ANY_SHAPES, NOTHING, ObjectShape, Shapes, Term

if TYPE_CHECKING:
    from diffusiongemma.control.json_schema.schema import SchemaReader

Read = Callable[["SchemaReader", Mapping[str, Any], str, Shapes], Shapes]
UNEVALUATED = {"unevaluatedProperties", "unevaluatedItems"}
NOT_OBJECTS: Shapes = [shape for shape in ANY_SHAPES if not isinstance(shape, ObjectShape)]


def _ref(reader: SchemaReader, raw: Mapping[str, Any], where: str, context: Shapes) -> Shapes:
    """What is in another document may be anything: nothing of it is written, and all of it is taken for forbidden where
    it is negated."""
    target = raw["$ref"]
    if (referred := reader.referred(target, where)) is not None:
        return reader.intersected(context, reader.shapes((referred,)), f"{where}/$ref")
    elsewhere = f"{target!r} is another document: copy it under $defs"
    if reader.strict:
        raise refusal("$ref", where, elsewhere)
    reader.notes.narrow("$ref", where, elsewhere, "is left out")
    return context if reader.negated else []


def _dynamic_ref(reader: SchemaReader, raw: Mapping[str, Any], where: str, context: Shapes) -> Shapes:
    """Where it can only mean one place, it is a $ref."""
    target = raw["$dynamicRef"]
    if not isinstance(target, str) or not reader.resources.is_plain(target.rpartition("#")[2]):
        raise refusal("$dynamicRef", where, "what it points to depends on who refers: write $ref")
    return _ref(reader, {"$ref": target}, where, context)


def _recursive_ref(reader: SchemaReader, raw: Mapping[str, Any], where: str, context: Shapes) -> Shapes:
    raise refusal("$recursiveRef", where, "write $ref")


def _all_of(reader: SchemaReader, raw: Mapping[str, Any], where: str, context: Shapes) -> Shapes:
    for term in subschemas(raw, "allOf", where):
        if isinstance(term.raw, Mapping) and term.raw.keys() & {"allOf", "oneOf"} and not term.raw.keys() & UNEVALUATED:
            context = reader.within(term, context)
        else:
            context = reader.intersected(context, reader.shapes((term,)), term.where)
    return context


def _any_of(reader: SchemaReader, raw: Mapping[str, Any], where: str, context: Shapes) -> Shapes:
    union = list(dict.fromkeys(s for term in subschemas(raw, "anyOf", where) for s in reader.shapes((term,))))
    return reader.intersected(context, union, f"{where}/anyOf")


def _one_of(reader: SchemaReader, raw: Mapping[str, Any], where: str, context: Shapes) -> Shapes:
    """Each branch less whatever another branch allows too."""
    terms = subschemas(raw, "oneOf", where)
    union: dict[Any, None] = {}
    for i, term in enumerate(terms):
        mine = reader.intersected(context, reader.shapes((term,)), term.where)
        for j, other in enumerate(terms):
            if j != i and mine:
                with reader.under_negation():
                    others = reader.shapes((other,))
                mine = _less(reader, mine, others, f"{min(i, j)} and {max(i, j)}", where)
        union.update(dict.fromkeys(mine))
    if not union and not reader.negated:
        reader.notes.narrow("oneOf", where, "whatever meets one branch meets another too: use anyOf", "allows nothing")
    return list(union)


def _overlap(reader: SchemaReader, a: Shapes, b: Shapes) -> bool:
    with reader.under_negation():  # what overlaps is not allowed
        return any(reader.possible(shape) for shape in intersected_unions(loosened(a), loosened(b)))


def _less(reader: SchemaReader, mine: Shapes, others: Shapes, branches: str, where: str) -> Shapes:
    overlapping = [shape for shape in others if _overlap(reader, mine, [shape])]
    if not overlapping:
        return mine
    mend = f"a value can meet branches {branches}: part them by type, const or a required property, or use anyOf"
    try:
        left = without(mine, overlapping)
    except NotNegatable as error:
        if reader.negated:
            raise not_told("oneOf", where, mend) from error
        reader.notes.narrow("oneOf", where, mend)
        left = without(mine, overlapping, whole=False)
    return [shape for shape in left if reader.possible(shape)]


def _not(reader: SchemaReader, raw: Mapping[str, Any], where: str, context: Shapes) -> Shapes:
    term = Term(f"{where}/not", raw["not"], negated=True)
    return reader.intersected(context, reader.shapes((term,)), term.where)


def _if(reader: SchemaReader, raw: Mapping[str, Any], where: str, context: Shapes) -> Shapes:
    condition = Term(f"{where}/if", raw["if"])
    branches = {key: (Term(f"{where}/{key}", raw[key]),) if key in raw else () for key in ("then", "else")}
    if not branches["then"] and not branches["else"]:
        return context
    union = reader.shapes((condition, *branches["then"])) + reader.shapes((condition.negation, *branches["else"]))
    return reader.intersected(context, union, condition.where)


def _dependent_required(reader: SchemaReader, raw: Mapping[str, Any], where: str, context: Shapes) -> Shapes:
    for name, needed in mapping(raw, "dependentRequired", where).items():
        present = ObjectShape(required=(name, *strings(needed, "dependentRequired", where)))
        context = reader.intersected(context, [*NOT_OBJECTS, _lacking(name), present], f"{where}/dependentRequired")
    return context


def _dependent_schemas(reader: SchemaReader, raw: Mapping[str, Any], where: str, context: Shapes) -> Shapes:
    for name, schema in mapping(raw, "dependentSchemas", where).items():
        then = Term(at(where, "dependentSchemas", name), schema)
        present = reader.intersected([ObjectShape(required=(name,))], reader.shapes((then,)), then.where)
        context = reader.intersected(context, [*NOT_OBJECTS, _lacking(name), *present], f"{where}/dependentSchemas")
    return context


def _lacking(name: str) -> ObjectShape:
    return ObjectShape(properties=((name, NOTHING),))


APPLICATORS: dict[str, Read | None] = {
    "$ref": _ref,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
    "then": None,  # read with 'if'
    "else": None,
    "dependentRequired": _dependent_required,
    "dependentSchemas": _dependent_schemas,
    "$dynamicRef": _dynamic_ref,
    "$recursiveRef": _recursive_ref,
    "unevaluatedProperties": None,  # read after all others
    "unevaluatedItems": None,
}
