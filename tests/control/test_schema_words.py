"""Words of JSON Schema beyond draft 2020-12: unknown keywords and formats, OpenAPI, older drafts, identifiers."""

from __future__ import annotations

import re

import pytest

from diffusiongemma.control.compiling import compile_constraint
from diffusiongemma.control.json_schema.text import json_schema_language, read_schema
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.errors import InputError

DRAFT = {n: {"$schema": f"http://json-schema.org/draft-0{n}/schema#"} for n in (4, 6, 7)}
LATEST = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
VOCABULARY = Vocabulary((None, *(bytes([b]) for b in range(256))))


def check(schema, accepted, rejected):
    dfa = compile_language(json_schema_language(schema))
    assert [text for text in accepted if not dfa.matches(text)] == []
    assert [text for text in rejected if dfa.matches(text)] == []


@pytest.mark.parametrize("keyword", ["example", "id", "_format", "discriminator", "markdownDescription", "minlength"])
def test_unknown_keywords_say_nothing_and_are_named(keyword):
    schema = {"properties": {"a": {"type": "null", keyword: "b"}, "c": {"type": "null", keyword: "d"}}}
    warnings = [notice.text for notice in read_schema(schema)[1]]
    assert len(warnings) == 1 and repr(keyword) in warnings[0] and "/properties/a and 1 other" in warnings[0]
    check(schema, ['{"a":null}'], ['{"a":1}'])
    with pytest.raises(InputError, match=f"{keyword!r} at /properties/a.*; also .*/properties/c"):
        json_schema_language(schema, strict=True)


def test_warnings_come_with_the_constraint():
    constraint = compile_constraint(json_schema={"type": "null", "foo": 1}, vocabulary=VOCABULARY, end_ids=[0])
    assert len(constraint.warnings) == 1 and "'foo' at /" in constraint.warnings[0]


def test_unknown_formats_say_nothing_and_are_named():
    language, notices = read_schema({"type": "string", "format": "phone-number"})
    assert compile_language(language).matches('"abc"') and "'phone-number'" in notices[0].text
    assert not read_schema({"type": "string", "format": "password", "x-order": 3})[1]
    with pytest.raises(InputError, match="phone-number"):
        json_schema_language({"type": "string", "format": "phone-number"}, strict=True)


@pytest.mark.parametrize(
    ("schema", "accepted", "rejected"),
    [
        ({"type": "integer", "format": "uint8"}, ["0", "255"], ["-1", "256", "1.5"]),
        ({"type": "integer", "format": "int32", "minimum": 5}, ["5", "2147483647"], ["4", "2147483648"]),
        ({"type": "integer", "format": "uint64"}, ["18446744073709551615"], ["18446744073709551616", "-1"]),
        (
            {"type": "string", "format": "ipv6"},
            ['"::ffff:192.168.0.1"', '"1:2::10.0.0.1"', '"1:2:3:4:5:6:7.8.9.10"', '"::"'],
            ['"1:2:3:4:5:6::7.8.9.10"', '"::1:2:3:4:5:6:7.8.9.10"', '"::256.0.0.1"'],
        ),
        ({"type": "string", "format": "hostname"}, ['"3com.com"', '"1.pool.ntp.org"'], ['"1.2"', '"-a.org"', '"a..b"']),
        ({"type": "string", "format": "email"}, ['"o\'neil~x@example.org"', '"a--b@x.org"'], ['"a..b@x.org"']),
        ({"type": "string", "format": "relative-json-pointer"}, ['"120/foo"', '"0#"'], ['"01/foo"', '"/foo"']),
        ({"type": "string", "format": "byte"}, ['"YWI="', '""'], ['"YWI"', '"*"']),
        ({"type": "string", "format": "uuid4"}, ['"f81d4fae-7dec-4d1d-a765-00a0c91e6bf6"'],
         ['"f81d4fae-7dec-11d0-a765-00a0c91e6bf6"']),
        ({"type": "string", "nullable": True}, ['"a"', "null"], ["1"]),
        ({**LATEST, "type": "string", "nullable": True}, ['"a"'], ["null"]),
        ({"$ref": "#/$defs/a", "nullable": True, "$defs": {"a": {"type": "integer"}}}, ["1"], ["null"]),
        ({**DRAFT[4], "type": "integer", "minimum": 0, "exclusiveMinimum": True}, ["1"], ["0"]),
        ({**DRAFT[4], "type": "integer", "maximum": 0, "exclusiveMaximum": False}, ["0"], ["1"]),
        ({**DRAFT[7], "type": "array", "items": [{"const": 1}], "additionalItems": {"const": 2}},
         ["[1]", "[1,2,2]", "[]"], ["[2]", "[1,1]"]),
        ({**DRAFT[7], "type": "array", "items": [{"const": 1}], "additionalItems": False}, ["[1]"], ["[1,1]"]),
        ({**DRAFT[7], "type": "array", "items": {"const": 1}, "additionalItems": False}, ["[1,1]"], ["[2]"]),
        ({**DRAFT[7], "properties": {"a": {"const": 1}, "b": {"const": 1}}, "dependencies": {"a": ["b"]}},
         ['{"a":1,"b":1}', '{"b":1}'], ['{"a":1}']),
        ({"properties": {"a": {"const": 1}, "b": {}}, "dependencies": {"a": {"properties": {"b": {"const": 2}}}}},
         ['{"a":1,"b":2}', '{"b":1}'], ['{"a":1,"b":1}']),
        # without $schema: what all drafts say, under `not` what any of them says
        ({"properties": {"a": {"const": 1}, "b": {}}, "dependencies": {"a": ["b"]}, "not": {"required": ["c"]}},
         ['{"a":1,"b":2}', '{"b":1}'], ['{"a":1}']),
        ({"properties": {"a": {}, "b": {}}, "not": {"dependencies": {"a": ["b"]}, "required": ["b"]}},
         ['{"a":1}'], ['{"b":1}', '{"a":1,"b":1}']),
        ({"properties": {"a": {}, "b": {}}, "not": {"not": {"type": "object", "dependencies": {"a": ["b"]}}}},
         ['{"b":1}', '{"a":1,"b":1}'], ['{"a":1}']),
        ({**DRAFT[7], "$ref": "#/definitions/a", "maximum": 3, "definitions": {"a": {"type": "integer"}}},
         ["5"], ["null"]),
        ({**LATEST, "$ref": "#/$defs/a", "maximum": 3, "$defs": {"a": {"type": "integer"}}}, ["3"], ["5"]),
        ({**DRAFT[7], "type": "array", "contains": {"const": 1}, "minContains": 0}, ["[1]"], ["[]", "[2]"]),
        ({**DRAFT[7], "type": "array", "items": {"const": 1}, "prefixItems": [{"const": 2}]}, ["[1]"], ["[2]"]),
        ({**DRAFT[4], "const": 1}, ["1"], ["2"]),  # unknown to draft 4; what the author meant is no wrong answer
        ({**DRAFT[4], "type": "integer", "not": {"const": 1}, "minimum": 3}, None, ["3"]),
        ({"anyOf": [{"$recursiveRef": "#"}], "type": "null"}, None, []),
        ({"type": "object", "properties": {"a": {"$recursiveRef": "#"}}}, ['{"a":{}}'], ['{"a":1}']),
        ({"type": "object", "properties": {"a": {"$dynamicRef": "#x"}}, "$defs": {"y": {
            "$dynamicAnchor": "x", "const": 1}}}, ['{"a":1}'], ['{"a":2}']),
    ],
)  # fmt: skip
def test_older_drafts_and_openapi(schema, accepted, rejected):
    if accepted is None:
        with pytest.raises(InputError):
            json_schema_language(schema)
        return
    check(schema, accepted, rejected)


@pytest.mark.parametrize(
    ("schema", "accepted", "rejected"),
    [
        ({"$id": "http://a.b/root.json", "$ref": "item.json", "$defs": {"x": {"$id": "item.json", "const": 1}}},
         ["1"], ["2"]),
        # a pointer inside a nested resource begins at that resource
        ({"$ref": "#/$defs/n", "$defs": {"v": {"const": 1}, "n": {
            "$id": "http://x.y/n", "$ref": "#/$defs/v", "$defs": {"v": {"const": 2}}}}}, ["2"], ["1"]),
        ({"$ref": "#here", "$defs": {"a": {"deep": {}, "allOf": [{"$anchor": "here", "const": 3}]}}}, ["3"], ["4"]),
        ({**DRAFT[7], "allOf": [{"$ref": "#foo"}], "definitions": {"A": {"$id": "#foo", "const": 1}}}, ["1"], ["2"]),
        ({**DRAFT[4], "id": "http://l.o/r", "items": {"$ref": "i"}, "type": "array",
          "definitions": {"A": {"id": "i", "type": "null"}}}, ["[null]"], ["[1]"]),
        ({"$ref": "#/$defs/a~1b%25", "$defs": {"a/b%": {"const": 1}}}, ["1"], ["2"]),
        ({"properties": {"$ref": {"const": 1}}, "required": ["$ref"]}, ['{"$ref":1}'], ["{}"]),
        # names that look like pointers keep apart
        ({"properties": {"a/properties/b": {"const": 1}, "a": {"properties": {"b": {"const": 2}}}}},
         ['{"a/properties/b":1,"a":{"b":2}}'], ['{"a/properties/b":2}', '{"a":{"b":1}}']),
    ],
)  # fmt: skip
def test_identifiers(schema, accepted, rejected):
    check(schema, accepted, rejected)


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "draft 3"),
        ({"$ref": "other.json#/a"}, "another document"),
        ({"$ref": "#nowhere"}, "points to nothing"),
        ({"dependencies": {"a": ["b"]}, "unevaluatedProperties": False}, "'dependencies' at /"),
        ({**DRAFT[7], "exclusiveMinimum": True}, "'exclusiveMinimum'"),
    ],
)  # fmt: skip
def test_what_drafts_leave_open_is_refused(schema, named):
    with pytest.raises(InputError, match=re.escape(named)):
        json_schema_language(schema)


@pytest.mark.parametrize(
    ("schema", "accepted", "rejected"),
    [
        ({"type": "object", "allOf": [{"not": {"not": {"properties": {"bar": True}}}}],
          "unevaluatedProperties": False}, ["{}"], ['{"bar":true}']),
        ({"type": "object", "oneOf": [{"properties": {"a": True}, "required": ["a"]}, {"not": {"required": ["a"]},
          "properties": {"b": True}}], "unevaluatedProperties": False}, ['{"a":1}', '{"b":1}'], ['{"a":1,"b":1}']),
        ({"type": "object", "allOf": [{"properties": {"a": {}}, "unevaluatedProperties": True}],
          "unevaluatedProperties": False}, ['{"b":2}'], []),
        ({"type": "object", "properties": {"a": {"const": 1}}, "unevaluatedProperties": {"type": "integer"}},
         ['{"a":1,"b":2}'], ['{"b":"x"}', '{"a":2}']),
        ({"type": "array", "prefixItems": [{"type": "string"}], "unevaluatedItems": False}, ['["a"]'], ['["a",1]']),
        ({"type": "array", "anyOf": [{"prefixItems": [True, {"const": 2}]}, {"prefixItems": [{"const": 1}]}],
          "unevaluatedItems": {"const": 9}}, ["[1,9,9]", "[0,2,9]"], ["[0,9]", "[1,2,3]"]),
        ({"type": "object", "not": {"required": ["a"]}}, ['{"b":1}', "{}"], ['{"a":1}']),
    ],
)  # fmt: skip
def test_unevaluated_parts(schema, accepted, rejected):
    check(schema, accepted, rejected)


def test_recursive_one_of():
    branch = {key: {"type": "object", "required": [key], "additionalProperties": False} for key in ("not", "eq")}
    branch["not"]["properties"] = {"not": {"$ref": "#/$defs/f"}}
    branch["eq"]["properties"] = {"eq": {"type": "string"}}
    schema = {"$defs": {"f": {"oneOf": list(branch.values())}}, "$ref": "#/$defs/f"}
    check(schema, ['{"eq":"x"}', '{"not":{"not":{"eq":"x"}}}'], ["{}", '{"eq":"x","not":{"eq":"x"}}'])


def test_deep_lists_of_one_alternative():
    schema = {"type": "null"}
    for _ in range(400):
        schema = {"anyOf": [schema]}
    check(schema, ["null"], ["1"])
