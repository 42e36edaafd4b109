"""Every error of the application as a response, in the shape of the dialect that was spoken."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from diffusiongemma.serve.anthropic.errors import anthropic_error
from diffusiongemma.serve.errors import ApiError, broken, encodable, logger
from diffusiongemma.serve.invalid import invalid
from diffusiongemma.serve.llamacpp.errors import llamacpp_error
from diffusiongemma.serve.ollama.errors import ollama_error
from diffusiongemma.serve.openai.errors import error_body
from diffusiongemma.serve.systemone.errors import PATH, systemone_error, wrong_shape
from diffusiongemma.serve.transport.page_files import page_file

_SHAPES: dict[str, Callable[[ApiError], BaseModel]] = {
    "/v1/messages": anthropic_error,
    "/api/": ollama_error,
    "/infill": llamacpp_error,
    "/props": llamacpp_error,
    PATH: systemone_error,
}


def error_response(error: ApiError, path: str) -> Response:
    """An error at `path`, in the dialect that is spoken there; where none is, in OpenAI's."""
    body = next((shape for start, shape in _SHAPES.items() if path.startswith(start)), error_body)(error)
    return Response(body.model_dump_json(), error.status, error.headers, "application/json")


def install(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> Response:
        return error_response(error, request.url.path)

    @app.exception_handler(RequestValidationError)
    async def bad_body(request: Request, error: RequestValidationError) -> Response:
        if request.url.path == PATH:
            return Response(wrong_shape(error.errors()).model_dump_json(), 422, media_type="application/json")
        return error_response(invalid(error.errors(), error.body, 1), request.url.path)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404 and request.method in ("GET", "HEAD"):
            # Looked for last, so that a file of the page never hides an endpoint or the methods it has.
            file = page_file(request.scope["path"])
            if file is not None:
                return file
        headers = dict(error.headers) if error.headers else None
        answer = ApiError(error.status_code, _sentence(request, error), headers=headers)
        return error_response(answer, request.url.path)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        request_id = request.scope.get("request_id", "")
        logger.error("request failed", exc_info=error, extra={"request_id": request_id})
        return error_response(broken(request_id), request.url.path)


def _sentence(request: Request, error: HTTPException) -> str:
    if error.status_code == 404 and request.url.path.startswith(("/v1/files", "/v1/batches")):
        return "files and batches are kept in a directory, which this server has not: start it with --batch-dir DIR"
    if error.status_code == 404:
        return f"there is nothing at {encodable(request.url.path)[:200]}"
    if error.status_code == 405:
        return f"{request.method} is not possible at {encodable(request.url.path)[:200]}"
    return str(error.detail)
