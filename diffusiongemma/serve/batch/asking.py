"""Requests answered by the web application in this process, as if they had come over the network."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any

from fastapi import FastAPI

from diffusiongemma.serve.batch.requests import BatchRequest
from diffusiongemma.serve.errors import ApiError, encodable, refusal
from diffusiongemma.serve.openai.errors import error_body

Answer = dict[str, Any]
BUSY = 429
PAUSE = 0.2  # seconds until a busy server is asked again


def urls_of(app: FastAPI) -> frozenset[str]:
    """The paths below /v1 that generate: those that can stream."""
    stream = "text/event-stream"
    return frozenset(
        path
        for path, operations in app.openapi()["paths"].items()
        if path.startswith("/v1/") and stream in _contents(operations.get("post", {}))
    )


def _contents(operation: dict[str, Any]) -> Collection[str]:
    return operation.get("responses", {}).get("200", {}).get("content", {})


async def answer_all(
    app: FastAPI,
    urls: Collection[str],
    requests: Iterator[BatchRequest],
    took: Callable[[Answer], Any],
    at_once: int,
    turn: Callable[[], Awaitable[bool]] | None = None,
) -> None:
    """Ask all requests, `at_once` in flight, and hand each answer to `took` as it comes.

    `turn` is awaited before each; where it says False, no more are asked. Raises what `took` raises, and the 503 of a
    model that has stopped working.
    """

    async def lane() -> None:
        while turn is None or await turn():
            app.state.service.worker.check_alive()
            if (request := next(requests, None)) is None:
                return
            took(await answer(app, urls, request))

    lanes = [asyncio.ensure_future(lane()) for _ in range(at_once)]
    try:
        await asyncio.gather(*lanes)
    finally:
        for one in lanes:
            one.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)


async def answer(app: FastAPI, urls: Collection[str], request: BatchRequest) -> Answer:
    """The line of the file of answers."""
    if request.url not in urls:
        message = f"{encodable(request.url)[:200]} is not asked in a batch: the urls are {', '.join(sorted(urls))}"
        return refused_line(request.custom_id, ApiError(404, message))
    if request.body.get("stream"):
        return refused_line(request.custom_id, refusal("a batch has no streams: leave it out", "stream"))
    status, request_id, body = await post(app, request.url, request.body)
    while status == BUSY:
        await asyncio.sleep(PAUSE)
        status, request_id, body = await post(app, request.url, request.body)
    return answer_line(request.custom_id, status, request_id, body)


def refused_line(custom_id: str, error: ApiError) -> Answer:
    return answer_line(custom_id, error.status, secrets.token_hex(8), error_body(error).model_dump())


def answer_line(custom_id: str, status: int, request_id: str, body: Any) -> Answer:
    response = {"status_code": status, "request_id": request_id, "body": body}
    return {"id": f"batch_req_{secrets.token_hex(12)}", "custom_id": custom_id, "response": response, "error": None}


def not_asked(custom_id: str, code: str, message: str) -> Answer:
    """The line of a request that was not asked at all."""
    told = {"code": code, "message": message}
    return {"id": f"batch_req_{secrets.token_hex(12)}", "custom_id": custom_id, "response": None, "error": told}


async def post(app: FastAPI, path: str, body: Any) -> tuple[int, str, Any]:
    """(status, id of the request, body) of a POST of JSON."""
    sent, parts, start = False, list[bytes](), dict[str, Any]()
    keys = app.state.service.settings.api_keys
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    headers += [(b"authorization", b"Bearer " + key.encode()) for key in keys[:1]]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 0), "server": ("localhost", 80), "state": {},
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:  # the client stays
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive, send)
    names = {bytes(name).lower(): bytes(value).decode("latin-1") for name, value in start["headers"]}
    return start["status"], names.get(b"x-request-id", ""), _json(b"".join(parts))


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        error = ApiError(500, text.decode("utf-8", "replace")[:500])
        return error_body(error).model_dump()
