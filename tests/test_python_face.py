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


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
@pytest.mark.parametrize("verify", ["never", "always"])
def test_stop_texts_end_an_answer(model, mode, verify):
    options = dict(seed=5, mode=mode, verify=verify if mode == "diffusion" else "never")
    text = model.generate("hello", **options).text
    stop = text[6:9]
    result = model.generate("hello", stop=["\x07", stop], **options)
    assert result.text == text.split(stop)[0] and result.finish_reason == "stop"
    events = list(model.stream("hello", stop=stop, **options))
    assert "".join(event.text for event in events if isinstance(event, dg.TextDelta)) == result.text
    assert [isinstance(event, dg.Finished) for event in events].count(True) == 1 and isinstance(events[-1], dg.Finished)
    assert stop not in model.generate("hello", stop=stop, early_steps=1, early_entropy=9.0, **options).text


def test_stop_texts_of_several_prompts_and_of_conversations(model):
    texts = [model.generate(prompt, seed=5).text for prompt in ("hello", "bye")]
    results = model.generate(["hello", "bye"], seed=5, stop=[[texts[0][4:6]], ["\x07"]])
    assert [result.text for result in results] == [texts[0].split(texts[0][4:6])[0], texts[1]]
    session = model.chat(seed=5, stop=texts[0][4:6])
    assert session.send("hello").text == results[0].text == session.messages[-1]["content"]
    assert session.send("and?").finish_reason in ("stop", "length")
    for wrong in ("", ["a", ""], [3]):
        with pytest.raises(dg.InputError, match="stop"):
            model.generate("hello", stop=wrong)
