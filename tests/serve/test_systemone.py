"""The System One interface: shapes, numbers, errors."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from pathlib import Path

import pytest
from serving import left_idle, running, user

import diffusiongemma as dg

(BODY,) = json.loads((Path(__file__).parents[1] / "cases" / "decisions.json").read_text())["bodies"]
PATH = "/v1/systemone"
NOUL = {"type": "noul", "instructions": "Is it red?"}


@pytest.fixture(scope="module")
def model(tiny_directory):
    return dg.load(tiny_directory)


@pytest.fixture(scope="module")
def server(model):
    yield from left_idle(model)


def post(server, body, **headers):
    with server.http as http:
        return http.post(PATH, json=body, headers=headers)


def told(server, body):
    reply = post(server, body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_the_shapes_are_those_of_the_interface(server):
    reply = post(server, BODY)
    answer = reply.json()
    assert set(answer) == {"model", "answers", "usage"} and answer["model"] == "tiny"
    urgent, team, tone = (answer["answers"][name] for name in BODY["questions"])
    assert set(urgent) == {"type", "noul"} and 0 < urgent["noul"] < 1
    assert set(team) == {"type", "choice", "probabilities", "confidence"}
    assert list(team["probabilities"]) == list(BODY["questions"]["team"]["criteria"])
    assert set(tone) == {"type", "score", "legend", "probabilities", "confidence"}
    assert tone["legend"] == {"0": "calm", "1": "cross", "2": "furious"}
    for one in (team, tone):
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-12) and 0 <= one["confidence"] <= 1
    assert answer["usage"]["input_tokens"] > 0 and answer["usage"]["output_tokens"] == 0
    assert re.fullmatch(r"total;dur=\d+\.\d", reply.headers["server-timing"])


def test_the_numbers_are_those_of_python(server, model):
    """But for the last bits: a server cuts prompts at other places."""
    options = {"steps": 3, "samples": 2, "seed": 4}
    here = model.decide(BODY["state"], BODY["questions"], **options).as_object()["answers"]
    there = told(server, BODY | options)["answers"]
    for name, answer in here.items():
        assert there[name].get("probabilities", {}) == pytest.approx(answer.get("probabilities", {}), rel=1e-3)
        assert there[name]["spread"] == pytest.approx(answer["spread"], rel=1e-2, abs=1e-6)


def test_an_answer_is_the_same_alone_and_under_load(server):
    alone = {}
    for name, question in BODY["questions"].items():
        alone |= told(server, BODY | {"questions": {name: question}, "steps": 2})["answers"]
    stop, chatted = threading.Event(), []

    def chat(seed):
        with server.http as http:
            while not stop.is_set():
                body = {"messages": user(f"hello {seed}"), "seed": seed, "max_tokens": 12}
                chatted.append(http.post("/v1/chat/completions", json=body).status_code)

    threads = [threading.Thread(target=chat, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    try:
        crowded = [told(server, BODY | {"steps": 2})["answers"] for _ in range(4)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert crowded == [alone] * 4 and set(chatted) == {200}


@pytest.mark.parametrize("name", ["jev-latest", "jev-preview", "tiny", None, ""])
def test_names_that_are_answered_to(server, name):
    assert told(server, BODY | {"model": name})["model"] == "tiny"


def test_a_state_may_be_anything(server):
    answers = [told(server, {"state": state, "questions": {"q": NOUL}}) for state in ("", "a", 3, None, [1, {"a": []}])]
    assert len({answer["answers"]["q"]["noul"] for answer in answers}) == 5


def test_labels_without_a_description_stay_labels(server):
    """TypeSafe's library sends null for them."""
    asked = {"type": "choice", "instructions": "Which?", "criteria": {"calm": None, "angry": None, "x": {"a": None}}}
    answer = told(server, BODY | {"questions": {"q": asked}})["answers"]["q"]
    assert list(answer["probabilities"]) == ["calm", "angry", "x"]
    levels = {"type": "score", "criteria": [{"a": None}, "b"]}
    assert told(server, BODY | {"questions": {"q": levels}})["answers"]["q"]["legend"] == {"0": {"a": None}, "1": "b"}


def test_models_are_listed_for_both_kinds_of_clients(server):
    with server.http as http:
        listed = http.get("/v1/models").json()
    assert [model["name"] for model in listed["models"]] == [model["id"] for model in listed["data"]] == ["tiny"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", listed["models"][0]["release_date"])


def test_a_thought_may_come_first(server):
    body = {"state": "x", "questions": {"q": NOUL}}
    plain, thought = told(server, body), told(server, body | {"think": True})
    assert thought["usage"]["input_tokens"] > plain["usage"]["input_tokens"], "it is asked to think"
    assert thought["answers"] != plain["answers"]


def test_images_belong_to_the_state(server):
    from PIL import Image

    def url(color):
        buffer = io.BytesIO()
        Image.new("RGB", (48, 48), color).save(buffer, "PNG")
        return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"

    body = {"state": "x", "questions": {"q": NOUL}}
    found = {told(server, body | {"images": [url(color)]})["answers"]["q"]["noul"] for color in ("red", "blue")}
    assert len(found | {told(server, body)["answers"]["q"]["noul"]}) == 3
    refused = post(server, body | {"images": ["http://example.com/a.png"]})
    assert refused.status_code == 400 and "web addresses" in refused.json()["detail"]["message"]
    assert post(server, body | {"images": [url("red")] * 17}).status_code == 400


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"state": ...}, ["body", "state"]),
        ({"questions": ...}, ["body", "questions"]),
        ({"questions": []}, ["body", "questions"]),
        ({"questions": {"q": {"instructions": "x"}}}, ["body", "questions", "q", "type"]),
        ({"questions": {"q": NOUL | {"type": "choice"}}}, ["body", "questions", "q"]),
        ({"questions": {"q": NOUL | {"type": "score", "criteria": {"a": "b"}}}}, ["body", "questions", "q"]),
        ({"questions": {"q": NOUL | {"ask_if": "p"}}}, ["body", "questions", "q", "ask_if"]),
        ({"questions": {"q": NOUL | {"depends_on": ["p"]}}}, ["body", "questions", "q", "depends_on"]),
        ({"temperature": 0.5}, ["body", "temperature"]),
        ({"steps": 9}, ["body", "steps"]),
        ({"samples": 0}, ["body", "samples"]),
        ({"state": float("nan")}, ["body", "state"]),
    ],
)
def test_a_wrong_shape_is_told_by_place(server, change, place):
    body = {name: value for name, value in (BODY | change).items() if value is not ...}
    with server.http as http:
        reply = http.post(PATH, content=json.dumps(body), headers={"content-type": "application/json"})
    assert reply.status_code == 422
    problems = reply.json()["detail"]
    assert place in [problem["loc"] for problem in problems]
    assert all(set(problem) == {"type", "loc", "msg"} and problem["msg"] for problem in problems)


def test_what_is_no_json_is_a_wrong_shape(server):
    with server.http as http:
        reply = http.post(PATH, content=b"{", headers={"content-type": "application/json"})
    assert reply.status_code == 422 and reply.json()["detail"][0]["type"] == "json_invalid"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "gpt-5"}, "no model 'gpt-5' here"),
        ({"questions": {"q": NOUL | {"type": "rank"}}}, "no type 'rank'"),
        ({"questions": {}}, "give 1 to 64"),
        ({"questions": {"q": NOUL | {"instructions": ""}}}, "instructions are empty"),
        ({"questions": {"q": {"type": "noul"}}}, "instructions are empty"),
        ({"questions": {"q": NOUL | {"type": "box"}}}, "no type 'box'"),
        ({"questions": {"q": NOUL | {"type": "choice", "criteria": {"a": "b"}}}}, "1 labels"),
        ({"questions": {"q": NOUL | {"type": "score", "criteria": list("abcdefghijk")}}}, "11 levels"),
        ({"questions": {"q": NOUL | {"type": "choice", "criteria": {"a" * 99: "", "b": ""}}}}, "canvas of 16"),
        ({"state": "x" * 5000}, "shorten the prompt"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(server, change, said):
    reply = post(server, BODY | change)
    detail = reply.json()["detail"]
    assert reply.status_code == 400 and detail["error_type"] == "api_usage_error" and said in detail["message"]


def test_a_key_is_asked_for(model):
    with running(model, api_keys=("secret-key",)) as server:
        refused = post(server, BODY)
        assert refused.status_code == 401 and refused.json()["detail"]["error_type"] == "authentication_error"
        assert "Bearer" in refused.json()["detail"]["message"]
        assert post(server, BODY, authorization="Bearer secret-key").status_code == 200
    with running(model) as server:
        foreign = post(server, BODY, host="evil.example.com")
        assert foreign.status_code == 403 and foreign.json()["detail"]["error_type"] == "permission_error"


def test_a_client_may_name_an_adapter_or_any_model(model):
    with running(model, aliases=("*",)) as server:
        assert told(server, BODY | {"model": "anything"})["model"] == "tiny"
