"""Errors as OpenAI's clients expect them: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from diffusiongemma.errors import UserError
from diffusiongemma.options import field_of
from diffusiongemma.serve.transport.page_files import page_file

logger = logging.getLogger("diffusiongemma.serve")
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
# Signs in the engine's messages, and the fields they stand for.
_SIGNS = {
    "max-new-tokens": "max_tokens",
    "new token": "max_tokens",
    "min_tokens": "diffusion.min_tokens",
    "logit": "logit_bias",
    "pin": "diffusion.pins",
    "banned": "diffusion.banned_words",
    "required": "diffusion.required_words",
    "early-": "diffusion.early_text",
}
_CODES = {
    401: "invalid_api_key",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    429: "too_many_requests",
    503: "unavailable",
    507: "insufficient_storage",
}


class ApiError(Exception):
    """An answer that is not 200. `param` names the field at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.code = code or _CODES.get(status)
        self.headers = headers

    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status, self.headers)


def refusal(message: str, param: str | None, code: str = "invalid_value") -> ApiError:
    return ApiError(400, message, param=param, code=code)


def too_busy(message: str) -> ApiError:
    return ApiError(429, message, headers={"Retry-After": "1"})


def unavailable(message: str) -> ApiError:
    return ApiError(503, message, headers={"Retry-After": "5"})


@contextmanager
def blaming(param: str | None) -> Iterator[None]:
    """A user's mistake found inside is answered with 400 and this parameter."""
    try:
        yield
    except UserError as error:
        option = getattr(error, "option", None)
        field = param or (field_of(option) if option else _guess(str(error)))
        raise refusal(_encodable(error.worded(field_of)), field) from error


def _guess(message: str) -> str | None:
    """The field that a message of the engine, which knows none of our names, speaks of."""
    return next((param for sign, param in _SIGNS.items() if sign in message), None)


def install(app: FastAPI) -> None:
    """Every error of the application in the one shape."""

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _invalid(error).response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404 and request.method in ("GET", "HEAD"):
            # Looked for last, so that a file of the page never hides an endpoint or the methods it has.
            file = page_file(request.scope["path"])
            if file is not None:
                return file
        headers = dict(error.headers) if error.headers else None
        return ApiError(error.status_code, _sentence(request, error), headers=headers).response()

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        request_id = request.scope.get("request_id", "")
        logger.error("request failed", exc_info=error, extra={"request_id": request_id})
        return broken(request_id).response()


def broken(request_id: str) -> ApiError:
    """What a client is told of a bug; the log has the rest."""
    return ApiError(500, f"this request broke something in the server: its log tells more under {request_id}")


def _sentence(request: Request, error: HTTPException) -> str:
    if error.status_code == 404:
        return f"there is nothing at {_encodable(request.url.path)[:200]}"
    if error.status_code == 405:
        return f"{request.method} is not possible at {_encodable(request.url.path)[:200]}"
    return str(error.detail)


def _invalid(error: RequestValidationError) -> ApiError:
    """The first of pydantic's complaints."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    if first["type"] == "json_invalid":
        return refusal("the body is not JSON", None, "invalid_json")
    # Branches of a union add their own names to the place.
    param = _encodable(".".join(part for part in place if part.isidentifier() or part.isdigit()))[:200] or None
    if first["type"] == "extra_forbidden":
        return refusal(f"unknown or unsupported parameter {param}: leave it out", param, "unsupported_parameter")
    if first["type"] == "missing":
        return refusal(f"{param or 'the body'} is missing", param, "missing_parameter")
    return refusal(_encodable(f"{param or 'the body'}: {first['msg']}")[:500], param)


def _encodable(text: str) -> str:
    """Lone surrogates, which JSON can smuggle in, cannot be written back."""
    return text.encode("utf-8", "replace").decode()
