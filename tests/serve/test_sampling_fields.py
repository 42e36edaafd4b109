"""OpenAI's and others' fields that shape sampling: cuts, penalties, echo, best_of, allowed tools."""

from __future__ import annotations

import json
import math

import pytest
import torch
from jsonschema import validate
from serving import running, user

import diffusiongemma as dg
from diffusiongemma.diffusion.adjust import Cut, Penalties

ASKED = {"prompt": "Once", "seed": 1, "max_tokens": 12}


@pytest.fixture(scope="module")
def model(tiny_directory):
    return dg.load(tiny_directory)


@pytest.fixture(scope="module")
def server(model):
    with running(model) as server:
        yield server


def post(server, body, path="/v1/completions"):
    with server.http as http:
        reply = http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_a_cut_leaves_the_most_probable():
    logits = torch.tensor([[3.0, 1.0, 2.0, 2.9], [0.0, 0.0, 5.0, -1.0]])
    kept = logits.clone()
    Cut(top_k=2)(kept, 0)
    assert (kept > -1e20).tolist() == [[True, False, False, True], [True, True, True, False]], "ties stay"
    kept = logits.clone()
    Cut(min_p=math.exp(-1.05))(kept, 0)
    assert (kept > -1e20).tolist() == [[True, False, True, True], [False, False, True, False]]
    assert not Cut() and Cut(top_k=1)


def test_penalties_count_what_is_written_and_no_position_itself():
    canvas = torch.tensor([2, -1, 2, 3])  # position 1 has not settled
    adjust = Penalties(frequency=1.0, presence=0.25).over([4], [1, 1, 2], lambda: canvas)
    logits = torch.zeros(4, 5)
    adjust(logits, 0)
    expected = [
        [0, -2.25, -2.25, -1.25, 0],  # another 2 on the canvas, one before
        [0, -2.25, -3.25, -1.25, 0],
        [0, -2.25, -2.25, -1.25, 0],
        [0, -2.25, -3.25, 0, 0],
    ]
    assert torch.allclose(logits, torch.tensor(expected, dtype=torch.float32))
    later = torch.zeros(2, 5)
    adjust(later, 2)
    assert torch.equal(later, logits[2:])
    scaled = torch.tensor([[2.0, -2.0, 1.0, 1.0, 3.0]])
    Penalties(repetition=2.0).over([4], [1, 2], lambda: None)(scaled, 0)
    assert scaled.tolist() == [[2.0, -4.0, 0.5, 1.0, 1.5]], "the prompt counts"


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
def test_cuts_and_penalties_act_on_answers(server, model, mode):
    body = ASKED | {"temperature": 2, "diffusion": {"mode": mode, "steps": 4}}
    plain = post(server, body)["choices"][0]["text"]
    alone = model.generate("Once", raw=True, seed=1, max_new_tokens=12, temperature=2.0, mode=mode, steps=4, top_k=3)
    assert post(server, body | {"top_k": 3})["choices"][0]["text"] == alone.text != plain
    greedy = {post(server, body | {"top_k": 1, "seed": seed})["choices"][0]["text"] for seed in (1, 2)}
    assert mode == "diffusion" or len(greedy) == 1
    assert post(server, body | {"min_p": 1.0})["choices"][0]["text"] != plain
    ids = model.generate("Once", raw=True, seed=1, max_new_tokens=60, mode=mode, logit_bias={"e": 30.0}).tokens
    spread = model.generate(
        "Once", raw=True, seed=1, max_new_tokens=60, mode=mode, logit_bias={"e": 30.0}, frequency_penalty=2.0
    ).tokens
    (e,) = model.tokenizer.encode("e", add_special_tokens=False)
    assert ids.count(e) > 40 > spread.count(e)
    forced = post(server, body | {"top_k": 1, "frequency_penalty": 1, "diffusion": {"mode": mode, "regex": "[ab]{6}"}})
    assert set(forced["choices"][0]["text"]) <= {"a", "b"} and len(forced["choices"][0]["text"]) == 6


def test_penalties_keep_requests_apart(model):
    options = [{"frequency_penalty": 1.0}, {"repetition_penalty": 1.3, "top_k": 20}, {"presence_penalty": -1.0}]
    requests = [model.request("Once", seed=i, max_new_tokens=20, id=i, **o) for i, o in enumerate(options)]
    from diffusiongemma.engine.engine import Engine

    together = Engine(model.network, model.tokenizer, 3).results(requests)
    for i, result in enumerate(together):
        assert result.tokens == model.generate("Once", seed=i, max_new_tokens=20, **options[i]).tokens


def test_echo_and_best_of(server):
    plain = post(server, ASKED | {"n": 3})
    assert post(server, ASKED | {"echo": True})["choices"][0]["text"] == "Once" + plain["choices"][0]["text"]
    with server.http as http:
        lines = http.post("/v1/completions", json=ASKED | {"echo": True, "stream": True}).text.splitlines()
    told = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert "".join(c["text"] for t in told for c in t["choices"]) == "Once" + plain["choices"][0]["text"]
    scored = post(server, ASKED | {"n": 3, "logprobs": 0})
    scores = [sum(c["logprobs"]["token_logprobs"]) / len(c["logprobs"]["tokens"]) for c in scored["choices"]]
    best = post(server, ASKED | {"best_of": 3})
    assert len(best["choices"]) == 1 and best["usage"]["completion_tokens"] == plain["usage"]["completion_tokens"]
    texts = [choice["text"] for choice in plain["choices"]]
    ends = all(choice["finish_reason"] == "length" for choice in plain["choices"])
    assert best["choices"][0]["text"] in texts
    assert not ends or best["choices"][0]["text"] == texts[scores.index(max(scores))]


def test_only_allowed_tools_are_called(server):
    schema = {"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"]}
    names = ("add", "cut", "put")
    tools = [{"type": "function", "function": {"name": name, "parameters": schema}} for name in names]
    named = [{"type": "function", "function": {"name": name}} for name in ("cut", "put")]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": named}}
    body = {"messages": user("hi"), "tools": tools, "tool_choice": choice, "max_tokens": 40}
    for seed in range(4):
        (call,) = post(server, body | {"seed": seed}, "/v1/chat/completions")["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] in ("cut", "put")
        validate(json.loads(call["function"]["arguments"]), schema)
    with server.http as http:
        named[0]["function"]["name"] = "other"
        assert http.post("/v1/chat/completions", json=body).json()["error"]["param"] == "tool_choice"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_choice_that_a_stop_would_cut_is_refused(server, path):
    body = {"messages": user("hi")} if "chat" in path else {"prompt": "hi"}
    with server.http as http:
        reply = http.post(path, json=body | {"stop": ["b"], "diffusion": {"choices": ["a b", "c"]}})
    error = reply.json()["error"]
    assert reply.status_code == 400 and error["param"] == "stop" and "diffusion.choices" in error["message"]
