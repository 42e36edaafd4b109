"""What clients send beside what is documented: taken where it changes nothing, refused by its name where it would."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from serving import running, user

import diffusiongemma as dg
from diffusiongemma.media import load_image

HI = {"messages": user("Hi"), "max_tokens": 8, "seed": 1}


def of_parts(*parts):
    return {"messages": [{"role": "user", "content": list(parts)}]}


@pytest.fixture(scope="module")
def model(tiny_directory):
    return dg.load(tiny_directory)


@pytest.fixture(scope="module")
def server(model):
    with running(model, aliases=("gpt-4o", "other")) as server:
        yield server


def post(server, body, path="/v1/chat/completions", **options):
    with server.http as http:
        return http.post(path, json=body, **options)


def text_of(reply):
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["message"]["content"]


@pytest.fixture(scope="module")
def plain(server):
    return text_of(post(server, HI))


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "none"},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"reasoning": {"effort": "none", "summary": "auto"}},
        {"thinking": {"type": "disabled"}, "think": False},
        {"top_k": -1, "min_p": 0, "repetition_penalty": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0},
        {"top_k": 0, "typical_p": 1, "mirostat": 0, "dry_multiplier": 0.0, "xtc_probability": 0, "samplers": ["top_k"]},
        {"stop": ""},
        {"stop": []},
        {"max_tokens": 8.0, "n": 1.0, "seed": 1.0},
        {"store": True, "metadata": {"a": 1}, "user": "u", "service_tier": "flex", "verbosity": "low"},
        {"prediction": {"type": "content", "content": "x"}, "prompt_cache_key": "k", "cache_control": {"type": "e"}},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": False},
        {"functions": [], "function_call": "none", "logit_bias": {}, "response_format": {"type": "text"}},
        {"stream_options": None, "top_logprobs": 0, "logprobs": False, "echo": False, "best_of": 1},
        {"unheard_of": None, "and_this": [], "or_that": {}},
        {"diffusion": {"think": False, "frames": None, "unheard_of": None}},
        {"messages": [{"role": "user", "content": "Hi", "name": "Ada"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "e"}}]}]},
    ],
)
def test_what_changes_nothing_is_taken(server, plain, fields):
    assert text_of(post(server, HI | fields)) == plain


def test_stream_options_that_say_nothing(server):
    options = {"include_usage": True, "continuous_usage_stats": False, "include_obfuscation": False}
    assert post(server, HI | {"stream": True, "stream_options": options}).status_code == 200
    assert post(server, HI | {"stream_options": {"include_usage": False}}).status_code == 200


@pytest.mark.parametrize(
    "switch",
    [
        {"reasoning_effort": "high"},
        {"reasoning": {"effort": "low"}},
        {"reasoning": {"enabled": True}},
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"chat_template_kwargs": {"thinking": True}},
        {"enable_thinking": True},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"think": True},
    ],
)
def test_every_thinking_switch_thinks(server, plain, switch):
    thought = post(server, HI | {"diffusion": {"think": True}}).json()
    asked = post(server, HI | switch).json()
    assert asked["choices"][0]["message"] == thought["choices"][0]["message"]
    assert asked["usage"]["prompt_tokens"] == thought["usage"]["prompt_tokens"]
    assert thought["usage"]["prompt_tokens"] != post(server, HI).json()["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (of_parts({"type": "text", "text": "x", "foo": 1}), "messages.0.content.0.foo"),
        (of_parts({"type": "text", "text": 3}), "messages.0.content.0.text"),
        ({"messages": [{"role": "user", "content": "x", "foo": 1}]}, "messages.0.foo"),
        (of_parts({"type": "input_audio"}), "messages.0.content.0"),
        ({"repetition_penalty": "high"}, "repetition_penalty"),
        ({"mirostat": 2}, "mirostat"),
        ({"top_k": True}, "top_k"),
        ({"xtc_probability": 0.5}, "xtc_probability"),
        ({"reasoning_effort": "none", "think": True}, "reasoning_effort"),
        ({"chat_template_kwargs": {"foo": 1}}, "chat_template_kwargs.foo"),
        ({"stream": True, "stream_options": {"continuous_usage_stats": True}}, "stream_options.continuous_usage_stats"),
        ({"tools": [{"type": "function", "function": {"name": "a", "foo": 1}}]}, "tools.0.function.foo"),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [{}]}]}, "messages.0"),
        ({"max_tokens": 8.5}, "max_tokens"),
        ({"diffusion": {"foo": 1}}, "diffusion.foo"),
    ],
)  # fmt: skip
def test_what_would_change_the_answer_is_refused_by_its_true_name(server, fields, param):
    reply = post(server, HI | fields)
    error = reply.json()["error"]
    assert reply.status_code == 400 and str(error["param"]).startswith(param), error
    assert "valid string" not in error["message"] or param.endswith("text")


def test_lenient_servers_take_all_and_name_it(model, plain):
    odd = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "foo": 1}]}],
        "bar": 2,
        "mirostat": 2,
    }
    with running(model, lenient=True) as server:
        reply = post(server, HI | odd)
        assert text_of(reply) == plain
        assert set(reply.headers["x-ignored-fields"].split(",")) == {"foo", "bar", "mirostat"}
        assert "x-ignored-fields" not in post(server, HI).headers
        assert post(server, HI | {"temperature": "hot"}).status_code == 400, "a known field is still looked at"


# --- history --------------------------------------------------------------------------------------------------------


def called(arguments, name="save", id="c1"):
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}],
    }


TOOL = {"role": "tool", "tool_call_id": "c1", "content": "Not run."}
GO_ON = {"role": "user", "content": "Go on without it."}


@pytest.mark.parametrize(
    "past",
    [
        [called('{"path": "list.t'), TOOL],
        [called("[1,2]"), TOOL],
        [called('"text"'), TOOL],
        [called("NaN"), TOOL],
        [called(""), TOOL],
        [called(None), TOOL],
        [called({"path": "a"}), TOOL],
        [called("{}", id=None), {"role": "tool", "content": "x"}],
        [TOOL],
        [{"role": "tool", "tool_call_id": "c9", "content": None, "name": "save"}],
        [called("{}"), {"role": "tool", "tool_call_id": "another", "content": [{"type": "text", "text": "x"}]}],
        [{"role": "assistant", "content": None}],
        [{"role": "assistant", "content": None, "tool_calls": []}],
        [{"role": "assistant", "content": ""}],
        [{"role": "assistant"}],
        [{"role": "assistant", "content": "Yo", "reasoning": "hm", "reasoning_details": [{"type": "x"}]}],
        [{"role": "assistant", "content": "Yo", "refusal": None, "annotations": [{"a": 1}], "audio": {"id": "a"}}],
        [{"role": "assistant", "content": None, "refusal": "No."}],
        [{"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Yo"}]}],
        [{"role": "assistant", "content": None, "function_call": {"name": "save", "arguments": "{"}}],
        [{"role": "function", "name": "save", "content": "done"}],
        [{"role": "assistant", "content": "Yo", "tool_calls": [{"id": "x", "function": {}}]}],
        [{"role": "user", "content": ""}, {"role": "assistant", "content": "Yes?"}],
        [called("{}"), TOOL | {"tool_calls": [{}]}],
        [TOOL | {"tool_calls": [{"id": "c1"}]}],
    ],
)
def test_history_is_never_an_error(server, past):
    messages = [*user("Save my list."), *past, GO_ON]
    assert post(server, HI | {"messages": messages}).status_code == 200, past


def test_what_cannot_be_read_of_a_call_is_shown(server, model):
    from diffusiongemma.serve.openai.bodies import ChatRequest
    from diffusiongemma.serve.openai.chat import prompt_of

    def shown(*past):
        body = ChatRequest(messages=[*user("Save my list."), *past, GO_ON])
        return model.tokenizer.decode(prompt_of(body, server.service).ids)

    text = shown(called('{"path": "list.t'), TOOL)
    assert "call:save{" in text and "list.t" in text and "Not run." in text
    assert "Result of a tool: Not run." in shown(TOOL)
    assert shown({"role": "assistant", "content": "Yo", "reasoning": "a secret"}).count("secret") == 0


def test_a_last_assistant_message_is_continued(server, model):
    messages = [*user("Hi"), {"role": "assistant", "content": "Once upon"}]
    reply = post(server, HI | {"messages": messages, "continue_final_message": True}).json()
    prompt = model.prompt("Hi")
    begun = model.tokenizer.encode("Once upon", add_special_tokens=False)
    alone = model.generate([*prompt.ids, *begun], seed=1, max_new_tokens=8)
    assert reply["choices"][0]["message"]["content"] == alone.text
    assert post(server, HI | {"messages": messages, "think": True}).json()["error"]["param"] == "think"


# --- lengths, log-probabilities -------------------------------------------------------------------------------------


def test_a_prompt_that_is_too_long_has_its_code_and_a_default_length_is_cut(server, model):
    most = model.config.max_position_embeddings
    (word,) = model.tokenizer.encode("a", add_special_tokens=False)
    long = {"prompt": [word] * (most + 1)}
    error = post(server, long, "/v1/completions").json()["error"]
    assert error["code"] == "context_length_exceeded" and error["param"] == "prompt"
    asked = {"prompt": [word] * (most - 20), "max_tokens": 40}
    assert post(server, asked, "/v1/completions").json()["error"]["code"] == "context_length_exceeded"
    fits = {"prompt": [word] * (most - 20), "diffusion": {"steps": 1}}
    assert post(server, fits, "/v1/completions").status_code == 200


@pytest.mark.parametrize("text", ["😀 naïve “q” 漢", "👩‍👩‍👧 ✓"])
@pytest.mark.parametrize("stream", [False, True])
def test_bytes_of_tokens_are_those_of_the_text(server, text, stream):
    asked = {"seed": 1, "diffusion": {"choices": [text]}, "stream": stream}
    reply = post(server, {"messages": user("x"), "logprobs": True, "top_logprobs": 2} | asked)
    plain = post(server, {"prompt": "x", "logprobs": 2} | asked, "/v1/completions")
    if stream:
        told = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
        content = [row for c in told for o in c["choices"] if o.get("logprobs") for row in o["logprobs"]["content"]]
        told = [json.loads(line[6:]) for line in plain.text.splitlines() if line.startswith("data: {")]
        logprobs = [o["logprobs"] for c in told for o in c["choices"] if o.get("logprobs")]
    else:
        content = reply.json()["choices"][0]["logprobs"]["content"]
        logprobs = [plain.json()["choices"][0]["logprobs"]]
    assert bytes(b for row in content for b in row["bytes"]).decode() == text
    assert all(row["top_logprobs"] and all(isinstance(b, int) for b in row["bytes"]) for row in content)
    placed = [pair for one in logprobs for pair in zip(one["tokens"], one["text_offset"], strict=True)]
    at = 0
    for token, offset in placed:
        assert offset in (at, at - 1) if "\ufffd" in token else text[offset : offset + len(token)] == token, placed
        at = offset + len(token)
    assert {offset for _, offset in placed} == set(range(len(text))) - _inside(placed)


def _inside(placed):
    """Characters at which no token begins, as a token of several has begun before."""
    return {offset + i for token, offset in placed for i in range(1, len(token)) if "\ufffd" not in token}


# --- access ---------------------------------------------------------------------------------------------------------


def test_names_are_listed_and_answered_to(server):
    client = server.openai()
    assert [m.id for m in client.models.list()] == ["tiny", "gpt-4o", "other"]
    assert client.models.retrieve("gpt-4o").id == "gpt-4o"
    assert client.chat.completions.create(model="other", messages=user("Hi"), max_tokens=2).choices


@pytest.mark.parametrize("kind", [None, "application/x-www-form-urlencoded", "text/plain;charset=UTF-8"])
def test_a_body_without_its_type_is_json(server, plain, kind):
    headers = {"content-type": kind} if kind else {}
    with server.http as http:
        assert text_of(http.post("/v1/chat/completions", content=json.dumps(HI), headers=headers)) == plain
        other = headers | {"origin": "https://evil.example"}
        if kind:
            assert http.post("/v1/chat/completions", content=json.dumps(HI), headers=other).status_code == 400


def test_other_names_of_this_address_are_refused_without_keys(server, model):
    def status(host, server=server, **headers):
        with server.http as http:
            return http.get("/v1/models", headers={"host": host, **headers}).status_code

    for host in (
        "localhost:8000",
        "127.0.0.1",
        "[::1]:80",
        "192.168.1.7:8000",
        "dgemma:8000",
        "box.local",
        "a.localhost",
    ):
        assert status(host) == 200, host
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example"):
        assert status(host) == 403, host
    with running(model, allowed_hosts=("api.example.org",)) as other:
        assert status("api.example.org:443", other) == 200 and status("evil.example", other) == 403
    with running(model, api_keys=("a-key-of-mine",)) as keyed:
        assert status("api.example.org", keyed, **{"x-api-key": "a-key-of-mine"}) == 200
        assert status("localhost", keyed, **{"x-api-key": "a-key-of-min"}) == 401


# --- pictures -------------------------------------------------------------------------------------------------------


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_clear(mode, clear, ink):
    """A picture in which the left half is clear and the right half ink."""
    image = Image.new(mode, (8, 4), clear)
    image.paste(ink, (4, 0, 8, 4))
    return image


def transparent():
    yield "rgba", saved(with_clear("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)))
    yield "la", saved(with_clear("LA", (0, 0), (0, 255)))
    yield "webp", saved(with_clear("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)), "WEBP", lossless=True)
    yield "rgb+key", saved(with_clear("RGB", (1, 2, 3), (0, 0, 0)), transparency=(1, 2, 3))
    yield "grey+key", saved(with_clear("L", 7, 0), transparency=7)
    palette = with_clear("P", 1, 0)
    palette.putpalette([0, 0, 0, 9, 9, 9] + [0] * 762)
    yield "palette+key", saved(palette, transparency=1)
    yield "palette+alphas", saved(palette, transparency=bytes([255, 0]))
    yield "gif", saved(palette, "GIF", transparency=1)
    samples = np.full((4, 8), 700, np.uint16)
    samples[:, 4:] = 0
    yield "grey of 16 bits+key", saved(Image.fromarray(samples), transparency=700)


@pytest.mark.parametrize(("kind", "data"), transparent(), ids=lambda value: value if isinstance(value, str) else "")
def test_transparency_is_white(kind, data):
    seen = np.asarray(load_image(data))
    assert (seen[:, :4] == 255).all() and (seen[:, 4:] < 10).all(), kind


def test_grey_of_sixteen_bits_is_grey_and_not_white():
    ramp = np.linspace(0, 65535, 32, dtype=np.uint16)[None].repeat(4, 0)
    seen = np.asarray(load_image(saved(Image.fromarray(ramp))))[0, :, 0]
    assert np.abs(seen.astype(int) - ramp[0] // 257).max() <= 1
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert 120 < np.asarray(load_image(saved(half))).mean() < 135


def test_base64_may_have_line_breaks(server):
    data = base64.encodebytes(saved(Image.effect_noise((64, 64), 50).convert("RGB"))).decode()
    assert "\n" in data.strip()
    for url in ({"url": f"data:image/png;base64,{data}", "detail": "low"}, f"data:image/png;base64,{data}"):
        parts = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": url}]
        assert post(server, HI | {"messages": [{"role": "user", "content": parts}]}).status_code == 200
