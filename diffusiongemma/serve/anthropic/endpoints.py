"""The endpoints of Anthropic's dialect."""

from __future__ import annotations

from fastapi import APIRouter

from diffusiongemma.serve.anthropic.bodies import CountRequest, MessagesRequest
from diffusiongemma.serve.anthropic.errors import AnthropicError
from diffusiongemma.serve.anthropic.messages import MESSAGES, CountReply, MessageReply, count_reply
from diffusiongemma.serve.endpoints import answers, errors_as
from diffusiongemma.serve.errors import no_field
from diffusiongemma.serve.service import Service


def anthropic_router(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1/messages", tags=["Anthropic"], responses=errors_as(AnthropicError))

    answers(router, service, "", MESSAGES, (MessagesRequest, MessageReply, MessageReply))

    @router.post("/count_tokens")
    async def count_tokens(body: CountRequest) -> CountReply:
        return await service.prepare(no_field, count_reply, body, service)

    return router
