"""The endpoint of System One."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from diffusiongemma.serve.endpoints import errors_as
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.systemone.decisions import SYSTEMONE, SystemOneReply, SystemOneRequest
from diffusiongemma.serve.systemone.errors import PATH, SystemOneError


def systemone_router(service: Service) -> APIRouter:
    router = APIRouter(tags=["System One"], responses=errors_as(SystemOneError))

    @router.post(PATH, response_model=SystemOneReply, response_model_exclude_unset=True)
    async def systemone(body: SystemOneRequest, http: Request, response: Response) -> Any:
        started = time.perf_counter()
        reply = await service.answer(http, SYSTEMONE, body)
        response.headers["server-timing"] = f"total;dur={(time.perf_counter() - started) * 1e3:.1f}"
        return reply

    return router
