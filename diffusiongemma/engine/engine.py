"""The outer loop: many requests, one model. Each step encodes what waits and denoises every open canvas once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from diffusiongemma.diffusion.denoise import denoise_step
from diffusiongemma.diffusion.readout import Prediction, read
from diffusiongemma.diffusion.trace import Event, Finished, Result
from diffusiongemma.engine.generation import Generation
from diffusiongemma.engine.request import Request
from diffusiongemma.errors import InputError
from diffusiongemma.model.model import Model


class Engine:
    """Runs up to `max_batch` requests at a time; the others wait in order.

    Requests do not see each other: every one has its own cache, random numbers, rules and step count.
    """

    def __init__(self, model: Model, tokenizer: Any = None, max_batch: int = 8):
        self.model, self.tokenizer, self.max_batch = model, tokenizer, max_batch
        self.waiting: deque[Request] = deque()
        self.running: list[Generation] = []

    def submit(self, request: Request) -> None:
        """Queue a request. Raises `InputError` when it can never run."""
        check(request, self.model)
        self.waiting.append(request)

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
        while self.waiting and len(self.running) < self.max_batch:
            self.running.append(Generation(self.waiting.popleft(), self.model, self.tokenizer))

    def _encode(self) -> Iterator[Event]:
        """One chunk of each prompt, committed canvas or token that waits to be encoded."""
        work = [(g, chunk) for g in self.running if g.canvas is None and (chunk := g.chunk()) is not None]
        if not work:
            return
        embeddings = [x for _, (x, _) in work]
        spans = [spans for _, (_, spans) in work]
        hidden = self.model.encode_rows([g.sequence for g, _ in work], embeddings, spans)
        last = torch.tensor([len(x) for x in embeddings], device=hidden.device).cumsum(0) - 1
        ready = [(g, hidden[i]) for (g, _), i in zip(work, last, strict=True) if not g.waiting]
        yield from self._next_tokens([(g, h) for g, h in ready if g.autoregressive])
        for generation, _ in ready:
            if not generation.autoregressive:
                generation.open_canvas()

    def _next_tokens(self, ready: list[tuple[Generation, Tensor]]) -> Iterator[Event]:
        for generation, hidden in ready:
            reader = generation.reader(1)
            if reader is not None:
                t = generation.config.temperature or 0.0
                uniform = generation.uniform().to(hidden.device)
                one = reader(self.model.backbone, hidden[None], t or 1.0, uniform, greedy=t == 0)
                yield from generation.take_token(*_first(one))
        ready = [(g, h) for g, h in ready if g.constrained is None]
        if not ready:
            return
        temperatures = [g.config.temperature or 0.0 for g, _ in ready]
        prediction = self._read(ready, temperatures)
        for (generation, _), token, logprob, entropy in zip(
            ready,
            prediction.sampled.tolist(),
            prediction.sampled_logprob.tolist(),
            prediction.entropy.tolist(),
            strict=True,
        ):
            yield from generation.take_token(token, logprob, entropy)

    def _read(self, ready: list[tuple[Generation, Tensor]], temperatures: list[float]) -> Prediction:
        device = self.model.device
        greedy = torch.tensor([t == 0 for t in temperatures], device=device)
        return read(
            self.model.backbone,
            torch.stack([h for _, h in ready]),
            torch.tensor([t or 1.0 for t in temperatures], device=device),
            torch.cat([g.uniform() for g, _ in ready]).to(device),
            greedy,
            want_soft=False,
        )

    def _denoise(self) -> Iterator[Event]:
        """One step of every open canvas."""
        active = [(g, g.canvas) for g in self.running if g.canvas is not None and g.finish_reason is None]
        if not active:
            return
        for (generation, _), event in zip(active, denoise_step(self.model, [c for _, c in active]), strict=True):
            yield from generation.take_step(event)


def _first(prediction: Prediction) -> tuple[int, float, float]:
    """Token, log-probability and entropy of a prediction at one position."""
    return int(prediction.sampled[0]), float(prediction.sampled_logprob[0]), float(prediction.entropy[0])


def check(request: Request, model: Model) -> None:
    """Raises `InputError` for a prompt that is empty, out of the vocabulary, or too long with what it asks for, and
    for a constraint that no answer of at most `max_new_tokens` can match."""
    ids, config = request.prompt.ids, model.config
    if not ids:
        raise InputError("the prompt is empty: give at least one token")
    bad = next((i for i in ids if not 0 <= i < config.vocab_size), None)
    if bad is not None:
        raise InputError(f"token id {bad} is outside the vocabulary of {config.vocab_size:,} tokens")
    if request.constraint is not None:
        request.constraint.begin(request.config.max_new_tokens)
    # Canvases are denoised whole, also the last one.
    width = 1 if request.config.mode == "ar" else config.canvas_length
    room = -(-request.config.max_new_tokens // width) * width
    if len(ids) + room > config.max_position_embeddings:
        raise InputError(
            f"the prompt has {len(ids):,} tokens and up to {room:,} are to be written, the model takes "
            f"{config.max_position_embeddings:,}: shorten the prompt or lower max-new-tokens"
        )
