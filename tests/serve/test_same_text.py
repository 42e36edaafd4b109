"""The same request gives the same text with the same seed, whatever the interface, streamed or whole."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import anthropic
import ollama
import pytest
from serving import left_idle, user

import diffusiongemma as dg

N = {"type": "integer", "minimum": 0, "maximum": 99}
SCHEMA = {"type": "object", "properties": {"n": N}, "required": ["n"], "additionalProperties": False}


@dataclass(frozen=True)
class Asked:
    """What is asked for, in no interface's words."""

    seed: int = 3
    most: int = 24
    sampling: tuple[tuple[str, Any], ...] = ()  # names are the same in all interfaces
    stop: str | None = None
    schema: bool = False

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.sampling)


ASKED = {
    "plain": Asked(),
    "greedy": Asked(sampling=(("temperature", 0.0),)),
    "hot": Asked(seed=5, sampling=(("temperature", 1.2), ("top_p", 0.9))),
    "narrow": Asked(sampling=(("top_k", 20), ("temperature", 0.9))),
    "stopped": Asked(stop=""),  # which text, the plain answer decides
    "shaped": Asked(most=40, schema=True),
}


@pytest.fixture(scope="module")
def model(tiny_directory):
    return dg.load(tiny_directory)


@pytest.fixture(scope="module")
def server(model):
    yield from left_idle(model)


def expected(model, asked):
    more = {"json_schema": SCHEMA} if asked.schema else {}
    text = model.generate("hello", seed=asked.seed, max_new_tokens=asked.most, **asked.options, **more).text
    return text if asked.stop is None else text.split(asked.stop)[0]


# --- a chat ---------------------------------------------------------------------------------------------------------


def chat(server, asked, stream):
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    fields = {"seed": asked.seed, "max_tokens": asked.most, "stop": asked.stop, **asked.options}
    fields |= {"response_format": shape} if asked.schema else {}
    top_k = fields.pop("top_k", None)
    ask = dict(model="tiny", messages=user("hello"), extra_body={"top_k": top_k}, **fields)
    reply = server.openai().chat.completions.create(**ask, stream=stream)
    if not stream:
        return reply.choices[0].message.content
    return "".join(choice.delta.content or "" for chunk in reply for choice in chunk.choices)


def responses(server, asked, stream):
    form = {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}} if asked.schema else {}
    ask = dict(model="tiny", input="hello", max_output_tokens=asked.most, text=form, **asked.options)
    reply = server.openai().responses.create(**ask, extra_body={"seed": asked.seed}, stream=stream)
    if not stream:
        return reply.output_text
    return "".join(event.delta for event in reply if event.type == "response.output_text.delta")


def messages(server, asked, stream):
    client = anthropic.Anthropic(base_url=server.address, api_key="any", max_retries=0, timeout=120)
    ask = dict(model="tiny", messages=user("hello"), max_tokens=asked.most)
    body = {"seed": asked.seed, **asked.options} | ({"stop_sequences": [asked.stop]} if asked.stop else {})
    body |= {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}} if asked.schema else {}
    if not stream:
        return "".join(block.text for block in client.messages.create(**ask, extra_body=body).content)
    with client.messages.stream(**ask, extra_body=body) as events:
        return "".join(events.text_stream)


def ollamas(asked):
    options = {"seed": asked.seed, "num_predict": asked.most, **asked.options}
    options |= {"stop": [asked.stop]} if asked.stop else {}
    return dict(model="tiny", options=options, format=SCHEMA if asked.schema else None)


def ollama_chat(server, asked, stream):
    reply = ollama.Client(host=server.address).chat(messages=user("hello"), stream=stream, **ollamas(asked))
    return "".join(part.message.content or "" for part in (reply if stream else [reply]))


def ollama_generate(server, asked, stream):
    reply = ollama.Client(host=server.address).generate(prompt="hello", stream=stream, **ollamas(asked))
    return "".join(part.response for part in (reply if stream else [reply]))


CHATS = [
    (name, interface)
    for name in ASKED
    for interface in (chat, responses, messages, ollama_chat, ollama_generate)
    if interface is not responses or name not in ("narrow", "stopped")  # it has no fields for these
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("name", "interface"), CHATS)
def test_a_chat_is_answered_alike(server, model, name, interface, stream):
    asked = ASKED[name]
    if asked.stop is not None:
        asked = replace(asked, stop=expected(model, Asked())[4:7])
    text = expected(model, asked)
    assert len(text) > 3
    assert interface(server, asked, stream) == text


# --- a text that goes on --------------------------------------------------------------------------------------------


def completions(server, stream):
    ask = dict(model="tiny", prompt="The cat", seed=3, max_tokens=20)
    reply = server.openai().completions.create(**ask, stream=stream)
    return "".join(choice.text for part in (reply if stream else [reply]) for choice in part.choices)


def ollama_raw(server, stream):
    ask = dict(model="tiny", prompt="The cat", raw=True, options={"seed": 3, "num_predict": 20})
    reply = ollama.Client(host=server.address).generate(**ask, stream=stream)
    return "".join(part.response for part in (reply if stream else [reply]))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("interface", [completions, ollama_raw])
def test_a_text_goes_on_alike(server, model, interface, stream):
    ids = model.tokenizer("The cat").input_ids
    assert interface(server, stream) == model.generate(ids, seed=3, max_new_tokens=20).text


# --- a gap ----------------------------------------------------------------------------------------------------------

GAP = {"prompt": "The cat", "suffix": " on the mat."}
MARKED = {"prompt": "<fim_prefix>The cat<fim_suffix> on the mat.<fim_middle>"}
LIMITS = {"max_tokens": 6, "seed": 2}
LLAMA = {"input_prefix": "The", "prompt": " cat", "input_suffix": " on the mat.", "n_predict": 6, "seed": 2}
GAPS = {
    "suffix": ("/v1/completions", GAP | LIMITS, lambda told: told["choices"][0]["text"]),
    "markers": ("/v1/completions", MARKED | LIMITS, lambda told: told["choices"][0]["text"]),
    "fim": (
        "/v1/fim/completions",
        GAP | LIMITS,
        lambda told: (told["choices"][0].get("message") or told["choices"][0]["delta"])["content"],
    ),
    "llama.cpp": ("/infill", LLAMA, lambda told: told["content"]),
    "ollama": (
        "/api/generate",
        GAP | {"model": "tiny", "options": {"num_predict": 6, "seed": 2}},
        lambda told: told["response"],
    ),
    "native": (
        "/v1/infill",
        {"text": "The cat<<>> on the mat.", "seed": 2, "length": [1, 6]},
        lambda told: told["fills"][0],
    ),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", GAPS)
def test_a_gap_is_filled_alike(server, model, name, stream):
    path, body, fill_of = GAPS[name]
    with server.http as http:
        reply = http.post(path, json=body | {"stream": stream})
    assert reply.status_code == 200, reply.text
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if "{" in line]
    fill = model.infill("The cat", " on the mat.", length=(1, 6), seed=2).fills[0]
    assert fill and fill_of(json.loads(lines[0])) == fill
