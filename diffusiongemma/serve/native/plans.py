"""Work that takes several requests, over HTTP: infilling, editing, and completions with a suffix."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response, StreamingResponse

from diffusiongemma.engine.plans.plan import Plan
from diffusiongemma.engine.request import Request
from diffusiongemma.events import CanvasCommitted, CanvasStep, Finished, Result
from diffusiongemma.serve.errors import ApiError, blaming
from diffusiongemma.serve.native.frames import FrameEncoder, commit_event, sse
from diffusiongemma.serve.service import Service, while_connected
from diffusiongemma.serve.transport.worker import Failure, Subscription


@dataclass(frozen=True)
class PlanJob:
    """A plan, and how its outcome is told: as one object, or as the chunks of a stream."""

    plan: Plan[Any]
    told: Callable[[Any, Spent], dict[str, Any]]
    chunks: Callable[[Any, Spent], list[dict[str, Any]]] | None = None  # None: the object itself is the one chunk
    stream: bool = False
    frames: bool = False


@dataclass
class Spent:
    """What a plan has taken so far, candidates included."""

    results: list[Result] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def summary(self, seed: int, steps: tuple[int, ...], written: int) -> dict[str, Any]:
        passes = sum(result.forward_passes for result in self.results)
        return {
            "mode": "diffusion",
            "seed": seed,
            "steps": list(steps),
            "forward_passes": passes,
            "tokens_per_forward": round(written / passes, 3) if passes else 0.0,
            "seconds": round(time.perf_counter() - self.started, 4),
            "note": "",
        }

    def usage(self, written: int) -> dict[str, Any]:
        """The longest prompt stands for the text that was read: a plan reads it once and again."""
        longest = max(self.results, key=lambda result: result.prompt_tokens, default=None)
        prompt, cached = (longest.prompt_tokens, longest.cached_tokens) if longest else (0, 0)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {"cached_tokens": cached},
        }


class PlanRunner:
    """Drives one plan through the worker; the engine batches its requests with those of others."""

    def __init__(self, service: Service, job: PlanJob, request_id: str):
        self.service, self.job, self.request_id = service, job, request_id
        self.spent, self.value = Spent(), None
        self.subscription: Subscription | None = None
        self._turns = 0

    async def begin(self) -> bool:
        """The first requests are made and accepted: what is wrong is known before anything is sent."""
        return await self._next(None)

    async def events(self) -> AsyncIterator[bytes]:
        """`canvas` and `commit` events until the plan has its value."""
        while self.subscription is not None:
            results: dict[int, Result] = {}
            subscription = self.subscription
            order = {request.id: index for index, request in enumerate(subscription.requests)}
            encoders = {
                r.id: FrameEncoder(self.service.texts.of, r.config.steps, order[r.id]) for r in subscription.requests
            }
            async for event in subscription.events():
                if isinstance(event, Failure):
                    raise self.service.explained(event.error, self.request_id)
                if isinstance(event, Finished):
                    results[event.request] = event.result
                elif self.job.frames and isinstance(event, CanvasStep):
                    yield sse(encoders[event.request](event) | {"turn": self._turns}, "canvas")
                elif self.job.frames and isinstance(event, CanvasCommitted):
                    told = commit_event(event, self.service.texts.of, order[event.request])
                    yield sse(told | {"turn": self._turns}, "commit")
            ordered = [results[request.id] for request in subscription.requests]
            for request, result in zip(subscription.requests, ordered, strict=True):
                await self.service.keep_trace(request, result, self.request_id)
            self.spent.results += ordered
            self._turns += 1
            await self._next(ordered)

    async def _next(self, results: list[Result] | None) -> bool:
        self.subscription = None
        requests, self.value = await self.service.prepare(_advance, self.job.plan, results)
        if requests is not None:
            requests = self.service.recorded(requests)
            self.subscription = self.service.worker.submit(requests, steps=self.job.frames, turn=self._turns)
        return self.subscription is not None

    def close(self) -> None:
        with contextlib.suppress(ValueError):  # it is at work in a thread, and is let go when that is done
            self.job.plan.close()
        if self.subscription is not None:
            self.subscription.close()


def _advance(plan: Plan[Any], results: list[Result] | None) -> tuple[list[Request] | None, Any]:
    """(the next requests, None) or (None, the plan's value)."""
    try:
        with blaming(None):
            return (next(plan) if results is None else plan.send(results)), None
    except StopIteration as stop:
        return None, stop.value


async def run_plan(service: Service, http: HttpRequest, job: PlanJob) -> Response:
    service.check_trace_room()
    runner = PlanRunner(service, job, str(http.scope.get("request_id", "")))
    await runner.begin()
    if job.stream:
        return StreamingResponse(_stream(runner), media_type="text/event-stream")
    return await while_connected(http, _whole(runner), runner)


async def _whole(runner: PlanRunner) -> Response:
    async for _ in runner.events():
        pass
    return JSONResponse(runner.job.told(runner.value, runner.spent))


async def _stream(runner: PlanRunner) -> AsyncIterator[bytes]:
    job = runner.job
    try:
        async for part in runner.events():
            yield part
        chunks = job.chunks(runner.value, runner.spent) if job.chunks else [job.told(runner.value, runner.spent)]
        for chunk in chunks:
            yield sse(chunk)
        yield sse("[DONE]")
    except ApiError as error:
        yield sse(error.body())
    finally:
        runner.close()
