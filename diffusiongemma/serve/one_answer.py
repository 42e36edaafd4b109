"""The output of dialects that give one answer to a request."""

from __future__ import annotations

import time

from diffusiongemma.engine.request import Request
from diffusiongemma.events import Event, Result
from diffusiongemma.serve.answers import Answer
from diffusiongemma.serve.job import Output, Piece, ResponseOptions
from diffusiongemma.serve.service import Service


class OneAnswer(Output):
    """Keeps the answer to the one request of a chat. What it looks like is the dialect's."""

    def __init__(self, service: Service, request: Request, options: ResponseOptions, model: str | None):
        self.answer, self.options = Answer(options, service.texts), options
        self.model = model or service.settings.model_name
        self.prompt_tokens, self.created = len(request.prompt.ids), time.time()

    def take(self, index: int, event: Event) -> Piece:
        return self.answer.take(event)

    def is_over(self, index: int) -> bool:
        return self.answer.stopped

    def finish_reason(self, index: int) -> str:
        return str(self.answer.finish_reason)

    @property
    def result(self) -> Result:
        """What the engine came to, once it has."""
        assert self.answer.result is not None
        return self.answer.result
