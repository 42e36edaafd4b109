"""Branches of a schema that are told apart by what stands beside them, and what no branch can say."""

from __future__ import annotations

import json
import time

import pytest

from diffusiongemma.control.json_schema.text import json_schema_language, read_schema
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.errors import InputError

KINDS = [f"kind{i}" for i in range(14)]
SOON = 8  # seconds of a processor for what takes half a second here: others may share the core
ELSEWHERE = {"$ref": "other.json#/a"}


def check(schema, accepted, rejected=()):
    """The warnings there are."""
    language, notices = read_schema(schema)
    dfa = compile_language(language)
    assert [text for text in accepted if not dfa.matches(text)] == []
    assert [text for text in rejected if dfa.matches(text)] == []
    return [notice.text for notice in notices]


def of_kind(kind, **more):
    return {"properties": {"kind": {"const": kind}, **more}}


def test_branches_that_only_differ_with_what_is_required_beside_them_are_written_whole():
    one = {"type": "object", "required": ["kind"], "oneOf": [of_kind(k, n={"enum": [i]}) for i, k in enumerate(KINDS)]}
    accepted = [json.dumps({"kind": kind, "n": i}, separators=(",", ":")) for i, kind in enumerate(KINDS)]
    assert not check(one, accepted, ['{"kind":"kind1","n":2}', '{"n":1}', "{}", "1"])
    assert not check({"allOf": [{"required": ["kind"], "type": "object"}, {"oneOf": one["oneOf"]}]}, accepted, ["1"])


def test_a_branch_that_has_evaluated_nothing_of_what_stands_beside_it_forbids_it():
    inner = {"oneOf": [{"properties": {"a": {"type": "null"}}}], "unevaluatedProperties": False}
    check({"properties": {"b": {"type": "null"}}, "allOf": [inner]}, ['{"a":null}'], ['{"b":null}'])


def test_many_conditions_on_one_property_are_told_apart_soon():
    conditions = [
        {"if": of_kind(kind), "then": {"properties": {"n": {"const": i}}, "required": ["n"]}}
        for i, kind in enumerate(KINDS)
    ]
    named = {"kind": {"enum": KINDS}, "n": {"type": "integer"}}
    schema = {"type": "object", "properties": named, "required": ["kind"], "allOf": conditions}
    begin = time.process_time()
    assert not check(
        schema, ['{"kind":"kind0","n":0}', '{"kind":"kind13","n":13}'], ['{"kind":"kind1","n":2}', '{"kind":"kind1"}']
    )
    assert time.process_time() - begin < SOON


def test_lists_of_texts_that_meet_one_another_soon():
    """Without reading each text through the automaton of the other list."""
    words = [f"minecraft:{'block' * 8}_{i}" for i in range(100)]
    lists = [{"enum": [word for i, word in enumerate(words) if i % n]} for n in range(2, 40)]
    begin = time.process_time()
    check({"allOf": lists}, [json.dumps(words[1]), json.dumps(words[97])], [json.dumps(words[2]), '"x"'])
    assert time.process_time() - begin < SOON


def test_of_listed_texts_those_that_every_reader_takes_are_written():
    schema = {"enum": ["é", "x", "-"], "pattern": r"^\w$"}  # Python reads é as a letter, ECMA-262 does not
    check(schema, ['"x"'], ['"é"', '"-"'])
    check({"type": "string", "not": schema}, ['"-"', '"y"'], ['"é"', '"x"'])


def test_word_boundaries_of_both_dialects_beside_a_type():
    schema = {"type": "string", "pattern": r"\bfoo\b", "minLength": 5}
    check({"type": "object", "properties": {"a": schema}, "required": ["a"]}, ['{"a":"a foo"}'], ['{"a":"afoo "}'])
    check({"enum": ["a foo", "afoo", "éfoo"], "pattern": r"\bfoo\b"}, ['"a foo"'], ['"afoo"', '"éfoo"'])


def test_what_is_in_another_document_is_left_out_and_named():
    schema = {"properties": {"a": ELSEWHERE, "b": {"type": "null"}, "c": {"items": ELSEWHERE, "type": "array"}}}
    (warning,) = check(schema, ['{"b":null,"c":[]}'], ['{"a":1}', '{"c":[1]}'])
    assert "'$ref' at /properties/a and 1 other places is left out: 'other.json#/a' is another document" in warning
    with pytest.raises(InputError, match=r"'other.json#/a' is another document"):
        json_schema_language(schema, strict=True)


@pytest.mark.parametrize(
    ("schema", "accepted", "rejected"),
    [
        ({"anyOf": [ELSEWHERE, {"type": "null"}]}, ["null"], ["1"]),
        ({"type": ["null", "object"], "properties": {"a": {"not": ELSEWHERE}}}, ["null", "{}"], ['{"a":1}']),
        ({"type": "array", "contains": ELSEWHERE, "minContains": 0}, ["[]"], []),
    ],
)
def test_what_another_document_says_may_be_anything(schema, accepted, rejected):
    check(schema, accepted, rejected)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": ELSEWHERE}, "required": ["a"]},
        {"type": "object", "if": {"properties": {"a": ELSEWHERE}}, "then": False},
        {"oneOf": [ELSEWHERE, {"type": "null"}]},
    ],
)
def test_where_nothing_is_left_the_other_document_is_named(schema):
    with pytest.raises(InputError, match=r"no finite JSON value.*'other.json#/a' is another document: copy it"):
        json_schema_language(schema)


def test_branches_within_what_is_told_apart_may_be_written_in_part():
    url = {"oneOf": [{"type": "string", "format": "uri"}, {"type": "string", "pattern": r"^\./.+$"}]}
    either = {"oneOf": [{"required": ["name"]}, {"required": ["url"]}]}
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "url": url}, **either}
    check(schema, ['{"name":"x"}', '{"url":"http://a.org/"}'], ['{"name":"x","url":"http://a.org/"}', "{}"])
