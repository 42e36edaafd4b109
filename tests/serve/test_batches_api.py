"""/v1/files and /v1/batches, by OpenAI's own client."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time

import openai
import pytest
from serving import running, user, wait_until

import diffusiongemma as dg
from diffusiongemma.serve.batch.store import Store

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def model(tiny_directory):
    return dg.load(tiny_directory)


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    with running(model, max_requests=4, batch_dir=folder, api_keys=("test-key",)) as server:
        yield server


def lines(*bodies, url=CHAT) -> bytes:
    texts = [{"custom_id": f"r{n}", "method": "POST", "url": url, "body": body} for n, body in enumerate(bodies)]
    return "".join(json.dumps(text) + "\n" for text in texts).encode()


def chat(n: int, **options):
    return {"messages": user(f"say {n}"), "seed": n, "max_tokens": 8} | options


def started(client, content: bytes, **options):
    kept = client.files.create(file=("requests.jsonl", content), purpose="batch")
    options = {"endpoint": CHAT, "completion_window": "24h"} | options
    return client.batches.create(input_file_id=kept.id, **options)


def ended(client, batch, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while (batch := client.batches.retrieve(batch.id)).status not in ("completed", "failed", "cancelled", "expired"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
    return batch


def answers(client, file_id):
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def test_a_batch_from_upload_to_content(server, model):
    client = server.openai()
    content = lines(*(chat(n) for n in range(12)), chat(12, max_tokens=-7))
    batch = ended(client, made := started(client, content, metadata={"who": "us"}))
    assert made.status == "validating" and made.expires_at - made.created_at == 24 * 3600
    assert batch.status == "completed" and batch.metadata == {"who": "us"} and batch.errors is None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (13, 12, 1)
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    found = answers(client, batch.output_file_id)
    assert [one["custom_id"] for one in found] == [f"r{n}" for n in range(12)]
    for n, one in enumerate(found):
        text = one["response"]["body"]["choices"][0]["message"]["content"]
        assert text == model.generate(f"say {n}", seed=n, max_new_tokens=8).text
    (refused,) = answers(client, batch.error_file_id)
    assert refused["custom_id"] == "r12" and refused["response"]["status_code"] == 400


def test_files_are_listed_read_and_deleted(server):
    client = server.openai()
    kept = [client.files.create(file=io.BytesIO(lines(chat(n))), purpose="batch") for n in range(3)]
    listed = [one.id for one in client.files.list(purpose="batch", limit=2)]  # the client turns the pages
    assert listed[:3] == [one.id for one in kept[::-1]]
    assert [one.id for one in client.files.list(purpose="batch", order="asc")] == listed[::-1]
    assert client.files.retrieve(kept[0].id) == kept[0] and kept[0].bytes == len(lines(chat(0)))
    assert client.files.content(kept[1].id).read() == lines(chat(1))
    assert client.files.delete(kept[0].id).deleted
    for gone in (kept[0].id, "file-", "../lock", "batch_" + "0" * 28, "x" * 300):
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(gone)


def test_batches_are_listed(server):
    client = server.openai()
    made = [started(client, lines(chat(n))) for n in range(3)]
    assert [one.id for one in client.batches.list(limit=2)][:3] == [one.id for one in made[::-1]]
    assert all(ended(client, one).status == "completed" for one in made)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"endpoint": "/v1/boards"}, "endpoint must be one of"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"input_file_id": "file-0"}, "there is no file"),
    ],
)
def test_what_is_refused(server, options, what):
    client = server.openai()
    kept = client.files.create(file=lines(chat(0)), purpose="batch")
    given = {"input_file_id": kept.id, "endpoint": CHAT, "completion_window": "24h"} | options
    with pytest.raises(openai.APIStatusError, match=what):
        client.batches.create(**given)
    with pytest.raises(openai.BadRequestError):
        client.files.create(file=lines(chat(0)), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="there is no"):
        client.batches.list(after="batch_x")
    with server.http as http:
        assert http.get("/v1/files").status_code == 401


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        (b"", None, "holds no request"),
        (lines(chat(0)) + b"{\n", 2, "not JSON"),
        (lines(chat(0), url="/v1/completions"), 1, "url must be /v1/chat/completions"),
        (lines(chat(0)) * 2, 2, "is that of line 1 too"),
    ],
)
def test_a_file_that_is_no_batch_fails_it(server, content, line, why):
    client = server.openai()
    batch = ended(client, started(client, content))
    assert batch.status == "failed" and batch.failed_at and batch.output_file_id is None
    (mistake,) = batch.errors.data
    assert mistake.line == line and why in mistake.message


def test_a_batch_is_cancelled_and_its_file_held_until_then(server):
    client = server.openai()
    batch = started(client, lines(*(chat(n, max_tokens=64) for n in range(300))))
    wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed)
    with pytest.raises(openai.ConflictError, match="still reads this file"):
        client.files.delete(batch.input_file_id)
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    batch = ended(client, batch)
    done, left = answers(client, batch.output_file_id), answers(client, batch.error_file_id)
    assert batch.status == "cancelled" and batch.cancelled_at >= batch.cancelling_at
    assert 0 < len(done) == batch.request_counts.completed < 300 and len(done) + len(left) == 300
    assert {one["error"]["code"] for one in left} == {"batch_cancelled"}
    with pytest.raises(openai.ConflictError, match="is cancelled"):
        client.batches.cancel(batch.id)


def test_what_is_out_of_time_is_told(server):
    client = server.openai()
    kept = client.files.create(file=lines(chat(0), chat(1)), purpose="batch")
    late = {"endpoint": CHAT, "completion_window": "24h", "expires_at": 1}
    batch = ended(client, server.app.state.batches.add_batch(input_file_id=kept.id, **late))
    assert batch.status == "expired" and batch.expired_at and batch.output_file_id is None
    assert {one["error"]["code"] for one in answers(client, batch.error_file_id)} == {"batch_expired"}


def test_whoever_asks_directly_goes_first(model, tmp_path):
    with running(model, max_requests=2, batch_dir=tmp_path) as server:
        client = server.openai()
        batch = started(client, lines(*(chat(n, max_tokens=64) for n in range(200))))
        wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed)
        most = 0
        for n in range(10):
            client.chat.completions.create(model="tiny", messages=user("now"), seed=n, max_tokens=8)
            most = max(most, server.worker.accepted)
        assert most <= 2 + 2 and client.batches.retrieve(batch.id).status == "in_progress"
        client.batches.cancel(batch.id)


SERVE = "from diffusiongemma.cli import main; main()"


def test_a_batch_outlives_the_server_and_goes_on(tiny_directory, tmp_path):
    """SIGKILL in the middle, a second server on the same directory: every line once, none asked again."""
    command = [sys.executable, "-c", SERVE, "serve", "--model", tiny_directory, "--port", "0", "--batch-dir", tmp_path]

    def begun():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return process, openai.OpenAI(base_url=process.stdout.readline().split()[1], api_key="any", max_retries=0)

    first, client = begun()
    try:
        batch = started(client, lines(*(chat(n) for n in range(400))))
        wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed > 20)
    finally:
        first.kill()
        first.wait()
    kept = [line for line in Store(tmp_path).answers_of(batch.id).read_bytes().split(b"\n")[:-1]]
    before = {one["custom_id"]: one["id"] for one in map(json.loads, kept)}
    second, client = begun()
    try:
        batch = ended(client, batch, 120)
        found = answers(client, batch.output_file_id)
        assert batch.status == "completed" and batch.error_file_id is None
        assert [one["custom_id"] for one in found] == [f"r{n}" for n in range(400)]
        assert {one["custom_id"]: one["id"] for one in found}.items() >= before.items() and len(before) > 20
    finally:
        second.terminate()
        assert second.wait(60) == 0


def test_without_a_directory_the_way_to_one_is_told(model):
    with running(model) as server, pytest.raises(openai.NotFoundError, match="--batch-dir"):
        server.openai().files.list()
