"""Every error of the application as a response, in the shape of the dialect that was spoken."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from diffusiongemma.serve.errors import ApiError, broken, encodable, logger, refusal
from diffusiongemma.serve.openai.errors import error_body
from diffusiongemma.serve.transport.page_files import page_file


def error_response(error: ApiError, path: str) -> Response:
    """An error at `path`. The paths that there are today all speak as OpenAI's do."""
    return Response(error_body(error).model_dump_json(), error.status, error.headers, "application/json")


def install(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> Response:
        return error_response(error, request.url.path)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return error_response(_invalid(error), request.url.path)

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
    if error.status_code == 404:
        return f"there is nothing at {encodable(request.url.path)[:200]}"
    if error.status_code == 405:
        return f"{request.method} is not possible at {encodable(request.url.path)[:200]}"
    return str(error.detail)


def _invalid(error: RequestValidationError) -> ApiError:
    """The first of pydantic's complaints."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    if first["type"] == "json_invalid":
        return refusal("the body is not JSON", None, "invalid_json")
    # Branches of a union add their own names to the place.
    param = encodable(".".join(part for part in place if part.isidentifier() or part.isdigit()))[:200] or None
    if first["type"] == "extra_forbidden":
        return refusal(f"unknown or unsupported parameter {param}: leave it out", param, "unsupported_parameter")
    if first["type"] == "missing":
        return refusal(f"{param or 'the body'} is missing", param, "missing_parameter")
    return refusal(encodable(f"{param or 'the body'}: {first['msg']}")[:500], param)
