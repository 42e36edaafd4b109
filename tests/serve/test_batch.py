"""Files of requests: every line answered once, whatever kills the process meanwhile."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import diffusiongemma as dg
from diffusiongemma.errors import InputError
from diffusiongemma.serve.batch.answers import AnswerFile
from diffusiongemma.serve.batch.requests import RequestFile
from diffusiongemma.train.chats import check

pytest_plugins = ["cli_fixtures"]
CHAT = "/v1/chat/completions"


def chat(text: str = "hello", **options):
    return {"messages": [{"role": "user", "content": text}], "seed": 3, "max_tokens": 8} | options


def line(custom_id: str, body=None, url: str = CHAT, **fields) -> str:
    body = chat() if body is None else body
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body} | fields)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{one}\n" for one in lines))
    return path


def read(path: Path):
    return [json.loads(one) for one in path.read_text().splitlines()]


def text_of(answer) -> str:
    return answer["response"]["body"]["choices"][0]["message"]["content"]


def test_every_endpoint_is_answered_in_order_and_as_alone(cli, model, tmp_path, tiny_directory):
    alone = dg.load(tiny_directory)
    requests = write(
        tmp_path / "requests.jsonl",
        line("long", chat("a longer one", max_tokens=64)),
        *(line(f"short {n}", chat(f"say {n}", seed=n)) for n in range(9)),
        line("completion", {"prompt": "one two", "seed": 1, "max_tokens": 8}, "/v1/completions"),
        line("gap", {"prompt": "one", "suffix": "three", "seed": 1, "max_tokens": 8}, "/v1/completions"),
        line("infill", {"text": "one <<>> three", "seed": 1}, "/v1/infill"),
        line("edit", {"input": "one two three", "seed": 1}, "/v1/edits"),
        line("message", chat() | {"seed": None, "model": "tiny"}, "/v1/messages"),
        line("several", chat(n=3)),
    )
    done = cli("batch", requests, tmp_path / "answers.jsonl", *model, "--max-requests", 4)
    answers = read(tmp_path / "answers.jsonl")
    assert [a for a in answers if a["response"]["status_code"] != 200] == []
    assert done.code == 0, done.err
    assert [a["custom_id"] for a in answers] == [
        json.loads(one)["custom_id"] for one in requests.read_text().splitlines()
    ]
    assert all(a["error"] is None and a["response"]["status_code"] == 200 for a in answers)
    assert len({a["id"] for a in answers} | {a["response"]["request_id"] for a in answers}) == 2 * len(answers)
    for n in range(9):
        assert text_of(answers[1 + n]) == alone.generate(f"say {n}", seed=n, max_new_tokens=8).text
    assert len(answers[-1]["response"]["body"]["choices"]) == 3


def test_what_is_refused_is_told_in_its_line_and_asked_again(cli, model, tmp_path):
    requests, answers = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    write(
        requests, line("a"), line("b", chat(max_tokens=-7)), line("c", chat(stream=True)), line("d", url="/v1/boards")
    )
    done = cli("batch", requests, answers, *model)
    assert done.code == 1 and "1 of 4 requests answered" in done.err
    before = read(answers)
    assert [a["response"]["status_code"] for a in before] == [200, 400, 400, 404]
    assert before[1]["response"]["body"]["error"]["param"] == "max_tokens"
    write(requests, line("a"), line("b"), line("c", chat(stream=False)), line("d"))
    assert cli("batch", requests, answers, *model).code == 0
    after = read(answers)
    assert [a["response"]["status_code"] for a in after] == [200] * 4 and after[0] == before[0]
    assert cli("batch", requests, answers, "--model", "nowhere").code == 0  # nothing is left to ask


BAD = {
    "not JSON": '{"custom_id": "x"',
    "not UTF-8 text": b"\xff\xfe".decode("latin-1"),
    "not a JSON object": "[1]",
    "custom_id is missing": "{}",
    "custom_id must be": line("x").replace('"x"', "7"),
    "method must be POST": line("x", method="GET"),
    "body must be": line("x", body="text"),
    "unknown field 'bodies'": line("x", bodies={}),
    "is that of line 1 too": line("good"),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_line_stops_the_batch_before_anything_is_loaded_or_is_left_out(cli, model, tmp_path, reason):
    requests, answers = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    requests.write_bytes(f"{line('good')}\n\n{BAD[reason]}\n{line('last')}".encode("latin-1"))
    done = cli("batch", requests, answers, "--model", "nowhere")
    assert done.code == 2 and f"line 3: {reason}" in done.err.replace("line 3: custom_id 'good' ", "line 3: ")
    assert not answers.exists()
    if reason == "not JSON":
        done = cli("batch", requests, answers, *model, "--skip-bad-lines")
        assert done.code == 0 and "line 3 left out" in done.err
        assert [a["custom_id"] for a in read(answers)] == ["good", "last"]


def test_files_that_cannot_be_used(cli, tmp_path):
    requests = write(tmp_path / "requests.jsonl", line("a"))
    assert "name another file" in cli("batch", requests, requests).err
    assert "cannot read" in cli("batch", tmp_path / "absent", tmp_path / "answers").err
    assert "cannot write" in cli("batch", requests, tmp_path / "absent" / "answers").err
    assert "holds no request" in cli("batch", write(tmp_path / "empty"), tmp_path / "answers").err
    other = write(tmp_path / "other.jsonl", '{"custom_id": "z", "response": null}')
    done = cli("batch", requests, other)
    assert done.code == 2 and "other.jsonl line 1 answers no request" in done.err
    assert read(other) == [{"custom_id": "z", "response": None}]


def test_two_writers_of_one_file(tmp_path):
    asked = RequestFile(write(tmp_path / "requests.jsonl", line("a")))
    with AnswerFile(tmp_path / "answers", asked), pytest.raises(InputError, match="being written by another batch"):
        AnswerFile(tmp_path / "answers", asked).__enter__()


def test_a_torn_line_is_cut_off_wherever_it_is_torn(tmp_path):
    asked = RequestFile(write(tmp_path / "requests.jsonl", *(line(f"\ud800é{n}") for n in range(3))))
    path, response = tmp_path / "answers", {"status_code": 200}
    with AnswerFile(path, asked) as answers:
        for n in (2, 0):
            answers.add({"custom_id": f"\ud800é{n}", "response": response})
    written = path.read_bytes()
    first = written.index(b"\n") + 1
    for cut in range(first + 1, len(written)):
        path.write_bytes(written[:cut])
        with AnswerFile(path, asked) as answers:
            assert [place.number for place in answers.unanswered] == [1, 2]
            assert path.read_bytes() == written[:first]
            answers.add({"custom_id": "\ud800é0", "response": response})
            answers.put_in_order()
        assert [a["custom_id"] for a in read(path)] == ["\ud800é0", "\ud800é2"]


@pytest.mark.slow
def test_killed_three_times_and_taken_up_again(tmp_path, tiny_directory):
    """SIGKILL comes in mid-write as likely as not."""
    count, draw = 500, random.Random(5)
    requests, answers = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    bodies = [chat(f"say {n}", seed=n, max_tokens=4, diffusion={"steps": 1}) for n in range(count)]
    write(requests, *(line(str(n), body) for n, body in enumerate(bodies)))
    command = [sys.executable, "-m", "diffusiongemma", "batch", requests, answers, "--model", tiny_directory]
    for part in (0.2, 0.45, 0.7):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})
        deadline = time.monotonic() + 200
        while not answers.exists() or answers.read_bytes().count(b"\n") < part * count:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(draw.uniform(0.001, 0.02))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    before = {a["custom_id"]: a["id"] for a in map(json.loads, answers.read_text().split("\n")[:-1])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.err
    found = read(answers)
    assert [a["custom_id"] for a in found] == [str(n) for n in range(count)]
    assert all(a["response"]["status_code"] == 200 for a in found)
    assert {a["custom_id"]: a["id"] for a in found}.items() >= before.items()  # nothing was asked twice


def test_answers_become_conversations_to_train_on(cli, model, tmp_path):
    """Those that are whole, each choice for itself, tools with them; resumed, the file has them all again."""
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    requests = write(
        tmp_path / "requests.jsonl",
        line("whole", chat("say one", max_tokens=64, diffusion={"regex": "(yes|no)"})),
        line("cut off", chat("say much", max_tokens=1)),
        line("twice", chat("say two", max_tokens=64, n=2, diffusion={"regex": "(one|two)"})),
        line("tool", chat("look", max_tokens=64, tools=[tool], tool_choice="required")),
        line("refused", chat(max_tokens=-7)),
        line("other", {"prompt": "one two", "max_tokens": 8}, "/v1/completions"),
    )
    chats = tmp_path / "chats.jsonl"
    for _ in range(2):
        done = cli("batch", requests, tmp_path / "answers.jsonl", *model, "--chats", chats)
        assert done.code == 1 and "4 conversations to train on" in done.err, done.err
        found, bad = check(chats)
        assert not bad.count and len(found) == 4
    answers = {one["custom_id"]: one for one in read(tmp_path / "answers.jsonl")}
    assert found[0].messages == [
        {"role": "user", "content": "say one"},
        {"role": "assistant", "content": text_of(answers["whole"])},
    ]
    assert [found[i].messages[0]["content"] for i in range(4)] == ["say one", "say two", "say two", "look"]
    assert found[3].tools == [tool] and found[3].messages[1]["tool_calls"][0]["function"]["name"] == "look"


def test_conversations_do_not_replace_what_is_read(cli, model, tmp_path):
    requests = write(tmp_path / "requests.jsonl", line("one"))
    done = cli("batch", requests, tmp_path / "answers.jsonl", *model, "--chats", requests)
    assert done.code == 2 and "name another file" in done.err
