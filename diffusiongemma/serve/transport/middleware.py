"""Around every request: an id, a log line, keys, limits on the body, headers that keep browsers careful."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException

from diffusiongemma.serve.error_responses import error_response
from diffusiongemma.serve.errors import ApiError
from diffusiongemma.serve.settings import Settings
from diffusiongemma.serve.transport.metrics import Metrics

logger = logging.getLogger("diffusiongemma.access")
App = Callable[..., Any]
OWN_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
HEADERS = {
    b"content-security-policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        b"font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-cache",
}


class Logged:
    """Gives each request an id (the client's own, if it sends a plain one), logs it and counts it."""

    def __init__(self, app: App, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if OWN_ID.fullmatch(given) else secrets.token_hex(8)
        scope["request_id"], started, status = request_id, time.perf_counter(), 500  # until one is sent

        async def noted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [*HEADERS.items(), (b"x-request-id", request_id.encode())]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            path = _known(scope)
            self.metrics.requests.labels(path, str(status)).inc()
            took = {"request_id": request_id, "status": status, "seconds": round(time.perf_counter() - started, 4)}
            logger.info("%s %s", scope["method"], path, extra=took)


def _known(scope: Any) -> str:
    """The path of the route: unknown paths must not each make a time series."""
    return getattr(scope.get("route"), "path", "other")


class KeyRequired:
    """With API keys, /v1/… wants one as a bearer token."""

    def __init__(self, app: App, settings: Settings):
        self.app, self.keys = app, [key.encode() for key in settings.api_keys]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        guarded = scope["type"] == "http" and self.keys and scope["path"].startswith("/v1")
        if guarded and scope["method"] != "OPTIONS" and not self._allowed(dict(scope["headers"])):
            message = "no valid API key: send one as Authorization: Bearer KEY"
            error = ApiError(401, message, headers={"WWW-Authenticate": "Bearer"})
            return await error_response(error, scope["path"])(scope, receive, send)
        await self.app(scope, receive, send)

    def _allowed(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        # Every key is compared, so that the time taken does not tell which one was nearly right.
        matches = [hmac.compare_digest(given.strip(), key) for key in self.keys]
        return scheme.lower() == b"bearer" and any(matches)


class BodyLimit:
    """Bodies beyond a size are refused with 413, bodies that do not arrive in time with 408."""

    def __init__(self, app: App, settings: Settings):
        self.app, self.most, self.seconds = app, settings.max_body, settings.body_timeout

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self.most:
            return await error_response(self._too_large(), scope["path"])(scope, receive, send)
        await self.app(scope, self._limited(receive), send)

    def _limited(self, receive: Any) -> Any:
        size, whole = 0, False
        deadline = time.monotonic() + self.seconds

        async def limited() -> Any:
            nonlocal size, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise HTTPException(408, f"the body did not arrive within {self.seconds:g} s") from None
            size += len(message.get("body", b""))
            whole = message["type"] != "http.request" or not message.get("more_body", False)
            if size > self.most:
                raise HTTPException(413, self._too_large().message)
            return message

        return limited

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is larger than {self.most:,} bytes: send less")
