"""The endpoints of our own: infills, edits, what the server says of itself, traces."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from diffusiongemma.serve.endpoints import answers
from diffusiongemma.serve.errors import no_field
from diffusiongemma.serve.native.boards import board_reply
from diffusiongemma.serve.native.bodies import BoardRequest, EditRequest, InfillRequest, PictureRequest
from diffusiongemma.serve.native.edits import EDIT
from diffusiongemma.serve.native.infill import INFILL
from diffusiongemma.serve.native.info import info_reply
from diffusiongemma.serve.native.pictures import MEDIA, picture_of
from diffusiongemma.serve.native.replies import BoardReply, EditReply, InfillReply, InfoReply, TraceReply
from diffusiongemma.serve.native.traces import trace_reply
from diffusiongemma.serve.service import Service

BINARY = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}, "required": True}


def native_router(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["diffusion"])
    model, settings = service.model, service.settings

    answers(router, service, "/infill", INFILL, (InfillRequest, InfillReply, InfillReply))
    answers(router, service, "/edits", EDIT, (EditRequest, EditReply, EditReply))

    @router.post("/boards")
    def boards(body: BoardRequest) -> BoardReply:
        return board_reply(body)

    @router.post(
        "/pictures", response_class=Response, responses={200: {"content": {"image/gif": {}, "image/webp": {}}}}
    )
    async def pictures(body: PictureRequest) -> Response:
        return Response(await service.prepare(no_field, picture_of, body), media_type=MEDIA[body.format])

    @router.get("/info")
    async def information() -> InfoReply:
        return info_reply(model, settings)

    @router.post("/traces", response_model_exclude_unset=True, openapi_extra={"requestBody": BINARY})
    async def traces(http: Request) -> TraceReply:
        return await service.prepare(no_field, trace_reply, model, settings, await http.body())

    return router
