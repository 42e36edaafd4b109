"""Requests as programs were seen to send them, field by field; tests/cases has bodies from public reports of bugs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from serving import left_idle, user

import diffusiongemma as dg
from diffusiongemma.serve.llamacpp.infill import indented

NAMES = ("tool_history", "harmless_fields", "fim_markers", "infill_llama", "token_bytes")
CASES = {name: json.loads((Path(__file__).parents[1] / "cases" / f"{name}.json").read_text()) for name in NAMES}
BODIES = [(name, case["path"], body) for name, case in CASES.items() for body in case["bodies"]]
CODE = {"prefix": "def area(r):\n    return ", "suffix": "\n\nprint(area(2))\n"}


@pytest.fixture(scope="module")
def model(tiny_directory):
    return dg.load(tiny_directory)


@pytest.fixture(scope="module")
def server(model):
    yield from left_idle(model, model_name="nano")


@pytest.fixture(scope="module")
def agents(model):
    yield from left_idle(model, aliases=("*",))


def post(server, path, body):
    with server.http as http:
        reply = http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply


def events(reply):
    """The parts of a stream, its end mark left out."""
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(("name", "path", "body"), BODIES, ids=[name for name, *_ in BODIES])
def test_bodies_that_failed_somewhere_are_answered(server, name, path, body):
    told = post(server, path, body)
    if body.get("stream"):
        assert events(told)[-1]["usage"]["prompt_tokens"] > 0
        return
    (choice,) = told.json().get("choices") or [told.json()]
    text = choice["message"]["content"] if "message" in choice else choice.get("text", choice.get("content"))
    assert isinstance(text, str)
    if name == "token_bytes":
        assert bytes(b for row in choice["logprobs"]["content"] for b in row["bytes"]).decode() == text
    if name == "fim_markers":
        assert not any(marker in text for marker in body["stop"])
    if name == "infill_llama":
        assert list(told.json()) == body["response_fields"]


# --- llama.vim and llama.vscode -------------------------------------------------------------------------------------

CHUNK = {"text": "area is pi r squared", "time": [1764000000, 123456], "filename": "notes.txt"}
TIMES = [f"timings/{kind}_{what}" for kind in ("prompt", "predicted") for what in ("n", "ms", "per_second")]


def test_llama_vim_warms_the_cache_and_asks(server, model):
    warm = {"input_prefix": "", "input_suffix": "", "input_extra": [CHUNK], "prompt": "", "n_predict": 0}
    warm |= {"temperature": 0.0, "stream": False, "samplers": [], "cache_prompt": True, "response_fields": [""]}
    assert post(server, "/infill", warm | {"t_max_prompt_ms": 1, "t_max_predict_ms": 1}).json() == {}
    ask = warm | {
        "input_prefix": "import math\n\ndef area(r):\n",
        "input_suffix": CODE["suffix"],
        "prompt": "    return ",
    }
    ask |= {"n_predict": 6, "n_indent": 4, "top_k": 40, "top_p": 0.99, "samplers": ["top_k", "top_p", "infill"]}
    ask |= {"t_max_prompt_ms": 500, "t_max_predict_ms": 60_000, "seed": 2}
    told = post(server, "/infill", ask | {"response_fields": ["content", *TIMES, "truncated", "tokens_cached"]}).json()
    assert set(told) == {"content", *TIMES, "truncated", "tokens_cached"}
    before = "notes.txt\narea is pi r squared\n" + ask["input_prefix"] + ask["prompt"]
    options = dict(length=(1, 6), seed=2, top_p=0.99, top_k=40, temperature=0.0)
    alone = model.infill(before, ask["input_suffix"], **options)
    assert told["content"] == indented(alone.fills[0], 4) and told["timings/prompt_n"] == alone.result.prompt_tokens
    assert told["timings/predicted_per_second"] > 0


def test_llama_vscode_asks_and_has_a_text_edited(server):
    ask = {"input_prefix": CODE["prefix"], "input_suffix": CODE["suffix"], "input_extra": [CHUNK], "prompt": ""}
    ask |= {"n_predict": 6, "top_k": 40, "top_p": 0.99, "stream": False, "samplers": ["top_k", "top_p", "infill"]}
    told = post(
        server, "/infill", ask | {"cache_prompt": True, "t_max_prompt_ms": 500, "t_max_predict_ms": 60_000}
    ).json()
    assert isinstance(told["content"], str) and told["timings"]["predicted_per_second"] > 0
    edit = {
        "messages": [{"role": "system", "content": "You are an expert coder."}, *user("Mend this.")],
        "stream": False,
    }
    edit |= {"cache_prompt": True, "samplers": "edkypmxt", "temperature": 0.8, "dynatemp_range": 0, "min_p": 0.05}
    edit |= {"dynatemp_exponent": 1, "top_k": 40, "top_p": 0.95, "typical_p": 1, "xtc_probability": 0, "max_tokens": -1}
    edit |= {"xtc_threshold": 0.1, "repeat_last_n": 64, "repeat_penalty": 1, "presence_penalty": 0, "dry_multiplier": 0}
    edit |= {"frequency_penalty": 0, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": -1}
    assert post(server, "/v1/chat/completions", edit | {"timings_per_token": False}).json()["choices"]


@pytest.mark.parametrize(
    ("fill", "least", "kept"),
    [
        ("r * r\n    more\nprint(1)", 4, "r * r\n    more"),
        ("r\n\n    more", 4, "r\n\n    more"),
        ("r\n \t \n    x\n   y\n    z", 4, "r\n \t \n    x"),
        ("r\n\t\t\t\tx\n\t\ty", 4, "r\n\t\t\t\tx"),
        ("r\r\n  x\r\ny", 2, "r\r\n  x\r"),
        ("a\nb\nc", 0, "a\nb\nc"),
        ("  less is no matter here", 4, "  less is no matter here"),
        ("a\n", 8, "a\n"),
    ],
)
def test_a_fill_ends_before_a_line_that_is_indented_less(fill, least, kept):
    assert indented(fill, least) == kept


def test_the_reply_says_what_ended_a_fill(server):
    ask = {"input_prefix": "x", "input_suffix": "y", "n_predict": 8, "seed": 1}
    whole = post(server, "/infill", ask).json()
    assert whole["stop_type"] == "eos" and len(whole["content"]) > 2
    word = whole["content"][1:3]
    ended = post(server, "/infill", ask | {"stop": [word]}).json()
    assert (ended["stop_type"], ended["stopping_word"]) == ("word", word) and word not in ended["content"]


# --- Continue and Zed -----------------------------------------------------------------------------------------------

STOPS = [
    "<fim_prefix>",
    "<fim_suffix>",
    "<fim_middle>",
    "<|endoftext|>",
    "</fim_middle>",
    "</code>",
    "/src/",
    "#- coding",
]


def test_continue_fills_by_markers_and_by_suffix(server, model):
    fill = model.infill(CODE["prefix"], CODE["suffix"], length=(1, 6), seed=2, temperature=0.01).fills[0]
    plain = {
        "model": "nano",
        "max_tokens": 6,
        "temperature": 0.01,
        "stream": True,
        "seed": 2,
        "stop": [*STOPS, "\n\n\n"],
    }
    prompt = f"<fim_prefix>{CODE['prefix']}<fim_suffix>{CODE['suffix']}<fim_middle>"
    told = events(post(server, "/v1/completions", plain | {"prompt": prompt}))
    assert "".join(chunk["choices"][0]["text"] for chunk in told) == fill
    body = plain | {"prompt": CODE["prefix"], "suffix": CODE["suffix"]}
    told = events(post(server, "/v1/fim/completions", body))
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in told) == fill
    told = events(post(server, "/v1/completions", body))
    assert "".join(chunk["choices"][0]["text"] for chunk in told) == fill


def test_zed_fills_with_fourteen_stops(server):
    stops = ["<|endoftext|>", "<|file_separator|>", "<|fim_pad|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]
    stops += ["<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<PRE>", "<SUF>", "<MID>", "[PREFIX]", "[SUFFIX]"]
    prompt = f"<|fim_prefix|>{CODE['prefix']}<|fim_suffix|>{CODE['suffix']}<|fim_middle|>"
    body = {"model": "nano", "prompt": prompt, "max_tokens": 64, "temperature": 0.2, "stop": stops, "stream": False}
    text = post(server, "/v1/completions", body).json()["choices"][0]["text"]
    assert isinstance(text, str) and not any(stop in text for stop in stops)


# --- Claude Code and opencode ---------------------------------------------------------------------------------------

REMINDER = "<system-reminder>\nToday's date is 2026-11-29.\n</system-reminder>\n\n"
BASH = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"command": {"description": "The command to execute", "type": "string"}},
    "required": ["command"],
    "additionalProperties": False,
}
CLAUDE_CODE = {
    "model": "claude-opus-4-8",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": REMINDER},
                {"type": "text", "text": "Say hello.", "cache_control": {"type": "ephemeral"}},
            ],
        }
    ],
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.197.683; cc_entrypoint=sdk-cli;"},
        {"type": "text", "text": "You are a Claude agent.", "cache_control": {"type": "ephemeral"}},
    ],
    "tools": [{"name": "Bash", "description": "execute shell commands", "input_schema": BASH}],
    "metadata": {"user_id": '{"device_id":"11a0","account_uuid":"","session_id":"4cac"}'},
    "max_tokens": 64000,
    "thinking": {"type": "adaptive"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "high"},
    "stream": True,
}
OPENCODE = {
    "model": "nano",
    "max_tokens": 32000,
    "messages": [{"role": "system", "content": "You are opencode."}, *user("Say hello.")],
    "tools": [{"type": "function", "function": {"name": "bash", "description": "Runs.", "parameters": BASH}}],
    "tool_choice": "auto",
    "stream": True,
    "stream_options": {"include_usage": True},
}


def test_agents_ask_for_more_tokens_than_the_model_reads(agents):
    said = {"diffusion": {"choices": ["Hello."]}}  # so that it is short
    told = events(post(agents, "/v1/messages?beta=true", CLAUDE_CODE | said))
    assert told[-1]["type"] == "message_stop" and told[-2]["delta"]["stop_reason"] == "end_turn"
    told = events(post(agents, "/v1/chat/completions", OPENCODE | said))
    assert told[-2]["choices"][0]["finish_reason"] == "stop" and told[-1]["usage"]["completion_tokens"] > 0
    asked = {"model": "nano", "messages": user("Hi"), "stream": False, "options": {"num_predict": 50_000, "seed": 1}}
    told = post(agents, "/api/chat", asked | {"format": {"const": "Hello."}}).json()
    assert told["done_reason"] == "stop" and told["message"]["content"] == '"Hello."'


def test_agents_are_told_of_a_long_prompt_in_words_that_they_look_for(agents, model):
    """Both shorten the conversation then: Claude Code by these words and numbers, opencode by the code."""
    most = model.config.max_position_embeddings
    long = [{"role": "user", "content": "word " * most}]
    with agents.http as http:
        error = http.post("/v1/messages?beta=true", json=CLAUDE_CODE | {"messages": long}).json()["error"]
        found = re.search(r"prompt is too long[^0-9]*(\d+)\s*tokens?\s*>\s*(\d+)", error["message"])
        assert int(found[1]) > most > int(found[2]) and error["type"] == "invalid_request_error"
        error = http.post("/v1/chat/completions", json=OPENCODE | {"messages": long}).json()["error"]
        assert error["code"] == "context_length_exceeded"
        assert f"This model's maximum context length is {most} tokens" in error["message"]


# --- Open WebUI -----------------------------------------------------------------------------------------------------

# Every parameter of its page, as it sends them to an OpenAI address; to Ollama's most are `options`.
SAMPLING = {
    **{"temperature": 0.8, "top_p": 0.9, "top_k": 40, "min_p": 0.0, "frequency_penalty": 0, "presence_penalty": 0},
    **{"mirostat": 0, "mirostat_eta": 0.1, "mirostat_tau": 5, "repeat_last_n": 64, "tfs_z": 1, "repeat_penalty": 1.3},
    **{"num_ctx": 2048, "num_batch": 512, "num_keep": 24, "use_mmap": True, "use_mlock": False, "num_thread": 2},
    **{"num_gpu": 0, "seed": 3, "stop": ["\n\n"], "reasoning_effort": "low", "logit_bias": {"5": 3}},
}


def test_open_webui_sends_every_parameter_of_its_page(server):
    asked = {"model": "nano", "messages": user("Say hello."), "stream": False}
    told = post(server, "/v1/chat/completions", asked | SAMPLING | {"max_tokens": 24, "keep_alive": "5m"}).json()
    text = told["choices"][0]["message"]
    body = asked | {"options": SAMPLING | {"num_predict": 24}, "keep_alive": "5m"}
    message = post(server, "/api/chat", body).json()["message"]
    assert (message["content"], message.get("thinking")) == (text["content"], text.get("reasoning_content"))
    ours = asked | SAMPLING | {"max_tokens": 24, "repetition_penalty": 1.3}
    ours.pop("repeat_penalty")
    assert post(server, "/v1/chat/completions", ours).json()["choices"][0]["message"] == text
    with server.http as http:
        reply = http.post("/v1/chat/completions", json=ours | {"repeat_penalty": 1.2})
    assert reply.json()["error"]["param"] == "repeat_penalty"


def test_open_webui_writes_on_after_a_stop_and_asks_for_a_title(server):
    """An answer that was stopped before its first character is left out of what it sends."""
    asked = {"stream": True, "model": "nano", "messages": [*user("Hi."), *user("Once more.")], "max_tokens": 8}
    assert events(post(server, "/v1/chat/completions", asked))[-1]["choices"][0]["finish_reason"]
    task = (
        "### Task:\nGenerate a concise title summarizing the chat history.\n<chat_history>\nUSER: Hi.\n</chat_history>"
    )
    asked = {"model": "nano", "messages": user(task), "stream": False, "max_tokens": 16}
    assert isinstance(post(server, "/v1/chat/completions", asked).json()["choices"][0]["message"]["content"], str)
