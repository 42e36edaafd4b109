"""Other programs' interfaces, each through its own client: the same request gives the same text in every dialect."""

from __future__ import annotations

import json

import anthropic
import httpx
import ollama
import pytest
from jsonschema import validate
from serving import left_idle, user

import diffusiongemma as dg
from diffusiongemma.serve.openai.fim import FAMILIES, gap_of

N = {"type": "integer", "minimum": 0, "maximum": 99}
SCHEMA = {"type": "object", "properties": {"n": N}, "required": ["n"], "additionalProperties": False}
FUNCTION = {"type": "function", "function": {"name": "add", "description": "d", "parameters": SCHEMA}}
SEED = {"seed": 3}
ASKED = {"model": "tiny", "max_tokens": 24}


@pytest.fixture(scope="module")
def model(tiny_directory):
    return dg.load(tiny_directory)


@pytest.fixture(scope="module")
def text(model):
    """What every dialect must give to "hello"."""
    return model.generate("hello", seed=3, max_new_tokens=24).text


@pytest.fixture(scope="module")
def server(model):
    yield from left_idle(model, max_requests=4)


# --- Anthropic ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def claude(server):
    return anthropic.Anthropic(base_url=server.address, api_key="any", max_retries=0, timeout=120)


def test_messages_whole_and_streamed(claude, text):
    ask = dict(ASKED, messages=user("hello"), extra_body=SEED)
    reply = claude.messages.create(**ask)
    assert "".join(block.text for block in reply.content) == text
    assert reply.stop_reason in ("end_turn", "max_tokens") and reply.usage.output_tokens > 0
    with claude.messages.stream(**ask) as stream:
        assert "".join(stream.text_stream) == text
        last = stream.get_final_message()
    assert last.stop_reason == reply.stop_reason and last.usage.output_tokens == reply.usage.output_tokens
    assert claude.beta.messages.create(**ask).content[0].text == text  # ?beta=true
    counted = claude.messages.count_tokens(model="tiny", messages=user("hello"))
    assert counted.input_tokens == reply.usage.input_tokens + reply.usage.cache_read_input_tokens


def test_messages_with_tools(claude):
    tool = {"name": "add", "description": "d", "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}}
    system = [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]
    ask = dict(ASKED, system=system, tools=[tool], messages=user("hello"), extra_body=SEED)
    reply = claude.messages.create(**ask, tool_choice={"type": "any"})
    (call,) = [block for block in reply.content if block.type == "tool_use"]
    assert call.name == "add" and reply.stop_reason == "tool_use"
    validate(call.input, SCHEMA)
    with claude.messages.stream(**ask, tool_choice={"type": "tool", "name": "add"}) as stream:
        assert stream.get_final_message().content[-1].input == call.input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "7"}]}
    messages = [*user("hello"), {"role": "assistant", "content": reply.content}, {"role": "user", "content": [result]}]
    assert claude.messages.create(**dict(ask, messages=messages)).content


def test_messages_think_stop_and_fail_as_anthropics_do(claude, server, model, text):
    stop = text[4:7]
    ended = claude.messages.create(**ASKED, messages=user("hello"), stop_sequences=["never", stop], extra_body=SEED)
    assert (ended.stop_reason, ended.stop_sequence, ended.content[0].text) == (
        "stop_sequence",
        stop,
        text.split(stop)[0],
    )
    body = {"diffusion": {"regex": "[a-c]{3}", "min_tokens": 12}, **SEED}
    thinking = {"type": "enabled", "budget_tokens": 1024}
    ask = dict(ASKED, max_tokens=40, messages=user("hello"), thinking=thinking, extra_body=body)
    kinds = [block.type for block in claude.messages.create(**ask).content]
    assert kinds == ["thinking", "text"]
    with claude.messages.stream(**ask) as stream:
        assert [block.type for block in stream.get_final_message().content] == kinds
    with pytest.raises(anthropic.NotFoundError) as error:
        claude.messages.create(model="claude", max_tokens=2, messages=user("x"))
    assert error.value.body["type"] == "error" and error.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError):
        claude.messages.create(**ASKED, messages=user("x"), tools=[{"type": "bash_20250124", "name": "bash"}])
    old = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}]}
    assert claude.messages.create(**ASKED, messages=[*user("a"), old, *user("b")]).content
    begun = claude.messages.create(**ASKED, messages=[*user("a"), {"role": "assistant", "content": "Once"}])
    assert begun.content


# --- Ollama ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama(server):
    return ollama.Client(host=server.address, timeout=120)


OPTIONS = {"options": {"seed": 3, "num_predict": 24, "num_ctx": 4096}}


def test_ollama_chats_and_generates(llama, text):
    ask = dict(model="tiny:latest", messages=user("hello"), **OPTIONS)
    reply = llama.chat(**ask)
    assert reply.message.content == text and reply.done and reply.eval_count > 0 and reply.prompt_eval_count > 0
    parts = list(llama.chat(**ask, stream=True))
    assert "".join(part.message.content or "" for part in parts) == text and parts[-1].done_reason == reply.done_reason
    assert llama.generate(model="tiny", prompt="hello", **OPTIONS).response == text
    assert (
        "".join(part.response for part in llama.generate(model="tiny", prompt="hello", stream=True, **OPTIONS)) == text
    )
    assert llama.generate(model="tiny").done_reason == "load" == llama.chat(model="tiny").done_reason


def test_ollamas_formats_tools_and_gaps(llama, model):
    ask = dict(model="tiny", messages=user("hello"), options={"seed": 3, "num_predict": 40})
    validate(json.loads(llama.chat(**ask, format=SCHEMA).message.content), SCHEMA)
    assert isinstance(json.loads(llama.chat(**ask, format="json").message.content), dict)
    call = {"function": {"name": "add", "arguments": {"n": 3}}}
    past = [*user("hello"), {"role": "assistant", "content": "", "tool_calls": [call]}]
    past.append({"role": "tool", "tool_name": "add", "content": "3"})
    assert llama.chat(**dict(ask, messages=past), tools=[FUNCTION]).message.role == "assistant"
    asked = dict(model="tiny", prompt="The cat", suffix=" on the mat.", options={"seed": 2, "num_predict": 6})
    fill = model.infill("The cat", " on the mat.", length=(1, 6), seed=2).fills[0]
    assert llama.generate(**asked).response == fill


def test_ollama_tells_of_its_models(llama, server):
    assert [one.model for one in llama.list().models] == ["tiny"] and llama.ps().models[0].model == "tiny"
    assert {"completion", "insert", "tools", "vision", "thinking"} == set(llama.show("tiny").capabilities)
    with pytest.raises(ollama.ResponseError) as error:
        llama.chat(model="gpt", messages=user("x"))
    assert error.value.status_code == 404 and "no model" in error.value.error
    assert httpx.get(f"{server.address}/api/version").json()["version"] == dg.__version__


# --- Responses ------------------------------------------------------------------------------------------------------


def test_responses_whole_and_streamed(server, text):
    client = server.openai()
    ask = dict(model="tiny", input="hello", max_output_tokens=24, extra_body=SEED)
    reply = client.responses.create(**ask)
    assert reply.output_text == text and reply.usage.output_tokens > 0
    assert reply.status in ("completed", "incomplete") and reply.store is False
    with client.responses.stream(**ask) as stream:
        events = list(stream)
    assert events[-1].type == f"response.{reply.status}" and events[-1].response.output_text == text
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == text
    assert [event.sequence_number for event in events] == sorted(event.sequence_number for event in events)
    with pytest.raises(Exception, match="previous_response_id"):
        client.responses.create(**ask, previous_response_id="resp_1")


def test_responses_with_structure_tools_and_history(server):
    client = server.openai()
    form = {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}, "verbosity": "low"}
    validate(json.loads(client.responses.create(model="tiny", input="hello", text=form).output_text), SCHEMA)
    tool = {"type": "function", "name": "add", "parameters": SCHEMA, "strict": True}
    ask = dict(model="tiny", tools=[tool], tool_choice="required", extra_body=SEED, store=True)
    reply = client.responses.create(**ask, input="hello", instructions="Be kind.", include=[])
    (call,) = [item for item in reply.output if item.type == "function_call"]
    validate(json.loads(call.arguments), SCHEMA)
    with client.responses.stream(**ask, input="hello", instructions="Be kind.") as stream:
        assert stream.get_final_response().output[-1].arguments == call.arguments
    past = [
        {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        *reply.model_dump()["output"],
        {"type": "function_call_output", "call_id": call.call_id, "output": "7"},
    ]
    again = client.responses.create(model="tiny", input=past, max_output_tokens=8, reasoning={"effort": "none"})
    assert again.output[0].type == "message"


# --- gaps -----------------------------------------------------------------------------------------------------------


def test_llama_cpps_infill(server, model):
    body = {
        "input_prefix": "import math\n\ndef area(r):\n",
        "input_suffix": "\n\nprint(area(2))\n",
        "input_extra": [{"filename": "notes.txt", "text": "area is pi r squared"}],
        "prompt": "    return ",
        **{"n_predict": 6, "n_indent": 4, "top_k": 0, "top_p": 0.9, "stream": False, "cache_prompt": True},
        **{"samplers": ["top_k", "top_p", "infill"], "t_max_prompt_ms": 500, "t_max_predict_ms": 60_000, "seed": 2},
    }
    with server.http as http:
        told = http.post("/infill", json=body).json()
        assert set(told) >= {"content", "stop", "timings", "tokens_predicted"} and told["tokens_predicted"] <= 6
        before = "notes.txt\narea is pi r squared\n" + body["input_prefix"] + body["prompt"]
        alone = model.infill(before, body["input_suffix"], length=(1, 6), seed=2, top_p=0.9)
        assert told["content"] == alone.fills[0]
        assert http.post("/infill", json=body | {"response_fields": ["content"]}).json() == {"content": alone.fills[0]}
        hurried = http.post("/infill", json=body | {"t_max_predict_ms": 1}).json()
        assert hurried["diffusion"]["steps"] == [1] and hurried["content"]
        assert http.post("/infill", json=body | {"n_predict": 0}).json()["content"] == ""
        assert http.post("/infill", json={"n_predict": -3}).json()["error"]["code"] == 400
        assert http.get("/props").json()["default_generation_settings"]["n_ctx"] > 0


@pytest.mark.parametrize("markers", FAMILIES)
@pytest.mark.parametrize("prefix_first", [True, False])
def test_markers_are_read_as_a_gap(markers, prefix_first):
    space = " " if markers.prefix == "<PRE>" else ""
    prefix, suffix = f"{markers.prefix}{space}a b", f"{markers.suffix}c d"
    parts = [prefix + space, suffix + space] if prefix_first else [suffix + space, prefix + space]
    assert gap_of("".join(parts) + markers.middle) == ("a b", "c d")


def test_what_surrounds_markers(server, model):
    assert gap_of("[SUFFIX]after[PREFIX]before") == ("before", "after")
    assert gap_of("no markers <here>") is None is gap_of("<fim_prefix> alone")
    files = "<|repo_name|>r<|file_sep|>a.py\nx = 1\n<|fim_prefix|>y = <|fim_suffix|>\n<|fim_middle|>"
    assert gap_of(files) == ("ra.py\nx = 1\ny = ", "\n")
    prompt = "<|fim_prefix|>The cat<|fim_suffix|> on the mat.<|fim_middle|>"
    stops = ["<|endoftext|>", "<|file_separator|>", *(f"<{i}>" for i in range(20))]
    client = server.openai()
    reply = client.completions.create(model="tiny", prompt=prompt, stop=stops, max_tokens=6, seed=2)
    fill = model.infill("The cat", " on the mat.", length=(1, 6), seed=2).fills[0]
    assert reply.choices[0].text == fill
    body = {"prompt": "The cat", "suffix": " on the mat.", "max_tokens": 6, "seed": 2}
    with server.http as http:
        told = http.post("/v1/fim/completions", json=body).json()
        streamed = http.post("/v1/fim/completions", json=body | {"stream": True}).text
    assert told["choices"][0]["message"]["content"] == fill
    assert json.loads(streamed.splitlines()[0].removeprefix("data: "))["choices"][0]["delta"]["content"] == fill
