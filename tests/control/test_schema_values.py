"""Numbers as far as they go, multiples, and lists without repeats."""

from __future__ import annotations

import json
import random
import re
from decimal import Decimal

import pytest

from diffusiongemma.control.json_schema.text import json_schema_language
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.languages.dfa import CharDfa
from diffusiongemma.control.languages.minimal import chars_to_end
from diffusiongemma.errors import InputError

STRING, INTEGER = {"type": "string"}, {"type": "integer"}


def compiled(schema) -> CharDfa:
    return compile_language(json_schema_language(schema))


@pytest.mark.parametrize(
    ("schema", "accepted", "rejected"),
    [
        (INTEGER, ["1234567890123456789", "-1700000000000000000"], ["1e3", "01", "-0"]),
        ({"type": "number"}, ["6.62607015e-34", "1e21", "-2.5E+7", "1.123456789012", "0"], ["1e300", "01e1", "1.e1"]),
        ({"type": "number", "minimum": 0}, ["1e21", "0", "1e-9"], ["-1e-9", "-1"]),
        ({"type": "number", "exclusiveMaximum": 0}, ["-1e-9", "-0.5"], ["0", "1e-9", "-0"]),
        ({"type": "number", "maximum": 10}, ["-1e5", "10", "0.123456789"], ["1e1", "10.000001"]),
        ({"type": "number", "exclusiveMinimum": 1}, ["1.000001"], ["1.000000000000000001", "1"]),
        ({"exclusiveMaximum": 9.727837981879871e26}, ["1"], ["972783798187987100000000000"]),
        ({**INTEGER, "exclusiveMaximum": 2**63}, [], [str(2**63 - 1)]),
        ({"type": "number", "not": INTEGER}, ["0.5"], ["1.5e1", "1.0", "3"]),
        ({"type": "number", "multipleOf": 0.01}, ["1.25", "3", "-0.5"], ["1.255", "1e3"]),
        ({"type": "number", "multipleOf": 0.25, "minimum": 1}, ["1.75", "2", "1.5"], ["0.75", "1.3", "1.755"]),
        ({"allOf": [{"multipleOf": 0.5}, {"multipleOf": 0.2}], "type": "number"}, ["1", "3.0"], ["0.5", "0.2", "1.4"]),
        ({**INTEGER, "multipleOf": 0.5}, ["3"], ["1.5"]),
        ({"type": "array", "items": STRING, "uniqueItems": True}, ['["a","b"]', "[]", '["x1","y","d"]'],
         ['["a","a"]', '["b","a","b"]']),
        ({"type": "array", "items": INTEGER, "uniqueItems": True}, ["[1,2,3]", "[0,-4]"], ["[1,1]", "[-4,-4]"]),
        ({"type": "array", "items": {"enum": [f"v{i}" for i in range(40)]}, "uniqueItems": True, "minItems": 2},
         ['["v1","v3"]'], ['["v1"]', '["v3","v3"]']),
        ({"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1e-6}, "uniqueItems": True},
         ["[0]"], ["[0,0.0]", "[0.0,0.00]"]),
        ({"type": "array", "items": {"type": "object"}, "uniqueItems": True}, ["[{}]", "[]"], ["[{},{}]"]),
        ({"type": "object", "properties": {"a": {}}, "not": {"additionalProperties": False}}, ['{"b":1}'], ["{}"]),
    ],
)  # fmt: skip
def test_values(schema, accepted, rejected):
    dfa = compiled(schema)
    assert [text for text in accepted if not dfa.matches(text)] == []
    assert [text for text in rejected if dfa.matches(text)] == []


@pytest.mark.parametrize("seed", range(40))
def test_numbers_keep_their_bounds_for_every_reader(seed):
    """Random bounds: walks are within them as decimals and as floats."""
    rng = random.Random(seed)
    edges = [round(rng.uniform(-5, 5), rng.randint(0, 3)) * 10 ** rng.choice([0, 0, 2, 17]) for _ in range(2)]
    low, high = sorted(edges)
    keys = rng.choice(["minimum", "exclusiveMinimum"]), rng.choice(["maximum", "exclusiveMaximum"])
    both = {keys[0]: low, keys[1]: high}
    schema = {"type": rng.choice(["number", "integer"])} | rng.choice([{keys[0]: low}, {keys[1]: high}, both])
    try:
        dfa = compiled(schema)
    except InputError:
        return
    for text in _walks(dfa, rng, 30):
        for read in (lambda number: Decimal(str(number)), float):
            value, bounds = read(text), {key: read(schema[key]) for key in keys if key in schema}
            assert bounds.get("minimum", value) <= value <= bounds.get("maximum", value), text
            assert "exclusiveMinimum" not in bounds or value > bounds["exclusiveMinimum"], text
            assert "exclusiveMaximum" not in bounds or value < bounds["exclusiveMaximum"], text


def _walks(dfa, rng, count):
    to_end = chars_to_end(dfa)
    for _ in range(count):
        text, state = "", 0
        while not (dfa.accepting[state] and rng.random() < 0.2):
            atoms = [a for a in range(dfa.alphabet.num_atoms) if dfa.next[state, a] >= 0]
            if len(text) > 20:
                atoms = [a for a in atoms if to_end[dfa.next[state, a]] < to_end[state]]
            if not atoms:
                break
            atom = rng.choice(atoms)
            text += chr(rng.choice(dfa.alphabet.chars_of([atom]))[0])
            state = int(dfa.next[state, atom])
        yield text


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "array", "items": STRING, "uniqueItems": True, "minItems": 9}, "at most 6 items"),
        ({"type": "array", "items": {"type": "object"}, "uniqueItems": True, "minItems": 2}, "'uniqueItems' at /"),
        ({"type": "number", "multipleOf": 1e-9}, "'multipleOf' at /"),
    ],
)  # fmt: skip
def test_what_can_not_be_told_apart(schema, named):
    with pytest.raises(InputError, match=re.escape(named)):
        compiled(schema)


def test_recursion_goes_as_far_as_it_is_cheap():
    node = {
        "type": "object",
        "properties": {"v": INTEGER, "next": {"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]}},
    }
    node["required"] = ["v", "next"]
    value = None
    for i in range(10):
        value = {"v": i, "next": value}
    assert compiled({"$defs": {"N": node}, "$ref": "#/$defs/N"}).matches(json.dumps(value, separators=(",", ":")))


def test_where_many_strings_share_what_is_counted_each_is_as_long_as_its_pattern_needs():
    arn = {"type": "string", "maxLength": 2048, "pattern": "^arn:aws:iam::[0-9]{12}:role/.+$"}
    texts = {
        f"t{i}": {"type": "array", "items": {"type": "string", "maxLength": 900}, "maxItems": 200} for i in range(9)
    }
    schema = {
        "type": "object",
        "properties": {"role": arn, **texts},
        "required": ["role"],
        "additionalProperties": False,
    }
    dfa = compiled(schema)
    assert dfa.matches('{"role":"arn:aws:iam::123456789012:role/a"}') and not dfa.matches("{}")
