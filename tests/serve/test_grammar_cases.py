"""Bodies and grammars that once went wrong over HTTP (tests/cases): each is answered, or refused within seconds."""

from __future__ import annotations

import json
import time
from pathlib import Path

import jsonschema
import pytest
from serving import running, user

import diffusiongemma as dg

CASES = Path(__file__).parent.parent / "cases"
CHAT = "/v1/chat/completions"


def case(name):
    return json.loads((CASES / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def http(tiny_directory):
    with running(dg.load(tiny_directory)) as server, server.http as client:
        yield client


def of_schema(schema):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}


SCHEMAS = [(name, schema) for name in ("number_formats", "discriminated_union") for schema in case(name)["schemas"]]
NASTY = case("nasty_grammars")
NASTY_BODIES = [{"diffusion": {"regex": regex}} for regex in NASTY["regex"]]
NASTY_BODIES += [*map(of_schema, NASTY["schemas"]), *NASTY["bodies"]]


@pytest.mark.parametrize(("name", "schema"), SCHEMAS)
def test_schemas_as_generators_write_them_are_answered(http, name, schema):
    body = {"messages": user("x"), "max_tokens": 400, "diffusion": {"steps": 2}, **of_schema(schema)}
    reply = http.post(CHAT, json=body)
    assert reply.status_code == 200, reply.text
    jsonschema.validate(json.loads(reply.json()["choices"][0]["message"]["content"]), schema)


@pytest.mark.parametrize("body", case("lookahead_tool")["bodies"])
def test_a_tool_with_look_ahead_in_its_pattern_is_called(http, body):
    reply = http.post(CHAT, json=body | {"model": "tiny", "max_tokens": 300, "diffusion": {"steps": 2}})
    assert reply.status_code == 200, reply.text
    (call,) = reply.json()["choices"][0]["message"]["tool_calls"]
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in body["tools"]}
    jsonschema.validate(json.loads(call["function"]["arguments"]), schemas[call["function"]["name"]])


@pytest.mark.parametrize("body", NASTY_BODIES, ids=lambda body: json.dumps(body)[:60])
def test_nasty_grammars_are_answered_or_refused_soon(http, body):
    begin = time.monotonic()
    reply = http.post(CHAT, json={"messages": user("x"), "max_tokens": 32, "diffusion": {"steps": 2}} | body)
    assert time.monotonic() - begin < 60, "2 s of processor time, on a machine that others use too"
    assert reply.status_code in (200, 400), reply.text
    if reply.status_code == 400:
        error = reply.json()["error"]
        assert error["param"] and error["message"]


@pytest.mark.parametrize(("tokens", "said"), [(30, 0), (64, 1)])
def test_less_than_a_schema_allows_is_said_where_the_answer_could_hold_more(http, tokens, said):
    many = {"properties": {f"p{i}": {"type": "string", "maxLength": 5000} for i in range(12)}}
    body = {"messages": user("x"), "max_tokens": tokens, "diffusion": {"steps": 2}, **of_schema(many)}
    warnings = http.post(CHAT, json=body).json()["choices"][0]["diffusion"].get("warnings", [])
    assert ["'maxLength' at /properties/p0 and 11 other places" in warning for warning in warnings] == [True] * said
