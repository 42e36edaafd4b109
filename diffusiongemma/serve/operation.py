"""The endpoints for those who run the server: health, metrics, and the page."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from diffusiongemma.serve.body_types import Reply
from diffusiongemma.serve.errors import unavailable
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.transport.page_files import page_file

NO_PAGE = "The page is not part of this installation. The API is at /v1, its description at /openapi.json.\n"


class Health(Reply):
    status: Literal["ready"]


def operation_router(service: Service) -> APIRouter:
    router = APIRouter(tags=["operation"])
    text = {"text/plain": {"schema": {"type": "string"}}}
    plain: dict[int | str, dict[str, Any]] = {200: {"content": text, "description": "Prometheus' format"}}

    @router.get("/health")
    async def health() -> Health:
        service.worker.check_alive()
        if not service.worker.ready.is_set():
            raise unavailable("the model is being warmed up")
        return Health(status="ready")

    @router.get("/metrics", response_model=None, responses=plain, response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False, response_model=None)
    async def index() -> Response:
        return page_file("/") or PlainTextResponse(NO_PAGE)

    return router
