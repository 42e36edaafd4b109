"""The server through the official client: chat, streams, tools, structure, completions, models."""

from __future__ import annotations

import json
import re

import openai
import pytest
from jsonschema import validate
from serving import left_idle, user

import diffusiongemma as dg

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}, "ok": {"type": "boolean"}},
    "required": ["n", "ok"],
    "additionalProperties": False,
}
TWO_NUMBERS = {"logprobs": True, "top_logprobs": 3, "extra_body": {"diffusion": {"alternatives": 2}}}
BAD_SCHEMA = {"name": "x", "schema": {"type": 3}}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "d", "parameters": SCHEMA}}
    for name in ("add", "cut")
]


@pytest.fixture(scope="module")
def model(tiny_directory):
    return dg.load(tiny_directory)


@pytest.fixture(scope="module")
def server(model):
    yield from left_idle(model, max_requests=4)


@pytest.fixture(scope="module")
def client(server):
    return server.openai()


def ask(client, text="hello", **options):
    return client.chat.completions.create(
        model="tiny", messages=user(text), **({"seed": 3, "max_tokens": 40} | options)
    )


def streamed(chunks):
    """(text of each choice, the last chunk with choices, usage)."""
    texts, last, usage = {}, {}, None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            content = choice.delta.content if hasattr(choice, "delta") else choice.text
            texts[choice.index] = texts.get(choice.index, "") + (content or "")
            if choice.finish_reason:
                last[choice.index] = choice
    return texts, last, usage


def test_an_answer_is_the_models_own(client, model):
    reply = ask(client)
    alone = model.generate("hello", seed=3, max_new_tokens=40)
    choice = reply.choices[0]
    assert (choice.message.content, choice.finish_reason) == (alone.text, alone.finish_reason)
    assert reply.usage.completion_tokens == len(alone.tokens) and reply.usage.prompt_tokens == alone.prompt_tokens
    assert choice.model_extra["diffusion"]["steps"] == list(alone.steps)
    assert choice.model_extra["diffusion"]["forward_passes"] == alone.forward_passes
    assert reply.model == "tiny" and reply.object == "chat.completion"


def test_without_a_seed_answers_differ_and_can_be_repeated(client):
    replies = [ask(client, seed=None) for _ in range(3)]
    assert len({r.choices[0].message.content for r in replies}) > 1
    seed = replies[0].choices[0].model_extra["diffusion"]["seed"]
    assert ask(client, seed=seed).choices[0].message.content == replies[0].choices[0].message.content


@pytest.mark.parametrize("early", [False, True])
def test_a_stream_adds_up_to_the_answer(client, early):
    extra = {"diffusion": {"early_text": {"steps": 1, "entropy": 8.0} if early else False}}
    whole = ask(client, n=2, extra_body=extra)
    chunks = list(ask(client, n=2, stream=True, stream_options={"include_usage": True}, extra_body=extra))
    texts, last, usage = streamed(chunks)
    assert texts == {c.index: c.message.content for c in whole.choices}
    assert {i: c.finish_reason for i, c in last.items()} == {c.index: c.finish_reason for c in whole.choices}
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].choices == [] and chunks[0].choices[0].delta.role == "assistant"


def test_choices_of_one_request_differ_and_are_those_of_the_next_seeds(client):
    many = [c.message.content for c in ask(client, n=3).choices]
    assert many == [ask(client, seed=3 + i).choices[0].message.content for i in range(3)] and len(set(many)) > 1


@pytest.mark.parametrize("stream", [False, True])
def test_text_ends_before_a_stop_string_and_no_part_of_it_leaks(client, stream):
    full = ask(client, temperature=0.5).choices[0].message.content
    stop = full[len(full) // 2 : len(full) // 2 + 3]
    extra = dict(stop=["never there", stop], temperature=0.5)
    if stream:
        texts, last, _ = streamed(ask(client, stream=True, **extra))
        text, reason = texts[0], last[0].finish_reason
    else:
        choice = ask(client, **extra).choices[0]
        text, reason = choice.message.content, choice.finish_reason
    assert text == full[: full.index(stop)] and reason == "stop"


def test_logprobs_are_those_of_the_tokens(client, model):
    alone = model.generate("hello", seed=3, max_new_tokens=40)
    content = ask(client, logprobs=True).choices[0].logprobs.content
    ends = model.generation.eos_token_ids
    expected = [p for p, t in zip(alone.logprobs, alone.tokens, strict=True) if t not in ends]
    assert [row.logprob for row in content] == pytest.approx(expected, abs=1e-4)
    streams = [c.choices[0].logprobs for c in ask(client, logprobs=True, stream=True) if c.choices]
    assert [row.logprob for s in streams if s for row in s.content] == [row.logprob for row in content]


def test_alternatives_are_told_best_first(client):
    rows = ask(client, logprobs=True, top_logprobs=3, max_tokens=12).choices[0].logprobs.content
    for row in rows:
        told = [one.logprob for one in row.top_logprobs]
        assert len(told) == 3 and told == sorted(told, reverse=True)
        assert {one.token: one.logprob for one in row.top_logprobs}[row.token] == pytest.approx(row.logprob, abs=1e-5)
    streams = ask(client, logprobs=True, top_logprobs=3, max_tokens=12, stream=True)
    assert [row for c in streams if c.choices and (l := c.choices[0].logprobs) for row in l.content] == rows
    plain = client.completions.create(model="tiny", prompt="Once", seed=1, max_tokens=8, logprobs=2).choices[0].logprobs
    for token, logprob, told in zip(plain.tokens, plain.token_logprobs, plain.top_logprobs, strict=True):
        assert told[token] == logprob == pytest.approx(max(told.values()), abs=1e-5) and len(told) in (2, 3)
    assert ask(client, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
def test_the_smallest_nucleus_is_the_most_probable_token(client, mode):
    options = dict(max_tokens=8, extra_body={"diffusion": {"mode": mode, "steps": 4}}, temperature=2)
    texts = {ask(client, top_p=0, seed=seed, **options).choices[0].message.content for seed in (1, 2, 3)}
    free = {ask(client, seed=seed, **options).choices[0].message.content for seed in (1, 2, 3)}
    assert len(free) == 3 and (mode == "diffusion" or len(texts) == 1)
    with_rule = ask(client, top_p=0.5, extra_body={"diffusion": {"mode": mode, "regex": "[a-c]{3}"}})
    assert re.fullmatch("[a-c]{3}", with_rule.choices[0].message.content)


def test_json_schema_and_json_object_hold(client):
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    validate(json.loads(ask(client, response_format=shape).choices[0].message.content), SCHEMA)
    text = ask(client, response_format={"type": "json_object"}).choices[0].message.content
    assert isinstance(json.loads(text), dict)


def test_a_thought_stands_before_a_structure_and_no_forced_call(client):
    body = {"diffusion": {"think": True, "regex": "[a-c]{3}", "min_tokens": 12}}
    message = ask(client, extra_body=body, max_tokens=40).choices[0].message
    assert re.fullmatch("[a-c]{3}", message.content) and message.model_extra["reasoning_content"]
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, tools=TOOLS, tool_choice="required", extra_body={"diffusion": {"think": True}})
    assert error.value.body["param"] == "diffusion.think"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "cut"}}])
def test_a_call_that_is_asked_for_has_arguments_of_its_schema(client, choice):
    reply = ask(client, tools=TOOLS, tool_choice=choice).choices[0]
    (call,) = reply.message.tool_calls
    assert reply.finish_reason == "tool_calls" and reply.message.content is None
    assert call.function.name == "cut" if isinstance(choice, dict) else call.function.name in ("add", "cut")
    validate(json.loads(call.function.arguments), SCHEMA)
    chunks = [c.choices[0] for c in ask(client, tools=TOOLS, tool_choice=choice, stream=True) if c.choices]
    (told,) = [c.delta.tool_calls[0] for c in chunks if c.delta.tool_calls]
    assert (told.function.name, told.function.arguments) == (call.function.name, call.function.arguments)
    assert chunks[-1].finish_reason == "tool_calls" and not any(c.delta.content for c in chunks)


def test_a_conversation_with_tools_goes_on(client):
    first = ask(client, tools=TOOLS, tool_choice="required").choices[0].message
    answer = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "7"}
    messages = [*user("hello"), first, answer]
    reply = client.chat.completions.create(model="tiny", messages=messages, tools=TOOLS, max_tokens=16, seed=1)
    assert reply.choices[0].message.content is not None


def test_calls_in_the_models_own_markup_are_delivered_unless_forbidden(client, model):
    call = "<|tool_call>call:add{n:3,ok:true}<tool_call|>"
    ids = model.tokenizer.encode(call, add_special_tokens=False)
    extra = {"diffusion": {"pins": {str(i): token for i, token in enumerate(ids)}}}
    auto = ask(client, tools=TOOLS, extra_body=extra, max_tokens=48).choices[0]
    assert auto.message.tool_calls[0].function.name == "add" and auto.finish_reason == "tool_calls"
    assert json.loads(auto.message.tool_calls[0].function.arguments) == {"n": 3, "ok": True}
    never = ask(client, tools=TOOLS, tool_choice="none", extra_body=extra, max_tokens=48).choices[0]
    assert not never.message.tool_calls


def test_completions_take_texts_lists_and_ids(client, model):
    one = client.completions.create(model="tiny", prompt="Once", seed=1, max_tokens=20)
    ids = model.tokenizer.encode("Once", add_special_tokens=False)
    same = client.completions.create(model="tiny", prompt=ids, seed=1, max_tokens=20)
    assert (
        one.choices[0].text == same.choices[0].text == model.generate("Once", raw=True, seed=1, max_new_tokens=20).text
    )
    many = client.completions.create(model="tiny", prompt=["Once", "Twice"], n=2, seed=1, max_tokens=20, logprobs=0)
    assert [c.index for c in many.choices] == [0, 1, 2, 3] and many.choices[0].text == one.choices[0].text
    assert len(many.choices[3].logprobs.tokens) == len(many.choices[3].logprobs.token_logprobs) > 0
    texts, _, _ = streamed(client.completions.create(model="tiny", prompt="Once", seed=1, max_tokens=20, stream=True))
    assert texts[0] == one.choices[0].text


def test_models_are_listed_and_named(client):
    assert [m.id for m in client.models.list()] == ["tiny"] and client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="gpt-9", messages=user("x"))
    assert error.value.body["param"] == "model"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"top_p": 1.1}, "top_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -2.5}, "frequency_penalty"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"stop": [str(i) for i in range(33)]}, "stop"),
        ({"n": 0}, "n"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"response_format": {"type": "json_schema", "json_schema": BAD_SCHEMA}}, "response_format"),
        ({"extra_body": {"nonsense": 1}}, "nonsense"),
        ({"extra_body": {"diffusion": {"nonsense": 1}}}, "diffusion.nonsense"),
        ({"extra_body": {"diffusion": {"regex": "(a"}}}, "diffusion.regex"),
        ({"extra_body": {"diffusion": {"frames": True}}}, "diffusion.frames"),
        (TWO_NUMBERS, "diffusion.alternatives"),
        ({"extra_body": {"diffusion": {"mode": "ar", "branch": {"step": 1, "seed": 2}}}}, "diffusion.branch"),
        ({"extra_body": {"diffusion": {"sampler": {"name": "ancestral", "k": 2}}}}, "diffusion.sampler"),
        ({"extra_body": {"diffusion": {"pins": {"1": "two or more tokens"}}}}, "diffusion.pins"),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_refused_by_name(client, options, param):
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, **options)
    assert error.value.body["param"] == param, error.value.body
    assert error.value.body["message"] and error.value.body["type"] == "invalid_request_error"


def test_fields_without_effect_are_taken(client):
    extra = {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "top_p": 1}
    assert ask(client, **extra).choices[0].message.content == ask(client).choices[0].message.content


def test_details_tell_of_each_token(client, model):
    tokens = ask(client, extra_body={"diffusion": {"details": True}}).choices[0].model_extra["diffusion"]["tokens"]
    alone = model.generate("hello", seed=3, max_new_tokens=40)
    ends = model.generation.eos_token_ids
    assert [t["id"] for t in tokens] == [t for t in alone.tokens if t not in ends]
    assert all(t["settled"] >= 1 and t["entropy"] >= 0 for t in tokens)


@pytest.mark.parametrize("mode", ["diffusion", "ar", "auto"])
def test_modes_are_the_requests_choice(client, model, mode):
    reply = ask(client, extra_body={"diffusion": {"mode": mode, "steps": 3}}).choices[0]
    told = reply.model_extra["diffusion"]
    assert told["mode"] == mode if mode != "auto" else told["note"]
    if mode == "diffusion":
        assert max(told["steps"]) <= 3


def test_words_lengths_and_biases_are_kept(client, model):
    def text(**diffusion):
        return ask(client, extra_body={"diffusion": diffusion}).choices[0].message.content

    plain = text()
    letter = next(c for c in plain if c.isalpha())
    assert letter not in text(banned_words=[letter])
    assert "zebra" in text(required_words=["zebra"])
    assert text(choices=["yes", "no"]) in ("yes", "no") and text(template="No. {n:int}").startswith("No. ")
    long = ask(client, max_tokens=40, extra_body={"diffusion": {"min_tokens": 40}})
    assert long.usage.completion_tokens == 40
    (token,) = model.tokenizer.encode("x", add_special_tokens=False)
    biased = ask(client, logit_bias={str(token): 100}, temperature=0).choices[0].message.content
    assert biased.count("x") > 20


# --- the streaming protocol ------------------------------------------------------------------------------------------


def events_of(text):
    """[(name, data)] of a stream; plain chunks have the name "chunk"."""
    found = []
    for block in text.strip().split("\n\n"):
        *name, data = block.split("\n")
        data = data.removeprefix("data: ")
        found.append(
            (name[0].removeprefix("event: ") if name else "chunk", data if data == "[DONE]" else json.loads(data))
        )
    return found


@pytest.mark.parametrize("options", [{}, {"response_format": {"type": "json_object"}}, {"n": 2}])
def test_frames_tell_every_step_and_change_nothing(server, model, options):
    body = {"messages": user("hello"), "seed": 3, "max_tokens": 40} | options
    frames = {"stream": True, "diffusion": {"frames": True}}
    with server.http as http:
        plain = http.post("/v1/chat/completions", json=body).json()
        events = events_of(http.post("/v1/chat/completions", json=body | frames).text)
    names = [name for name, _ in events]
    assert names[0] == "start" and names.count("start") == 1 and events[-1] == ("chunk", "[DONE]")
    assert events[0][1]["seed"] == 3 and events[0][1]["prompt_tokens"] == plain["usage"]["prompt_tokens"]
    for choice in plain["choices"]:
        mine = [
            (name, data) for name, data in events if name not in ("chunk", "start") and data["n"] == choice["index"]
        ]
        done = mine[-1][1]
        assert mine[-1][0] == "done" and done["steps"] == choice["diffusion"]["steps"]
        assert done["finish_reason"] == choice["finish_reason"]
        canvases = [data for name, data in mine if name == "canvas"]
        expected = [(c, s + 1) for c, steps in enumerate(done["steps"]) for s in range(steps)]
        assert [(event["canvas"], event["step"]) for event in canvases] == expected
        commits = [data for name, data in mine if name == "commit"]
        assert [data["steps"] for data in commits] == done["steps"]
        ends = {server.service.texts.of(token) for token in model.generation.eos_token_ids}
        tokens = "".join(t for data in commits for t in data["tokens"] if t not in ends)
        deltas = "".join(
            c["delta"].get("content", "")
            for name, data in events
            if name == "chunk" and data != "[DONE]"
            for c in data["choices"]
            if c["index"] == choice["index"]
        )
        assert deltas == choice["message"]["content"]
        if "\ufffd" not in tokens and "<" not in tokens:
            assert tokens == deltas


def test_a_branch_leaves_the_path_at_its_step(server):
    def watch(**diffusion):
        body = {"messages": user("hello"), "seed": 3, "max_tokens": 40, "stream": True}
        with server.http as http:
            events = events_of(
                http.post("/v1/chat/completions", json=body | {"diffusion": {"frames": True, **diffusion}}).text
            )
        return [{k: v for k, v in data.items() if k != "ms"} for name, data in events if name == "canvas"]

    base, branch = watch(), watch(branch={"canvas": 0, "step": 2, "seed": 9})
    assert base[:2] == branch[:2] and base[2] != branch[2]
    other = watch(branch={"canvas": 0, "step": 2, "sampler": "ancestral"})
    assert base[:2] == other[:2] and base[2] != other[2]


def test_early_text_comes_before_the_canvas_is_done(server):
    extra = {"frames": True, "early_text": {"steps": 1, "entropy": 9.0}}
    early = 0
    for seed in range(8):  # not every canvas of a random model has a prefix that stays
        body = {"messages": user("hello"), "seed": seed, "max_tokens": 16, "stream": True, "diffusion": extra}
        with server.http as http:
            events = events_of(http.post("/v1/chat/completions", json=body).text)
        chunks = [d["choices"][0]["delta"] for n, d in events if n == "chunk" and d != "[DONE]"]
        texts = [i for i, (n, d) in enumerate(events) if n == "chunk" and d != "[DONE]" and _content(d)]
        sent = [i for i, (n, d) in enumerate(events) if n == "canvas" and "s" in d["state"]]
        early += bool(sent) and texts[0] < [n for n, _ in events].index("commit")
        assert "".join(c.get("content", "") for c in chunks) == "".join(_content(events[i][1]) for i in texts)
    assert early


def _content(chunk):
    return chunk["choices"][0]["delta"].get("content", "")


def test_autoregressive_streams_have_commits_only(server):
    body = {"messages": user("hello"), "seed": 3, "max_tokens": 6, "stream": True}
    with server.http as http:
        reply = http.post("/v1/chat/completions", json=body | {"diffusion": {"frames": True, "mode": "ar"}})
    names = [name for name, _ in events_of(reply.text)]
    assert "canvas" not in names and 1 <= names.count("commit") <= 6


# --- infilling and editing ------------------------------------------------------------------------------------------


def test_a_suffix_makes_a_completion_fill_the_gap(client, server, model):
    ask_for = dict(model="tiny", prompt="The cat", suffix=" on the mat.", seed=2, max_tokens=6)
    reply = client.completions.create(**ask_for)
    text = model.infill("The cat", " on the mat.", length=(1, 6), seed=2)
    assert reply.choices[0].text == text.fills[0] and reply.choices[0].finish_reason == "stop"
    assert reply.usage.completion_tokens == text.lengths[0] <= 6
    chunks = list(client.completions.create(**ask_for, stream=True, stream_options={"include_usage": True}))
    texts, last, usage = streamed(chunks)
    assert texts[0] == text.fills[0] and last[0].finish_reason == "stop" and usage == reply.usage
    assert server.idle


def test_infill_keeps_what_stands(server, model):
    with server.http as http:
        body = {"text": "One <<>> three <<>> five.", "length": 3, "seed": 4}
        reply = http.post("/v1/infill", json=body).json()
        alone = model.infill_text(body["text"], length=3, seed=4)
        assert (reply["text"], reply["fills"]) == (alone.text, list(alone.fills))
        assert reply["text"] == f"One {reply['fills'][0]} three {reply['fills'][1]} five."
        assert reply["diffusion"]["steps"] == list(alone.steps) and reply["usage"]["completion_tokens"] == 6
        pair = http.post("/v1/infill", json={"prefix": "a ", "suffix": " z", "length": [2, 5], "seed": 4}).json()
        assert pair["text"] == "a " + pair["fills"][0] + " z" and 2 <= pair["lengths"][0] <= 5
        stream = http.post("/v1/infill", json=body | {"stream": True, "diffusion": {"frames": True}}).text
        last = [line for line in stream.splitlines() if line.startswith("data: {")][-1]
        assert json.loads(last.removeprefix("data: "))["text"] == alone.text
        assert "event: canvas" in stream and "event: commit" in stream and stream.endswith("data: [DONE]\n\n")


def test_edits_change_what_they_may(server, model):
    text = "The quick brown fox jumps over the lazy dog."
    with server.http as http:
        for spans in (None, [[4, 9]]):
            body = {"input": text, "instruction": "Change it", "strength": 0.8, "seed": 1, "spans": spans}
            reply = http.post("/v1/edits", json=body).json()
            chosen = [tuple(s) for s in spans] if spans else None
            alone = model.edit(text, "Change it", strength=0.8, seed=1, spans=chosen)
            assert reply["text"] == alone.text and reply["changed_outside"] == alone.changed_outside
            assert "".join(t for kind, t in reply["diff"] if kind != "insert") == text
            assert "".join(t for kind, t in reply["diff"] if kind != "delete") == reply["text"]
        assert reply["text"].startswith("The ") and reply["text"].endswith(" brown fox jumps over the lazy dog.")
        same = http.post("/v1/edits", json={"input": text, "strength": 0}).json()
        assert same["text"] == text


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("infill", {}, "text"),
        ("infill", {"text": "no hole"}, "text"),
        ("infill", {"text": "a <<>>", "prefix": "x"}, "text"),
        ("infill", {"text": "a <<>>", "length": 0}, "length"),
        ("infill", {"text": "a <<>>", "length": [4, 2]}, "length"),
        ("infill", {"text": "a <<>>", "length": 1000}, "length"),
        ("infill", {"text": "a <<>>", "diffusion": {"mode": "ar"}}, "diffusion.mode"),
        ("infill", {"text": "a <<>>", "diffusion": {"regex": "a"}}, "diffusion.regex"),
        ("edits", {"input": " "}, "input"),
        ("edits", {"input": "abc", "spans": [[2, 9]]}, "spans"),
        ("edits", {"input": "abc", "strength": 2}, "strength"),
        ("edits", {"input": "abc", "diffusion": {"details": True}}, "diffusion.details"),
        ("completions", {"prompt": ["a", "b"], "suffix": "c"}, "prompt"),
        ("completions", {"prompt": "a", "suffix": "c", "n": 2}, "n"),
    ],
)
def test_what_cannot_be_rewritten_is_refused_by_name(server, path, body, param):
    with server.http as http:
        reply = http.post(f"/v1/{path}", json=body)
    assert reply.status_code == 400 and reply.json()["error"]["param"] == param, reply.text
