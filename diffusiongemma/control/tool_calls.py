"""A tool call as a constraint: the name of a tool, then arguments that its JSON Schema accepts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from diffusiongemma.control.constraint import Constraint, compile_structure
from diffusiongemma.control.json_schema.text import json_schema_language
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.errors import InputError


@dataclass(frozen=True)
class ToolCalls:
    """`NAME{…}` with one of the names, and arguments of its schema (as JSON text)."""

    schemas: tuple[tuple[str, str], ...]

    def language(self) -> lang.Language:
        """Raises `InputError` naming the tool whose schema cannot be guaranteed."""
        return lang.either(*(self._call(name, schema) for name, schema in self.schemas))

    def _call(self, name: str, schema: str) -> lang.Language:
        try:
            arguments = json_schema_language(schema)
        except InputError as error:
            raise InputError(f"tool {name}: {error}") from error
        # Arguments are an object whatever the schema says of other values.
        opening = lang.sequence(lang.literal("{"), lang.ANY_TEXT)
        return lang.sequence(lang.literal(name), lang.both(arguments, opening))


def compile_calls(schemas: Mapping[str, str], vocabulary: Vocabulary, end_ids: Collection[int]) -> Constraint:
    """One call of one of the tools. Raises `InputError` for a schema that cannot be guaranteed."""
    return compile_structure(ToolCalls(tuple(schemas.items())), vocabulary, end_ids)
