"""Constraints compiled in processes of their own: the same outcome, or a refusal in time, and nobody else waits."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

import diffusiongemma as dg
from diffusiongemma.control.compiling import CompileElsewhere, CompileJob, compiled, compiling_elsewhere
from diffusiongemma.control.constraint import Constraint
from diffusiongemma.control.structure import Structure
from diffusiongemma.errors import InputError
from diffusiongemma.serve.openai.bodies import ChatRequest
from diffusiongemma.serve.openai.chat import chat_fields, chat_job
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.settings import Settings
from diffusiongemma.serve.transport import compiling, compiling_process

pytestmark = pytest.mark.skipif(not compiling.FORKS, reason="processes can't be forked here")
PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "born": {"type": "string", "format": "date"}}}
MESSAGES = [{"role": "user", "content": "x"}]
LONG = Structure(regex="(a?){4000}a{4000}")  # many seconds


@pytest.fixture(scope="module")
def model(tiny_directory):
    return dg.load(tiny_directory)


@pytest.fixture
def compiler():
    made = compiling.Compiler()
    yield made
    made.close()


def job(model, structure):
    return CompileJob.of(structure, model.vocabulary, [1, 5])


def test_the_outcome_is_that_of_compiling_here(model, compiler):
    wanted = job(model, Structure(json_schema=json.dumps(PERSON), banned_words=("x",)))
    (found, seconds), here = asyncio.run(compiler.outcome(wanted)), wanted.run()
    assert isinstance(found, Constraint) and 0 < seconds < 10
    for part in ("automaton", "bundles"):
        ours, theirs = vars(getattr(here, part)), vars(getattr(found, part))
        for name in (name for name, value in ours.items() if isinstance(value, np.ndarray)):
            assert np.array_equal(ours[name], theirs[name]), name


def test_a_mistake_comes_back_as_it_is(model, compiler):
    error, _ = asyncio.run(compiler.outcome(job(model, Structure(regex="("))))
    assert (
        isinstance(error, InputError) and error.option == "regex" and str(error).startswith("regex is '(': it is not")
    )


def test_what_takes_long_is_refused_and_named(model, compiler):
    outcome, _ = asyncio.run(compiler.outcome(job(model, LONG)))
    assert isinstance(outcome, InputError)
    assert outcome.option == "regex" and "{4000}" in outcome.message


def test_a_job_that_nobody_waits_for_ends(model, compiler, monkeypatch):
    pids = []
    kill = os.kill
    monkeypatch.setattr(os, "kill", lambda pid, number: (pids.append(pid), kill(pid, number)))

    async def leave():
        waiting = asyncio.create_task(compiler.outcome(job(model, Structure(regex="a"))))
        await waiting  # the process is ready now
        pids.clear()
        waiting = asyncio.create_task(compiler.outcome(job(model, LONG)))
        await asyncio.sleep(0.3)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(leave())
    (pid,) = pids
    assert _ends(pid)


def _ends(pid):
    """Soon, on a busy machine too."""
    deadline = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not _runs(pid)


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_nobody_waits_for_the_constraints_of_others(model):
    """More long jobs than there are threads for preparing, and plain work is done before the first of them."""
    service = Service(model, Settings(model_name="m"))
    service.worker.check_alive = lambda: None
    done = []

    async def note(name, coroutine):
        try:
            await coroutine
        except Exception as error:
            done.append((name, error))
        else:
            done.append((name, None))

    async def all_at_once():
        structures = [{"regex": rf".*a.{{1{i}}}"} for i in range(2, 6)]
        bodies = [ChatRequest(messages=MESSAGES, max_tokens=8, diffusion=structure) for structure in structures]
        jobs = [service.prepare(chat_fields(body), chat_job, body, service) for body in bodies]
        long = [asyncio.create_task(note("long", one)) for one in jobs]
        await asyncio.sleep(0.1)
        plain = ChatRequest(messages=MESSAGES, max_tokens=8)
        for _ in range(3):
            await note("plain", service.prepare(chat_fields(plain), chat_job, plain, service))
        await asyncio.gather(*long)

    asyncio.run(all_at_once())
    service.close()
    assert [name for name, _ in done] == ["plain"] * 3 + ["long"] * 4
    for name, error in done:
        assert error is None if name == "plain" else (error.status, error.param) == (400, "diffusion.regex"), error


def test_elsewhere_nothing_is_compiled_here(model):
    wanted = job(model, Structure(regex="only here [0-9]"))
    with compiling_elsewhere({}), pytest.raises(CompileElsewhere) as caught:
        compiled(wanted)
    assert caught.value.job == wanted
    with compiling_elsewhere({wanted: (outcome := wanted.run())}):
        assert compiled(wanted) is outcome
    assert compiled(wanted) is outcome, "it is kept"


def test_one_vocabulary_serves_all(model, monkeypatch):
    """Forced tool calls, structures, infilling: none builds the vocabulary again."""
    from diffusiongemma.control.tokens.vocabulary import Vocabulary

    first, made = model.vocabulary, []
    monkeypatch.setattr(Vocabulary, "__init__", lambda self, token_bytes: made.append(token_bytes))
    tools = [{"type": "function", "function": {"name": "f", "parameters": PERSON}}]
    body = ChatRequest(messages=MESSAGES, max_tokens=32, tools=tools, tool_choice="required")
    service = Service(model, Settings(model_name="m"))
    for _ in range(2):
        chat_job(body, service)
    service.close()
    model.request("x", regex="a", max_new_tokens=8)
    assert model._text_tokens.vocabulary is first is model.vocabulary and made == []


WORK = """
import os, socket, sys, threading, time
from diffusiongemma.errors import InputError
from diffusiongemma.serve.transport import compiling_process

left, began = [], os.getpriority(os.PRIO_PROCESS, 0)

def run(job):
    if job == "spin":
        end = time.process_time() + 3 * compiling_process.NICE_AFTER
        while time.process_time() < end:
            sum(range(10_000))
        time.sleep(0.1)  # time for the other thread to notice
    if job in ("spin", "rank"):
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id() if sys.platform == "linux" else 0) - began
    if job == "leave":
        left.append(bytearray(2 * compiling_process.MOST_LEFT))
    if job == "too much":
        left.append(bytearray(2 * compiling_process.MOST_BYTES))
    if job == "mistake":
        raise InputError("a mistake")
    return job

compiling_process.work(socket.socket(fileno=int(sys.argv[1])), run)
"""


@pytest.fixture
def worker():
    """What the other side of a worker's socket hears after each of some jobs."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env=os.environ | compiling.FRUGAL,
    )
    theirs.close()
    assert compiling_process.receive(ours) == process.pid

    def answer(job):
        compiling_process.send(ours, job)
        outcome, stays, seconds = compiling_process.receive(ours)
        assert seconds >= 0
        return outcome, stays

    yield answer
    ours.close()
    assert process.wait(timeout=10) == 0


def test_a_worker_does_one_job_after_another(worker):
    assert worker("a") == ("a", True)
    outcome, stays = worker("mistake")
    assert isinstance(outcome, InputError) and stays
    assert worker("b") == ("b", True)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is not counted")
def test_a_worker_ends_with_what_left_memory(worker):
    assert worker("leave") == ("leave", False)
    with pytest.raises((EOFError, ConnectionError)):
        worker("a")


def test_what_takes_long_is_made_nice_and_the_next_job_is_not(worker):
    for_good = sys.platform != "linux"
    assert worker("rank") == (0, True)
    assert worker("spin") == (compiling_process.NICENESS, not for_good)
    if not for_good:
        assert worker("rank") == (0, True)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_a_worker_ends_without_an_outcome_where_memory_ends(worker):
    with pytest.raises((EOFError, ConnectionError)):
        worker("too much")


def test_small_jobs_share_a_process_and_a_stopped_one_is_replaced(model, compiler, monkeypatch):
    pids = []
    begins = compiling._Running._begins_in
    monkeypatch.setattr(compiling._Running, "_begins_in", lambda self, pid: (pids.append(pid), begins(self, pid))[1])
    structures = [Structure(regex="a{1}"), Structure(regex="a{2}"), LONG, Structure(regex="a{3}")]
    outcomes = [asyncio.run(compiler.outcome(job(model, structure))) for structure in structures]
    assert [isinstance(outcome, Constraint) for outcome, _ in outcomes] == [True, True, False, True]
    first, second, long, after = pids
    assert first == second == long != after
    assert _ends(long) and _runs(after)
