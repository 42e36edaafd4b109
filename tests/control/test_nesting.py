"""Deep constraints, from several threads at a time."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from diffusiongemma.control.json_schema.text import json_schema_language
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.dfa import TooLarge
from diffusiongemma.control.languages.nfa import compile_language
from diffusiongemma.control.languages.regex import regex_language
from diffusiongemma.control.languages.words import words_language


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
