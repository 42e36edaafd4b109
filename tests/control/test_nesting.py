"""Deep constraints, from several threads at a time."""

from __future__ import annotations

import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest

from bench.walks import random_texts
from diffusiongemma.control.compiling import CompileJob
from diffusiongemma.control.inference import bundles
from diffusiongemma.control.json_schema import parts
from diffusiongemma.control.json_schema.nesting import Reach
from diffusiongemma.control.json_schema.scalars import StringShape
from diffusiongemma.control.json_schema.schema import SchemaReader
from diffusiongemma.control.json_schema.text import _Attempts, json_schema_language
from diffusiongemma.control.json_schema.writer import STATES_OF_A_PLACE, Writer
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.languages.dfa import TooLarge
from diffusiongemma.control.languages.regex import regex_language
from diffusiongemma.control.languages.words import words_language
from diffusiongemma.control.structure import Structure
from diffusiongemma.control.tokens.vocabulary import Vocabulary


def deep(letter):
    """Up to 1100 of a letter, each inside the one before, as the properties of an object are."""
    expression = lang.EMPTY
    for _ in range(1100):
        expression = lang.optional(lang.sequence(lang.literal(letter), expression))
    return expression


def test_threads_leave_each_other_room():
    """The recursion limit belongs to the process: one thread put it back while another still needed it raised."""
    before = sys.getrecursionlimit()
    with ThreadPoolExecutor(4) as threads:
        compiled = list(threads.map(lambda letter: compile_language(deep(letter)), "abcdef"))
    assert all(dfa.matches(letter * 1100) for letter, dfa in zip("abcdef", compiled, strict=True))
    assert sys.getrecursionlimit() == before


def test_many_words_nest_deeply():
    dfa = compile_language(words_language(banned=["z"], required=["ab"] + [f"{i}" for i in range(9)]))
    assert dfa.matches("0123456789ab") and not dfa.matches("012345678") and not dfa.matches("0123456789abz")


def test_a_long_tuple():
    schema = {"type": "array", "prefixItems": [{"const": 1}] * 600, "minItems": 600, "maxItems": 600}
    assert compile_language(json_schema_language(schema)).matches(str([1] * 600).replace(" ", ""))


def test_what_is_nested_too_deeply_is_refused():
    with pytest.raises(TooLarge, match="nested too deeply"):
        regex_language("(?:a|" * 100_000 + "b" + ")" * 100_000)
    schema = {"type": "null"}
    for _ in range(5000):
        schema = {"anyOf": [schema]}
    with pytest.raises(TooLarge, match="nested too deeply"):
        json_schema_language(schema)


def checked(schema, count=40):
    """The automaton of a schema; some of what it writes is checked."""
    dfa = compile_language(json_schema_language(schema), 70_000)
    validator = jsonschema.Draft7Validator(schema)
    for text in random_texts(dfa, random.Random(3), count):
        validator.validate(json.loads(text))
    return dfa


def test_types_that_contain_each_other():
    """Unrolled by how often any of them stands inside another, not by how often each does: that has no end."""
    names = [f"t{i}" for i in range(12)]
    every = {"anyOf": [{"$ref": f"#/definitions/{name}"} for name in names]}

    def kind(name):
        properties = {"type": {"const": name}, "parts": {"type": "array", "items": every}, "owner": every}
        return {"type": "object", "properties": properties, "required": ["type"], "additionalProperties": False}

    schema = {"definitions": {name: kind(name) for name in names}, **every}
    dfa = checked(schema)
    assert dfa.matches('{"type":"t3","parts":[{"type":"t7"},{"type":"t3"}]}')
    assert not dfa.matches('{"type":"t3","parts":[{"type":"t12"}]}')


def test_one_that_contains_itself_goes_as_deep_as_before():
    schema = {"type": "object", "properties": {"in": {"$ref": "#"}}, "additionalProperties": False}
    dfa = compile_language(json_schema_language(schema))
    deepest = [depth for depth in range(20) if dfa.matches('{"in":' * depth + "{}" + "}" * depth)]
    assert deepest == list(range(13))


def test_values_without_a_schema_go_further_where_there_are_few():
    """What a tool takes as `"type": "object"` may be a filter: lists of objects in objects."""
    filters = '{"filter":{"and":[{"age":{"over":%s}}]}}'
    few = checked({"type": "object", "properties": {"name": {"type": "string"}, "filter": {"type": "object"}}})
    more = checked({"type": "object", "properties": {f"f{i}": {} for i in range(9)} | {"filter": {"type": "object"}}})
    assert few.matches(filters % 3) and not few.matches(filters % '{"than":{}}')
    assert not more.matches(filters % 3) and more.matches('{"filter":{"and":[{"age":3}]}}')


def test_many_values_without_a_schema():
    """Written less deep, the more of them there are."""
    deep, shallow = '{"p0":[["x"]]}', '{"p0":["x"]}'
    few = checked({"properties": {f"p{i}": {} for i in range(5)}})
    many = checked({"properties": {f"p{i}": {} for i in range(120)}}, 15)
    assert few.matches(deep) and few.matches(shallow)
    assert not many.matches(deep) and many.matches('{"p0":"x","p119":1.5}')


def test_what_must_be_there_is_written_however_deep():
    """Beyond some depth only properties that are required."""

    def level(depth):
        names = [f"{'abcdef'[i]}{depth}" for i in range(6)]
        inner = {"type": "object", "properties": {"end": {"type": "string", "format": "date-time"}}}
        value = level(depth - 1) if depth else inner
        return {"type": "object", "properties": dict.fromkeys(names, value), "required": names[:1]}

    dfa = checked(level(3), 10)
    needed = '{"a2":{"a1":{"a0":{}}}}'
    assert dfa.matches(f'{{"a3":{needed}}}') and dfa.matches(f'{{"a3":{needed},"c3":{needed}}}')
    assert not dfa.matches('{"a3":{}}')


HEX = "a1" * 12


def items(**limits):
    return {"type": "array", "items": {"type": "string", "pattern": "^[A-Fa-f0-9]{24}$"}, **limits}


def test_items_are_counted_as_far_as_can_be_compiled():
    """A thousand of 24 characters are more states than there may be: fewer are written, never too many."""
    two = {"properties": {"a": items(maxItems=1000), "b": items(maxItems=1000, minItems=2)}, "required": ["b"]}
    dfa = compile_language(json_schema_language(two))
    some = {"a": [HEX] * 40, "b": [HEX] * 30}
    assert dfa.matches(json.dumps(some, separators=(",", ":"))) and dfa.num_states < 20_000
    assert not dfa.matches(json.dumps({"b": [HEX]}, separators=(",", ":")))
    needed = compile_language(json_schema_language({"a": items(maxItems=1000), **items(minItems=300, maxItems=9000)}))
    assert needed.matches(json.dumps([HEX] * 300, separators=(",", ":")))
    assert not needed.matches(json.dumps([HEX] * 299, separators=(",", ":")))
    names = {f"n{i}": {"type": "integer"} for i in range(9)}
    crowded = {
        "properties": names,
        "required": list(names),
        "maxProperties": 10,
        "additionalProperties": items(maxItems=2000),
    }
    text = json.dumps(dict.fromkeys(names, 1), separators=(",", ":"))
    assert compile_language(json_schema_language(crowded)).matches(text)


def test_patterns_are_counted_as_far_as_can_be_compiled():
    schema = {"type": "string", "pattern": "^([a-z]{40}[0-9]{3}|[a-e]{9}-)*$", "maxLength": 4000, "minLength": 100}
    dfa = compile_language(json_schema_language(schema))
    assert dfa.matches(json.dumps("abcdeabcd-" * 12)) and not dfa.matches(json.dumps("abcdeabcd-" * 9))
    assert not dfa.matches(json.dumps("abcdeabcd-" * 401))


def test_what_is_counted_alike_is_made_once(monkeypatch):
    """Limits that every attempt reaches are compiled for the first alone."""
    made = []
    monkeypatch.setattr(parts, "_counted", lambda shape, counts: made.append(counts) or shape.texts(counts))
    of_each = parts.Parts(SchemaReader({}, False))
    shape = StringShape(regex_language("[a-c]*"), most=64)
    assert len({of_each.string(shape, counts)[1] for counts in (4096, 512, 64)}) == 1
    assert of_each.string(shape, 40)[1] == 40 and made == [64, 40]


def test_types_in_too_many_places_are_given_up_before_all_are_written(monkeypatch):
    """Each of 300 types may stand in all others: an automaton of so many places would be too large."""
    new, places = Writer._new, []
    monkeypatch.setattr(Writer, "_new", lambda self, terms: places.append(len(self._written)) or new(self, terms))
    types = {}
    for i in range(300):
        inside = {f"to{n}": {"$ref": f"#/definitions/t{n % 300}"} for n in (i + 1, 2 * i + 1, 7 * i)}
        types[f"t{i}"] = {"type": "object", "properties": {f"own{i}": {"type": "null"}, **inside}}
    checked({"definitions": types, "$ref": "#/definitions/t0"}, 5)
    assert 2000 < max(places) <= Reach().states // STATES_OF_A_PLACE + 1


def test_less_is_written_where_tokens_make_it_too_large(monkeypatch):
    schema = {"properties": {name: items(maxItems=50) for name in "abcdef"}}
    vocabulary = Vocabulary((None, *(bytes([b]) for b in range(256)), b'","', b"a1", b"a1a"))
    job = CompileJob.of(Structure(json_schema=json.dumps(schema)), vocabulary, [0])
    wide = job.run()
    monkeypatch.setattr(bundles, "MOST_BUNDLES", len(wide.bundles.source) - 1)
    narrow = job.run()
    assert narrow.automaton.num_states < wide.automaton.num_states
    text = [*b'{"a":["', *HEX.encode(), *b'"]}']
    assert all(c.automaton.accepting[c.automaton.run([b + 1 for b in text])] for c in (narrow, wide))
    monkeypatch.setattr(bundles, "MOST_BUNDLES", 10)
    with pytest.raises(TooLarge, match="tells too many tokens apart"):
        job.run()


@pytest.mark.parametrize(
    ("values", "recursions"),
    [({"type": "integer"}, [1, 12]), ({"enum": [f"{i:05}" * 40 for i in range(60)]}, [1, 0])],
)
def test_what_leads_back_to_itself_is_unrolled_once_before_twelve_times(values, recursions, monkeypatch):
    """The first two that are tried, where all fits and where once is too much already."""
    tried = []
    fits = _Attempts.fits
    monkeypatch.setattr(_Attempts, "fits", lambda self, reach: (tried.append(reach.recursions), fits(self, reach))[1])
    json_schema_language({"type": "object", "properties": {"v": values, "w": values, "next": {"$ref": "#"}}})
    assert tried[:2] == recursions
    tried.clear()
    json_schema_language({"type": "integer"})
    assert tried == [12]
