"""Runs a job: the turns of its plan through the worker, its events to the dialect, its traces to the disk."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from diffusiongemma.engine.request import Request
from diffusiongemma.events import CanvasCommitted, CanvasStep, Event, Finished, Result
from diffusiongemma.serve.errors import ApiError, FieldOf, explained
from diffusiongemma.serve.job import Job, Piece, advance
from diffusiongemma.serve.native.frames import FrameEncoder, commit_event, done_event, start_event
from diffusiongemma.serve.native.summary import Spent
from diffusiongemma.serve.transport.sse import sse
from diffusiongemma.serve.transport.worker import Failure, Subscription

if TYPE_CHECKING:
    from diffusiongemma.serve.service import Service


class Driver:
    """One job on its way. Made when the requests of the first turn are accepted; raises the `ApiError` that says why
    they are not."""

    def __init__(self, service: Service, job: Job, field_of: FieldOf, request_id: str):
        self.service, self.job, self.field_of, self.request_id = service, job, field_of, request_id
        self.spent, self.value, self.turn = Spent(), job.value, 0
        self.subscription: Subscription | None = self._submit(job.requests) if job.requests else None

    async def reply(self) -> BaseModel:
        """The whole reply."""
        async for index, event in self._events():
            self._take(index, event)
        return self.job.output.reply(self.value, self.spent)

    async def stream(self) -> AsyncIterator[bytes]:
        """The reply in chunks; what breaks is told in the last one."""
        try:
            async for chunk in self._chunks():
                yield chunk
        except ApiError as error:
            yield self.job.output.error(error)
        finally:
            self.close()

    def close(self) -> None:
        """Nobody listens any more: let go of all that runs."""
        if self.job.plan is not None:
            with contextlib.suppress(ValueError):  # it is at work in a thread, and is let go when that is done
                self.job.plan.close()
        if self.subscription is not None:
            self.subscription.close()

    async def _chunks(self) -> AsyncIterator[bytes]:
        output, frames = self.job.output, Frames(self.service, self.job)
        if self.job.frames and self.job.plan is None:
            assert self.subscription is not None
            yield frames.start(self.subscription.requests[0], self.request_id)
        for chunk in output.opening():
            yield chunk
        async for index, event in self._events():
            piece = self._take(index, event)
            if self.job.frames:
                assert self.subscription is not None
                for chunk in frames.of(self.turn, index, self.subscription.requests[index], event):
                    yield chunk
            for chunk in output.chunks(index, event, piece):
                yield chunk
            if self.job.frames and isinstance(event, Finished) and self.job.plan is None:
                yield sse(done_event(event.result, output.finish_reason(index), index), "done")
        for chunk in output.closing(self.value, self.spent):
            yield chunk

    async def _events(self) -> AsyncIterator[tuple[int, Event]]:
        """The events of all turns, each with the place of its request in the turn."""
        while self.subscription is not None:
            requests, results = self.subscription.requests, dict[int, Result]()
            places = {request.id: index for index, request in enumerate(requests)}
            async for event in self.subscription.events():
                if isinstance(event, Failure):
                    raise explained(event.error, self.field_of, self.request_id)
                index = places[event.request]
                if isinstance(event, Finished):
                    results[index] = event.result
                    await self.service.traces.keep(requests[index], event.result, self.request_id)
                yield index, event
            await self._next([results[index] for index in range(len(requests))])

    async def _next(self, results: list[Result]) -> None:
        self.spent.results += results
        self.turn += 1
        self.subscription, plan = None, self.job.plan
        if plan is None:
            self.value = results
            return
        requests, self.value = await self.service.prepare(self.field_of, advance, plan, results)
        if requests is not None:
            self.subscription = self._submit(requests)

    def _submit(self, requests: list[Request]) -> Subscription:
        turn = None if self.job.plan is None else self.turn
        requests = [replace(request, adapter=self.job.adapter) for request in self.service.traces.recorded(requests)]
        return self.service.worker.submit(requests, steps=bool(self.job.frames), turn=turn)

    def _take(self, index: int, event: Event) -> Piece:
        output, subscription = self.job.output, self.subscription
        piece = output.take(index, event)
        assert subscription is not None
        if piece.text or piece.thinking:
            self.service.metrics.first_text(subscription)
        if not isinstance(event, Finished):
            if output.is_over(index):
                subscription.cancel(event.request)
        elif self.job.plan is None and event.result.mode == "diffusion":
            self.service.model.auto.saw(event.result)
        return piece


class Frames:
    """The events of docs/protocol.md that go out beside a dialect's own chunks."""

    def __init__(self, service: Service, job: Job):
        self.service, self.is_plan, self.with_noise = service, job.plan is not None, job.frames == "noise"
        self._encoders: dict[int, FrameEncoder] = {}

    def start(self, request: Request, request_id: str) -> bytes:
        name, config = self.service.settings.model_name, self.service.model.config
        return sse(start_event(request, request_id, name, config, self.service.texts.of), "start")

    def of(self, turn: int, index: int, request: Request, event: Event) -> Iterable[bytes]:
        """What goes out before the dialect's chunks for the same event."""
        text_of, place = self.service.texts.of, {"turn": turn} if self.is_plan else {}
        if isinstance(event, CanvasStep):
            if request.id not in self._encoders:
                self._encoders[request.id] = FrameEncoder(text_of, request.config.steps, index)
            encode = self._encoders[request.id]
            if self.with_noise and (noise := encode.noise(event)) is not None:
                yield sse(noise | place, "canvas")
            yield sse(encode(event) | place, "canvas")
        elif isinstance(event, CanvasCommitted):
            yield sse(commit_event(event, text_of, index) | place, "commit")


class EventStream(StreamingResponse):
    """A stream that lets go of its job even where the client left before it began."""

    def __init__(self, driver: Driver):
        super().__init__(driver.stream(), media_type=driver.job.output.media_type)
        self._driver = driver

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._driver.close()
