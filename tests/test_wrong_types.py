"""Every argument of every public method, given what it is not: a sentence that says what it takes."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import diffusiongemma as dg
from diffusiongemma.options import OPTIONS
from diffusiongemma.request_options import RequestOptions
from diffusiongemma.signatures import StreamOptions

WRONG = [None, True, 5, 1.5, "word", b"bytes", ["a"], [None], {1: 2}, object(), torch.zeros(2), {1, 2}, float("nan")]
RIGHT = {
    "prompt": "hi",
    "prefix": "a",
    "suffix": "b",
    "text": "a <<>> b",
    "texts": ["a", "b"],
    "state": "x",
    "questions": {"q": {"type": "noul", "instructions": "x"}},
    "ids": torch.tensor([[2, 5]]),
    "canvas": torch.zeros(1, 8, dtype=torch.long),
    "device": "cpu",
}
QUICK = {
    **{method: {"steps": 1, "max_new_tokens": 2} for method in ("generate", "stream", "request", "chat")},
    **{method: {"steps": 1, "length": 1} for method in ("infill", "infill_text", "infill_plan")},
    **{method: {"steps": 1} for method in ("edit", "edit_plan")},
}
ELSEWHERE = ("agenerate", "astream")  # `generate` and `stream`, in a thread
METHODS = [
    name
    for name, member in vars(dg.DiffusionGemma).items()
    if inspect.isfunction(member) and not name.startswith("_") and name not in ELSEWHERE
]
OF_ANSWERS = sorted({*OPTIONS, *(field.name for field in fields(RequestOptions)), "trace"})


def arguments_of(method):
    named = [name for name in inspect.signature(getattr(dg.DiffusionGemma, method)).parameters if name != "self"]
    more = {"generate": OF_ANSWERS, "stream": ["frames", "cache", "constraint", "id"]}.get(method, [])
    return [name for name in named if name != "options"] + list(more)


TABLE = [(method, argument) for method in METHODS for argument in arguments_of(method)]


@pytest.fixture(scope="module")
def model(tiny_directory):
    return dg.load(tiny_directory)


def call(model, method, wrong, tmp_path):
    right = {
        **RIGHT,
        "cache": model.encode(RIGHT["ids"]),
        "shaped_logits": torch.zeros(1, 8, 4096),
        "directory": tmp_path / "saved",
    }
    needed = [
        name
        for name, parameter in inspect.signature(getattr(model, method)).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    made = getattr(model, method)(**{name: right[name] for name in needed} | QUICK.get(method, {}) | wrong)
    if method == "chat":
        made.send("hi")
    elif method == "stream":
        list(made)
    elif method.endswith("_plan"):
        next(made)


def test_the_table_has_every_method():
    assert {"generate", "infill", "edit", "decide", "encode", "save_pretrained", "to"} <= set(METHODS)
    assert set(StreamOptions.__annotations__) <= {argument for method, argument in TABLE}


@pytest.mark.parametrize(("method", "argument"), TABLE, ids=["-".join(row) for row in TABLE])
def test_a_wrong_type_is_told_in_a_sentence(model, tmp_path, monkeypatch, method, argument):
    monkeypatch.chdir(tmp_path)  # "word" is a directory to some
    told = 0
    for wrong in WRONG:
        try:
            call(model, method, {argument: wrong}, tmp_path)
        except dg.UserError as error:
            told += 1
            assert str(error) and "\n" not in str(error) and len(str(error)) < 1500
    assert told >= (0 if argument in ("state", "schema") else 5), "most of these are nothing that it takes"


@pytest.mark.parametrize("argument", [name for name in inspect.signature(dg.load).parameters if name != "source"])
def test_loading_with_a_wrong_type(tiny_directory, argument):
    told = 0
    for wrong in WRONG:
        try:
            dg.load(tiny_directory, **{argument: wrong})
        except dg.UserError as error:
            told += 1
            assert "\n" not in str(error)
    assert told >= 5


def test_a_list_is_no_text_to_infill(model):
    with pytest.raises(dg.InputError, match=r"prefix is \['a'\]: give a text"):
        model.infill(["a"], "b")
    with pytest.raises(dg.InputError, match="max_batch is 0: give a whole number of at least 1"):
        model.generate("hi", max_batch=0)  # it would wait for ever


def test_a_value_is_shown_in_one_short_line(model):
    with pytest.raises(dg.InputError) as error:
        model.infill([Path("x" * 50)] * 100, "b")
    assert len(str(error.value)) < 300 and "…" in str(error.value)
    with pytest.raises(dg.InputError) as error:
        model.infill(torch.zeros(3, 3), "b")
    assert "\n" not in str(error.value)
