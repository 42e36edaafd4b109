"""JSON Schema: whatever is written parses and validates; whatever can't be honoured is refused by name."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
from typing import Any

import jsonschema
import pytest
import torch
from schemas import NAMES, PERSON, REAL, SchemaGenerator

from bench.walks import random_texts
from diffusiongemma.control.compiling import compile_constraint
from diffusiongemma.control.json_schema.formats import FORMATS, format_language
from diffusiongemma.control.json_schema.text import json_schema_language, read_schema
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.languages.dfa import CharDfa, TooLarge
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.errors import InputError

SCHEMAS = int(os.environ.get("DIFFUSIONGEMMA_SCHEMAS", "250"))  # the full check: 1000 or more
TEXTS = 6
FORMAT_CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER


def compiled(schema: Any) -> CharDfa:
    return compile_language(json_schema_language(schema))


def assert_valid(schema: Any, text: str) -> None:
    value = json.loads(text)
    text.encode()
    jsonschema.Draft202012Validator(schema, format_checker=FORMAT_CHECKER).validate(value)


def test_random_schemas_are_met_or_refused():
    """Soundness over generated schemas; refusals say so and stay the exception."""
    refused = 0
    for seed in range(SCHEMAS):
        schema = SchemaGenerator(seed).document()
        rng = random.Random(seed)
        try:
            dfa = compiled(schema)
        except InputError as error:
            assert isinstance(error, TooLarge) or error.option == "json_schema", error
            refused += 1
            continue
        for text in random_texts(dfa, rng, TEXTS):
            try:
                assert_valid(schema, text)
            except Exception as error:
                raise AssertionError(f"seed {seed}\n{json.dumps(schema)}\n{text!r}\n{error}") from error
    assert refused < 0.2 * SCHEMAS


# -- through tokens: random scores, any temperature, canvas by canvas

PIECES = ('{"', '":', '":"', '","', '"}', "},{", '"]', '["', "[]", "{}", ":[", "true", "null", "ab", " the", "12")
VOCABULARY = Vocabulary(
    (None, *(bytes([b]) for b in range(256)), *(p.encode() for p in PIECES + tuple(NAMES)), "😀é".encode()[1:5])
)
END = 0


def generated(schema: Any, temperature: float, seed: int, canvas: int = 24) -> str:
    """An answer by random scores, the best path of each canvas committed, as a decoder would."""
    generator = torch.Generator().manual_seed(seed)
    constraint = compile_constraint(json_schema=schema, vocabulary=VOCABULARY, end_ids=[END])
    budget = constraint.minimum_tokens + int(torch.randint(1, 40, (), generator=generator))
    state, tokens = constraint.begin(budget), []
    while not state.finished and state.written < budget:
        chain = state.open_canvas(canvas)
        scores = torch.randn(chain.positions, len(VOCABULARY), generator=generator) * 4
        scores = torch.log_softmax(scores / max(temperature, 1e-3), -1)
        if temperature == 0:
            scores = torch.full_like(scores, -torch.inf).scatter_(1, scores.argmax(1, keepdim=True), 0.0)
        path = chain.most_probable_path(scores).tolist()
        state, tokens = state.after(path), tokens + path
    return VOCABULARY.decode(tokens)


def test_random_scores_always_give_valid_json():
    """Generated schemas × temperatures 0, 1 and 2: every output parses and validates."""
    outputs = 0
    for seed in range(SCHEMAS // 3):
        schema = SchemaGenerator(seed + 10_000).document()
        for temperature in (0.0, 1.0, 2.0):
            try:
                text = generated(schema, temperature, seed)
            except InputError as error:
                assert error.option == "json_schema" or isinstance(error, TooLarge), error
                break
            assert_valid(schema, text)
            outputs += 1
    assert outputs > 0.7 * SCHEMAS


@pytest.mark.parametrize("name", REAL)
def test_schemas_as_people_write_them(name):
    rng = random.Random(0)
    for text in random_texts(compiled(REAL[name]), rng, 60):
        assert_valid(REAL[name], text)
    for seed in range(4):
        assert_valid(REAL[name], generated(REAL[name], 1.0, seed, canvas=32))


@pytest.mark.parametrize(
    ("schema", "accepted", "rejected"),
    [
        ({"type": "string", "maxLength": 3}, ['"abc"', '"\\n😀é"'], ['"abcd"', "abc"]),
        ({"type": "string", "pattern": "^a.c$"}, ['"abc"'], ['"abcd"', '"ac"']),
        ({"type": "string", "pattern": r"\d"}, ['"a1"'], ['"a٣"']),
        ({"const": {"a": [1, "x"], "b": None}}, ['{"a":[1,"x"],"b":null}'], ['{"a":[1,"x"]}']),
        ({"enum": [1, 2.5, "a", None, True]}, ["1", "2.5", '"a"', "null", "true"], ["2", "false", "1.0"]),
        ({"type": ["integer", "null"]}, ["-12", "null", "0"], ["1.5", "-0", "01"]),
        ({"type": "number", "minimum": -1.5, "exclusiveMaximum": 2}, ["-1.5", "1.999", "0"], ["2", "-1.51", "-1.6"]),
        ({"type": "integer", "multipleOf": 7, "minimum": 10}, ["14", "21"], ["7", "15"]),
        ({"type": "array", "items": {"const": 1}, "minItems": 1, "maxItems": 2}, ["[1]", "[1,1]"], ["[]", "[1,1,1]"]),
        ({"type": "array", "contains": {"const": 5}, "items": {"type": "integer"}}, ["[1,5]", "[5]"], ["[1]", "[]"]),
        ({"type": "object", "properties": {"a": {"type": "null"}}}, ["{}", '{"a":null}'], ['{"b":1}']),
        ({"type": "object", "additionalProperties": {"const": 1}}, ['{"b":1}', '{"b":1,"":1}'], ['{"b":2}']),
        ({"not": {"type": ["string", "number", "object", "array", "boolean"]}}, ["null"], ["1", '""', "{}", "true"]),
        ({"type": "integer", "not": {"minimum": 3}}, ["2", "-5"], ["3", "4"]),
        ({"oneOf": [{"type": "integer", "maximum": 5}, {"type": "integer", "minimum": 4}]}, ["3", "6"], ["4", "5"]),
        ({"allOf": [{"minimum": 3}, {"maximum": 4}], "type": "integer"}, ["3", "4"], ["2", "5"]),
        ({"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}, "dependentRequired": {"a": ["b"]}},
         ['{"b":2}', '{"a":1,"b":2}', "{}"], ['{"a":1}']),
        (False, [], ["1"]),
    ],
)  # fmt: skip
def test_keywords(schema, accepted, rejected):
    if not accepted:
        with pytest.raises(InputError, match="no finite JSON"):
            compiled(schema)
        return
    dfa = compiled(schema)
    assert [text for text in accepted if not dfa.matches(text)] == []
    assert [text for text in rejected if dfa.matches(text)] == []


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ("{", "not JSON"),
        (3, "not a schema"),
        ({"type": "strnig"}, "'strnig'"),
        ({"properties": {"a": {"minimum": "3"}}}, "'minimum' at /properties/a"),
        ({"type": "array", "items": {"type": "object"}, "uniqueItems": True, "minItems": 2}, "'uniqueItems' at /"),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema", "items": [{}]}, "prefixItems"),
        ({"type": "string", "pattern": "(?<=a)b"}, "look-behind"),
        ({"type": "number", "multipleOf": 1e-9}, "'multipleOf'"),
        ({"$ref": "other.json"}, "another document"),
        ({"$ref": "#/$defs/none"}, "points to nothing"),
        ({"$ref": "#"}, "leads back to itself"),
        ({"type": "string", "const": 3}, "no finite JSON"),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "recursion"),
        ({"type": "integer", "oneOf": [{"multipleOf": 3}, {"multipleOf": 5}]}, "'oneOf' at / is written in part"),
        ({"type": "object", "minProperties": 9}, "'minProperties'"),
        ({"contains": {"const": 1}, "unevaluatedItems": False}, "'unevaluatedItems'"),
        ({"properties": {"a": {"minLength": -1}, "b": {"minimum": "3"}}}, "0 or more; also 'minimum' at /properties/b"),
    ],
)  # fmt: skip
def test_refusals_name_keyword_and_place(schema, named):
    with pytest.raises(InputError, match=re.escape(named)) as caught:
        compiled(schema)
    assert "\n" not in str(caught.value)


def closed(properties, *required):
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def test_closed_objects_of_one_of_are_told_apart_by_what_others_forbid():
    text, whole = {"type": "string"}, {"type": "integer"}
    closed_only = {"oneOf": [closed({"a": text, "b": text}), closed({"c": text})]}
    overlapping = {"oneOf": [closed({"a": whole, "b": text}), closed({"a": text, "c": {}}, "a"),
                             closed({"a": {"enum": [1, 2]}, "b": {}}, "b"), {"type": "array"}]}  # fmt: skip
    for schema in (closed_only, overlapping):
        dfa, validator = compiled(schema), jsonschema.Draft202012Validator(schema)
        for size in range(4):
            for names in itertools.combinations("abc", size):
                for values in itertools.product(["x", 1, 3], repeat=size):
                    value = dict(zip(names, values, strict=True))
                    orders = (dict(order) for order in itertools.permutations(value.items()))
                    written = any(dfa.matches(json.dumps(order, separators=(",", ":"))) for order in orders)
                    assert written == validator.is_valid(value), (schema, value)


SMALL = [dict(zip(names, values, strict=True)) for size in range(4) for names in itertools.combinations("abcd", size)
         for values in itertools.product([1, "x", {}], repeat=size)]  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "count"),
    [
        ({"type": "object", "not": closed({"a": {}})}, 40),
        ({"properties": {"a": {}, "b": {}}, "required": ["b"], "not": closed({"a": {"type": "string"}, "c": {}})}, 9),
        ({"type": "object", "not": {"additionalProperties": {"type": "string"}, "properties": {"a": {}}}}, 10),
        ({"type": "object", "not": {"patternProperties": {"^[ab]$": {"const": 1}}}}, 4),
        ({"oneOf": [{"type": "object", "properties": {"a": {"type": "string"}}}, closed({"a": {}, "b": {}}, "b")]}, 20),
        (closed({"of": {"oneOf": [closed({"a": {}}), {"properties": {"a": {}, "c": {}}, "required": ["a"]}]}}, "of"),
         3),
        ({"not": {"anyOf": [closed({"a": {}}), closed({"b": {}}), {"type": ["string", "null", "number"]}]}}, 20),
        ({"type": "object", "not": {"not": closed({"a": {"type": "string"}})}}, 2),
        ({"oneOf": [closed({"a": {}, "b": {}}), {"type": "object", "unevaluatedProperties": False,
                                                 "anyOf": [{"properties": {name: {}}} for name in "ab"]}]}, None),
    ],
)  # fmt: skip
def test_objects_that_break_rules_about_other_properties(schema, count):
    """Taken are only values that meet the schema, and so many of the small ones at least; or it is refused."""
    if count is None:
        with pytest.raises(InputError, match="oneOf"):
            compiled(schema)
        return
    dfa, validator = compiled(schema), jsonschema.Draft202012Validator(schema)
    values = [*SMALL, 1, "x", [], None, *({"of": value} for value in SMALL)]
    taken = [value for value in values if dfa.matches(json.dumps(value, separators=(",", ":")))]
    assert all(map(validator.is_valid, taken)) and len(taken) >= count
    assert all(validator.is_valid(json.loads(text)) for text in random_texts(dfa, random.Random(0), 40))


def test_a_branch_of_one_of_within_another_allows_nothing():
    dfa = compiled({"type": "string", "oneOf": [{"enum": ["vim", "nano"]}, {}]})
    assert dfa.matches('"ed"') and not dfa.matches('"vim"')
    with pytest.raises(InputError, match="meets another too: use anyOf"):
        compiled({"oneOf": [{"type": "string"}, {"type": "string", "title": "text"}]})


OPPOSITES = {
    "format": {"type": "string", "format": "date"},
    "divisor": {"type": "number", "multipleOf": 2},
    "unique": {"type": "array", "uniqueItems": True},
    "places": {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}},
    "counted": {"type": "array", "contains": {"type": "string"}, "maxContains": 1},
    "names": {"type": "object", "propertyNames": {"pattern": "^a"}},
    "unevaluated": {"type": "object", "properties": {"a": {}}, "unevaluatedProperties": False},
}
ANYTHING = [None, True, 1, 2, 2.5, "", "x", "2024-02-30", "2024-02-29", [], ["x"], ["x", 1], ["x", "x"], [1, 1], [2],
            {}, {"a": 1}, {"b": 1}, {"a": 1, "b": 2}]  # fmt: skip


@pytest.mark.parametrize("part", OPPOSITES.values(), ids=OPPOSITES)
def test_of_what_has_no_opposite_the_part_that_can_be_told_is_written(part):
    """Whether readers assert formats or not; and a warning says so."""
    inside = {"type": "object", "properties": {"of": {"not": part}}, "required": ["of"]}
    schemas = [
        {"not": part}, {"oneOf": [part, {}]}, {"oneOf": [part, {"type": ["string", "array", "integer"]}]},
        {"if": part, "then": {"type": "null"}}, {"not": {"not": part}}, {"not": {"not": {"not": part}}},
        {"not": {"oneOf": [part, {"type": "string"}]}}, {"oneOf": [{"not": part}, {"type": "string"}]}, inside,
        {"not": inside}, {"oneOf": [inside, {"type": "object"}]}, {"not": {"if": part, "then": False}},
        {"oneOf": [{"items": {"not": part}, "minItems": 1}, {"items": {"type": "string"}}]},
    ]  # fmt: skip
    compiles = 0
    for schema in schemas:
        try:
            dfa = compiled(schema)
        except InputError:
            continue
        compiles += 1
        values = [*ANYTHING, *([value] for value in ANYTHING), *({"of": value} for value in ANYTHING)]
        values += [json.loads(text) for text in random_texts(dfa, random.Random(0), 20)]
        for checker in (None, jsonschema.Draft202012Validator.FORMAT_CHECKER):
            validator = jsonschema.Draft202012Validator(schema, format_checker=checker)
            for value in values:
                if dfa.matches(json.dumps(value, separators=(",", ":"))):
                    assert validator.is_valid(value), (schema, value)
    assert compiles >= 5
    warnings = [notice.text for notice in read_schema({"not": part})[1]]
    assert any("'not' at /not is written in part" in warning for warning in warnings)


def test_values_that_meet_a_schema_can_mostly_be_written():
    """Not only sound: values of a plain schema, dumped compactly, are in its language."""
    schema = {k: v for k, v in PERSON.items() if k != "$schema"}
    dfa = compiled(schema)
    value = {"name": 'Ada "L" é😀', "age": 36, "email": "ada@example.org", "birthday": "1815-12-10", "roles": ["user"]}
    value |= {"address": {"street": "St James's Square\n12", "zip": "12345-6789"}, "height": 1.65}
    for dropped in (None, "email", "birthday", "roles", "height"):
        kept = {k: v for k, v in value.items() if k != dropped}
        assert dfa.matches(json.dumps(kept, separators=(",", ":"), ensure_ascii=False)), dropped


def test_wide_schemas_are_no_trouble():
    schema = {"type": "object", "properties": {f"p{i}": {"type": "boolean"} for i in range(400)}}
    dfa = compiled(schema)
    assert dfa.matches('{"p7":true,"p399":false}') and not dfa.matches('{"p399":true,"p7":false}')


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_formats(name):
    rng = random.Random(0)
    for text in random_texts(compile_language(format_language(name)), rng, 50):
        assert FORMAT_CHECKER.conforms(text, name), text
