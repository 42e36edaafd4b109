# ruff: noqa: E402  (what needs Ray comes after the question whether it is there)
"""Two replicas on a real Ray of this machine: the same texts as one process, whatever happens to one of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from serving import user, wait_until

import diffusiongemma as dg

ray = pytest.importorskip("ray")

from openai import OpenAI

from diffusiongemma.cluster import deploy
from diffusiongemma.cluster.fleet import Fleet
from diffusiongemma.serve.app import create_app
from diffusiongemma.serve.batch.asking import post
from diffusiongemma.serve.settings import Settings
from diffusiongemma.serve.transport.run import listen

KEY = "test-key"
SLOW = 120  # seconds: a machine that is used by others starts Ray in minutes


@pytest.fixture(scope="module")
def model(tiny_directory):
    return dg.load(tiny_directory)


@pytest.fixture(scope="module")
def arguments(tiny_directory):
    limits = {"max_requests": 4, "max_queue": 200, "grace": 5, "api_keys": [KEY], "max_body": 300_000}
    return {"model": str(tiny_directory), "model_name": "tiny", "replicas": 2, "replica_cpus": 1} | limits


@pytest.fixture(scope="module")
def address(arguments):
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        deploy.start_local(Fleet.of(arguments), "127.0.0.1", port)
        yield f"http://127.0.0.1:{port}"
    finally:
        deploy.stop_local()


@pytest.fixture(scope="module")
def http(address):
    with httpx.Client(base_url=address, timeout=SLOW, headers={"authorization": f"Bearer {KEY}"}) as client:
        yield client


def chat(n: int, **options):
    return {"messages": user(f"say {n}"), "seed": n, "max_tokens": 16} | options


MIXED = (
    chat,
    lambda n: chat(n, max_tokens=40, temperature=0.3),
    lambda n: chat(n, diffusion={"mode": "ar"}),
    lambda n: chat(
        n, response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}}
    ),
    lambda n: chat(n, stop=["a"], top_p=0.9),
)


def text_of(reply) -> str:
    return reply["choices"][0]["message"]["content"]


@pytest.fixture(scope="module")
def alone(model):
    """The texts of one process."""

    def texts(bodies) -> list[str]:
        app, limit = create_app(model, Settings(model_name="tiny")), asyncio.Semaphore(16)

        async def one(body):
            async with limit:
                return await post(app, "/v1/chat/completions", body)

        async def run():
            async with app.router.lifespan_context(app):
                return await asyncio.gather(*map(one, bodies))

        return [text_of(reply) for _, _, reply in asyncio.run(run())]

    return texts


def ask_all(address: str, bodies, at_once: int = 16):
    """The replies, in order."""

    async def run():
        limit = asyncio.Semaphore(at_once)
        async with httpx.AsyncClient(base_url=address, timeout=SLOW, headers={"x-api-key": KEY}) as client:

            async def one(body):
                async with limit:
                    return await client.post("/v1/chat/completions", json=body)

            return await asyncio.gather(*(one(body) for body in bodies))

    return asyncio.run(run())


def figure(http, name: str) -> float:
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def replicas() -> dict[int, Path]:
    """Processes of replicas below this one."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"ServeReplica:diffusiongemma:Replica" in (process / "cmdline").read_bytes() and _is_ours(process):
                found[int(process.name)] = process
        except OSError:
            continue
    return found


def _is_ours(process: Path) -> bool:
    number = int(process.name)
    while number not in (0, 1, os.getpid()):
        number = int((Path("/proc") / str(number) / "stat").read_text().rpartition(")")[2].split()[1])
    return number == os.getpid()


def test_openai_and_the_page_see_one_server(address, http):
    client = OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0, timeout=SLOW)
    assert [one.id for one in client.models.list()] == ["tiny"]
    reply = client.chat.completions.create(model="tiny", **chat(1))
    stream = client.chat.completions.create(model="tiny", stream=True, **chat(1))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == reply.choices[0].message.content
    assert http.get("/health").json() == {"status": "ready"}
    page = httpx.get(address)
    assert "<html" in page.text and page.headers["content-security-policy"]
    assert httpx.get(f"{address}/app.js").status_code == 200


def test_drafts_stream_through_the_proxy(http):
    events = []
    with http.stream("POST", "/v1/chat/completions", json=chat(3, stream=True, diffusion={"frames": True})) as reply:
        events = [line.removeprefix("event: ") for line in reply.iter_lines() if line.startswith("event: ")]
    assert events[0] == "start" and events[-1] == "done" and events.count("canvas") >= 1


def test_what_is_wrong_is_told_as_by_one_server(address, http):
    assert httpx.post(f"{address}/v1/chat/completions", json=chat(1)).status_code == 401
    refused = http.post("/v1/chat/completions", json=chat(1, max_tokens=-7))
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "max_tokens"
    assert http.get("/v1/nothing").status_code == 404
    large = http.post("/v1/chat/completions", json=chat(1) | {"user": "x" * 400_000})
    assert large.status_code == 413 and large.json()["error"]["code"] == "request_too_large"
    adapter = http.post("/v1/load_lora_adapter", json={"lora_name": "a", "lora_path": "/a"})
    assert adapter.status_code == 400 and "--lora" in adapter.json()["error"]["message"]


def test_two_hundred_requests_have_the_texts_of_one_process_and_are_counted(address, http, alone):
    wait_until(lambda: figure(http, "diffusiongemma_replicas") == 2, SLOW)
    name = 'diffusiongemma_requests_total{path="/v1/chat/completions",status="200"}'
    before = figure(http, name)
    bodies = [MIXED[n % len(MIXED)](n) for n in range(200)]
    replies = ask_all(address, bodies)
    assert [reply.status_code for reply in replies] == [200] * 200
    assert [text_of(reply.json()) for reply in replies] == alone(bodies)
    wait_until(lambda: figure(http, name) >= before + 200, SLOW)  # they are told once a second, so `before` may be old
    assert figure(http, name) <= before + 210


def test_a_conversation_finds_its_beginning_again(http):
    """Whichever replica the first turn went to: from the second on it is the same."""
    for n in range(4):
        messages = user(f"{n}: " + "one two three four five six seven eight nine ten " * 60)
        cached = []
        for _ in range(4):
            reply = http.post("/v1/chat/completions", json={"messages": messages, "seed": 1, "max_tokens": 8}).json()
            cached.append(reply["usage"]["prompt_tokens_details"]["cached_tokens"])
            messages += [{"role": "assistant", "content": text_of(reply) or "x"}, *user("go on")]
        assert min(cached[2:]) >= 256, cached


def test_a_client_that_leaves_frees_what_it_had(address, http):
    body = chat(1, max_tokens=3000, stream=True, diffusion={"mode": "ar"})
    with http.stream("POST", "/v1/chat/completions", json=body) as reply:
        next(reply.iter_lines())
    wait_until(lambda: figure(http, "diffusiongemma_running_requests") == 0, SLOW)


def test_a_replica_that_is_killed_loses_no_request_and_is_replaced(address, http, alone):
    before = replicas()
    assert len(before) == 2
    bodies = [chat(n, max_tokens=160) for n in range(80)]

    async def run():
        asking = asyncio.ensure_future(asyncio.to_thread(ask_all, address, bodies, 24))
        while figure_of(await asyncio.to_thread(http.get, "/metrics")) < 1:
            await asyncio.sleep(0.05)
        os.kill(next(iter(before)), signal.SIGKILL)
        return await asking

    def figure_of(reply) -> float:
        lines = reply.text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("diffusiongemma_running_requests"))

    replies = asyncio.run(run())
    assert [reply.status_code for reply in replies] == [200] * 80
    assert [text_of(reply.json()) for reply in replies] == alone(bodies)
    wait_until(lambda: len(replicas()) == 2 and len(replicas().keys() - before.keys()) == 1, SLOW)
    wait_until(lambda: figure(http, "diffusiongemma_replicas") == 2, SLOW)


def test_a_stream_that_is_torn_says_so(address, http):
    """What was being written cannot be written again: the client has seen its beginning."""
    body = chat(1, max_tokens=3000, stream=True, diffusion={"mode": "ar"})
    with http.stream("POST", "/v1/chat/completions", json=body) as reply:
        lines = reply.iter_lines()
        next(lines)
        for process in replicas():
            os.kill(process, signal.SIGKILL)
        last = [line for line in lines if line][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "unavailable"
    started = time.monotonic()
    assert http.post("/v1/chat/completions", json=chat(1)).status_code in (200, 503)
    wait_until(lambda: len(replicas()) == 2, SLOW)
    assert time.monotonic() - started < SLOW


def test_a_file_is_answered_by_two_engines_in_order_and_as_by_one(address, tiny_directory, tmp_path, alone):
    deploy.remove(deploy.NAME)  # its cores
    bodies = [chat(n) for n in range(96)]
    lines = [
        {"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": body}
        for n, body in enumerate(bodies)
    ]
    lines[7]["body"] = {"messages": "none"}
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    where = ["--ray", ray.get_runtime_context().gcs_address, "--replicas", "2", "--replica-cpus", "1"]
    command = [sys.executable, "-m", "diffusiongemma", "batch", "requests.jsonl", "answers.jsonl", *where]
    done = subprocess.run(
        [*command, "--model", tiny_directory, "--max-requests", "4"],
        cwd=tmp_path, capture_output=True, text=True, timeout=2 * SLOW,
    )  # fmt: skip
    assert done.returncode == 1 and "95 of 96 requests answered" in done.stderr, done.stderr
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [answer["custom_id"] for answer in answers] == [str(n) for n in range(96)]
    assert answers.pop(7)["response"]["status_code"] == 400
    texts = [text_of(answer["response"]["body"]) for answer in answers]
    assert texts == alone(bodies[:7] + bodies[8:])


def test_replicas_come_and_go_with_the_load(address, http, arguments, alone):
    quick = {"replicas": "1-2", "upscale_delay": 1, "downscale_delay": 3}
    deploy.run(Fleet.of(arguments | quick), deploy.NAME)
    wait_until(lambda: len(replicas()) == 1, SLOW)
    bodies, found, enough = [chat(n, max_tokens=64) for n in range(48)], list[httpx.Response](), threading.Event()

    def ask() -> None:
        while not enough.is_set():
            found.extend(ask_all(address, bodies, 24))

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: len(replicas()) == 2, SLOW)
    enough.set()
    asking.join(SLOW)
    assert [reply.status_code for reply in found] == [200] * len(found) and len(found) >= 48
    wait_until(lambda: len(replicas()) == 1, SLOW)
    assert text_of(http.post("/v1/chat/completions", json=bodies[0]).json()) == text_of(found[0].json())


def test_an_evaluation_on_two_engines_has_the_answers_of_one(address, tmp_path):
    deploy.remove(deploy.NAME)
    where = ["--ray", ray.get_runtime_context().gcs_address, "--replicas", "2", "--replica-cpus", "1"]
    command = [sys.executable, "-m", "diffusiongemma", "eval", "words", "--limit", "12", "--batch", "2"]
    ways = ["--steps", "2", "--steps", "4", "--json", "--seed", "5"]

    def run(name: str, *more: str) -> tuple[dict, list]:
        done = subprocess.run(
            [*command, *ways, "--save", name, *more], cwd=tmp_path, capture_output=True, text=True, timeout=2 * SLOW
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]

    (shared, theirs), (own, ours) = run("ray.jsonl", *where), run("one.jsonl")
    assert theirs == ours and len(ours) == 24
    took = {"seconds"}
    assert {k: v for k, v in shared.items() if k not in {*took, "runs"}} == {
        k: v for k, v in own.items() if k not in {*took, "runs"}
    }
    assert [run["steps"] for run in shared["runs"]] == [2, 4]


def test_a_rolling_restart_refuses_nothing(address, http, arguments, alone):
    """The same release, or another, in the place of the one that runs: while requests come without a pause."""
    deploy.run(Fleet.of(arguments), deploy.NAME)
    wait_until(lambda: len(replicas()) == 2, SLOW)
    before = set(replicas())
    bodies, found, enough = [chat(n, max_tokens=64) for n in range(48)], list[httpx.Response](), threading.Event()

    def ask() -> None:
        while not enough.is_set():
            found.extend(ask_all(address, bodies, 8))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        wait_until(lambda: len(found) >= 48, SLOW)
        deploy.run(Fleet.of(arguments | {"max_queue": 201}), deploy.NAME)  # another setting: all replicas are replaced
        wait_until(lambda: len(replicas()) == 2 and not before & set(replicas()), SLOW)
    finally:
        enough.set()
        asking.join(SLOW)
    assert [reply.status_code for reply in found] == [200] * len(found) and len(found) >= 96
    texts = alone(bodies)
    assert [text_of(reply.json()) for reply in found] == texts * (len(found) // 48)
