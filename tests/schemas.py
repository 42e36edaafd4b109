"""JSON Schemas to test with: a generator that uses every keyword, alone and together, and some as people write them."""

from __future__ import annotations

import random
from typing import Any

from diffusiongemma.control.json_schema.formats import FORMATS

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
            schema["maxLength"] = self.rng.choice([3, 5, 12, 200])
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


PERSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"type": "string", "format": "email"},
        "birthday": {"type": "string", "format": "date"},
        "roles": {"type": "array", "items": {"enum": ["admin", "user"]}, "uniqueItems": True, "minItems": 1},
        "address": {"$ref": "#/$defs/address"},
        "height": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 2.75},
    },
    "required": ["name", "age", "address"],
    "additionalProperties": False,
    "$defs": {
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "zip": {"type": "string", "pattern": r"^\d{5}(-\d{4})?$"}},
            "required": ["zip"],
        }
    },
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"items": {"$ref": "#/$defs/node"}, "type": "array"},
            },
            "required": ["value", "children"],
            "additionalProperties": False,
        }
    },
}
EVENT = {
    "type": "object",
    "required": ["event"],
    "properties": {
        "event": {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": "click"}, "x": {"type": "integer"}, "y": {"type": "integer"}},
                    "required": ["kind", "x", "y"],
                },
                {
                    "type": "object",
                    "properties": {"kind": {"const": "key"}, "code": {"type": "string"}},
                    "required": ["kind", "code"],
                },
            ]
        },
        "at": {"type": "string", "format": "date-time"},
    },
    "patternProperties": {"^x-": {"type": "string"}},
    "additionalProperties": False,
}
TOOL_CALL = {
    "type": "object",
    "properties": {"tool": {"enum": ["search", "open"]}, "arguments": {"type": "object"}},
    "required": ["tool", "arguments"],
    "if": {"properties": {"tool": {"const": "search"}}},
    "then": {"properties": {"arguments": {"properties": {"query": {"type": "string"}}, "required": ["query"]}}},
    "else": {"properties": {"arguments": {"properties": {"id": {"type": "integer"}}, "required": ["id"]}}},
}
POINT = {"type": "array", "prefixItems": [{"type": "number"}] * 2, "items": False, "minItems": 2}
REAL = {"person": PERSON, "tree": TREE, "event": EVENT, "tool call": TOOL_CALL, "point": POINT, "anything": {}}
