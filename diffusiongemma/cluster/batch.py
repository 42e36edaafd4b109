"""Files of requests answered by many engines: Ray Data shares the lines out, an actor holds each engine."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import ray

from diffusiongemma.cluster.engine import started
from diffusiongemma.cluster.fleet import Fleet
from diffusiongemma.serve.batch.answers import AnswerFile
from diffusiongemma.serve.batch.requests import BatchRequest, RequestFile, request_of

SHARE = 4  # lines that an actor gets at a time, for each request that its engine computes at once
OVERLAP = 2  # shares in an actor at a time: while one ends, the next keeps the engine full


class Answering:
    """The actor."""

    def __init__(self, fleet: Fleet):
        self._at_once = fleet.settings.max_requests
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="answering", daemon=True).start()
        self._app, self._running = self._run(started(fleet))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Columns `line` to columns `answer`, both JSON texts: bodies have no columns in common."""
        requests = (request_of(line.encode()) for line in batch["line"])
        return {"answer": self._run(self._answers(requests))}

    async def _answers(self, requests: Iterator[BatchRequest]) -> list[str]:
        from diffusiongemma.serve.batch.asking import answer_all, urls_of

        found: list[str] = []
        await answer_all(
            self._app, urls_of(self._app), requests, lambda answer: found.append(json.dumps(answer)), self._at_once
        )
        return found

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def answer_file(fleet: Fleet, asked: RequestFile, answers: AnswerFile, step: Callable[[], None]) -> None:
    """On the cluster at hand: ask what has no answer yet; `step` is called after each. Where an actor dies, Ray has its
    lines asked again by another."""
    wanted = answers.unanswered
    lines = [{"line": json.dumps(vars(one) | {"method": "POST"})} for one in asked.read(wanted)]
    share = SHARE * fleet.settings.max_requests
    pool = ray.data.ActorPoolStrategy(
        min_size=fleet.least,
        max_size=fleet.most,
        max_tasks_in_flight_per_actor=OVERLAP,
        max_concurrent_calls_per_actor=OVERLAP,
        enable_true_multi_threading=True,
    )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    shares = ray.data.from_items(lines, override_num_blocks=-(-len(lines) // share))
    answered = shares.map_batches(
        Answering,
        fn_constructor_args=(fleet,),
        batch_size=None,  # a block
        compute=pool,
        num_cpus=fleet.cpus,
        num_gpus=fleet.gpus,
    )
    for row in answered.iter_rows():
        answers.add(json.loads(row["answer"]))
        step()
