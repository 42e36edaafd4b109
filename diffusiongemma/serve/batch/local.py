"""A batch answered by one engine in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from diffusiongemma.api import DiffusionGemma
from diffusiongemma.errors import InputError
from diffusiongemma.serve.app import create_app
from diffusiongemma.serve.batch.answers import AnswerFile
from diffusiongemma.serve.batch.asking import answer_all, urls_of
from diffusiongemma.serve.batch.requests import RequestFile
from diffusiongemma.serve.errors import ApiError
from diffusiongemma.serve.settings import Settings

AHEAD = 2  # requests in flight for each in the engine's batch: the next ones are prepared meanwhile


def answer_file(
    model: DiffusionGemma, settings: Settings, asked: RequestFile, answers: AnswerFile, step: Callable[[], None]
) -> None:
    """Ask what has no answer yet; `step` is called after each. Raises `InputError` where the model stops working."""
    asyncio.run(_answer_file(model, settings, asked, answers, step))


async def _answer_file(
    model: DiffusionGemma, settings: Settings, asked: RequestFile, answers: AnswerFile, step: Callable[[], None]
) -> None:
    app = create_app(model, settings)
    wanted = answers.unanswered

    def took(answer: Any) -> None:
        answers.add(answer)
        step()

    async with app.router.lifespan_context(app):
        try:
            await answer_all(app, urls_of(app), asked.read(wanted), took, AHEAD * settings.max_requests)
        except ApiError as error:
            raise InputError(error.message) from error
