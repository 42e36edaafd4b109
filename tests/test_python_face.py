"""What a user of the Python interface meets first: names, results, mistakes."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

import diffusiongemma as dg


@pytest.fixture(scope="module")
def model(tiny_directory) -> dg.DiffusionGemma:
    return dg.load(tiny_directory)


def test_dir_shows_what_there_is():
    public = [name for name in dir(dg) if not name.startswith("_")]
    assert public == sorted(dg.__all__) and {"load", "EntropyBound", "Result"} <= set(public)
    assert all(getattr(dg, name) is not None for name in public)


def test_a_result_is_one_line_and_a_picture(model):
    result = model.generate("hello", seed=5)
    assert repr(result).count("\n") == 0 and len(repr(result)) < 200
    assert "seed 5" in repr(result) and f"{len(result.tokens)} tokens" in repr(result)
    page = result._repr_html_()
    assert page.count("<span") == len(result.tokens) and "entropy" in page
    pieces = "".join(result.token_texts)
    assert pieces.replace("\ufffd", "") == "".join(c for c in result.text if c in pieces) or pieces == result.text


def test_markup_in_a_result_is_text():
    result = dg.Result(
        "<b>", (1,), "stop", "ar", 0, 1, (), 1, 0.1, logprobs=(-0.5,), entropies=(1.0,), token_texts=("<b>",)
    )
    assert "<b>" not in result._repr_html_() and "&lt;b&gt;" in result._repr_html_()


def test_an_unknown_option_is_told_with_all_there_are(model):
    with pytest.raises(dg.InputError, match=r"did you mean steps\?") as error:
        model.generate("hello", step=3)
    for name in ("steps", "json_schema", "top_p", "trace", "think"):
        assert name in str(error.value)


def test_names_of_the_command_line_are_taken_too(model):
    ours = model.generate("hello", seed=5, min_tokens=3, banned_words=["a"], choices=None)
    assert model.generate("hello", seed=5, min_new_tokens=3, ban=["a"]).text == ours.text
    with pytest.raises(dg.InputError, match="two names"):
        model.generate("hello", ban=["a"], banned_words=["b"])


def test_seeds_may_be_numpys_or_drawn(model):
    assert model.generate("hello", seed=np.int64(5)).text == model.generate("hello", seed=5).text
    assert model.generate("hello", seed=np.int64(5), steps=np.int32(2)).steps == (2, 2)
    drawn = {model.generate("hello", seed=None, steps=1).seed for _ in range(3)}
    assert len(drawn) == 3
    with pytest.raises(dg.InputError, match="seed is True"):
        model.generate("hello", seed=True)


@pytest.mark.parametrize("prompt", [None, 5, 1.5, b"hello", [], {"role": "user"}, [None], [[1.5]]])
def test_what_is_no_prompt_is_a_mistake_in_words(model, prompt):
    with pytest.raises(dg.InputError):
        model.generate(prompt)


def test_generating_beside_other_work(model):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    async def both():
        other = asyncio.create_task(tick())
        result = await model.agenerate("hello", seed=5)
        events = [event async for event in model.astream("hello", seed=5)]
        other.cancel()
        return result, events

    result, events = asyncio.run(both())
    assert ticks > 3 and events[-1].result.text == result.text == model.generate("hello", seed=5).text


def test_a_model_says_where_it_is_and_moves(model):
    assert model.device == torch.device("cpu") and model.to("cpu") is model
    with pytest.raises(dg.InputError, match="no device"):
        model.to("nowhere")
