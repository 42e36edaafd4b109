"""What the endpoints share: the model behind its worker, threads for preparing requests, and answering."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from fastapi import Request as HttpRequest
from fastapi.responses import Response
from pydantic import BaseModel

from diffusiongemma.api import DiffusionGemma
from diffusiongemma.control.compiling import CompileElsewhere, CompileJob, Outcome, compiling_elsewhere
from diffusiongemma.errors import UserError
from diffusiongemma.serve.adapters import ServedAdapters
from diffusiongemma.serve.driver import Driver, EventStream
from diffusiongemma.serve.errors import FieldOf, refused, too_busy
from diffusiongemma.serve.job import Body, Dialect, Job
from diffusiongemma.serve.kept_traces import KeptTraces
from diffusiongemma.serve.settings import Settings
from diffusiongemma.serve.token_texts import Texts
from diffusiongemma.serve.transport.compiling import Compiler
from diffusiongemma.serve.transport.connection import while_connected
from diffusiongemma.serve.transport.metrics import Metrics
from diffusiongemma.serve.transport.threads import without_helpers
from diffusiongemma.serve.transport.worker import Worker

logger = logging.getLogger("diffusiongemma.serve")
T = TypeVar("T")
PREPARING_THREADS = 2


class Service:
    def __init__(self, model: DiffusionGemma, settings: Settings):
        self.model, self.settings, self.metrics = model, settings, Metrics()
        self.worker = Worker(model, settings, self.metrics.saw)
        self.metrics.watch(self.worker)
        self.texts = Texts(model.tokenizer, model.generation.eos_token_ids, lambda: model.vocabulary)
        self.traces = KeptTraces(settings, self.texts)
        self.adapters = ServedAdapters(self)
        self._pool = ThreadPoolExecutor(PREPARING_THREADS, "prepare", without_helpers)
        self._compiler = Compiler()
        self._preparing = 0

    def name_of(self, model: str | None) -> str:
        """What a reply calls the model that a request named."""
        return self.adapters.of(model) or self.settings.model_name

    def close(self) -> None:
        self._compiler.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def answer(self, http: HttpRequest, dialect: Dialect[Body], body: Body) -> BaseModel | Response:
        """The reply to a body, or the stream of it. A client that leaves, even while its request is being prepared,
        frees all that it had. Raises `ApiError`."""
        return await while_connected(http, self._answer(dialect, body, str(http.scope.get("request_id", ""))))

    async def _answer(self, dialect: Dialect[Body], body: Body, request_id: str) -> BaseModel | Response:
        self.traces.check_room()
        field_of = dialect.field_of(body)
        job, compiled_in = await self._prepared(field_of, partial(dialect.job, body, self))
        self._log_prompt(job, request_id)
        requests = [replace(request, compiled_in=compiled_in) for request in job.requests]
        job = replace(job, requests=requests, adapter=self.adapters.of(getattr(body, "model", None)))
        driver = Driver(self, job, field_of, request_id)
        if job.stream:
            return EventStream(driver)
        try:
            return await driver.reply()
        finally:
            driver.close()

    async def prepare(self, field_of: FieldOf, work: Callable[..., T], *arguments: Any) -> T:
        """Run what may take long (tokenising, images) beside the event loop.

        A constraint that it needs is compiled in a process of its own meanwhile, and the work done again with the
        outcome: plain requests never wait for it.

        A user's mistake is answered with 400 and the field that `field_of` gives for its option. The caller is
        cancelled when the client goes.
        """
        return (await self._prepared(field_of, partial(work, *arguments)))[0]

    async def _prepared(self, field_of: FieldOf, work: Callable[[], T]) -> tuple[T, float]:
        """The same, with the seconds of processor time that constraints took to compile."""
        self.worker.check_alive()
        if self._preparing >= self.settings.max_requests + self.settings.max_queue:
            raise too_busy(f"{self._preparing} requests are being prepared: try again soon")
        self._preparing += 1
        try:
            return await self._with_constraints(work)
        except UserError as error:
            raise refused(error, field_of) from error
        finally:
            self._preparing -= 1

    async def _with_constraints(self, work: Callable[[], T]) -> tuple[T, float]:
        outcomes: dict[CompileJob, Outcome] = {}
        compiled_in = 0.0

        def prepared() -> T:
            with compiling_elsewhere(outcomes):
                return work()

        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._pool, prepared), compiled_in
            except CompileElsewhere as needed:
                outcomes[needed.job], seconds = await self._compiler.outcome(needed.job)
                compiled_in += seconds

    def _log_prompt(self, job: Job, request_id: str) -> None:
        if self.settings.log_prompts and job.requests:
            prompt = self.texts.written(job.requests[0].prompt.ids)
            logger.info("prompt", extra={"request_id": request_id, "prompt": prompt})
