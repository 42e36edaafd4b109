"""The endpoints of OpenAI's dialect."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request

from diffusiongemma.serve.endpoints import posting
from diffusiongemma.serve.errors import ApiError
from diffusiongemma.serve.openai.bodies import ChatRequest, CompletionRequest
from diffusiongemma.serve.openai.chat import CHAT
from diffusiongemma.serve.openai.completions import COMPLETION
from diffusiongemma.serve.openai.replies import (
    ChatChunk,
    ChatReply,
    CompletionChunk,
    CompletionReply,
    ModelCard,
    ModelList,
)
from diffusiongemma.serve.openai.suffix import SUFFIX
from diffusiongemma.serve.service import Service


def openai_router(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    name, started = service.settings.model_name, int(time.time())
    card = ModelCard(id=name, object="model", created=started, owned_by="diffusiongemma")

    @router.post("/chat/completions", **posting(ChatReply, ChatChunk))
    async def chat_completions(body: ChatRequest, http: Request) -> Any:
        return await service.answer(http, CHAT, body)

    @router.post("/completions", **posting(CompletionReply, CompletionChunk))
    async def completions(body: CompletionRequest, http: Request) -> Any:
        return await service.answer(http, COMPLETION if body.suffix is None else SUFFIX, body)

    @router.get("/models")
    async def models() -> ModelList:
        return ModelList(object="list", data=[card])

    @router.get("/models/{name:path}")
    async def one_model(name: str) -> ModelCard:
        if name != card.id:
            raise ApiError(404, f"no such model here: there is {card.id!r}", code="model_not_found")
        return card

    return router
