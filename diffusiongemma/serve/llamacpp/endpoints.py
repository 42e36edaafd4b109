"""The endpoints of llama.cpp's server that its editors' plug-ins ask."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

import diffusiongemma
from diffusiongemma.serve.endpoints import errors_as, posting
from diffusiongemma.serve.llamacpp.errors import LlamaError
from diffusiongemma.serve.llamacpp.infill import LLAMA_INFILL, LlamaInfill, LlamaInfillReply, LlamaProps
from diffusiongemma.serve.service import Service


def llamacpp_router(service: Service) -> APIRouter:
    router = APIRouter(tags=["llama.cpp"], responses=errors_as(LlamaError))

    @router.post("/infill", **posting(LlamaInfillReply, LlamaInfillReply))
    async def infill(body: LlamaInfill, http: Request) -> Any:
        return await service.answer(http, LLAMA_INFILL, body)

    @router.get("/props")
    async def props() -> LlamaProps:
        model, config = service.model, service.model.config
        return LlamaProps(
            default_generation_settings={"n_ctx": config.max_position_embeddings, "params": {}},
            total_slots=service.settings.max_requests,
            model_path=service.settings.model_name,
            chat_template=str(model.tokenizer.chat_template or ""),
            modalities={"vision": config.vision_config is not None, "audio": False},
            build_info=f"diffusiongemma {diffusiongemma.__version__}",
        )

    return router
