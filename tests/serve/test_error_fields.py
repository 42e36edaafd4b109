"""The field that an error names: by the option at fault, never by the words of the message."""

from __future__ import annotations

import inspect

import pytest
from serving import running, user

import diffusiongemma as dg
from diffusiongemma.errors import InputError
from diffusiongemma.serve.errors import blaming, refused
from diffusiongemma.serve.native.bodies import EditRequest, InfillRequest
from diffusiongemma.serve.native.diffusion_field import DiffusionOptions, EarlyText
from diffusiongemma.serve.native.edits import edit_fields
from diffusiongemma.serve.native.infill import infill_fields
from diffusiongemma.serve.openai.bodies import ChatRequest, CompletionRequest
from diffusiongemma.serve.openai.chat import chat_fields
from diffusiongemma.serve.openai.completions import completion_fields
from diffusiongemma.serve.openai.suffix import suffix_fields

CHAT = {"messages": user("hi")}
# Options of `request` that no body can give.
PYTHON_ONLY = {"id", "raw", "trace", "cache", "options", "self", "constraint"}


def has_field(model, dotted):
    """Whether a body of this kind has the field."""
    name, *rest = dotted.split(".")
    inner = {"diffusion": DiffusionOptions, "early_text": EarlyText}
    return name in model.model_fields and (not rest or has_field(inner[name], ".".join(rest)))


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (ChatRequest(**CHAT), chat_fields),
        (CompletionRequest(prompt="a"), completion_fields),
        (CompletionRequest(prompt="a", suffix="b"), suffix_fields),
        (InfillRequest(text="a <<>>"), infill_fields),
        (EditRequest(input="a"), edit_fields),
    ],
)
def test_every_option_has_a_field_and_every_field_exists(body, fields):
    field_of, chat = fields(body), isinstance(body, ChatRequest)
    options = set(inspect.signature(dg.DiffusionGemma.request).parameters) - PYTHON_ONLY
    options |= {"steps", "seed", "temperature", "mode", "entropy_bound", "sampler", "patience", "verify"}
    options |= {"early_steps", "early_entropy", "top_logprobs", "top_p", "min_tokens", "max_new_tokens"}
    for option in sorted(options):
        field = field_of(option)
        assert field is None or has_field(type(body), field), (option, field)
        assert field or not chat, f"{option} has no field in a chat's body"


def test_a_field_is_named_as_it_was_sent():
    newer = chat_fields(ChatRequest(**CHAT, max_completion_tokens=5))
    assert (newer("max_new_tokens"), chat_fields(ChatRequest(**CHAT))("max_new_tokens")) == (
        "max_completion_tokens",
        "max_tokens",
    )
    asked = chat_fields(ChatRequest(**CHAT, logprobs=True, top_logprobs=3))
    assert asked("top_logprobs") == "top_logprobs"
    assert chat_fields(ChatRequest(**CHAT))("top_logprobs") == "diffusion.alternatives"
    error = refused(InputError("lower it, or raise `max_new_tokens`", option="min_tokens", got=9), newer)
    assert error.param == "diffusion.min_tokens"
    assert error.message == "diffusion.min_tokens is 9: lower it, or raise max_completion_tokens"


def test_an_option_that_the_error_names_goes_before_where_it_came_up():
    with pytest.raises(InputError) as named, blaming("prompt"):
        raise InputError("too many", option="pins")
    with pytest.raises(InputError) as unnamed, blaming("prompt"):
        raise InputError("it is empty")
    assert (named.value.option, unnamed.value.option) == ("pins", "prompt")


def test_words_of_a_message_blame_no_field(tiny_directory):
    """'shopping' holds the word pin, 'logit' is a word too: neither stands for a field."""
    with running(dg.load(tiny_directory)) as server, server.http as http:
        for word in ("shopping", "a logit that is banned"):
            body = CHAT | {"max_tokens": 2, "diffusion": {"required_words": [word]}}
            error = http.post("/v1/chat/completions", json=body).json()["error"]
            assert error["param"] in ("diffusion.required_words", "max_tokens"), error
