"""Structure guaranteed through the whole engine: any model, mode, temperature, step count and budget."""

from __future__ import annotations

import json
import re

import jsonschema
import numpy as np
import pytest

import diffusiongemma as dg
from diffusiongemma.train.tasks import sudoku

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def nano() -> dg.DiffusionGemma:
    return dg.load("nano")


@pytest.fixture(params=["nano", "random"], scope="module")
def model(request, nano, tiny_directory) -> dg.DiffusionGemma:
    return nano if request.param == "nano" else dg.load(tiny_directory)


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
@pytest.mark.parametrize(("temperature", "steps"), [(0, 1), (None, 4), (2.0, 2)])
def test_json_always_validates(model, mode, temperature, steps):
    for budget in (24, 60):
        options = dict(max_new_tokens=budget, temperature=temperature, steps=steps, mode=mode, seed=budget)
        result = model.generate("who?", json_schema=SCHEMA, **options)
        jsonschema.validate(json.loads(result.text), SCHEMA)


@pytest.mark.parametrize("pattern", [r"\d{4}-\d{2}-\d{2}", r"(ja|nein)!?", r"[a-zé ]{3,40}\.", r"é{5}|☃+"])
def test_text_always_matches(model, pattern):
    texts = [model.generate("?", regex=pattern, steps=2, seed=seed, max_new_tokens=60).text for seed in range(4)]
    assert all(re.fullmatch(pattern, text) for text in texts)


def test_a_constraint_spans_canvases(nano):
    result = nano.generate("count", regex=r"(\d{3};){50}", steps=2, max_new_tokens=250)
    assert re.fullmatch(r"(\d{3};){50}", result.text) and result.canvases > 1


def test_choices_and_templates(nano):
    assert nano.generate("?", choices=["red", "green"], steps=2).text in ("red", "green")
    batch = nano.generate(["a", "b"], choices=[["yes"], ["no"]], steps=2)
    assert [r.text for r in batch] == ["yes", "no"]
    text = nano.generate("?", template="Name: {name:str} Age: {age:int}", steps=2).text
    assert re.fullmatch(r"(?s)Name: .* Age: -?\d+", text)


def test_constrained_and_free_requests_share_a_batch(nano):
    options = dict(regex=[r"\d{9}", None, "x{4}"], steps=[3, 4, 2], seed=[1, 2, 3])
    together = nano.generate(["a", "b", "c"], **options)
    for i, prompt in enumerate("abc"):
        alone = nano.generate(prompt, **{name: values[i] for name, values in options.items()})
        assert alone.text == together[i].text


def test_the_form_of_a_sudoku_does_not_hurt_its_solution(nano):
    """Nine lines of digits: what the free model writes anyway must come out the same."""
    bank = sudoku.SeedBank.build(train=1, test=4)
    puzzles, _ = sudoku.sample_boards(bank.test, 6, np.random.default_rng(0), givens=(50, 60))
    prompts = [sudoku.format_puzzle(puzzle) for puzzle in puzzles]
    free = nano.generate(prompts)
    held = nano.generate(prompts, regex=r"([1-9]{9}\n){8}[1-9]{9}")
    assert [r.text for r in free] == [r.text for r in held]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (dict(regex="("), "regex"),
        (dict(regex="(?<=a)b"), "look"),
        (dict(json_schema={"type": "array", "uniqueItems": True}), "uniqueItems"),
        (dict(json_schema="{oops"), "JSON"),
        (dict(regex="a{500}", max_new_tokens=5), "at least"),
        (dict(choices=[]), "choice"),
        (dict(regex="a", choices=["b"]), "choose one"),
    ],
)
def test_what_cannot_be_guaranteed_is_refused_before_any_work(nano, option, words):
    with pytest.raises(dg.InputError, match=words) as caught:
        nano.generate("?", **option)
    assert "\n" not in str(caught.value)
