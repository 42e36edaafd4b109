"""Items that differ in the value that comes first in them, and properties without a name that surely are several."""

from __future__ import annotations

import json

import pytest

from diffusiongemma.control.json_schema.text import json_schema_language
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.errors import InputError

INTEGER, STRING = {"type": "integer"}, {"type": "string"}
TAG = {"type": "object", "properties": {"key": STRING, "n": INTEGER}, "required": ["key"]}
TREE = {"type": "object", "properties": {"n": INTEGER, "inside": {"type": "array", "uniqueItems": True}}}
TREE["properties"]["inside"]["items"] = {"$ref": "#"}


def unique(items, **more):
    return {"type": "array", "items": items, "uniqueItems": True, **more}


def check(schema, accepted, rejected):
    dfa = compile_language(json_schema_language(schema))
    texts = [[json.dumps(value, separators=(",", ":")) for value in values] for values in (accepted, rejected)]
    assert [text for text in texts[0] if not dfa.matches(text)] == []
    assert [text for text in texts[1] if dfa.matches(text)] == []


@pytest.mark.parametrize(
    ("schema", "accepted", "rejected"),
    [
        (unique(TAG), [[{"key": "a"}, {"key": "b", "n": 1}, {"key": "z"}], [{"key": "\\"}]], [[{"key": "a"}] * 2]),
        (unique({**TAG, "required": []}), [[{"key": "a"}, {"key": "b"}], [{}], [{"n": 1}]], [[{}, {}]]),
        (unique({"type": "array", "items": INTEGER}, minItems=3), [[[1], [2, 1], [3]]], [[[1], [2]], [[1], [1], [2]]]),
        (unique({"anyOf": [TAG, STRING]}), [["a", {"key": "b"}], [{"key": "a"}]], [["a", "a"]]),
        (unique({}), [["a", "b"], [{"x": [1]}], [[2]]], [[[1], [1]], [{}, {}]]),
        (unique(STRING, contains={"const": "core"}), [["a", "core"], ["core"]], [["a"], ["core", "core"]]),
        ({"type": "array", "prefixItems": [INTEGER, STRING], "uniqueItems": True}, [[1, "b"], [1]], [["b"], [1, 2]]),
        (TREE, [{"n": 1, "inside": [{"n": 2, "inside": [{"n": 3}]}]}], [{"inside": [{}, {}]}]),
    ],
)  # fmt: skip
def test_distinct_items(schema, accepted, rejected):
    check(schema, accepted, rejected)


def test_objects_that_begin_with_different_properties_are_not_taken_for_different():
    one = {"type": "object", "properties": {"a": INTEGER, "b": INTEGER}, "required": ["a", "b"]}
    other = {"type": "object", "properties": {"b": INTEGER, "a": INTEGER, "c": {"const": 1}}, "required": ["b", "a"]}
    equal = [{"a": 1, "b": 2}, {"b": 2, "a": 1}]
    check(unique({"anyOf": [one, other]}), [[equal[0]], [equal[1]]], [equal, equal[::-1]])


@pytest.mark.parametrize(
    ("schema", "accepted", "rejected"),
    [
        ({"minProperties": 3}, [{"a": 1, "b": 2, "d": 3}], [{"a": 1, "b": 2}]),
        ({"minProperties": 2, "maxProperties": 2, "additionalProperties": INTEGER}, [{"a": 1, "b": 2}],
         [{"a": 1}, {"a": 1, "b": 2, "d": 3}, {"a": 1, "b": "x"}]),
        ({"minProperties": 3, "properties": {"z": INTEGER}}, [{"z": 1, "a": 2, "b": 3}, {"a": 1, "b": 2, "d": 3}],
         [{"z": 1, "a": 2}]),
    ],
)  # fmt: skip
def test_properties_without_a_name_that_are_several(schema, accepted, rejected):
    check({"type": "object", **schema}, accepted, rejected)


def test_a_key_that_comes_twice_counts_once():
    dfa = compile_language(json_schema_language({"type": "object", "minProperties": 2}))
    assert dfa.matches('{"a":1,"b":1}') and not dfa.matches('{"a":1,"a":1}')


@pytest.mark.parametrize("schema", [unique({"type": "object"}, minItems=2), unique(STRING, minItems=9)])
def test_more_than_can_be_told_apart_is_refused(schema):
    with pytest.raises(InputError, match="'uniqueItems' at / can't be guaranteed"):
        json_schema_language(schema)
