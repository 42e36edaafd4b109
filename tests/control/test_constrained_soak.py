"""Generated and real-world schemas and regexes through whole models, at any temperature and step count: none may fail.

A sample by default; in full: DIFFUSIONGEMMA_SCHEMAS=1000 DIFFUSIONGEMMA_REGEXES=1000 pytest -s <this file>
"""

from __future__ import annotations

import json
import os
import random
import re
from typing import Any

import pytest
from schemas import REAL, SchemaGenerator
from test_json_schema import assert_valid
from test_regex import random_regex

import diffusiongemma as dg
from diffusiongemma.control.languages.dfa import TooLarge

SCHEMAS = int(os.environ.get("DIFFUSIONGEMMA_SCHEMAS", "12"))
REGEXES = int(os.environ.get("DIFFUSIONGEMMA_REGEXES", "30"))
TEMPERATURES = [0, 1.0, 2.0]
MOST_STEPS = 48


@pytest.fixture(params=["nano", "random"], scope="module")
def model(request, tiny_directory) -> dg.DiffusionGemma:
    return dg.load("nano" if request.param == "nano" else tiny_directory)


def answers(model: dg.DiffusionGemma, rng: random.Random, **structure: Any) -> list[str]:
    """One answer at each temperature, with 1 to 48 steps, few most often, and little room to spare."""
    steps = [round(MOST_STEPS ** rng.random()) for _ in TEMPERATURES]
    seeds = [rng.randrange(2**32) for _ in TEMPERATURES]
    least = model.request("?", max_new_tokens=3000, **structure).constraint.constraint.minimum_tokens
    room = max(1, least) + rng.randint(0, 30)
    results = model.generate(
        ["?"] * len(TEMPERATURES),
        temperature=TEMPERATURES,
        steps=steps,
        seed=seeds,
        max_new_tokens=room,
        **structure,
    )
    return [result.text for result in results]


def is_refusal(error: dg.InputError) -> bool:
    return isinstance(error, TooLarge) or error.option == "json_schema" or "this tokenizer" in str(error)


def test_every_answer_meets_its_schema(model):
    outputs = refused = 0
    for seed in range(SCHEMAS):
        schema = SchemaGenerator(seed + 50_000).document()
        try:
            texts = answers(model, random.Random(seed), json_schema=schema)
        except dg.InputError as error:
            assert is_refusal(error), error
            refused += 1
            continue
        for text in texts:
            assert_valid(schema, text)
            outputs += 1
    print(f"\n{outputs} answers valid, {refused} of {SCHEMAS} schemas refused")
    assert outputs > 2 * SCHEMAS


@pytest.mark.parametrize("name", REAL)
def test_every_answer_meets_a_schema_as_people_write_them(model, name):
    for seed in range(max(1, SCHEMAS // 50)):
        for text in answers(model, random.Random(seed), json_schema=REAL[name]):
            assert_valid(REAL[name], text)


def test_every_answer_matches_its_regex(model):
    rng, outputs = random.Random(7), 0
    for _ in range(REGEXES):
        pattern = random_regex(rng)
        try:
            texts = answers(model, rng, regex=pattern)
        except dg.InputError as error:
            assert "no text at all" in str(error) or "this tokenizer" in str(error), error
            continue
        for text in texts:
            assert re.fullmatch(pattern, text), (pattern, text)
            outputs += 1
    print(f"\n{outputs} answers match, {REGEXES} regexes")
    assert outputs > 2 * REGEXES


def test_a_schema_in_the_words_of_its_text(model):
    """The same through the text of a schema as through the object."""
    as_text = answers(model, random.Random(0), json_schema=json.dumps(REAL["point"]))
    assert as_text == answers(model, random.Random(0), json_schema=REAL["point"])
