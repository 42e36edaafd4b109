"""What is written less far than a structure allows is said, to whom it may matter."""

from __future__ import annotations

import json
import re

import pytest

from diffusiongemma.control.compiling import FEWER_STATES, CompileJob, compile_constraint
from diffusiongemma.control.json_schema.text import read_schema
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.languages.dfa import TooLarge
from diffusiongemma.control.structure import Structure, ToolCalls
from diffusiongemma.control.tokens.vocabulary import Vocabulary

VOCABULARY = Vocabulary((None, *(bytes([b]) for b in range(256))))
MANY = {"properties": {f"p{i}": {"type": "string", "maxLength": 5000} for i in range(12)}}
LARGE = {"properties": {f"k{i}": {"type": "string", "maxLength": 30} for i in range(6)}}
HUGE = r"^(?:[a-z]{1,255}\.){1,100}[a-z]{2}$"


def text(n):
    return "a" * n


def of_key(n):
    return {"p3": text(n)}


def ones(n):
    return [1] * n


def keys(n):
    return {f"k{i}": 1 for i in range(n)}


@pytest.mark.parametrize(
    ("items", "most"),
    [
        ({"type": "integer"}, 6),
        ({"type": "array", "items": {"type": "array"}}, 1),
        ({"enum": list(range(20))}, 0),
    ],
    ids=["numbers", "lists of lists", "listed"],
)
def test_distinct_items_are_as_many_as_can_be_told_apart(items, most):
    _, notices = read_schema({"type": "array", "items": items, "uniqueItems": True})
    said = [notice for notice in notices if "uniqueItems" in notice.text]
    assert [(notice.beyond, f" {most} item" in notice.text) for notice in said] == ([(most, True)] if most else [])
    _, notices = read_schema({"type": "array", "items": items, "uniqueItems": True, "maxItems": 1})
    assert not [notice for notice in notices if "uniqueItems" in notice.text]


@pytest.mark.parametrize(
    ("schema", "keyword", "where", "value", "allowed"),
    [
        ({"type": "string", "maxLength": 8192}, "maxLength", "/", text, 8192),
        ({"type": "string", "maxLength": 8192, "pattern": "^[ab]*$"}, "maxLength", "/", text, 8192),
        (MANY, "maxLength", "/properties/p0 and 11 other places", of_key, 5000),
        ({"items": LARGE, "type": "array", "maxItems": 900}, "maxItems", "/", lambda n: [{}] * n, 900),
        ({"additionalProperties": LARGE, "type": "object", "maxProperties": 900}, "maxProperties", "/",
         lambda n: {f"k{i}": {} for i in range(n)}, 900),
    ],
    ids=["text", "text of a pattern", "many texts", "items", "properties"],
)  # fmt: skip
def test_clipped_counts_are_said_with_what_is_left(schema, keyword, where, value, allowed):
    language, notices = read_schema(schema)
    (notice,) = [notice for notice in notices if repr(keyword) in notice.text]
    assert f"at {where} is written in part" in notice.text
    most = int(re.search(r"([0-9,]+) \w+ at most", notice.text)[1].replace(",", ""))
    dfa = compile_language(language)
    written = [dfa.matches(json.dumps(value(n), separators=(",", ":"))) for n in (most, most + 1, allowed)]
    assert written == [True, False, False] and 0 < notice.beyond <= most


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "maxLength": 4096}, text(4096)),
        ({"properties": {f"p{i}": {"type": "string", "maxLength": 100} for i in range(9)}}, of_key(100)),
        ({"enum": ["a", "b"], "maxLength": 9000}, "a"),
        ({"type": "string", "pattern": "^[a-z]{1,40}$", "maxLength": 9000}, text(40)),
        ({"type": "array", "items": {"const": 1}, "maxItems": 1000}, ones(1000)),
        ({"type": "array", "prefixItems": [{"const": 1}], "items": False, "maxItems": 10**6}, ones(1)),
        ({"properties": {"k0": {"const": 1}}, "additionalProperties": False, "maxProperties": 10**6}, keys(1)),
    ],
    ids=["text", "texts", "listed", "short by pattern", "items", "tuple", "closed"],
)
def test_limits_that_are_kept_or_not_reached_are_not_mentioned(schema, value):
    language, notices = read_schema(schema)
    assert not notices
    assert compile_language(language).matches(json.dumps(value, separators=(",", ":")))


def nested(key, depth, inner):
    return '{"' + key + '":' + (nested(key, depth - 1, inner) if depth > 1 else inner) + "}"


def wide(depth, names, required):
    """Objects in objects, each with all the names, so that they are too large whole."""
    value = wide(depth - 1, names, required) if depth else {"type": "string"}
    return {"type": "object", "properties": dict.fromkeys(names, value), "required": required}


def test_recursion_that_ends_is_said():
    chain = {"type": "object", "properties": {"in": {"$ref": "#"}}, "additionalProperties": False}
    language, (notice,) = read_schema(chain)
    dfa, most = compile_language(language), notice.beyond
    said = f"'$ref' at / is written in part: / stands {most} times at most inside itself, more would be too large"
    assert notice.text == said
    assert [dfa.matches(nested("in", n, "{}")) for n in (most, most + 1)] == [True, False]
    constraint = compile_constraint(json_schema=chain, vocabulary=VOCABULARY, end_ids=[0])
    assert [constraint.begin(tokens).warnings for tokens in (most, most + 1)] == [(), (said,)]


def test_recursion_is_said_where_it_stands_and_what_is_left_of_it():
    node = {"type": "object", "properties": {f"{c}{i}": {"$ref": "#/$defs/n"} for c in "abcdef" for i in range(4)}}
    schema = {"$defs": {"n": node}, "type": "object", "properties": {"tree": {"$ref": "#/$defs/n"}}}
    language, (notice,) = read_schema(schema)
    assert notice.text.startswith("'$ref' at /$defs/n is written in part: /$defs/n stands once at most inside itself")
    dfa = compile_language(language)
    assert [dfa.matches('{"tree":' + nested("a0", n, "{}") + "}") for n in (1, 2)] == [True, False]


def test_properties_left_out_deep_inside_are_said():
    language, (notice,) = read_schema(wide(6, ["aa", "bb", "cc", "dd"], ["aa"]))
    first = "/properties/aa" * notice.beyond
    assert notice.text.startswith(
        f"'properties' at {first} and 255 other places is written in part: so deep inside only"
    )

    def text(more_at, depth=7):
        inside = text(more_at - 1, depth - 1) if depth else '"x"'
        return inside if not depth else f'{{"aa":{inside}{f""","bb":{text(0, depth - 1)}""" * (more_at == 1)}}}'

    dfa = compile_language(language)
    assert [dfa.matches(text(level)) for level in range(6)] == [level <= notice.beyond for level in range(6)]


def test_values_without_a_schema_that_nest_less_than_usual_are_said():
    language, notices = read_schema({"properties": {f"p{i}": {} for i in range(120)}})
    (notice,) = notices
    assert notice.text.startswith("what has no schema at / is written in part: values stand in no other values, ")
    assert notice.beyond == 1 and not compile_language(language).matches('{"p0":[["x"]]}')
    language, notices = read_schema({"properties": {f"p{i}": {} for i in range(5)}})
    assert not notices and compile_language(language).matches('{"p0":[["x"]]}')


def test_patterns_too_large_by_themselves_are_said():
    (notice,) = read_schema({"properties": {"host": {"type": "string", "pattern": HUGE}}})[1]
    assert "'pattern' at /properties/host is written in part: what it repeats, 64 times at most" in notice.text
    assert not read_schema({"type": "string", "pattern": "^[a-z]{1,255}$"})[1]


@pytest.mark.parametrize(("most", "said"), [(4096, []), (4097, ["4,097"]), (10_000, ["10,000"])])
def test_long_repeats_of_a_regular_expression_are_said(most, said):
    constraint = compile_constraint(regex=f"a{{1,{most}}}", vocabulary=VOCABULARY, end_ids=[0])
    assert [re.search(r"repeats ([0-9,]+) times", warning)[1] for warning in constraint.warnings] == said


def test_what_an_answer_could_not_hold_anyway_is_not_said():
    schema = {"type": "string", "maxLength": 8192, "foo": 1}
    constraint = compile_constraint(json_schema=schema, vocabulary=VOCABULARY, end_ids=[0])
    assert len(constraint.warnings) == 2
    assert [len(constraint.begin(tokens).warnings) for tokens in (8, 512, 513, 4000)] == [1, 1, 2, 2]


def test_tools_say_it_too():
    notices = []
    ToolCalls((("note", json.dumps(MANY)),)).language(notices.append)
    assert ["of note: 'maxLength' at /properties/p0" in notice.text for notice in notices] == [True]


def test_what_is_too_large_over_tokens_says_what_is_left_then(monkeypatch):
    job = CompileJob.of(Structure.of({"json_schema": {"type": "string", "maxLength": 8192}}), VOCABULARY, [0])
    whole = CompileJob._constraint

    def refusing(job, dfa, notices):
        if dfa.num_states > FEWER_STATES:
            raise TooLarge("too large over tokens")
        return whole(job, dfa, notices)

    before = job.run()
    monkeypatch.setattr(CompileJob, "_constraint", refusing)
    said = [re.findall(r"([0-9,]+) characters at most", " ".join(made.warnings)) for made in (before, job.run())]
    assert said == [["4,096"], ["1,024"]]
