"""The endpoints of Ollama's dialect."""

from __future__ import annotations

import hashlib
from typing import Any

from fastapi import APIRouter

import diffusiongemma
from diffusiongemma.serve.endpoints import answers, errors_as
from diffusiongemma.serve.model_names import check_model, names_of
from diffusiongemma.serve.ollama.answers import CHAT, GENERATE, now
from diffusiongemma.serve.ollama.bodies import OllamaChat, OllamaGenerate, ShowRequest, plain_name
from diffusiongemma.serve.ollama.errors import OllamaError
from diffusiongemma.serve.ollama.replies import (
    ChatLine,
    Details,
    GenerateLine,
    Process,
    Processes,
    Shown,
    Tag,
    Tags,
    Version,
)
from diffusiongemma.serve.service import Service

FAR = "2318-01-01T00:00:00Z"  # a served model does not expire


def ollama_router(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["Ollama"], responses=errors_as(OllamaError))
    lines = {"application/x-ndjson": {"schema": {"description": "one reply a line, unless stream is false"}}}
    streams: dict[str, Any] = {"responses": {200: {"content": lines}}}

    answers(router, service, "/chat", CHAT, (OllamaChat, ChatLine, ChatLine), **streams)
    answers(router, service, "/generate", GENERATE, (OllamaGenerate, GenerateLine, GenerateLine), **streams)

    @router.get("/tags")
    async def tags() -> Tags:
        return Tags(models=[Tag(**_tag(name, service)) for name in names_of(service.settings)])

    @router.get("/ps")
    async def processes() -> Processes:
        more: dict[str, Any] = {
            "expires_at": FAR,
            "size_vram": 0,
            "context_length": service.model.config.max_position_embeddings,
        }
        return Processes(models=[Process(**_tag(service.settings.model_name, service), **more)])

    @router.get("/version")
    async def version() -> Version:
        return Version(version=diffusiongemma.__version__)

    @router.post("/show")
    async def show(body: ShowRequest) -> Shown:
        check_model(plain_name(body.model or body.name or ""), service.settings)
        return _shown(service)

    return router


def _details(service: Service) -> Details:
    count = sum(parameter.numel() for parameter in service.model.network.parameters())
    size = f"{count / 1e9:.1f}B" if count >= 1e8 else f"{count / 1e6:.1f}M"
    return Details(
        parent_model="",
        format="safetensors",
        family="diffusiongemma",
        families=["diffusiongemma"],
        parameter_size=size,
        quantization_level=str(service.model.network.dtype).removeprefix("torch."),
    )


def _tag(name: str, service: Service) -> dict[str, Any]:
    size = sum(parameter.nbytes for parameter in service.model.network.parameters())
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
    details = _details(service)
    return {"name": name, "model": name, "modified_at": now(), "size": size, "digest": digest, "details": details}


def _shown(service: Service) -> Shown:
    config = service.model.config
    vision = ["vision"] if config.vision_config is not None else []
    return Shown(
        modelfile="",
        parameters="",
        template=str(service.model.tokenizer.chat_template or ""),
        details=_details(service),
        model_info={
            "general.architecture": "diffusiongemma",
            "general.parameter_count": sum(parameter.numel() for parameter in service.model.network.parameters()),
            "diffusiongemma.context_length": config.max_position_embeddings,
            "diffusiongemma.embedding_length": config.hidden_size,
            "diffusiongemma.block_count": config.num_layers,
            "diffusiongemma.canvas_length": config.canvas_length,
        },
        capabilities=["completion", "insert", "tools", "thinking", *vision],
        modified_at=now(),
    )
