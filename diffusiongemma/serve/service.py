"""What the endpoints share: the model behind its worker, threads for preparing requests, and answering."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response, StreamingResponse

from diffusiongemma.api import DiffusionGemma
from diffusiongemma.engine.request import Request
from diffusiongemma.errors import UserError
from diffusiongemma.events import CanvasCommitted, CanvasStep, Finished, Result
from diffusiongemma.recording import save_trace
from diffusiongemma.serve.answers import Answer, Piece, Wanted, usage
from diffusiongemma.serve.errors import ApiError, broken, too_busy, unavailable
from diffusiongemma.serve.native.frames import FrameEncoder, commit_event, done_event, sse
from diffusiongemma.serve.openai.styles import Style
from diffusiongemma.serve.settings import MIB, Settings
from diffusiongemma.serve.token_texts import Texts
from diffusiongemma.serve.transport.metrics import Metrics
from diffusiongemma.serve.transport.threads import without_helpers
from diffusiongemma.serve.transport.worker import Failure, Subscription, Worker

logger = logging.getLogger("diffusiongemma.serve")
T = TypeVar("T")
PREPARING_THREADS = 2
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # in what torch raises, on a GPU and on a CPU
TRACE_ROOM = MIB  # bytes that must be free before a request whose trace is kept


@dataclass(frozen=True)
class Job:
    """One HTTP call, ready to run: a request per choice."""

    requests: list[Request]
    wanted: Wanted
    style: Style
    # Which of the requests count their prompt in the usage: choices of one prompt share it.
    prompts: tuple[int, ...] = (0,)


class Service:
    def __init__(self, model: DiffusionGemma, settings: Settings):
        self.model, self.settings, self.metrics = model, settings, Metrics()
        self.worker = Worker(model, settings, self.metrics.saw)
        self.metrics.watch(self.worker)
        self.texts = Texts(model.tokenizer, model.generation.eos_token_ids)
        self._pool = ThreadPoolExecutor(PREPARING_THREADS, "prepare", without_helpers)
        self._preparing = 0

    async def prepare(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run what may take long (tokenising, images, compiling a constraint) beside the event loop."""
        self.worker.check_alive()
        if self._preparing >= self.settings.max_requests + self.settings.max_queue:
            raise too_busy(f"{self._preparing} requests are being prepared: try again soon")
        self._preparing += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        finally:
            self._preparing -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    # Answering.

    async def answer(self, http: HttpRequest, job: Job) -> Response:
        self.check_trace_room()
        subscription = self.worker.submit(self.recorded(job.requests), steps=job.wanted.frames)
        request_id = str(http.scope.get("request_id", ""))
        if self.settings.log_prompts:
            prompt = self.texts.written(subscription.requests[0].prompt.ids)
            logger.info("prompt", extra={"request_id": request_id, "prompt": prompt})
        if job.wanted.stream:
            return StreamingResponse(self._stream(subscription, job, request_id), media_type="text/event-stream")
        return await while_connected(http, self._whole(subscription, job, request_id), subscription)

    async def _whole(self, subscription: Subscription, job: Job, request_id: str) -> Response:
        answers = self._answers(subscription, job.wanted)
        async for event in subscription.events():
            if isinstance(event, Failure):
                subscription.close()
                raise self.explained(event.error, request_id)
            self._take(subscription, answers[event.request], event)
        results = [_result(answer) for answer in answers.values()]
        for request, result in zip(subscription.requests, results, strict=True):
            await self.keep_trace(request, result, request_id)
        return JSONResponse(job.style.whole(list(answers.values()), usage(results, list(job.prompts))))

    async def _stream(self, subscription: Subscription, job: Job, request_id: str) -> AsyncIterator[bytes]:
        try:
            async for part in self._parts(subscription, job, request_id):
                yield part
        except ApiError as error:
            yield sse(error.body())
        finally:
            subscription.close()

    async def _parts(self, subscription: Subscription, job: Job, request_id: str) -> AsyncIterator[bytes]:
        style, wanted = job.style, job.wanted
        answers = self._answers(subscription, wanted)
        order = {request.id: index for index, request in enumerate(subscription.requests)}
        encoders = {
            r.id: FrameEncoder(self.texts.of, r.config.steps, order[r.id]) for r in subscription.requests
        }  # fmt: skip
        if wanted.frames:
            yield sse(self._start_event(subscription.requests[0], request_id), "start")
        for index in order.values():
            if (first := style.first_chunk(index)) is not None:
                yield sse(first)
        async for event in subscription.events():
            if isinstance(event, Failure):
                raise self.explained(event.error, request_id)
            index, answer = order[event.request], answers[event.request]
            if isinstance(event, CanvasStep):
                yield sse(encoders[event.request](event), "canvas")
                continue
            if wanted.frames and isinstance(event, CanvasCommitted):
                yield sse(commit_event(event, self.texts.of, index), "commit")
            piece = self._take(subscription, answer, event)
            if _worth_sending(piece, wanted):
                yield sse(style.chunk(index, piece, answer))
            if isinstance(event, Finished):
                await self.keep_trace(subscription.requests[index], event.result, request_id)
                yield sse(style.last_chunk(index, answer))
                if wanted.frames:
                    yield sse(done_event(event.result, str(answer.finish_reason), index), "done")
        if wanted.usage:
            yield sse(style.usage_chunk(usage([_result(a) for a in answers.values()], list(job.prompts))))
        yield sse("[DONE]")

    def _answers(self, subscription: Subscription, wanted: Wanted) -> dict[int, Answer]:
        return {request.id: Answer(wanted, self.texts) for request in subscription.requests}

    def _take(self, subscription: Subscription, answer: Answer, event: Any) -> Piece:
        piece = answer.take(event)
        if piece.text or piece.thinking:
            self.metrics.first_text(subscription)
        if isinstance(event, Finished) and event.result.mode == "diffusion":
            self.model.auto.saw(event.result.steps)
        if answer.stopped and answer.result is None:
            subscription.cancel(event.request)
        return piece

    def _start_event(self, request: Request, request_id: str) -> dict[str, Any]:
        vocab_size = self.model.config.vocab_size
        return {
            "v": 1,
            "request": request_id,
            "model": self.settings.model_name,
            "mode": request.config.mode,
            "seed": request.config.seed,
            "canvas_length": self.model.config.canvas_length,
            "steps": request.config.steps,
            "vocab_size": vocab_size,
            "prompt_tokens": len(request.prompt.ids),
            "end_tokens": [self.texts.of(token) for token in request.config.eos_token_ids if token < vocab_size],
        }

    def explained(self, error: Exception, request_id: str) -> ApiError:
        """What the client is told when the engine gave a request up; a bug goes to the log."""
        if isinstance(error, ApiError):
            return error
        if isinstance(error, MemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY):
            return unavailable("the machine is out of memory: try again, or ask for less")
        logger.error("request failed", exc_info=error, extra={"request_id": request_id})
        return broken(request_id)

    # Traces.

    def check_trace_room(self) -> None:
        folder = self.settings.trace_dir
        if folder is None:
            return
        try:
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise ApiError(507, f"traces cannot be kept: {error.strerror}") from error
        if free < TRACE_ROOM:
            raise ApiError(507, "the disk for traces is full: free some space or start the server without --trace-dir")

    def recorded(self, requests: list[Request]) -> list[Request]:
        if self.settings.trace_dir is None:
            return requests
        return [replace(request, record=True) for request in requests]

    async def keep_trace(self, request: Request, result: Result, request_id: str) -> None:
        """With `--trace-dir`, write the trace; a disk that does not take it fails this request with 507."""
        folder = self.settings.trace_dir
        if folder is None:
            return
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{request_id or 'request'}-{request.id}.npz"
        prompt = self.texts.written(request.prompt.ids)
        write = partial(
            save_trace,
            path,
            result,
            prompt=prompt,
            prompt_ids=request.prompt.ids,
            model=self.settings.model_name,
            config=request.config,
            text_of=self.texts.of,
            complete=request.plain,
        )
        try:
            await asyncio.to_thread(write)
        except UserError as error:
            raise ApiError(507, str(error)) from error


def _worth_sending(piece: Piece, wanted: Wanted) -> bool:
    return bool(piece.text or piece.thinking or (wanted.logprobs and piece.tokens))


def _result(answer: Answer) -> Result:
    assert answer.result is not None
    return answer.result


class Closable(Protocol):
    def close(self) -> None: ...


async def while_connected(http: HttpRequest, work: Awaitable[Response], running: Closable) -> Response:
    """The outcome of `work`, which is given up when the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(http))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return Response(status_code=499)  # nobody reads it
    finally:
        running.close()
        for waiting in (task, gone):
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await waiting


async def _disconnected(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
