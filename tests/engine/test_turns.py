"""Who takes part in a step: requests whose constraint took long to compile let others go first."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

import diffusiongemma as dg
from diffusiongemma.engine.engine import Engine
from diffusiongemma.engine.turns import EVERY, TIMES, count_waiting, taking_part
from diffusiongemma.events import CanvasStep, Finished
from diffusiongemma.serve import service as service_module
from diffusiongemma.serve.job import Dialect
from diffusiongemma.serve.openai.bodies import ChatRequest
from diffusiongemma.serve.openai.chat import chat_fields, chat_job
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.settings import Settings
from diffusiongemma.serve.transport import compiling
from diffusiongemma.serve.transport.compiling_process import CPU_SECONDS


class Asked:
    def __init__(self, defers=0.0):
        self.request = SimpleNamespace(compiled_in=defers / TIMES)
        self.waited, self.sat_out = 0.0, 0


def steps(running, count, seconds=0.1):
    """Who takes part in so many steps."""
    shown = []
    for _ in range(count):
        part = taking_part(running)
        shown.append([i for i, g in enumerate(running) if any(g is one for one in part)])
        count_waiting(running, part, seconds)
    return shown


def test_one_that_defers_takes_part_in_few_steps_of_others_until_it_has_waited():
    alone = EVERY - 1
    assert steps([Asked(), Asked(0.35)], 6) == [[0]] * alone + [[0, 1], [0], [0, 1]]


@pytest.mark.parametrize("count", [2, 6])
def test_those_that_defer_take_turns(count):
    shown = steps([Asked(), *(Asked(99.0) for _ in range(count))], 4 * 2 * EVERY)
    assert all(0 in part and len(part) <= 2 for part in shown)
    taken = [sum(who in part for part in shown) for who in range(1, count + 1)]
    assert max(taken) - min(taken) <= 1 and sum(taken) >= 4 * 2


@pytest.mark.parametrize("owed", [0.0, 5.0])
def test_alike_all_go_on(owed):
    running = [Asked(owed), Asked(owed)]
    assert steps(running, 3) == [[0, 1]] * 3
    assert all(g.waited == 0 for g in running)


@pytest.fixture(scope="module")
def model(tiny_directory):
    return dg.load(tiny_directory)


def test_answers_are_the_same_and_the_others_come_first(model):
    asked = [model.request(text, seed=seed, max_new_tokens=8, eos_token_ids=()) for seed, text in enumerate("ab")]
    alone = [Engine(model.network, model.tokenizer).results([request])[0] for request in asked]
    requests = [replace(asked[0], id=0, compiled_in=60.0 / TIMES), replace(asked[1], id=1)]
    events = list(Engine(model.network, model.tokenizer).run(requests))
    finished = [e for e in events if isinstance(e, Finished)]
    assert [e.request for e in finished] == [1, 0]
    assert [e.result.tokens for e in finished] == [alone[1].tokens, alone[0].tokens]
    began = [e.request for e in events if isinstance(e, CanvasStep)]
    assert began.count(1) >= EVERY and 0 not in began[: EVERY - 1]


@pytest.mark.skipif(not compiling.FORKS, reason="processes can't be forked here")
def test_a_request_defers_for_what_its_constraint_took_to_compile(model, monkeypatch):
    """And not where it was compiled before."""
    service, jobs = Service(model, Settings(model_name="m")), []
    service.worker.check_alive = lambda: None
    reply = SimpleNamespace(reply=lambda: asyncio.sleep(0), close=lambda: None)
    monkeypatch.setattr(service_module, "Driver", lambda service, job, *rest: jobs.append(job) or reply)
    dialect = Dialect(chat_job, chat_fields)
    message = [{"role": "user", "content": "x"}]
    bodies = [
        ChatRequest(messages=message, max_tokens=8, diffusion=asked)
        for asked in ({}, {"regex": "[a-f]{9}x?"}, {"regex": "[a-f]{9}x?"})
    ]
    try:
        for body in bodies:
            asyncio.run(service._answer(dialect, body, "id"))
    finally:
        service.close()
    took = [job.requests[0].compiled_in for job in jobs]
    assert took[0] == took[2] == 0 and 0 < took[1] < CPU_SECONDS
