"""The web application: OpenAI's endpoints, those for diffusion, the page."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.middleware.cors import CORSMiddleware

from diffusiongemma import __version__
from diffusiongemma.api import DiffusionGemma
from diffusiongemma.serve import errors
from diffusiongemma.serve.errors import ApiError
from diffusiongemma.serve.native.bodies import EditRequest, InfillRequest
from diffusiongemma.serve.native.info import info, trace_events
from diffusiongemma.serve.native.plans import run_plan
from diffusiongemma.serve.native.rewriting import edit_job, infill_job, suffix_job
from diffusiongemma.serve.openai.bodies import ChatRequest, CompletionRequest
from diffusiongemma.serve.openai.chat import chat_job
from diffusiongemma.serve.openai.completions import completion_job
from diffusiongemma.serve.openai.replies import (
    ChatReply,
    CompletionReply,
    EditReply,
    ErrorBody,
    Health,
    InfillReply,
    InfoReply,
    ModelCard,
    ModelList,
    TraceReply,
)
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.settings import Settings
from diffusiongemma.serve.transport.middleware import BodyLimit, KeyRequired, Logged
from diffusiongemma.serve.transport.page_files import page_file

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "the request cannot be honoured, or not now (429)"},
    "5XX": {"model": ErrorBody, "description": "the server is stopping (503), full (507) or broken (500)"},
}
EVENTS = {"text/event-stream": {"schema": {"description": "with stream: true; see docs/protocol.md"}}}
BINARY = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}, "required": True}
NO_PAGE = "The page is not part of this installation. The API is at /v1, its description at /openapi.json.\n"


def create_app(model: DiffusionGemma, settings: Settings) -> FastAPI:
    """An application that starts its worker when it is run. `app.state.service` is what the endpoints share."""
    service = Service(model, settings)
    app = FastAPI(
        title="diffusiongemma",
        version=__version__,
        lifespan=_lifespan,
        docs_url=None,  # FastAPI's documentation pages load scripts from elsewhere
        redoc_url=None,
        responses=ERRORS,
        separate_input_output_schemas=False,
    )
    app.state.service = service
    errors.install(app)
    app.include_router(_openai(service))
    app.include_router(_diffusion(service))
    app.include_router(_operation(service))
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(KeyRequired, settings=settings)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-request-id"],
            expose_headers=["x-request-id", "retry-after"],
        )
    app.add_middleware(Logged, metrics=service.metrics)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    service.worker.start()
    try:
        yield
    finally:
        await service.worker.stop()
        service.close()


def _openai(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    model, settings, started = service.model, service.settings, int(time.time())
    card = {"id": settings.model_name, "object": "model", "created": started, "owned_by": "diffusiongemma"}

    @router.post("/chat/completions", response_model=None, responses={200: {"model": ChatReply, "content": EVENTS}})
    async def chat_completions(body: ChatRequest, http: Request) -> Response:
        return await service.answer(http, await service.prepare(chat_job, body, model, settings))

    @router.post("/completions", response_model=None, responses={200: {"model": CompletionReply, "content": EVENTS}})
    async def completions(body: CompletionRequest, http: Request) -> Response:
        if body.suffix is not None:
            return await run_plan(service, http, await service.prepare(suffix_job, body, model, settings))
        return await service.answer(http, await service.prepare(completion_job, body, model, settings))

    @router.get("/models", response_model=ModelList)
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card]}

    @router.get("/models/{name:path}", response_model=ModelCard)
    async def one_model(name: str) -> dict[str, Any]:
        if name != settings.model_name:
            raise ApiError(404, f"no such model here: there is {settings.model_name!r}", code="model_not_found")
        return card

    return router


def _diffusion(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["diffusion"])
    model, settings = service.model, service.settings

    @router.post("/infill", response_model=None, responses={200: {"model": InfillReply, "content": EVENTS}})
    async def infill(body: InfillRequest, http: Request) -> Response:
        return await run_plan(service, http, await service.prepare(infill_job, body, model, settings))

    @router.post("/edits", response_model=None, responses={200: {"model": EditReply, "content": EVENTS}})
    async def edits(body: EditRequest, http: Request) -> Response:
        return await run_plan(service, http, await service.prepare(edit_job, body, model, settings))

    @router.get("/info", response_model=InfoReply)
    async def information() -> dict[str, Any]:
        return info(model, settings)

    @router.post(
        "/traces", response_model=TraceReply, response_model_exclude_unset=True, openapi_extra={"requestBody": BINARY}
    )
    async def traces(http: Request) -> dict[str, Any]:
        return await service.prepare(trace_events, model, settings, await http.body())

    return router


def _operation(service: Service) -> APIRouter:
    router = APIRouter(tags=["operation"])
    text = {"text/plain": {"schema": {"type": "string"}}}
    plain: dict[int | str, dict[str, Any]] = {200: {"content": text, "description": "Prometheus' format"}}

    @router.get("/health", response_model=Health)
    async def health() -> dict[str, str]:
        service.worker.check_alive()
        if not service.worker.ready.is_set():
            raise errors.unavailable("the model is being warmed up")
        return {"status": "ready"}

    @router.get("/metrics", response_model=None, responses=plain, response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False, response_model=None)
    async def index() -> Response:
        return page_file("/") or PlainTextResponse(NO_PAGE)

    return router
