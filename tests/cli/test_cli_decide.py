"""`decide` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest_plugins = ["cli_fixtures"]
BODY_FILE = Path(__file__).parents[1] / "cases" / "decisions.json"
(BODY,) = json.loads(BODY_FILE.read_text())["bodies"]
STATE = json.dumps(BODY["state"])


def test_a_file_of_questions(cli, tiny, model, tmp_path):
    file = tmp_path / "questions.json"
    file.write_text(json.dumps(BODY["questions"]))
    expected = tiny.decide(STATE, BODY["questions"], steps=2, samples=2, seed=3)
    options = ("--steps", 2, "--samples", 2, "--seed", 3)
    done = cli("decide", "-", "--questions", file, *options, "--json", *model, stdin=STATE.encode())
    assert (done.code, done.json["answers"]) == (0, expected.as_object()["answers"]), done.err
    assert done.json["seed"] == 3 and done.json["usage"]["input_tokens"] == expected.input_tokens
    plain = cli("decide", "-", "--questions", json.dumps(BODY["questions"]), *options, *model, stdin=STATE.encode())
    urgent, team, tone = plain.out.splitlines()
    assert urgent.startswith(f"urgent: {expected.answers['urgent'].value:.3f} ± ")
    assert team.startswith(f"team: {expected.answers['team'].value} 0.") and 'other, "odd" / label' in team
    assert tone.startswith(f"tone: {expected.answers['tone'].value:.2f}, of 0 (calm) ")


@pytest.mark.parametrize(
    ("options", "question"),
    [
        ([], {"type": "noul"}),
        (["--choice", "a b", "--choice", "c"], {"type": "choice", "criteria": {"a b": "", "c": ""}}),
        (["--level", "low", "--level", "high"], {"type": "score", "criteria": ["low", "high"]}),
    ],
)
def test_one_question(cli, tiny, model, options, question):
    expected = tiny.decide("some text", {"answer": question | {"instructions": "Is it?"}}).as_object()
    done = cli("decide", "-", "--ask", "Is it?", *options, "--json", *model, stdin=b"some text")
    assert (done.code, done.json["answers"]) == (0, expected["answers"]), done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give --ask with one question, or --questions"),
        (["--ask", "x", "--questions", "{}"], "give --ask with one question, or --questions"),
        (["--questions", "{}"], "--questions: there are 0: give 1 to 64"),
        (["--questions", "{"], "--questions: it is not JSON"),
        (["--questions", "/no/where.json"], "cannot read /no/where.json"),
        (["--questions", "{}", "--choice", "a"], "leave --choice and --level out"),
        (["--ask", "x", "--choice", "a", "--level", "b"], "leave one out"),
        (["--ask", "x", "--choice", "a"], "--choice: it has 1 labels: give 2 to 256"),
        (["--ask", "x", "--level", "a"], "--level: it has 1 levels: give 2 to 10"),
        (["--ask", " "], "--ask: its instructions are empty"),
        (["--ask", "x", "--steps", "9"], "--steps is 9: give a whole number from 1 to 8"),
        (["--ask", "x", "--samples", "0"], "--samples is 0: give a whole number from 1 to 32"),
        (["--ask", "x", "--seed", "y"], "--seed is 'y'"),
        (["--ask", "x", "--image", "/no/where.png"], "--image"),
    ],
)
def test_mistakes_are_one_line(cli, model, options, said):
    done = cli("decide", "-", *options, *model, stdin=b"some text")
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1 and done.out == "", done.err


def test_a_text_is_needed(cli, model):
    done = cli("decide", "-", "--ask", "x", *model, stdin=b" ")
    assert done.code == 2 and "stdin is empty" in done.err
