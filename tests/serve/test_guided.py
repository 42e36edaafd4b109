"""The form of an answer in the words of vLLM's and llama.cpp's clients, through OpenAI's."""

from __future__ import annotations

import json

import openai
import pytest
from serving import running, user

import diffusiongemma as dg

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


@pytest.fixture(scope="module")
def client(tiny_directory):
    with running(dg.load(tiny_directory)) as server:
        yield server.openai()


def text_of(client, body) -> str:
    options = {"messages": user("say it"), "model": "tiny", "seed": 3, "max_tokens": 32}
    return client.chat.completions.create(**options, extra_body=body).choices[0].message.content


@pytest.mark.parametrize("body", [
    {"guided_json": SCHEMA},
    {"guided_json": json.dumps(SCHEMA), "guided_decoding_backend": "xgrammar"},
    {"structured_outputs": {"json": SCHEMA, "regex": None}},
    {"json_schema": SCHEMA, "response_format": {"type": "text"}},
])  # fmt: skip
def test_json(client, body):
    plain = {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}}
    assert isinstance(json.loads(text_of(client, body))["n"], int)
    assert text_of(client, body) == text_of(client, plain)


@pytest.mark.parametrize(("body", "ours"), [
    ({"guided_regex": "a{3}|b{3}"}, {"regex": "a{3}|b{3}"}),
    ({"structured_outputs": {"regex": "a{3}|b{3}"}, "diffusion": {"steps": 4}}, {"regex": "a{3}|b{3}", "steps": 4}),
    ({"guided_choice": ["left", "right"]}, {"choices": ["left", "right"]}),
    ({"structured_outputs": {"choice": ["left", "right"], "json_object": False}}, {"choices": ["left", "right"]}),
])  # fmt: skip
def test_regexes_and_choices(client, body, ours):
    assert text_of(client, body) == text_of(client, {"diffusion": ours}) in ("aaa", "bbb", "left", "right")


def test_any_json(client):
    body = {"structured_outputs": {"json_object": True}}
    assert isinstance(json.loads(text_of(client, body)), dict)


def test_plain_completions(client):
    options = {"model": "tiny", "prompt": "say", "seed": 3, "max_tokens": 16}
    found = client.completions.create(**options, extra_body={"guided_choice": ["left", "right"]})
    assert found.choices[0].text in ("left", "right")


@pytest.mark.parametrize(("body", "words"), [
    ({"guided_json": SCHEMA, "guided_regex": "a"}, "guided_json asks for one form"),
    ({"guided_json": SCHEMA, "response_format": {"type": "json_object"}}, "guided_json asks for one form"),
    ({"guided_regex": "a", "diffusion": {"choices": ["b"]}}, "guided_regex asks for one form"),
    ({"structured_outputs": {"json": SCHEMA, "choice": ["a"]}}, "structured_outputs asks for one form"),
    ({"structured_outputs": {"grammar": "root ::= 'a'"}}, "structured_outputs.grammar is not supported"),
    ({"structured_outputs": "json"}, "structured_outputs must be an object"),
    ({"guided_json": "{"}, "guided_json must be a JSON schema"),
    ({"guided_grammar": "root ::= 'a'"}, "guided_grammar"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_the_clients_words(client, body, words):
    with pytest.raises(openai.BadRequestError, match=words):
        text_of(client, body)


def test_plain_completions_have_no_json(client):
    with pytest.raises(openai.BadRequestError, match="guided_json: plain completions have no JSON"):
        client.completions.create(model="tiny", prompt="say", extra_body={"guided_json": SCHEMA})
