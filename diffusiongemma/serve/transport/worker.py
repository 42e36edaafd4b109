"""The thread that owns the model, and the side of it that the web server's event loop sees."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from diffusiongemma.api import DiffusionGemma
from diffusiongemma.engine.engine import Engine
from diffusiongemma.engine.memory import cache_budget, give_back
from diffusiongemma.engine.prefixes import Prefixes
from diffusiongemma.engine.request import Request
from diffusiongemma.errors import InputError
from diffusiongemma.events import CanvasStep, Event, Finished, Result
from diffusiongemma.serve.errors import refusal, too_busy, unavailable
from diffusiongemma.serve.settings import MIB, Settings

logger = logging.getLogger("diffusiongemma.serve")
PAUSE = 1.0  # seconds without work after which memory goes back to the system
STOPPING = "the server is being stopped: try again when it is back"


@dataclass(frozen=True)
class Failure:
    """A request that ended without a result."""

    error: Exception
    request: int = 0


WorkerEvent = Event | Failure


class Subscription:
    """The events of the requests of one HTTP call, as they come. Used in the event loop only."""

    def __init__(self, worker: Worker, requests: list[Request]):
        self._worker, self.requests = worker, requests
        self.open = {request.id for request in requests}
        self._queue: asyncio.Queue[list[WorkerEvent]] = asyncio.Queue()
        self.submitted, self.texted = time.perf_counter(), False

    async def events(self) -> Any:
        """All events until the last request has ended."""
        while self.open or not self._queue.empty():
            for event in await self._queue.get():
                yield event

    def cancel(self, request_id: int) -> None:
        """End a request early; its `Finished` carries what it had."""
        if request_id in self.open:
            self._worker.tell(_Cancel(request_id))

    def close(self) -> None:
        """Nobody listens any more: end what still runs."""
        for request_id in list(self.open):
            self.cancel(request_id)

    def deliver(self, events: list[WorkerEvent]) -> None:
        self.open -= {event.request for event in events if isinstance(event, Finished | Failure)}
        self._queue.put_nowait(events)


@dataclass(frozen=True)
class _Submit:
    requests: list[Request]


@dataclass(frozen=True)
class _Cancel:
    request_id: int


@dataclass
class _Load:
    """What has been accepted and not finished."""

    tokens: dict[int, int] = field(default_factory=dict)  # per request, prompt and answer

    @property
    def total(self) -> int:
        return sum(self.tokens.values())


class Worker:
    """Owns an `Engine` in a thread of its own. All methods but `_run` and what it calls belong to the event loop."""

    def __init__(
        self, model: DiffusionGemma, settings: Settings, observe: Callable[[WorkerEvent], None] = lambda _: None
    ):
        self.model, self.settings, self._observe = model, settings, observe
        self.budget = cache_budget(model.network) if settings.memory is None else settings.memory
        prefixes = Prefixes(model.network, int(self.budget * settings.prefix_share))
        self.engine = Engine(
            model.network, model.tokenizer, settings.max_requests, budget=self.budget, prefixes=prefixes, isolate=True
        )
        self.ready = threading.Event()
        self.stopping, self.dead = False, False
        self._load = _Load()
        self._subscriptions: dict[int, Subscription] = {}
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._watched: set[int] = set()  # requests whose every step is delivered; the thread's own
        self._ids = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cores = torch.get_num_threads()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    # Seen from the event loop.

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    @property
    def accepted(self) -> int:
        """Requests running and waiting."""
        return len(self._subscriptions)

    @property
    def running(self) -> int:
        return len(self.engine.running)

    def submit(self, requests: list[Request], steps: bool = False, turn: int | None = None) -> Subscription:
        """Accept requests, or raise the `ApiError` that says why not. `steps`: also deliver every `CanvasStep`.

        `turn` counts the turns of a plan, whose requests take one place in the queue together, and keep it.
        """
        self._admit(requests, turn)
        requests = [replace(request, id=next(self._ids), frames=steps) for request in requests]
        subscription = Subscription(self, requests)
        for request in requests:
            self._subscriptions[request.id] = subscription
            self._load.tokens[request.id] = _tokens(request)
        self.tell(_Submit(requests))
        return subscription

    def _admit(self, requests: list[Request], turn: int | None) -> None:
        self.check_alive()
        most = self.settings.max_requests + self.settings.max_queue
        tokens, count = sum(_tokens(request) for request in requests), len(requests) if turn is None else 1
        if count > most or tokens > self.settings.max_tokens:
            raise refusal("this is more than the server takes at all: ask for less", None, "request_too_large")
        needed = max(self.engine.bytes_of(request) for request in requests)
        if needed > self.budget:
            message = f"the caches would take {needed / MIB:,.0f} MiB, there are {self.budget / MIB:,.0f}"
            raise refusal(f"{message}: shorten the prompt or ask for fewer tokens", None, "request_too_large")
        if turn:
            return  # what has been begun is finished
        if self.accepted + count > most:
            raise too_busy(f"{self.accepted} requests are running and waiting, the most is {most}: try again soon")
        if self._load.total + tokens > self.settings.max_tokens:
            raise too_busy(f"the server works on {self._load.total:,} tokens already: try again soon")

    def check_alive(self) -> None:
        """Raises the 503 that is due when the server stops or its model is gone."""
        if self.dead:
            raise unavailable("the model has stopped working: the server must be started anew")
        if self.stopping:
            raise unavailable(STOPPING)

    def tell(self, message: Any) -> None:
        self._inbox.put(message)

    async def stop(self) -> None:
        """Take no more requests and wait for the running ones, at most `grace` seconds."""
        self.stopping = True
        self.tell("drain")
        deadline = time.monotonic() + self.settings.grace
        while self._subscriptions and not self.dead and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        self.tell("quit")
        await asyncio.to_thread(self._thread.join, 5)
        self._fail_all(STOPPING)

    def _deliver(self, events: list[WorkerEvent]) -> None:
        """In the event loop: hand events to whom they belong."""
        by_subscription: dict[Subscription, list[WorkerEvent]] = defaultdict(list)
        for event in events:
            subscription = self._subscriptions.get(event.request)
            if subscription is None:
                continue
            if isinstance(event, Finished | Failure):
                del self._subscriptions[event.request], self._load.tokens[event.request]
            if not isinstance(event, CanvasStep):
                self._observe(event)
            by_subscription[subscription].append(event)
        for subscription, theirs in by_subscription.items():
            subscription.deliver(theirs)

    def _died(self) -> None:
        self.dead = True
        self._fail_all("the model has stopped working: the server must be started anew")

    def _fail_all(self, message: str) -> None:
        self._deliver([Failure(unavailable(message), request) for request in list(self._subscriptions)])

    # In the thread.

    def _run(self) -> None:
        torch.set_num_threads(self._cores)  # threads that prepare requests have changed what a new one gets
        try:
            self._warm_up()
            self.ready.set()
            while self._take_messages():
                self._hand_over(self.engine.step())
        except BaseException:
            logger.exception("the engine's thread died")
            self._call(self._died)

    def _warm_up(self) -> None:
        """The model must answer once before the server calls itself ready; `auto` measures both modes meanwhile."""
        self.model.auto.choose(self.model.generation)
        self.model.generate([self.model.generation.eos_token_ids[0]], steps=1, max_new_tokens=1)

    def _take_messages(self) -> bool:
        """What the event loop asks for; waits while there is nothing to do. False ends the thread."""
        while True:
            try:
                message = self._inbox.get_nowait() if self.engine.busy else self._wait()
            except queue.Empty:
                return True
            if message == "quit":
                return False
            self._hand_over(list(self._handle(message)))

    def _wait(self) -> Any:
        """The next message, however long it takes; a pause is used to tidy up."""
        try:
            return self._inbox.get(timeout=PAUSE)
        except queue.Empty:
            give_back()
            return self._inbox.get()

    def _handle(self, message: Any) -> Iterator[WorkerEvent]:
        if isinstance(message, _Submit):
            for request in message.requests:
                if request.frames:
                    self._watched.add(request.id)
                try:
                    self.engine.submit(request)
                except InputError as error:
                    yield Failure(error, request.id)
        elif isinstance(message, _Cancel):
            result = self.engine.cancel(message.request_id)
            yield Finished(result or _nothing(), message.request_id)
        elif message == "drain":
            for request in self.engine.waiting:
                yield Failure(unavailable(STOPPING), request.id)
            self.engine.waiting.clear()

    def _hand_over(self, events: list[Any]) -> None:
        """Wake the event loop only for what somebody waits for: most steps are nobody's news."""
        news: list[WorkerEvent] = [Failure(error, request) for request, error in self.engine.failed.items()]
        self.engine.failed.clear()
        for event in events:
            if isinstance(event, CanvasStep):
                self._observe(event)
                if event.request not in self._watched:
                    continue
            news.append(event)
        self._watched -= {event.request for event in news if isinstance(event, Finished | Failure)}
        if news:
            self._call(self._deliver, news)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(function, *arguments)


def _tokens(request: Request) -> int:
    return len(request.prompt.ids) + request.config.max_new_tokens


def _nothing() -> Result:
    """The result of a request that was cancelled before it began."""
    return Result("", (), "cancelled", "diffusion", 0, 0, (), 0, 0.0)
