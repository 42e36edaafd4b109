"""A request is checked once, in the order of what it costs, and a mistake knows the option it is in."""

from __future__ import annotations

import time
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

import diffusiongemma as dg
from diffusiongemma import asking
from diffusiongemma.chat import Prompt
from diffusiongemma.control.constraint import Constraint
from diffusiongemma.engine.branch import Branch
from diffusiongemma.engine.checks import checked
from diffusiongemma.engine.engine import Engine


@pytest.fixture(scope="module")
def tiny(tiny_directory) -> dg.DiffusionGemma:
    return dg.load(tiny_directory)


MOST = 2**31 - 1


@pytest.mark.parametrize(
    ("prompt", "options", "option"),
    [
        ("", {}, "prompt"),
        ([], {}, "prompt"),
        ([5, 5000], {}, "prompt"),
        ([{"role": "king", "content": "x"}], {}, "prompt"),
        ("x", {"max_new_tokens": MOST}, "max_new_tokens"),
        ("x", {"pins": {0: 5000}}, "pins"),
        ("x", {"pins": {-1: 5}}, "pins"),
        ("x", {"pins": {300: 5}}, "pins"),
        ("x", {"pins": {1: 1, 4: 80}}, "pins"),
        ("x", {"pins": {0: "two words"}}, "pins"),
        ("x", {"pins": {3: "7"}, "regex": "[a-z]{4,9}"}, "pins"),
        ("x", {"logit_bias": {"two words": 1}}, "logit_bias"),
        ("x", {"raw": True, "json_schema": {}, "mode": "ar", "branch": Branch(0, 1)}, "branch"),
    ],
)
def test_mistakes_know_their_option(tiny, prompt, options, option):
    with pytest.raises(dg.InputError) as caught:
        tiny.request(prompt, **options)
    assert caught.value.option == option and str(caught.value).startswith(option)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "option"),
    [
        (lambda m: m.infill("a", "b", length=0), "length"),
        (lambda m: m.infill("a", "b", verify="always"), "verify"),
        (lambda m: m.infill("a", "b", early_steps=2), "early_steps"),
        (lambda m: m.infill("a", "b", max_new_tokens=3), "max_new_tokens"),
        (lambda m: m.infill_text("a b", hole=""), "hole"),
        (lambda m: m.infill_text("a b"), "text"),
        (lambda m: m.edit(" "), "text"),
        (lambda m: m.edit("a b", spans=[(0, 9)]), "spans"),
        (lambda m: m.edit("a b", strength=2), "strength"),
        (lambda m: m.edit("a b", mode="ar"), "mode"),
    ],
)
def test_mistakes_in_what_is_done_with_a_text_know_theirs(tiny, call, option):
    with pytest.raises(dg.InputError) as caught:
        call(tiny)
    assert caught.value.option == option


def test_the_constraint_is_made_when_all_else_is_in_order(tiny, monkeypatch):
    """The lengths of the issue: two such requests kept a server busy for hours."""
    made = []
    monkeypatch.setattr(asking, "compile_constraint", lambda **_: made.append(1))
    began = time.perf_counter()
    for options in ({"max_new_tokens": MOST, "min_tokens": MOST}, {"pins": {0: -1}}):
        with pytest.raises(dg.InputError):
            tiny.request("x", regex="[ab]*", **options)
    with pytest.raises(dg.InputError, match=r"prompt: prompt is too long: .* shorten the prompt"):
        tiny.request([5] * tiny.config.max_position_embeddings, regex="[ab]*")
    assert not made and time.perf_counter() - began < 10


def test_what_has_been_checked_is_trusted(tiny, monkeypatch):
    """The constraint begins once, for all choices of a request, and for as often as it runs."""
    begun, begin = [], Constraint.begin
    monkeypatch.setattr(Constraint, "begin", lambda *a: begun.append(1) or begin(*a))
    request = tiny.request("x", regex="[a-f]{4,9}", max_new_tokens=20, steps=2)
    choices = [replace(request.with_seed(seed), id=seed) for seed in range(3)]
    results = Engine(tiny.network, tiny.tokenizer).results(choices)
    assert len(begun) == 1 and [r.seed for r in results] == [0, 1, 2]
    assert results[2].tokens == tiny.generate("x", regex="[a-f]{4,9}", max_new_tokens=20, steps=2, seed=2).tokens


def test_nobody_writes_into_a_request(tiny):
    request = tiny.request("x")
    with pytest.raises(FrozenInstanceError):
        request.record = True


def test_a_form_that_is_compiled_can_be_given(tiny):
    form = tiny.request("x", choices=["yes", "no"]).constraint.constraint
    assert tiny.request("x", constraint=form).has_form
    result = Engine(tiny.network, tiny.tokenizer).results([tiny.request("x", constraint=form, steps=2)])[0]
    assert result.text in ("yes", "no")
    with pytest.raises(dg.InputError) as caught:
        tiny.request("x", constraint=form, regex="a")
    assert caught.value.option == "regex"


def test_a_cache_that_holds_all_of_the_prompt_is_refused(tiny):
    """There would be nothing to read the first canvas behind, and no end."""
    ids = [5, 6, 7]
    cache = tiny.network.new_sequence()
    with torch.no_grad():
        tiny.network.encode_rows([cache], [tiny.network.backbone.embed(torch.tensor(ids))])
    with pytest.raises(dg.InputError, match="cache: it holds all"):
        tiny.request(ids, cache=cache)
    assert tiny.request([*ids, 8], cache=cache).cache is cache


def test_plans_check_what_they_ask_for(tiny):
    (request,) = next(tiny.infill_plan(["a", "b"], length=2))
    with pytest.raises(dg.InputError, match="prompt"):
        checked(replace(request, prompt=Prompt([], [], [])), tiny.config)
