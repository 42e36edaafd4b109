"""What the page asks of the server beside answers: boards in any spelling, pictures, what the model was taught."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from serving import running

import diffusiongemma as dg

RECORDINGS = Path(dg.__file__).parent / "serve" / "page" / "recordings"
BOARD = "53  7\n6  195\n 98    6\n8   6   3\n4  8 3  1\n7   2   6\n 6    28\n   419  5\n    8  79"


@pytest.fixture(scope="module")
def http(tiny_directory):
    with running(dg.load(tiny_directory)) as server, server.http as client:
        yield client


def test_a_board_is_read_in_any_spelling(http):
    found = http.post("/v1/boards", json={"text": BOARD}).json()
    assert found["prompt"].startswith("Solve this sudoku:\n53..7....\n") and found["verdict"] == ""
    assert "".join(map(str, found["board"])).startswith("530070000600195000")
    assert http.post("/v1/boards", json={"text": "hello"}).json()["board"] is None
    assert http.post("/v1/boards", json={"text": BOARD + "\n" + "word " * 60, "alone": True}).json()["board"] is None


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_a_trace_becomes_a_picture_that_moves(http, kind):
    trace = json.loads((RECORDINGS / "sentence.json").read_text())
    steps = sum(name == "canvas" for name, _ in trace["events"])
    reply = http.post("/v1/pictures", json={"start": trace["start"], "events": trace["events"], "format": kind})
    assert reply.headers["content-type"] == f"image/{kind}"
    picture = Image.open(io.BytesIO(reply.content))
    assert picture.n_frames == steps + 1
    first = picture.convert("RGB").tobytes()
    picture.seek(steps)
    assert picture.convert("RGB").tobytes() != first


@pytest.mark.parametrize("events", [[["canvas", {}]], [["commit", {"tokens": []}]], [["done", {}]]])
def test_what_cannot_be_drawn_is_refused(http, events):
    reply = http.post("/v1/pictures", json={"events": events})
    assert reply.status_code == 400 and "cannot be drawn" in reply.json()["error"]["message"]


def test_recordings_begin_with_noise_and_end_rightly():
    from diffusiongemma.tasks.sudoku_reader import about_answer, read_board

    traces = {name: json.loads((RECORDINGS / f"{name}.json").read_text()) for name in ("sudoku", "sentence")}
    for trace in traces.values():
        first = trace["events"][0][1]
        assert first["step"] == 0 and set(first["state"]) <= {"n", "p"}
    sudoku = traces["sudoku"]
    assert about_answer(read_board(sudoku["request"]["givens"]), read_board(sudoku["text"])) == ""


def test_the_server_says_what_the_model_was_taught(http):
    info = http.get("/v1/info").json()
    assert info["skills"] == [] and info["parameters"] > 0 and info["images"] is True and info["links"]


def test_edits_and_infills_say_whether_they_converged(http):
    for path, body in (
        ("/v1/edits", {"input": "hello there"}),
        ("/v1/infill", {"prefix": "a", "suffix": "b", "length": 2}),
    ):
        spent = http.post(path, json={**body, "seed": 1, "diffusion": {"steps": 2}}).json()["diffusion"]
        assert spent["converged"] and all(isinstance(one, bool) for one in spent["converged"])


def test_the_schema_is_shown_unless_it_is_not_wanted(http, tiny_directory):
    schema = {"type": "object", "properties": {"age": {"type": "integer", "maximum": 99}}, "required": ["age"]}
    form = {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema | {"additionalProperties": False}},
    }
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Maria."}], "response_format": form, "seed": 1}
    shown = http.post("/v1/chat/completions", json=body).json()["usage"]["prompt_tokens"]
    hidden = http.post("/v1/chat/completions", json=body | {"diffusion": {"show_schema": False}}).json()
    assert shown > hidden["usage"]["prompt_tokens"]
