"""The endpoints of llama.cpp's server that its editors' plug-ins ask."""

from __future__ import annotations

from fastapi import APIRouter

import diffusiongemma
from diffusiongemma.serve.endpoints import answers, errors_as
from diffusiongemma.serve.llamacpp.errors import LlamaError
from diffusiongemma.serve.llamacpp.infill import LLAMA_INFILL, LlamaInfill, LlamaInfillReply, LlamaProps
from diffusiongemma.serve.service import Service


def llamacpp_router(service: Service) -> APIRouter:
    router = APIRouter(tags=["llama.cpp"], responses=errors_as(LlamaError))

    answers(router, service, "/infill", LLAMA_INFILL, (LlamaInfill, LlamaInfillReply, LlamaInfillReply))

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
