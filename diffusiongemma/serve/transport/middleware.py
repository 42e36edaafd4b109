"""Around every request: an id, a log line, keys, limits on the body, headers that keep browsers careful."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import re
import secrets
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from diffusiongemma.serve.error_responses import error_response
from diffusiongemma.serve.errors import ApiError, encodable
from diffusiongemma.serve.settings import Settings
from diffusiongemma.serve.tolerance import IGNORED_HEADER, ignored

if TYPE_CHECKING:
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
    """With API keys, every path but the page's and the operator's wants one, as a bearer token or as x-api-key."""

    def __init__(self, app: App, settings: Settings):
        self.app, self.keys = app, [key.encode() for key in settings.api_keys]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        guarded = scope["type"] == "http" and self.keys and _is_guarded(scope["path"])
        if guarded and scope["method"] != "OPTIONS" and not self._allowed(dict(scope["headers"])):
            message = "no valid API key: send one as Authorization: Bearer KEY or as x-api-key: KEY"
            error = ApiError(401, message, headers={"WWW-Authenticate": "Bearer"})
            return await error_response(error, scope["path"])(scope, receive, send)
        await self.app(scope, receive, send)

    def _allowed(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        given = [bearer.strip()] if scheme.lower() == b"bearer" else []
        given.append(headers.get(b"x-api-key", b"").strip())
        # Every key is compared, so that the time taken does not tell which one was nearly right.
        return any([hmac.compare_digest(one, key) for one in given for key in self.keys])


def _is_guarded(path: str) -> bool:
    return path.startswith(("/v1", "/api", "/infill", "/props", "/completion", "/tokenize"))


class HostChecked:
    """Without keys, only names that are this machine's or its network's are answered to.

    Else a page in a browser here could have its own name resolved to this address and read what it likes (DNS
    rebinding). Addresses in numbers, and names that no public zone can hold, are safe from that.
    """

    PRIVATE = (".localhost", ".local", ".internal", ".home.arpa")

    def __init__(self, app: App, allowed: tuple[str, ...]):
        self.app, self.allowed = app, {name.lower() for name in (*allowed, socket.getfqdn())}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1") if scope["type"] == "http" else ""
        if not self._is_ours(host):
            message = f"the name {encodable(host)[:100]!r} is not this server's: start it with --allowed-host NAME"
            return await error_response(ApiError(403, message, code="host_not_allowed"), scope["path"])(
                scope, receive, send
            )
        await self.app(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        name = re.sub(r":\d*$", "", host).strip("[]").rstrip(".").lower()
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(name)
            return True
        return "." not in name or name in self.allowed or name.endswith(self.PRIVATE)


class PlainBodies:
    """A body that is sent as a form or as text, or as nothing in particular, is JSON: `curl -d` says no better.

    Not where a page of another origin sends it: a browser asks no leave for such bodies.
    """

    TYPES = (b"", b"application/x-www-form-urlencoded", b"text/plain")

    def __init__(self, app: App):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] != "/v1/traces":
            headers = dict(scope["headers"])
            kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            if kind in self.TYPES and b"origin" not in headers:
                others = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
                scope = {**scope, "headers": [*others, (b"content-type", b"application/json")]}
        await self.app(scope, receive, send)


class Lenient:
    """Lets bodies hold fields that nobody knows, and names them in a header of the response."""

    def __init__(self, app: App):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        names: dict[str, None] = {}
        token = ignored.set(names)

        async def told(message: Any) -> None:
            if message["type"] == "http.response.start" and names:
                value = ",".join(re.sub(r"[^!-~]", "?", name)[:64] for name in list(names)[:20])
                message = {**message, "headers": [*message["headers"], (IGNORED_HEADER, value.encode("ascii"))]}
            await send(message)

        try:
            await self.app(scope, receive, told)
        finally:
            ignored.reset(token)


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
