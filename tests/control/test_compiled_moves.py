"""Moves of tokens by the kernels' library are those of numpy, number for number."""

from __future__ import annotations

import json

import numpy as np
import pytest

from diffusiongemma.control.compiling import CompileJob
from diffusiongemma.control.structure import Structure
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.kernels import automata
from tests.control.test_compiled_automata import SCHEMAS, library  # noqa: F401 (a fixture)

WORDS = ['{"', '":', '","', '"}', "[", "]", "a", "ab", "bcd", "é", "12", "3.", "null", '"']


@pytest.mark.parametrize("number", range(len(SCHEMAS) - 1))
def test_of_schemas(number, monkeypatch):
    texts = [word.encode() for word in WORDS]
    vocabulary = Vocabulary((None, *(bytes([b]) for b in range(256)), *texts, "éa".encode()[1:]))
    job = CompileJob.of(Structure(json_schema=json.dumps(SCHEMAS[number])), vocabulary, [0])
    found = job.run().automaton
    monkeypatch.setattr(automata, "available", lambda: False)
    twin = job.run().automaton
    for name in ("accepting", "class_of_token", "source", "label", "target"):
        assert np.array_equal(getattr(found, name), getattr(twin, name))
