"""What is sent is what is declared: chunks, events and replies against their models and the OpenAPI document."""

from __future__ import annotations

import pytest
from serving import running, user

import diffusiongemma as dg
from diffusiongemma.serve.native.events import EVENTS
from diffusiongemma.serve.native.replies import EditReply, InfillReply
from diffusiongemma.serve.openai.replies import ChatChunk, CompletionChunk

FRAMES = {"frames": True}
CHAT = {"messages": user("hi"), "logprobs": True, "top_logprobs": 2, "n": 2, "stream_options": {"include_usage": True}}
TOOL = {"type": "function", "function": {"name": "cut", "parameters": {"type": "object", "maxProperties": 0}}}


@pytest.fixture(scope="module")
def server(tiny_directory):
    with running(dg.load(tiny_directory)) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "chunk", "body"),
    [
        ("chat/completions", ChatChunk, CHAT | {"diffusion": FRAMES | {"details": True, "verify": "always"}}),
        ("chat/completions", ChatChunk, {"messages": user("hi"), "tools": [TOOL], "tool_choice": "required"}),
        ("completions", CompletionChunk, {"prompt": "hi", "logprobs": 2, "diffusion": FRAMES}),
        ("completions", CompletionChunk, {"prompt": "a", "suffix": "b", "diffusion": FRAMES}),
        ("infill", InfillReply, {"text": "a <<>> b", "length": 2, "diffusion": FRAMES}),
        ("edits", EditReply, {"input": "a b c", "diffusion": FRAMES}),
    ],
)
def test_every_chunk_and_event_is_as_declared(server, path, chunk, body):
    limit = {"max_tokens": 12} if "completions" in path else {}
    with server.http as http:
        text = http.post(f"/v1/{path}", json=body | limit | {"seed": 1, "stream": True}).text
    *blocks, last = text.strip().split("\n\n")
    assert last == "data: [DONE]" and blocks
    for block in blocks:
        name, _, data = block.rpartition("data: ")
        kind = EVENTS[name.strip().removeprefix("event: ")] if name else chunk
        kind.model_validate_json(data, strict=True)


def test_the_document_has_all_that_is_sent(server):
    """Replies forbid what they do not declare, so that what is sent is documented by construction."""
    with server.http as http:
        document = http.get("/openapi.json").json()["components"]["schemas"]
        asked = CHAT | {"max_tokens": 4, "stream_options": None, "diffusion": {"details": True, "alternatives": 2}}
        reply = http.post("/v1/chat/completions", json=asked).json()
    detail = reply["choices"][0]["diffusion"]["tokens"][0]
    assert set(detail) <= set(document["TokenDetail"]["properties"]) and len(detail["alternatives"]) == 2
    assert {"ChatChunk", "CompletionChunk", "CanvasEvent", "DoneEvent"} <= set(document)
    replies = ("ChatReply", "CompletionReply", "InfillReply", "EditReply", "InfoReply", "TraceReply")
    assert all(document[name]["additionalProperties"] is False for name in replies)
