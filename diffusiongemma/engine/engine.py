"""The outer loop: many requests, one model. Each step encodes what waits, reads what is written token by token, and
denoises every open canvas once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from diffusiongemma.diffusion.denoise import Canvas, predict
from diffusiongemma.diffusion.readout import Unread, read_each
from diffusiongemma.engine.chunks import Chunk
from diffusiongemma.engine.generation import Generation
from diffusiongemma.engine.memory import cache_bytes, room
from diffusiongemma.engine.prefixes import Prefixes
from diffusiongemma.engine.request import Request
from diffusiongemma.engine.turns import count_waiting, taking_part
from diffusiongemma.errors import InputError
from diffusiongemma.events import Event, Finished, Result
from diffusiongemma.model.model import Model

W = TypeVar("W")  # a kind of work
T = TypeVar("T")  # what comes of it


class Engine:
    """Runs up to `max_batch` requests at a time; the others wait in order. Some may sit out steps (`turns`).

    Requests do not see each other: every one has its own cache, random numbers, rules and step count. `budget` bounds
    the bytes of their caches together with those of `prefixes`. With `isolate`, a request in which something breaks
    goes to `failed`, where it raises otherwise, and the others go on.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Any = None,
        max_batch: int = 8,
        *,
        budget: int | None = None,
        prefixes: Prefixes | None = None,
        isolate: bool = False,
    ):
        self.model, self.tokenizer, self.max_batch = model, tokenizer, max_batch
        self.budget, self.prefixes, self.isolate = budget, prefixes, isolate
        self.adapted: Mapping[str, Model] = {}  # by adapter, over the same weights; replaced as a whole
        self.waiting: deque[Request] = deque()
        self.running: list[Generation] = []
        self.at_work: list[Generation] = []  # of the running ones, those that take part in this step
        self.failed: dict[int, Exception] = {}

    def submit(self, request: Request) -> None:
        """Queue a request that has been checked. Raises `InputError` where its caches are too large for the budget."""
        if self.budget is not None and (needed := self.bytes_of(request)) > self.budget:
            raise InputError(
                f"the request needs {needed / 2**30:.2f} GiB for its caches, there are {self.budget / 2**30:.2f}: "
                "shorten the prompt or lower `max_new_tokens`",
                option="prompt",
            )
        self.waiting.append(request)

    def bytes_of(self, request: Request) -> int:
        """The most bytes its caches will take."""
        answer = room(request.config, self.model.config.canvas_length)
        return cache_bytes(self.model, len(request.prompt.ids) + answer)

    def cancel(self, request_id: int) -> Result | None:
        """Drop a request; returns what it had committed, or None if it had not started."""
        for generation in self.running:
            if generation.request.id == request_id:
                self.running.remove(generation)
                return generation.output.result("cancelled")
        self.waiting = deque(r for r in self.waiting if r.id != request_id)
        return None

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    @torch.no_grad()
    def step(self) -> list[Event]:
        self._admit()
        began, self.at_work = time.perf_counter(), taking_part(self.running)
        events = [*self._encode(), *self._read(), *self._denoise()]
        self.running = [g for g in self.running if not g.output.finished]
        count_waiting(self.running, self.at_work, time.perf_counter() - began)
        return events

    def run(self, requests: Iterable[Request]) -> Iterator[Event]:
        """Events of all requests until the last has finished."""
        for request in requests:
            self.submit(request)
        while self.busy:
            yield from self.step()

    def results(self, requests: list[Request]) -> list[Result]:
        """Results in the order of the requests, whose ids must differ."""
        finished = {e.request: e.result for e in self.run(requests) if isinstance(e, Finished)}
        return [finished[request.id] for request in requests]

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self.max_batch and self._make_room(self.waiting[0]):
            request = self._with_prefix(self.waiting.popleft())
            try:
                self.running.append(Generation(request, self._model_of(request), self.tokenizer))
            except Exception as error:
                self._fail([request], error)

    def _model_of(self, request: Request) -> Model:
        if not request.adapter:
            return self.model
        if request.adapter not in self.adapted:
            raise InputError(f"the adapter {request.adapter!r} has been unloaded: ask for another model")
        return self.adapted[request.adapter]

    def _make_room(self, request: Request) -> bool:
        """Whether the request's caches fit beside those of the running ones; kept prefixes give way."""
        if self.budget is None:
            return True
        left = self.budget - sum(self.bytes_of(r) for r in [request, *(g.request for g in self.running)])
        if self.prefixes is not None and left >= 0:
            self.prefixes.shrink(left)
        return left >= 0

    def _with_prefix(self, request: Request) -> Request:
        """The request with what is kept of its prompt's beginning. Images and adapters are no part of its key."""
        if self.prefixes is None or request.cache is not None or request.prompt.images or request.adapter:
            return request
        ids = request.prompt.ids
        cache = self.prefixes.restore(ids)
        return replace(request, cache=cache, chunks=self.prefixes.bounds(cache.length, len(ids)))

    def _keep_prefix(self, generation: Generation) -> None:
        request = generation.request
        if self.prefixes is not None and request.chunks is not None and generation.sequence.length:
            self.prefixes.keep(request.prompt.ids, generation.sequence)

    def _fail(self, requests: list[Request], error: Exception) -> None:
        if not self.isolate:
            raise error
        self.failed |= {request.id: error for request in requests}
        self.running = [g for g in self.running if g.request.id not in self.failed]
        self.at_work = [g for g in self.at_work if g.request.id not in self.failed]

    def _encode(self) -> Iterator[Event]:
        """One chunk of each prompt, committed canvas or token that waits to be encoded."""
        work = [(generation, (x, chunk.image_spans)) for generation, chunk, x in self._embedded()]
        for model, mine in _by_model(work):
            yield from self._encode_together(model, mine)

    def _encode_together(self, model: Model, work: list[tuple[Generation, tuple[Tensor, Any]]]) -> Iterator[Event]:
        generations = [generation for generation, _ in work]
        embeddings, spans = zip(*(one for _, one in work), strict=True)
        try:
            hidden = model.encode_rows([g.sequence for g in generations], list(embeddings), list(spans))
        except Exception as error:
            # Some layers have stored these tokens and some have not: none of the caches can be used any more.
            self._fail([g.request for g in generations], error)
            return
        for generation, states in zip(generations, hidden.split([len(x) for x in embeddings]), strict=True):
            self._keep_prefix(generation)
            yield from self._taken(generation, states)

    def _embedded(self) -> Iterator[tuple[Generation, Chunk, Tensor]]:
        for generation, chunk in self._waiting_for(Chunk):
            try:
                yield generation, chunk, chunk.embedded(generation.model)
            except Exception as error:
                self._fail([generation.request], error)

    def _read(self) -> Iterator[Event]:
        """The hidden states from which tokens are drawn; a request may want its next ones read at once."""
        while work := self._waiting_for(Unread):
            read = partial(read_each, self.model.backbone, want_soft=False)
            for generation, prediction in self._outcomes(work, read):
                yield from self._taken(generation, prediction)

    def _denoise(self) -> Iterator[Event]:
        """One step of every open canvas."""
        for model, work in _by_model(self._waiting_for(Canvas)):
            for generation, predicted in self._outcomes(work, partial(predict, model)):
                yield from self._taken(generation, predicted)

    def _waiting_for(self, kind: type[W]) -> list[tuple[Generation, W]]:
        """The requests that go on with this kind of work, each with its own."""
        work = [(generation, generation.work()) for generation in self.at_work]
        return [(generation, one) for generation, one in work if isinstance(one, kind)]

    def _outcomes(
        self, work: list[tuple[Generation, W]], run: Callable[[list[W]], list[T]]
    ) -> list[tuple[Generation, T]]:
        """Work done together changes nothing until all of it is done, so it can be tried again one by one."""
        if not work:
            return []
        try:
            outcomes = run([one for _, one in work])
            return [(generation, outcome) for (generation, _), outcome in zip(work, outcomes, strict=True)]
        except Exception as error:
            if len(work) == 1 or not self.isolate:
                self._fail([generation.request for generation, _ in work], error)
                return []
        return [pair for one in work for pair in self._outcomes([one], run)]

    def _taken(self, generation: Generation, outcome: Any) -> list[Event]:
        try:
            return generation.take(outcome)
        except Exception as error:
            self._fail([generation.request], error)
            return []


def _by_model(work: list[tuple[Generation, W]]) -> Iterator[tuple[Model, list[tuple[Generation, W]]]]:
    """The work of each model: requests with different adapters share a step, not a pass."""
    models = {id(generation.model): generation.model for generation, _ in work}
    for key, model in models.items():
        yield model, [(generation, one) for generation, one in work if id(generation.model) == key]
