"""The kernels' library makes the same automata as its plain twin, state for state, and keeps to its limits."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from diffusiongemma.control.json_schema.text import json_schema_language
from diffusiongemma.control.languages import compiler
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.charset import ANY_CHAR, chars
from diffusiongemma.control.languages.dfa import CharDfa, TooLarge
from diffusiongemma.control.languages.minimal import distances, minimised, smallest, trimmed
from diffusiongemma.control.languages.operations import of_words
from diffusiongemma.control.languages.regex import found_language, regex_language
from diffusiongemma.kernels import automata, build

SCHEMAS = [
    {"type": "object", "properties": {c: {"type": ["string", "number"]} for c in "abcdefgh"}, "required": ["c"]},
    {"type": "array", "items": {"pattern": r"^\w{2,4}\n?x*$", "type": "string"}, "minItems": 1, "maxItems": 7},
    {"properties": {"of": {"$ref": "#"}, "at": {"format": "date-time"}}, "minProperties": 1},
    {"patternProperties": {"^a": {"type": "integer"}}, "propertyNames": {"maxLength": 6}, "additionalProperties": True},
    {"enum": ['a"b', "\u0001\u0002", "é\n", 1.5, None, [1, {"a": []}]]},
    {"type": "array", "items": {"enum": list("abcd")}, "uniqueItems": True},
    False,
]


@pytest.fixture(scope="module", autouse=True)
def library():
    if not automata.available() and (build.compiler() is None or build.build().get(build.AUTOMATA)):
        pytest.skip("no library, and no compiler to make one")
    automata._library.cache_clear()
    assert automata.available()


def assert_same(found: CharDfa | None, twin: CharDfa):
    assert found is not None and np.array_equal(found.next, twin.next)
    assert np.array_equal(found.accepting, twin.accepting)
    assert np.array_equal(found.alphabet.atoms, twin.alphabet.atoms)


def both_ways(expression: lang.Language) -> tuple[CharDfa | None, CharDfa]:
    return compiler.run(compiler._by_library(expression)), compiler.run(compiler._by_twin(expression))


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:40])
def test_of_schemas(schema):
    found, twin = both_ways(json_schema_language(schema) if schema else lang.NEVER)
    assert_same(found, twin)


def random_expression(rng: random.Random, depth: int) -> lang.Language:
    kind = rng.choice(["chars", "chars", "sequence", "either", "repeat", "embedded", "quoted"]) if depth else "chars"
    parts = [random_expression(rng, depth - 1) for _ in range(rng.randint(0, 3))] if depth else []
    if kind == "chars":
        return lang.Chars(rng.choice([chars("a"), chars("ab"), chars('\n"'), ANY_CHAR]))
    if kind == "sequence":
        return lang.Sequence((*parts, *parts[:1]))
    if kind == "either":
        return lang.Either(tuple(parts))
    body = random_expression(rng, depth - 1)
    if kind == "repeat":
        least = rng.randint(0, 3)
        return lang.Repeat(body, least, rng.choice([None, least + 1, least + 2]))
    if kind == "quoted":
        return lang.Quoted(body)
    return rng.choice(
        [lang.Both(body, body), lang.Without(lang.ANY_TEXT, body), lang.Compiled(of_words(["ab", "b\n"]))]
    )


def test_of_random_expressions():
    rng = random.Random(5)
    states = 0
    for _ in range(400):
        found, twin = both_ways(random_expression(rng, 4))
        assert_same(found, twin)
        states = max(states, twin.num_states)
    assert states > 20


def test_of_tables():
    rng = np.random.default_rng(0)
    merged = 0
    for states in (1, 2, 7, 60, 400):
        table = np.where(rng.random((states, 3)) < 0.5, -1, rng.integers(0, states, (states, 3)))
        alphabet = of_words(["a", "b", "c"]).alphabet
        dfa = CharDfa(alphabet, table.astype(np.int32), rng.random(states) < 0.3)
        assert_same(smallest(dfa), minimised(trimmed(dfa)))
        merged += trimmed(dfa).num_states - smallest(dfa).num_states
    assert merged > 0


def test_distances(monkeypatch):
    rng = np.random.default_rng(3)
    for states, edges in ((1, 0), (6, 7), (60, 70), (400, 2000)):
        source, target, starts = (rng.integers(0, states, n) for n in (edges, edges, 2))
        found = distances(starts, source, target, states)
        with monkeypatch.context() as patch:
            patch.setattr(automata, "available", lambda: False)
            assert (found == distances(starts, source, target, states)).all()


def test_anchors_are_left_to_the_twin():
    """But where a pattern begins and ends."""
    for pattern in ("^[a-z]{3,9}$", "^a|b$", "(^a$)"):
        assert compiler.run(compiler._by_library(found_language(pattern))) is not None
    assert compiler.run(compiler._by_library(regex_language(r"^a\b"))) is None
    assert compiler.compile_language(regex_language(r"a\b")).matches("a")


def test_limits():
    with pytest.raises(TooLarge, match="20,000 states"):
        compiler.run(compiler._by_library(regex_language(".*a.{16}")))
    with pytest.raises(TooLarge, match="too many alternatives"):
        compiler.run(compiler._by_library(regex_language("((ab?){2000}c?){900}")))
    nested: lang.Language = lang.Chars(chars("a"))
    for _ in range(30_000):
        nested = lang.Either((nested, lang.EMPTY))
    assert compiler.run(compiler._by_library(nested)) is None
