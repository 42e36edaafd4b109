"""The way in: hands each request to a replica, asks another one where that one dies, adds up metrics."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from diffusiongemma.cluster.conversations import conversation_of
from diffusiongemma.cluster.replica import Message
from diffusiongemma.cluster.tally import Tally
from diffusiongemma.serve.error_responses import error_response
from diffusiongemma.serve.errors import ApiError, too_busy, unavailable
from diffusiongemma.serve.settings import Settings
from diffusiongemma.serve.transport.connection import while_connected
from diffusiongemma.serve.transport.middleware import BodyLimit

logger = logging.getLogger("diffusiongemma.serve")
ATTEMPTS = 3
# What travels: the rest of a scope belongs to the server that made it.
SCOPE = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers",
         "client", "server")  # fmt: skip
ONE_REPLICA_ONLY = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter")
LOST = "the replica that wrote this answer is gone: ask again"


class Front:
    """Deployed behind Ray Serve's proxy."""

    def __init__(self, replicas: DeploymentHandle[Any], settings: Settings):
        self.forward, self.tally = Forward(replicas), Tally()
        self.settings = settings

    def __serve_build_asgi_app__(self) -> Any:
        return Guarded(BodyLimit(self.forward, self.settings), self.tally)

    async def told(self, replica: str, metrics: str) -> None:
        self.tally.put(replica, metrics)


class Guarded:
    """What is answered without a replica."""

    def __init__(self, app: Any, tally: Tally):
        self.app, self.tally = app, tally

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        try:
            if scope["path"] == "/metrics":
                text = Response(self.tally.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
                return await text(scope, receive, send)
            if scope["path"] in ONE_REPLICA_ONLY:
                raise ApiError(400, "adapters are the same on all replicas: name them at the start, with --lora")
            await self.app(scope, receive, send)
        except HTTPException as limit:  # on bodies
            error = ApiError(limit.status_code, limit.detail)
            await error_response(error, scope["path"])(scope, receive, send)
        except ApiError as error:
            await error_response(error, scope["path"])(scope, receive, send)


class Forward:
    def __init__(self, replicas: DeploymentHandle[Any]):
        self.replicas = replicas.options(stream=True)

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Raises the `ApiError` that is due where nothing was sent yet."""
        http = Request(scope, receive)
        body = await http.body()
        await while_connected(http, self._forward({name: scope[name] for name in SCOPE if name in scope}, body, send))

    async def _forward(self, scope: Message, body: bytes, send: Any) -> None:
        sent = Sent(send)
        for _ in range(ATTEMPTS):
            try:
                return await self._ask(scope, body, sent)
            except BackPressureError:
                raise too_busy("all replicas have as many requests waiting as they take: try again soon") from None
            except RayActorError:
                if sent.begun:
                    return await sent.break_off(error_response(unavailable(LOST), scope["path"]))
                logger.warning("a replica is gone: its request goes to another")
        raise unavailable("the replicas that were asked are gone: try again soon")

    async def _ask(self, scope: Message, body: bytes, sent: Sent) -> None:
        asked = self.replicas.options(session_id=conversation_of(body)) if body else self.replicas
        answer: Any = asked.remote(scope, body)
        try:
            async for messages in answer:
                for message in messages:
                    await sent(message)
        except BaseException:
            with contextlib.suppress(Exception):
                answer.cancel()
            raise


class Sent:
    """Whether a client has been sent something, and of what kind."""

    def __init__(self, send: Any):
        self._send, self.begun, self._streams = send, False, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._streams = any(value.startswith(b"text/event-stream") for _, value in message["headers"])
        self.begun = True
        await self._send(message)

    async def break_off(self, told: Response) -> None:
        """End a stream with an error; what is no stream breaks off."""
        if not self._streams:
            raise ConnectionError(LOST)
        body = b"data: " + bytes(told.body) + b"\n\n"
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
