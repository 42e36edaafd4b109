"""Limits of many characters: never passed, nearly filled, whatever the canvases."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from diffusiongemma.control.compiling import CompileJob, compile_constraint, compiling_elsewhere
from diffusiongemma.control.structure import Structure
from diffusiongemma.control.tokens.coarse import AFFORDABLE, _moves, _stops_of
from diffusiongemma.control.tokens.vocabulary import Vocabulary, vocabulary_of
from diffusiongemma.weights.locate import ASSETS

NANO = ASSETS / "nano" / "tokenizer.json"
WORDS = (
    "a",
    "is",
    "the",
    "that",
    "which",
    " so",
    "house",
    '"',
    '",',
    '":',
    "\\",
    '\\"',
    "\\n",
    "é",
    "日本",
    "{",
    "}",
    "0",
)
LIMITS = ((0, 250), (0, 700), (230, 260), (600, 640))
VOCABULARY = Vocabulary((None, *(bytes([b]) for b in range(256)), *(word.encode() for word in WORDS), None, None))
PLAIN = [bytes([b]).decode() for b in b" aZ0."]
TEXT = [VOCABULARY.token_bytes.index(word.encode()) for word in (*PLAIN, *WORDS) if '"' not in word]
END, OPENS, CLOSES = 0, len(VOCABULARY) - 2, len(VOCABULARY) - 1
ENGLISH = (
    "The river rises in the hills behind the old town and turns east where the road to the coast crosses it. In spring "
    "its water is brown and quick, and people who have lived here for a long time know which of the fields it will "
    "cover. A mill stood at the second bridge until the winter of the great frost; nobody has built there since. "
)


def text(limits):
    least, most = limits
    return {"type": "string", "minLength": least, "maxLength": most}


@cache
def counted(limits, fields):
    record = {"type": "object", "properties": {f"f{i}": text(limits) for i in range(fields)}}
    schema = record | {"required": sorted(record["properties"])}
    return compile_constraint(
        json_schema=json.dumps(schema), vocabulary=VOCABULARY, end_ids=[END], preamble=(OPENS, CLOSES)
    )


def walk(constraint, rng, width, thinks):
    """Words as long as one may follow, canvas by canvas, then whatever may."""
    automaton = constraint.automaton
    thought = [OPENS, 5, 40, CLOSES] if thinks else []
    state, written = constraint.begin(10**6).after(thought), []
    while not state.finished:
        row, at = [], state.state
        while len(row) < width and at != automaton.done:
            row.append(int(rng.choice(TEXT)))
            if at < 2 or automaton.advance(at, row[-1]) < 0:
                labels = automaton.label[(automaton.source == at) & (automaton.target != 1)]  # 1: within a thought
                row[-1] = int(rng.choice(np.flatnonzero(automaton.class_of_token == rng.choice(labels))))
            at = automaton.advance(at, row[-1])
        state, written = state.after(row), written + row
        assert len(written) < 10_000
    return VOCABULARY.decode(written)


@given(st.sampled_from(LIMITS), st.integers(1, 2), st.integers(1, 120), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_random_tokens_keep_both_limits(limits, fields, width, thinks, seed):
    least, most = limits
    written = json.loads(walk(counted(limits, fields), np.random.default_rng(seed), width, thinks))
    assert len(written) == fields and all(least <= len(value) <= most for value in written.values())


@cache
def nano():
    tokenizer = Tokenizer.from_file(str(NANO))
    return tokenizer.encode(ENGLISH * 20, add_special_tokens=False).ids, vocabulary_of(tokenizer)


def filled(constraint, vocabulary, ids, width, thought=()):
    """How many characters of a string these tokens write, canvas by canvas, before one of them may not follow."""
    quote = vocabulary.token_bytes.index(b'"')
    state, characters = constraint.begin(10**6).after([*thought, quote]), 0
    for first in count(0, width):
        row, at = ids[first : first + width], state.state
        for token in row:
            at = constraint.automaton.advance(at, token)
            if at < 0:
                return characters
            characters += len(vocabulary.token_bytes[token])
        state = state.after(row)


@pytest.mark.parametrize("width", [96, 256])
@pytest.mark.parametrize("least", [0, 240])
@pytest.mark.parametrize(
    ("most", "shares"), [(250, (92, 92)), (500, (92, 84)), (1000, (92, 72)), (3000, (96, 93)), (4096, (96, 92))]
)
def test_english_nearly_fills_a_limit(most, shares, least, width):
    ids, vocabulary = nano()
    constraint = compile_constraint(json_schema=json.dumps(text((least, most))), vocabulary=vocabulary, end_ids=[1])
    share = shares[width > 96]
    for first in (0, 11, 40):
        assert share * most / 100 <= filled(constraint, vocabulary, ids[first:], width) <= most


def test_the_true_count_is_what_fills_it():
    """Without it, all that is rounded far from the limit is lost."""
    ids, vocabulary = nano()
    constraint = compile_constraint(json_schema=json.dumps(text((0, 3000))), vocabulary=vocabulary, end_ids=[1])
    assert filled(replace(constraint, recount=None), vocabulary, ids, 96) < 2100


def test_a_thought_is_not_counted():
    ids, vocabulary = nano()
    opens, closes = (t for t in (2, 3) if vocabulary.token_bytes[t] is None)
    constraint = compile_constraint(
        json_schema=json.dumps(text((0, 3000))), vocabulary=vocabulary, end_ids=[1], preamble=(opens, closes)
    )
    for thought in ((), (opens, *ids[:20], closes)):
        assert filled(constraint, vocabulary, ids, 96, thought) > 2850


def test_what_was_compiled_elsewhere_counts_again():
    ids, vocabulary = nano()
    schema = json.dumps(text((0, 2999)))
    job = CompileJob.of(Structure(json_schema=schema), vocabulary, [1])
    with compiling_elsewhere({job: replace(job, vocabulary=vocabulary).run()}):
        constraint = compile_constraint(json_schema=schema, vocabulary=vocabulary, end_ids=[1])
    assert filled(constraint, vocabulary, ids, 96) > 2850


@pytest.mark.parametrize("lengths", [[49], [250], [101, 101], [4097], [250] * 3, [250] * 12, [300, 5000, 60]])
def test_stops_begin_and_end_with_the_chain(lengths):
    stops = _stops_of(lengths)
    assert [(s[0], s[-1]) for s in stops] == [(0, length - 1) for length in lengths]
    assert all((np.diff(s) > 0).all() and np.diff(s).max() <= 8 for s in stops)
    assert len(lengths) == 12 or sum(map(_moves, stops)) <= AFFORDABLE


@pytest.mark.parametrize("most", [200, 240])
def test_what_is_affordable_is_exact(most):
    assert len(_stops_of([most // 2] * 2)[0]) == most // 2
