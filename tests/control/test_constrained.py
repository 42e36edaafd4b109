"""Structure guaranteed through the whole engine: any model, mode, temperature, step count and budget."""

from __future__ import annotations

import json
import re

import jsonschema
import numpy as np
import pytest
import torch

import diffusiongemma as dg
from diffusiongemma.control.compiling import compile_constraint
from diffusiongemma.control.inference.holding import Region
from diffusiongemma.control.inference.reader import Constrained
from diffusiongemma.diffusion.readout import read
from diffusiongemma.tasks import sudoku

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


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
@pytest.mark.parametrize("pattern", [r" [a-z|]{3}\n?", r"<[a-z]{1,9}\|>", r"([0-9]{2}\n\n){1,4}"])
def test_a_thought_may_come_before_the_structure(model, mode, pattern):
    """Whatever is thought, the answer matches, and where it must begin at once, it can."""
    options = dict(regex=pattern, think=True, mode=mode, steps=3, temperature=2.0)
    results = []
    for seed in range(6):
        least = 30 if seed % 2 else 0  # more than the answer can be: a thought must come first
        results.append(model.generate("?", seed=seed, min_tokens=least, max_new_tokens=40 + seed, **options))
        assert re.fullmatch(pattern, results[-1].text), results[-1].text
        assert not least or results[-1].thinking
    fewest = model.request("?", regex=pattern, think=True).constraint.constraint.minimum_tokens
    assert re.fullmatch(pattern, model.generate("?", max_new_tokens=fewest, **options).text)


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


MODES = ("diffusion", "ar")
STRUCTURES = (
    {},
    {"regex": "[a-z0-9 ]{1,40}"},
    {"json_schema": {"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]}},
    {"choices": ["axb12", "azb12", "x", "12"]},
    {"template": "n {n:str}"},
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: next(iter(s), "free"))
def test_words_are_banned_and_required_beside_any_structure(model, structure, mode):
    free = model.generate("hello", mode=mode, steps=2, seed=1, max_new_tokens=40).text
    likely = next((c for c in free if c.isalnum() and c not in "nxb12az"), "e")  # what it would write often
    words = {"banned_words": [likely, "x"], "required_words": ["12"], **structure}
    for seed in range(3):
        text = model.generate("hello", mode=mode, steps=2, seed=seed, max_new_tokens=40, **words).text
        assert likely not in text and "x" not in text and "12" in text
        if "choices" in structure:
            assert text in ("azb12", "12")
        if "json_schema" in structure:
            jsonschema.validate(json.loads(text), structure["json_schema"])


def test_words_are_looked_for_across_canvases(model):
    """Two digits only, three canvases: each run of equal digits is as short as the banned words make it."""
    width = model.config.canvas_length
    options = dict(regex="[01]*", banned_words=["00", "111"], steps=1, max_new_tokens=3 * width, min_tokens=2 * width)
    for seed in range(2):
        result = model.generate("?", seed=seed, **options)
        assert result.canvases > 1 and len(result.text) >= 2 * width
        assert "00" not in result.text and "111" not in result.text


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("structure", [{}, {"regex": "[a-z ]*"}], ids=["free", "regex"])
def test_no_end_before_the_minimum(model, structure, mode):
    ends = {token: 100 for token in model.generation.eos_token_ids}  # it would end at once
    width = model.config.canvas_length
    for least in (0, 3, width + 2):
        options = dict(mode=mode, steps=2, logit_bias=ends, min_tokens=least, max_new_tokens=2 * width, **structure)
        result = model.generate("hello", **options)
        written = [token for token in result.tokens if token not in ends]
        assert len(written) == least and result.finish_reason == "stop"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("structure", [{}, {"regex": "[a-z]{1,8}"}], ids=["free", "regex"])
def test_a_logit_bias_enters_before_the_temperature(model, structure, mode):
    options = dict(mode=mode, steps=2, max_new_tokens=8, min_tokens=4, temperature=2.0, **structure)
    assert set(model.generate("hello", logit_bias={"q": 100}, **options).text) == {"q"}
    free = model.generate("hello", seed=5, **options)
    without = model.generate("hello", seed=5, logit_bias=dict.fromkeys(free.tokens[:4], -100), **options)
    assert not set(without.tokens) & set(free.tokens[:4])
    assert model.generate("hello", seed=5, logit_bias={"q": 0.0}, **options).tokens == free.tokens


def test_who_is_biased_does_not_change_who_shares_the_batch(model):
    options = dict(steps=3, seed=[1, 2], max_new_tokens=12)
    alone = model.generate("b", steps=3, seed=2, max_new_tokens=12)
    assert model.generate(["a", "b"], logit_bias=[{"q": 100}, None], **options)[1].tokens == alone.tokens


def test_frames_show_matching_texts_and_change_nothing(model):
    """Every step of a trace matches, and the answer is the same whether anybody looks or not."""
    options = dict(json_schema=SCHEMA, steps=6, max_new_tokens=60, seed=3)
    shown = model.generate("who?", trace=True, **options)
    quiet = model.generate("who?", **options)
    assert (shown.tokens, shown.steps, shown.settled) == (quiet.tokens, quiet.steps, quiet.settled)
    np.testing.assert_allclose(shown.logprobs, quiet.logprobs, atol=1e-6)
    constraint = model.request("who?", **options).constraint.constraint
    state = constraint.begin(60)
    for canvas in range(shown.canvases):
        steps = [step for step in shown.trace if step.canvas == canvas]
        assert all(constraint.automaton.run(step.argmax, state.state) >= 0 for step in steps)
        state = state.after(steps[-1].argmax)
    for name in ("frames", "trace"):
        assert model.request("who?", **{name: True}, **options).frames == (name == "frames")


def test_paths_at_every_step_or_at_the_commit_write_the_same(nano):
    """The Viterbi pass that most steps are spared gives, where it is made, what it gave at every step."""
    options = dict(regex=r"[a-z]{3,9}( [a-z]{3,9}){4}", steps=5, max_new_tokens=60, verify="never")
    events = list(nano.stream("hello", **options))
    result = events[-1].result
    assert result.tokens == nano.generate("hello", **options).tokens
    last = [e for e in events if isinstance(e, dg.CanvasStep)][-1]
    assert tuple(last.argmax[: len(result.tokens)].tolist()) == result.tokens


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (dict(regex="("), "regex"),
        (dict(regex="(?<=a)b"), "look"),
        (
            dict(json_schema={"type": "array", "uniqueItems": True, "items": {"type": "object"}, "minItems": 3}),
            "uniqueItems",
        ),
        (dict(json_schema="{oops"), "JSON"),
        (dict(regex="a{500}", max_new_tokens=5), "at least"),
        (dict(choices=[]), "choice"),
        (dict(regex="a", choices=["b"]), "choose one"),
        (dict(json_schema={"type": "strnig"}), "strnig"),
        (dict(json_schema=3), "not a schema"),
        (dict(json_schema={"type": "string", "minLength": 3, "maxLength": 2}), "no finite JSON"),
        (dict(json_schema={"allOf": [{"const": 1}, {"const": 2}]}), "no finite JSON"),
        (dict(regex="(?<=b)a"), "look-behind"),
        (dict(regex="[a-z]{3}", banned_words=list("abcdefghijklmnopqrstuvwxyz")), "no text at all"),
        (dict(regex="[a-z]{3}", required_words=["1"]), "no text at all"),
        (dict(banned_words=["a"], required_words=["cat"]), "contains one of banned_words"),
        (dict(banned_words="cat"), "list"),
        (dict(required_words=[""]), "empty"),
        (dict(required_words=["x" * 300], max_new_tokens=3), "at least"),
        (dict(min_tokens=30, max_new_tokens=20), "min_tokens is 30"),
        (dict(min_tokens=-1), "min_tokens"),
        (dict(min_tokens=20, choices=["yes"]), "minimum"),
        (dict(logit_bias={5000: 1.0}), "5000"),
        (dict(logit_bias={"two words": 1.0}), "one token"),
        (dict(logit_bias={"a": 101}), "-100 to 100"),
        (dict(pins={0: 5000}), "vocabulary"),
    ],
)
def test_what_cannot_be_guaranteed_is_refused_before_any_work(nano, option, words):
    with pytest.raises(dg.InputError, match=words) as caught:
        nano.generate("?", **option)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", [{}, {"mode": "ar"}, {"verify": "always"}, {"early_steps": 1, "early_entropy": 9.0}])
def test_a_form_that_closes_with_the_last_token_there_is_room_for_is_complete(nano, mode):
    """Forced to, or exactly there. Words alone are no form: their text is cut."""
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    for most in (12, 16):
        result = nano.generate("Who?", json_schema=schema, max_new_tokens=most, **mode)
        json.loads(result.text)
        assert result.finish_reason == "stop" and len(result.tokens) <= most
    least = nano.request("?", regex="[0-9]{8}").constraint.constraint.minimum_tokens
    result = nano.generate("?", regex="[0-9]{8}", max_new_tokens=least, **mode)
    assert (result.finish_reason, len(result.tokens), len(result.text)) == ("stop", least, 8)
    cut = nano.generate("Tell me all you know.", banned_words=["zebra"], min_tokens=9, max_new_tokens=9, **mode)
    assert cut.finish_reason == "length" and len(cut.tokens) == 9


def test_the_next_step_is_conditioned_on_the_models_own_prediction(model):
    """The constrained marginals may be surer than the model: told so, it does not correct itself (see the log)."""
    backbone, width = model.network.backbone, 8
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(width, model.config.hidden_size, generator=generator)
    uniforms = torch.rand(width, generator=generator, dtype=torch.float64)
    region = Region(0, width, model.request("?", regex="[ab]{3,40}").constraint.constraint)
    with torch.no_grad():
        held = region.reader("cpu")(backbone, hidden, 0.7, uniforms, False)
        free = read(backbone, hidden, torch.full((width,), 0.7), uniforms, torch.zeros(width, dtype=torch.bool))
    torch.testing.assert_close(held.soft, free.soft)
    assert not torch.allclose(held.entropy, free.entropy)
    assert set(model.tokenizer.decode(held.argmax)) <= {"a", "b"}


def test_a_head_that_a_kernel_reads_is_read_at_once_and_softened_as_without_a_constraint(monkeypatch):
    model = dg.load("nano", device="cpu", dtype="bfloat16")
    head, positions = model.network.backbone, 24
    if not head.read_by_kernel:
        pytest.skip("no kernel reads logits here")
    constraint = compile_constraint(regex="[a-z ]{3,40}", vocabulary=model.vocabulary, end_ids=[1])
    reader = Constrained(constraint.begin(positions).open_canvas(positions))
    monkeypatch.setattr("diffusiongemma.control.inference.reader.CHUNK_ELEMENTS", 2 * model.config.vocab_size)
    rows, logits = [], head.logits
    monkeypatch.setattr(head, "logits", lambda hidden: (rows.append(len(hidden)), logits(hidden))[1])
    hidden = torch.randn(positions, model.config.hidden_size, generator=torch.Generator().manual_seed(0)).bfloat16()
    uniforms, drawn = torch.full((positions,), 0.5), torch.zeros(positions, dtype=torch.bool)
    constrained = reader(head, hidden, 0.6, uniforms, greedy=False)
    assert rows == [positions]
    assert torch.equal(constrained.soft, read(head, hidden, torch.full((positions,), 0.6), uniforms, drawn).soft)
