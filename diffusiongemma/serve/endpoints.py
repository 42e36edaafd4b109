"""How an endpoint that generates is declared, and how the OpenAPI document comes to have the parts of its stream."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from diffusiongemma.serve.job import Dialect
from diffusiongemma.serve.native.events import EVENTS
from diffusiongemma.serve.service import Service


def errors_as(shape: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The errors of a router, in the shape of its dialect."""
    return {
        "4XX": {"model": shape, "description": "the request cannot be honoured, or not now (429)"},
        "5XX": {"model": shape, "description": "the server is stopping (503), full (507) or broken (500)"},
    }


def posting(reply: type[BaseModel], chunk: type[BaseModel]) -> dict[str, Any]:
    """Options of a route whose endpoint returns `reply`, of which what was set is sent, or a stream of `chunk`s."""
    named = ", ".join(f"`{name}` ({kind.__name__})" for name, kind in EVENTS.items())
    said = f"with stream: true. Each plain event is a {chunk.__name__}; with diffusion.frames there are also {named}"
    stream = {"text/event-stream": {"schema": {"description": said}}}
    return {"response_model": reply, "response_model_exclude_unset": True, "responses": {200: {"content": stream}}}


def answers(
    router: APIRouter,
    service: Service,
    path: str,
    dialect: Dialect[Any],
    kinds: tuple[type[BaseModel], type[BaseModel], type[BaseModel]],
    **more: Any,
) -> None:
    """Add an endpoint that answers in `dialect`. `kinds`: what it takes, its reply, a chunk of its stream."""
    asked, reply, chunk = kinds

    async def endpoint(body: Any, http: Request) -> Any:
        return await service.answer(http, dialect, body)

    endpoint.__annotations__["body"] = asked
    name = (path or router.prefix).removeprefix("/v1").replace("/", " ").strip()
    router.add_api_route(path, endpoint, methods=["POST"], name=name, **posting(reply, chunk) | more)


def document_streams(app: FastAPI, *chunks: type[BaseModel]) -> None:
    """Add the events and chunks of streams, which no reply holds, to the schemas of the OpenAPI document."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            parts = [*EVENTS.values(), *chunks]
            template = "#/components/schemas/{model}"
            _, schemas = models_json_schema([(part, "serialization") for part in parts], ref_template=template)
            plain()["components"]["schemas"] |= schemas["$defs"]
        return plain()

    app.openapi = openapi  # type: ignore[method-assign]
