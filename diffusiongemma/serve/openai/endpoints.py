"""The endpoints of OpenAI's dialect."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request

from diffusiongemma.serve.adapters import AdapterReply, LoadRequest, UnloadRequest
from diffusiongemma.serve.endpoints import answers, posting
from diffusiongemma.serve.errors import no_field
from diffusiongemma.serve.model_names import check_model, names_of
from diffusiongemma.serve.openai.bodies import ChatRequest, CompletionRequest, FimRequest
from diffusiongemma.serve.openai.chat import CHAT
from diffusiongemma.serve.openai.completions import COMPLETION
from diffusiongemma.serve.openai.replies import (
    ChatChunk,
    ChatReply,
    CompletionChunk,
    CompletionReply,
    ModelCard,
    ModelList,
    NamedModel,
)
from diffusiongemma.serve.openai.responses import RESPONSES, ResponsesReply
from diffusiongemma.serve.openai.responses_bodies import ResponsesRequest
from diffusiongemma.serve.openai.suffix import FIM, SUFFIX, with_gap
from diffusiongemma.serve.service import Service


def openai_router(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    started = int(time.time())

    def card(name: str) -> ModelCard:
        return ModelCard(id=name, object="model", created=started, owned_by="diffusiongemma")

    answers(router, service, "/chat/completions", CHAT, (ChatRequest, ChatReply, ChatChunk))
    answers(router, service, "/fim/completions", FIM, (FimRequest, ChatReply, ChatChunk))
    answers(router, service, "/responses", RESPONSES, (ResponsesRequest, ResponsesReply, ResponsesReply))

    @router.post("/completions", **posting(CompletionReply, CompletionChunk))
    async def completions(body: CompletionRequest, http: Request) -> Any:
        body = with_gap(body)
        return await service.answer(http, COMPLETION if body.suffix is None else SUFFIX, body)

    @router.post("/load_lora_adapter")
    async def load_lora_adapter(body: LoadRequest) -> AdapterReply:
        service.adapters.check_allowed()
        model = await service.prepare(no_field, service.adapters.load, body)
        return service.adapters.add(body, model)

    @router.post("/unload_lora_adapter")
    async def unload_lora_adapter(body: UnloadRequest) -> AdapterReply:
        service.adapters.check_allowed()
        return service.adapters.remove(body)

    @router.get("/models")
    async def models() -> ModelList:
        names, day = names_of(service.settings), time.strftime("%Y-%m-%d", time.gmtime(started))
        said = [NamedModel(name=name, description="diffusiongemma", release_date=day) for name in names]
        return ModelList(object="list", data=[card(name) for name in names], models=said)

    @router.get("/models/{name:path}")
    async def one_model(name: str) -> ModelCard:
        check_model(name, service.settings, param=None)
        return card(name)

    return router
