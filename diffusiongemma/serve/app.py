"""The web application: every dialect's endpoints behind one service, and what stands around each request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from diffusiongemma import __version__
from diffusiongemma.api import DiffusionGemma
from diffusiongemma.serve import error_responses
from diffusiongemma.serve.anthropic.endpoints import anthropic_router
from diffusiongemma.serve.batch.endpoints import batch_router
from diffusiongemma.serve.batch.runner import Runner
from diffusiongemma.serve.batch.store import Store
from diffusiongemma.serve.endpoints import document_streams, errors_as
from diffusiongemma.serve.llamacpp.endpoints import llamacpp_router
from diffusiongemma.serve.native.endpoints import native_router
from diffusiongemma.serve.ollama.endpoints import ollama_router
from diffusiongemma.serve.openai.endpoints import openai_router
from diffusiongemma.serve.openai.errors import ErrorBody
from diffusiongemma.serve.openai.replies import ChatChunk, CompletionChunk
from diffusiongemma.serve.operation import operation_router
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.settings import Settings
from diffusiongemma.serve.systemone.endpoints import systemone_router
from diffusiongemma.serve.transport.middleware import BodyLimit, HostChecked, KeyRequired, Lenient, Logged, PlainBodies

ROUTERS = (
    openai_router,
    native_router,
    anthropic_router,
    ollama_router,
    llamacpp_router,
    systemone_router,
    operation_router,
)


def create_app(model: DiffusionGemma, settings: Settings) -> FastAPI:
    """An application that starts its worker when it is run. `app.state.service` is what the endpoints share."""
    service = Service(model, settings)
    app = FastAPI(
        title="diffusiongemma",
        version=__version__,
        lifespan=_lifespan,
        docs_url=None,  # FastAPI's documentation pages load scripts from elsewhere
        redoc_url=None,
        responses=errors_as(ErrorBody),
        separate_input_output_schemas=False,
    )
    app.state.service = service
    error_responses.install(app)
    for router in ROUTERS:
        app.include_router(router(service))
    if settings.batch_dir is not None:
        app.state.batches = Store(settings.batch_dir)
        app.include_router(batch_router(app, app.state.batches))
    document_streams(app, ChatChunk, CompletionChunk)
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(PlainBodies)
    if settings.lenient:
        app.add_middleware(Lenient)
    app.add_middleware(KeyRequired, settings=settings)
    if not settings.api_keys:
        app.add_middleware(HostChecked, allowed=settings.allowed_hosts)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],  # OpenAI's JavaScript client sends a dozen of its own, x-stainless-…
            expose_headers=["x-request-id", "retry-after", "x-ignored-fields", "server-timing"],
        )
    app.add_middleware(Logged, metrics=service.metrics)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    service.worker.start()
    store: Store | None = getattr(app.state, "batches", None)
    batches = None if store is None else asyncio.ensure_future(Runner(app, store).run())
    try:
        yield
    finally:
        await service.worker.stop()
        if batches is not None:
            batches.cancel()
            await asyncio.gather(batches, return_exceptions=True)
        service.close()
