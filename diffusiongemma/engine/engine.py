"""The outer loop: many requests, one model. Each step encodes what waits and denoises every open canvas once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffusiongemma.diffusion.denoise import Canvas, denoise_step
from diffusiongemma.diffusion.readout import Prediction, read
from diffusiongemma.engine.generation import Chunk, Generation
from diffusiongemma.engine.holds import Holds
from diffusiongemma.engine.memory import cache_bytes, room
from diffusiongemma.engine.prefixes import Prefixes
from diffusiongemma.engine.request import Request
from diffusiongemma.errors import InputError
from diffusiongemma.events import CanvasStep, Event, Finished, Result
from diffusiongemma.model.cache import BLOCK
from diffusiongemma.model.model import Model


class Engine:
    """Runs up to `max_batch` requests at a time; the others wait in order.

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
        self.waiting: deque[Request] = deque()
        self.running: list[Generation] = []
        self.failed: dict[int, Exception] = {}

    def submit(self, request: Request) -> None:
        """Queue a request. Raises `InputError` when it can never run."""
        check(request, self.model)
        if self.budget is not None and (needed := self.bytes_of(request)) > self.budget:
            raise InputError(
                f"the request needs {needed / 2**30:.2f} GiB for its caches, there are {self.budget / 2**30:.2f}: "
                "shorten the prompt or lower max-new-tokens"
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
                return generation.result("cancelled")
        self.waiting = deque(r for r in self.waiting if r.id != request_id)
        return None

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    @torch.no_grad()
    def step(self) -> list[Event]:
        self._admit()
        events = [*self._encode(), *self._denoise()]
        self.running = [g for g in self.running if g.finish_reason is None]
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
                self.running.append(Generation(request, self.model, self.tokenizer))
            except Exception as error:
                self._fail([request], error)

    def _make_room(self, request: Request) -> bool:
        """Whether the request's caches fit beside those of the running ones; kept prefixes give way."""
        if self.budget is None:
            return True
        left = self.budget - sum(self.bytes_of(r) for r in [request, *(g.request for g in self.running)])
        if self.prefixes is not None and left >= 0:
            self.prefixes.shrink(left)
        return left >= 0

    def _with_prefix(self, request: Request) -> Request:
        """The request with what is kept of its prompt's beginning. Images are not part of a block's key."""
        if self.prefixes is None or request.cache is not None or request.prompt.images:
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

    def _encode(self) -> Iterator[Event]:
        """One chunk of each prompt, committed canvas or token that waits to be encoded."""
        work = self._chunks()
        if not work:
            return
        embeddings = [x for _, (x, _) in work]
        spans = [spans for _, (_, spans) in work]
        try:
            hidden = self.model.encode_rows([g.sequence for g, _ in work], embeddings, spans)
        except Exception as error:
            # Some layers have stored these tokens and some have not: none of the caches can be used any more.
            self._fail([g.request for g, _ in work], error)
            return
        for generation, _ in work:
            self._keep_prefix(generation)
        states = hidden.split([len(x) for x in embeddings])
        ready = [(g, h) for (g, _), h in zip(work, states, strict=True) if not g.waiting]
        for generation, encoded in ready:
            generation.behind = encoded[-1].clone()
        yield from self._next_tokens([(g, h[-1]) for g, h in ready if g.autoregressive])
        for generation, encoded in ready:
            if generation.draft is not None and not generation.draft.left:
                yield from self._guarded(generation, self._verified(generation, encoded))
        for generation, _ in ready:
            try:
                if generation.wants_canvas:
                    generation.open_canvas()
            except Exception as error:
                self._fail([generation.request], error)

    def _chunks(self) -> list[tuple[Generation, Chunk]]:
        work = []
        for generation in list(self.running):
            try:
                chunk = generation.chunk() if generation.canvas is None else None
            except Exception as error:
                self._fail([generation.request], error)
                continue
            if chunk is not None:
                work.append((generation, chunk))
        return work

    def _next_tokens(self, ready: list[tuple[Generation, Tensor]]) -> Iterator[Event]:
        free = []
        for generation, hidden in ready:
            choice = self._own_choice(generation, hidden)
            if choice is None:
                free.append((generation, hidden, generation.uniform()))
            else:
                yield from generation.take_token(*choice)
        for (generation, *_), one in zip(free, self._read(free), strict=True):
            yield from generation.take_token(int(one.sampled[0]), one)

    def _own_choice(self, generation: Generation, hidden: Tensor) -> tuple[int, Prediction | None] | None:
        """The next token, where a pin or a reader of the request's own says it; None where it is read as any other."""
        if (token := generation.forced) is not None:
            return token, None
        reader = generation.reader(1)
        if reader is None:
            return None
        t = generation.config.temperature or 0.0
        uniform = generation.uniform().to(hidden.device)
        one = reader(self.model.backbone, hidden[None], t or 1.0, uniform, greedy=t == 0)
        return int(one.sampled[0]), one

    def _read(self, ready: list[tuple[Generation, Tensor, Tensor]]) -> list[Prediction]:
        """Predictions [1] at hidden states [D] and uniforms [1]."""
        if not ready:
            return []
        device, temperatures = self.model.device, [g.config.temperature or 0.0 for g, *_ in ready]
        together = read(
            self.model.backbone,
            torch.stack([h for _, h, _ in ready]),
            torch.tensor([t or 1.0 for t in temperatures], device=device),
            torch.cat([u for *_, u in ready]).to(device),
            torch.tensor([t == 0 for t in temperatures], device=device),
            want_soft=False,
            top=max(g.config.top_logprobs for g, *_ in ready),
        )
        return together.split([1] * len(ready))

    def _verified(self, generation: Generation, encoded: Tensor) -> Iterator[Event]:
        """The encoder's word on a draft whose hidden states [n, D] it has just computed."""
        draft = generation.draft
        assert draft is not None
        behind = [draft.behind, *encoded[:-1]]
        plain: dict[int, Prediction] = {}
        if generation.config.verify == "unconverged":
            plain = self._read_ahead(generation, behind, 0)
            if draft.is_surer_than(plain.values()):
                yield from generation.take_draft()
                return
        for place, hidden in enumerate(behind):
            choice = draft.sent(place) if place < generation.early else self._own_choice(generation, hidden)
            if choice is None:
                if place not in plain:  # nor the later ones: all in one pass over the vocabulary
                    plain = self._read_ahead(generation, behind, place)
                choice = int(plain[place].sampled[0]), plain[place]
            yield from generation.take_token(*choice)
            if draft.left:
                return

    def _read_ahead(self, generation: Generation, behind: list[Tensor], place: int) -> dict[int, Prediction]:
        """Predictions [1] from `place` of a draft on, by their place."""
        rows = [(generation, hidden, generation.uniform(i)) for i, hidden in enumerate(behind[place:])]
        return dict(enumerate(self._read(rows), place))

    def _denoise(self) -> Iterator[Event]:
        """One step of every open canvas."""
        active = [(g, g.canvas) for g in self.running if g.canvas is not None and g.finish_reason is None]
        if not active:
            return
        for generation, event in self._stepped(active):
            yield from self._guarded(generation, generation.take_step(event))

    def _guarded(self, generation: Generation, events: Iterator[Event]) -> Iterator[Event]:
        try:
            yield from events
        except Exception as error:
            self._fail([generation.request], error)

    def _stepped(self, active: list[tuple[Generation, Canvas]]) -> list[tuple[Generation, CanvasStep]]:
        try:
            events = denoise_step(self.model, [canvas for _, canvas in active])
            return [(generation, event) for (generation, _), event in zip(active, events, strict=True)]
        except Exception as error:
            if len(active) == 1 or not self.isolate:
                self._fail([active[0][0].request], error)
                return []
        # A step changes a canvas only once all have been read, so it can be tried again one by one.
        return [pair for one in active for pair in self._stepped([one])]


def check(request: Request, model: Model) -> None:
    """Raises `InputError` for a prompt that is empty, out of the vocabulary, or too long with what it asks for, and
    for a constraint that no answer of at most `max_new_tokens` can match."""
    ids, config = request.prompt.ids, model.config
    if not ids:
        raise InputError("the prompt is empty: give at least one token")
    bad = next((i for i in ids if not 0 <= i < config.vocab_size), None)
    if bad is not None:
        raise InputError(f"token id {bad} is outside the vocabulary of {config.vocab_size:,} tokens")
    state = request.begin_constraint()
    if (holds := Holds.of(request)).any:
        holds.check(state, request, config.vocab_size, config.canvas_length)
    if request.config.verify != "never" and config.canvas_length > BLOCK:
        raise InputError(f"verify takes canvases of at most {BLOCK} tokens, and they have {config.canvas_length}")
    answer = room(request.config, config.canvas_length)
    if len(ids) + answer > config.max_position_embeddings:
        raise InputError(
            f"the prompt has {len(ids):,} tokens and up to {answer:,} are to be written, the model takes "
            f"{config.max_position_embeddings:,}: shorten the prompt or lower max-new-tokens"
        )
