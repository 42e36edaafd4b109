"""JSON Schema: whatever is written parses and validates; whatever can't be honoured is refused by name."""

import json
import os
import random
import re
from typing import Any

import jsonschema
import numpy as np
import pytest

from diffusiongemma.control.automaton import _distances
from diffusiongemma.control.dfa import CharDfa, TooLarge
from diffusiongemma.control.json_formats import FORMATS, format_language
from diffusiongemma.control.json_text import JsonStyle, json_schema_language
from diffusiongemma.control.nfa import compile_language
from diffusiongemma.errors import InputError

SCHEMAS = int(os.environ.get("DIFFUSIONGEMMA_SCHEMAS", "250"))  # the full check: 1000 or more
TEXTS = 6
FORMAT_CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER


def compiled(schema: Any, **style: Any) -> CharDfa:
    return compile_language(json_schema_language(schema, JsonStyle(**style)))


def random_texts(dfa: CharDfa, rng: random.Random, count: int) -> list[str]:
    """Accepted texts by random walks that head for acceptance after a random length."""
    source, atom = np.nonzero(dfa.next >= 0)
    to_end = _distances(np.flatnonzero(dfa.accepting), dfa.next[source, atom], source, dfa.num_states)
    return [_random_text(dfa, to_end, rng, rng.choice([0, 8, 30, 80])) for _ in range(count)]


def _random_text(dfa: CharDfa, to_end: np.ndarray, rng: random.Random, length: int) -> str:
    text, state = "", 0
    while True:
        atoms = np.flatnonzero(dfa.next[state] >= 0).tolist()
        if dfa.accepting[state] and (len(text) >= length or not atoms):
            return text
        if len(text) >= length:
            atoms = [a for a in atoms if to_end[dfa.next[state, a]] < to_end[state]]
        chosen = rng.choice(atoms)
        low, high = rng.choice(dfa.alphabet.chars_of([chosen]))
        text += chr(rng.randint(low, min(high, low + 5000)))
        state = int(dfa.next[state, chosen])


def assert_valid(schema: Any, text: str) -> None:
    value = json.loads(text)
    text.encode()
    jsonschema.Draft202012Validator(schema, format_checker=FORMAT_CHECKER).validate(value)


# -- a generator of schemas: every keyword, alone and together

NAMES = ["id", "name", "größe", "a b", "x", "n1", 'q"t']
PATTERNS = ["^a", "[0-9]{2}$", r"^\d+(\.\d)?$", "b|cd", r"^[^x]*$", r"\w\s", "^(foo|bar)+$", r"^.{2,4}$", "é"]


class SchemaGenerator:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def document(self) -> Any:
        schema = self.schema(3)
        if isinstance(schema, dict) and self.rng.random() < 0.3:
            schema["$defs"] = {"d": self.schema(2)}
        return schema

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def schema(self, depth: int) -> Any:
        roll = self.rng.random()
        if roll < 0.03:
            return {} if self.chance(0.7) else True
        if roll < 0.10:
            return {"const": self.value(2)}
        if roll < 0.17:
            return {"enum": [self.value(1) for _ in range(self.rng.randint(1, 4))]}
        if depth and roll < 0.34:
            return self.combination(depth - 1)
        kinds = ["string", "integer", "number", "boolean", "null"] + ["array", "object", "object"] * (depth > 0)
        kind = self.rng.choice(kinds)
        schema = {"type": kind, **getattr(self, kind)(depth - 1)}
        if self.chance(0.05):
            schema["type"] = [kind, "null"]
        if self.chance(0.05):
            schema["title"] = "anything"
        return schema

    def combination(self, depth: int) -> Any:
        match self.rng.choice(["anyOf", "oneOf", "allOf", "not", "if", "siblings"]):
            case "not":
                return {"type": self.rng.choice(["string", "integer", "boolean"]), "not": self.schema(0)}
            case "if":
                kind = self.rng.choice(["integer", "string", "object"])
                base = {"type": kind, **getattr(self, kind)(0)}
                return {**base, "if": self.schema(0), "then": {"type": kind}, "else": {**getattr(self, kind)(0)}}
            case "siblings":
                return {"anyOf": [self.schema(depth) for _ in range(2)], **self.object(depth)}
            case "allOf":
                kind = self.rng.choice(["integer", "string", "object", "array", "number"])
                return {"allOf": [{"type": kind, **getattr(self, kind)(depth)} for _ in range(2)]}
            case keyword:
                return {keyword: [self.schema(depth) for _ in range(self.rng.randint(1, 3))]}

    def value(self, depth: int) -> Any:
        kinds = ["string", "int", "float", "bool", "null"] + ["list", "dict"] * (depth > 0)
        match self.rng.choice(kinds):
            case "string":
                return self.rng.choice(["", "a", "ab\n", 'quo"te', "back\\slash", "é😀", "\x01", "foo", "12"])
            case "int":
                return self.rng.choice([0, 1, -7, 42, 10**18])
            case "float":
                return self.rng.choice([0.5, -2.25, 1e-7, 1e300, 3.0])
            case "bool":
                return self.chance(0.5)
            case "null":
                return None
            case "list":
                return [self.value(depth - 1) for _ in range(self.rng.randint(0, 2))]
            case _:
                return {name: self.value(depth - 1) for name in self.rng.sample(NAMES, self.rng.randint(0, 2))}

    def string(self, depth: int) -> dict[str, Any]:
        schema: dict[str, Any] = {}
        if self.chance(0.3):
            schema["minLength"] = self.rng.randint(0, 4)
        if self.chance(0.3):
            schema["maxLength"] = self.rng.randint(3, 12)
        if self.chance(0.25):
            schema["pattern"] = self.rng.choice(PATTERNS)
        elif self.chance(0.2):
            schema["format"] = self.rng.choice(sorted(FORMATS))
        return schema

    def integer(self, depth: int) -> dict[str, Any]:
        schema = self.number(depth)
        if self.chance(0.2):
            schema["multipleOf"] = self.rng.choice([2, 3, 7, 10])
        return schema

    def number(self, depth: int) -> dict[str, Any]:
        schema: dict[str, Any] = {}
        bounds = [-1000, -7.5, -1, 0, 0.001, 1, 3.25, 10, 99, 12345]
        if self.chance(0.4):
            schema[self.rng.choice(["minimum", "exclusiveMinimum"])] = self.rng.choice(bounds)
        if self.chance(0.4):
            schema[self.rng.choice(["maximum", "exclusiveMaximum"])] = self.rng.choice(bounds)
        return schema

    def boolean(self, depth: int) -> dict[str, Any]:
        return {}

    null = boolean

    def array(self, depth: int) -> dict[str, Any]:
        schema: dict[str, Any] = {}
        if self.chance(0.8):
            schema["items"] = self.schema(depth)
        if self.chance(0.2):
            schema["prefixItems"] = [self.schema(depth) for _ in range(self.rng.randint(1, 2))]
        if self.chance(0.3):
            schema["minItems"] = self.rng.randint(0, 2)
        if self.chance(0.3):
            schema["maxItems"] = self.rng.randint(1, 4)
        if self.chance(0.15):
            schema["contains"] = self.schema(0)
            if self.chance(0.4):
                schema["minContains"] = self.rng.randint(0, 2)
            if self.chance(0.3):
                schema["maxContains"] = self.rng.randint(1, 3)
        if self.chance(0.15):
            schema["items"], schema["uniqueItems"] = {"enum": self.rng.sample([1, "a", None, True, 2.5, "b"], 3)}, True
        return schema

    def object(self, depth: int) -> dict[str, Any]:
        depth = max(depth, 0)
        names = self.rng.sample(NAMES, self.rng.randint(0, 3))
        schema: dict[str, Any] = {"properties": {name: self.schema(depth) for name in names}} if names else {}
        if names and self.chance(0.7):
            schema["required"] = self.rng.sample(names, self.rng.randint(1, len(names)))
        if self.chance(0.05):
            schema["required"] = [*schema.get("required", []), "extra"]
        if self.chance(0.35):
            schema["additionalProperties"] = self.rng.choice([False, False, True, self.schema(0)])
        if self.chance(0.1):
            schema["patternProperties"] = {self.rng.choice(PATTERNS): self.schema(0)}
        if self.chance(0.1):
            schema["propertyNames"] = self.rng.choice([{"maxLength": 4}, {"pattern": "^[a-z]"}, {"enum": NAMES[:4]}])
        if self.chance(0.1):
            schema["minProperties"] = self.rng.randint(0, 2)
        if self.chance(0.1):
            schema["maxProperties"] = self.rng.randint(1, 3)
        if self.chance(0.1):
            schema["dependentRequired"] = {self.rng.choice(NAMES): [self.rng.choice(NAMES)]}
        if self.chance(0.05):
            schema["dependentSchemas"] = {self.rng.choice(NAMES): self.object(0)}
        if self.chance(0.1):
            schema["unevaluatedProperties"] = False
        return schema


def test_random_schemas_are_met_or_refused():
    """Soundness over generated schemas, all styles; refusals say so and stay the exception."""
    refused = 0
    for seed in range(SCHEMAS):
        schema = SchemaGenerator(seed).document()
        rng = random.Random(seed)
        style = {
            "whitespace": rng.choice(["none", "single", "optional"]),
            "key_order": rng.choice(["declared", "declared", "free"]),
        }
        try:
            dfa = compiled(schema, **style)
        except InputError as error:
            assert isinstance(error, TooLarge) or str(error).startswith("schema: "), error
            refused += 1
            continue
        for text in random_texts(dfa, rng, TEXTS):
            try:
                assert_valid(schema, text)
            except Exception as error:
                raise AssertionError(f"seed {seed} style {style}\nschema {json.dumps(schema)}\ntext {text!r}\n{error}") from error
    assert refused < 0.2 * SCHEMAS
