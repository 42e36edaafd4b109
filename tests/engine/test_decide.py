"""Typed decisions in Python: their numbers, the labels, and what cannot be asked."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import diffusiongemma as dg
from diffusiongemma.control.inference.labels import Labels
from diffusiongemma.diffusion.noise import INITIAL, Noise
from diffusiongemma.engine.engine import Engine
from diffusiongemma.engine.plans.plan import drive

(BODY,) = json.loads((Path(__file__).parents[1] / "cases" / "decisions.json").read_text())["bodies"]
STATE, QUESTIONS = BODY["state"], BODY["questions"]
ODD = 'other, "odd" / label'


@pytest.fixture(scope="module")
def model(tiny_directory) -> dg.DiffusionGemma:
    return dg.load(tiny_directory)


def as_numbers(decision):
    return {name: dict(answer.probabilities) for name, answer in decision.answers.items()}


@pytest.mark.parametrize("options", [{}, {"steps": 3}, {"samples": 3, "seed": 5}])
def test_answers_have_the_shapes_of_the_interface(model, options):
    told = model.decide(STATE, QUESTIONS, **options).as_object()["answers"]
    assert list(told) == ["urgent", "team", "tone"] and 0 <= told["urgent"]["noul"] <= 1
    team, tone = told["team"], told["tone"]
    assert list(team["probabilities"]) == ["billing", "outage", ODD]
    assert team["choice"] == max(team["probabilities"], key=team["probabilities"].get)
    assert tone["legend"] == {"0": "calm", "1": "cross", "2": "furious"}
    assert tone["score"] == pytest.approx(sum(int(k) * p for k, p in tone["probabilities"].items()))
    for answer in (team, tone):
        p = list(answer["probabilities"].values())
        assert sum(p) == pytest.approx(1, abs=1e-12)
        entropy = -sum(x * math.log(x) for x in p if x)
        assert answer["confidence"] == pytest.approx(1 - entropy / math.log(3), abs=1e-12)
    assert all(("spread" in answer) == ("samples" in options) for answer in told.values())


def test_one_step_reads_the_models_own_logits(model):
    """The engine's numbers are those of the tensor level: prompt, noise, one pass, sums over tokens."""
    question = {"type": "choice", "instructions": "Which?", "criteria": {"red": "", "green tea": "a drink"}}
    found = model.decide("It is hot.", {"q": question}, seed=11).answers["q"].probabilities
    prompt = model.prompt("It is hot.\n\nWhich?\ngreen tea: a drink\nChoose one: red or green tea")
    cache = model.encode(torch.tensor([prompt.ids]))
    width, size = model.config.canvas_length, model.config.vocab_size
    canvas = Noise(11, 0).tokens(0, INITIAL, width, size)[None]
    labels = Labels.of(list(found), model.vocabulary, model.generation.eos_token_ids, width)
    logits = model.denoise(canvas, cache)[0, : labels.positions, labels.tokens.tolist()].detach().numpy()
    expected = np.exp(labels.log_probabilities(logits))
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-3)


def test_a_question_is_answered_alike_alone_beside_others_and_in_a_crowd(model):
    together = as_numbers(model.decide(STATE, QUESTIONS, samples=2, steps=2))
    for name, question in QUESTIONS.items():
        assert as_numbers(model.decide(STATE, {name: question}, samples=2, steps=2)) == {name: together[name]}
    crowd = [model.request(f"text {i}", id=100 + i, seed=i) for i in range(5)]

    def crowded(requests):
        return Engine(model.network, model.tokenizer, 4).results([*crowd, *requests])[len(crowd) :]

    plan = model.decide_plan(STATE, QUESTIONS, samples=2, steps=2)
    assert as_numbers(drive(plan, crowded)) == together


def test_samples_are_the_mean_over_seeds(model):
    one = {"team": QUESTIONS["team"]}
    singles = [list(model.decide(STATE, one, seed=5 + i).answers["team"].probabilities.values()) for i in range(3)]
    mean = model.decide(STATE, one, seed=5, samples=3).answers["team"]
    np.testing.assert_allclose(list(mean.probabilities.values()), np.mean(singles, 0), rtol=1e-12)
    np.testing.assert_allclose(list(mean.spread.values()), np.std(singles, 0), rtol=1e-9)
    assert singles[0] != singles[1]


def test_many_samples_take_turns(model):
    """So that others' requests are not kept waiting."""
    plan = model.decide_plan("x", {"q": QUESTIONS["team"], "r": QUESTIONS["tone"]}, samples=20)
    sizes = []

    def results_of(requests):
        sizes.append(len(requests))
        return Engine(model.network, model.tokenizer, 8).results(requests)

    decision = drive(plan, results_of)
    assert sizes == [16, 16, 8] and len(decision.results) == 40
    assert all(result.forward_passes == 1 for result in decision.results)


def test_a_model_that_knows_is_sure():
    nano = dg.load("nano")
    ends, width = nano.generation.eos_token_ids, nano.config.canvas_length
    labels = Labels.of(["red", "green", "very dark blue", "blue"], nano.vocabulary, ends, width)
    plain = nano.request("Tell me the color of an emerald.", max_new_tokens=width, steps=1, verify="never")
    (result,) = Engine(nano.network, nano.tokenizer).results([replace(plain, labels=labels)])
    assert result.label_logprobs[1] > math.log(0.99) and sum(map(math.exp, result.label_logprobs)) == pytest.approx(1)


def thoughts_of(model, said):
    """The prompts that are read behind such an answer to the first turn."""
    plan = model.decide_plan("x", {"q": QUESTIONS["team"]}, think=True, samples=2)
    first = next(plan)
    assert [request.config.steps for request in first] == [8, 8] and all(request.thinking for request in first)
    thought = dg.Result("", tuple(said), "stop", "diffusion", 0, 1, (8,), 8, 0.1)
    readings = plan.send([thought] * 2)
    assert [reading.config.steps for reading in readings] == [1, 1]
    return [reading.prompt.ids[len(request.prompt.ids) :] for request, reading in zip(first, readings, strict=True)]


def test_a_thought_comes_before_the_label(model):
    known = model.tokenizer.get_vocab()
    opening, closing = known["<|channel>"], known["<channel|>"]
    end = model.generation.eos_token_ids[0]
    assert thoughts_of(model, [opening, 70, 71, closing, 80, end]) == [[opening, 70, 71, closing]] * 2
    assert thoughts_of(model, [opening, 70, 71, end]) == [[opening, 70, 71, closing]] * 2, "closed where it was not"
    assert thoughts_of(model, [80, 81, end]) == [[], []], "there is none"
    decision = model.decide("x", {"q": QUESTIONS["team"]}, think=True)
    assert sum(decision.answers["q"].probabilities.values()) == pytest.approx(1)
    assert "<|think|>" in model.tokenizer.decode(next(model.decide_plan("x", QUESTIONS, think=True))[0].prompt.ids)


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("text", "give an object"),
        ({}, "no type None"),
        ({"type": "rank", "instructions": "x"}, "no type 'rank'"),
        ({"type": "noul"}, "instructions are empty"),
        ({"type": "noul", "instructions": " "}, "instructions are empty"),
        ({"type": "noul", "instructions": "x", "criteria": {"maybe": "y"}}, "true and false"),
        ({"type": "noul", "instructions": "x", "ask_if": "y"}, "'ask_if' is not known here"),
        ({"type": "choice", "instructions": "x"}, "criteria are an object"),
        ({"type": "choice", "instructions": "x", "criteria": ["a", "b"]}, "criteria are an object"),
        ({"type": "choice", "instructions": "x", "criteria": {"a": ""}}, "1 labels: give 2 to 256"),
        ({"type": "choice", "instructions": "x", "criteria": {"": "", "a": ""}}, "empty label"),
        ({"type": "noul", "criteria": {"true": None}}, "instructions are empty"),
        ({"type": "choice", "instructions": "x", "criteria": {"b": {1}, "a": ""}}, "written as JSON"),
        ({"type": "choice", "instructions": "x", "criteria": {"b" * 99: "", "a": ""}}, "cannot be written"),
        ({"type": "choice", "instructions": "x", "criteria": {"\ud800": "", "a": ""}}, "surrogate"),
        ({"type": "score", "instructions": "x", "criteria": "abc"}, "criteria are a list"),
        ({"type": "score", "instructions": "x", "criteria": ["a"]}, "1 levels: give 2 to 10"),
        ({"type": "score", "instructions": "x", "criteria": list("abcdefghijk")}, "11 levels"),
    ],
)
def test_what_cannot_be_asked_is_told(model, question, told):
    with pytest.raises(dg.InputError, match=told) as error:
        model.decide("x", {"q": question})
    assert error.value.option == "questions" and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"questions": {}}, "questions"),
        ({"questions": [1]}, "questions"),
        ({"questions": {3: QUESTIONS["team"]}}, "questions"),
        ({"questions": {str(i): QUESTIONS["team"] for i in range(65)}}, "questions"),
        ({"state": {1, 2}}, "state"),
        ({"state": float("nan")}, "state"),
        ({"state": "\ud800"}, "state"),
        ({"steps": 0}, "steps"),
        ({"steps": 9}, "steps"),
        ({"samples": 33}, "samples"),
        ({"samples": True}, "samples"),
        ({"think": "yes"}, "think"),
        ({"seed": -1}, "seed"),
        ({"images": ["nowhere.png"]}, "images"),
        ({"images": 5}, "images"),
    ],
)
def test_wrong_options_are_told(model, options, option):
    asked = {"state": "x", "questions": {"q": QUESTIONS["team"]}} | options
    with pytest.raises(dg.InputError) as error:
        model.decide(asked.pop("state"), asked.pop("questions"), **asked)
    assert error.value.option == option


def test_what_is_said_of_a_question_may_be_anything_or_nothing(model):
    """As the interface's own library sends it: contents are texts or JSON, and instructions may be absent."""
    levels = [{"mood": "calm"}, ["cross", 1]]
    asked = {
        "bare": {"type": "choice", "criteria": {"a": None, "b": {"when": ["x"]}}},
        "levels": {"type": "score", "instructions": {"rate": "tone"}, "criteria": levels},
        "meant": {"type": "noul", "criteria": {"true": "it is red"}},
    }
    answers = model.decide("x", asked).as_object()["answers"]
    assert set(answers["bare"]["probabilities"]) == {"a", "b"}
    assert answers["levels"]["legend"] == {"0": levels[0], "1": levels[1]}
    assert 0 < answers["meant"]["noul"] < 1
    (request, *_) = next(model.decide_plan("x", asked))
    assert 'b: {"when": ["x"]}' in model.tokenizer.decode(request.prompt.ids)


def test_images_are_shown_with_the_state(model):
    from PIL import Image

    pictures = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    one = {"team": QUESTIONS["team"]}
    plain, red, blue = (as_numbers(model.decide("x", one, images=shown)) for shown in ([], pictures[:1], pictures[1:]))
    assert plain != red != blue
