"""Running the application with uvicorn: sockets, addresses, signals, logs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import time
from types import FrameType
from typing import Any

import uvicorn

from diffusiongemma.api import DiffusionGemma
from diffusiongemma.errors import InputError
from diffusiongemma.serve.app import create_app
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.settings import Settings


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    EXTRA = ("request_id", "status", "seconds", "prompt")

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in self.EXTRA if hasattr(record, name)}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Server(uvicorn.Server):
    """The first stop signal lets running requests finish while new ones get 503; the second ends at once."""

    def __init__(self, config: uvicorn.Config, service: Service):
        super().__init__(config)
        self.service = service
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.service.worker.stopping:
            super().handle_exit(sig, frame)
            self.should_exit = self.force_exit = True
            return
        self.service.worker.stopping = True
        self._loop.call_soon_threadsafe(self._drain)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def _drain(self) -> None:
        self._draining = asyncio.ensure_future(self._stop())

    async def _stop(self) -> None:
        await self.service.worker.stop()
        await asyncio.sleep(0.1)  # the last chunks go out
        self.should_exit = True


def serve(model: DiffusionGemma, settings: Settings, host: str, port: int) -> None:
    """Serve until a signal comes; prints the addresses once the model has answered.

    Raises `InputError` for an address that cannot be had.
    """
    listener = listen(host, port)
    app = create_app(model, settings)
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=5)
    server = Server(config, app.state.service)
    _log()
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn hands the signal on once it has stopped
        asyncio.run(_serve(server, listener, host))


async def _serve(server: Server, listener: socket.socket, host: str) -> None:
    serving = asyncio.ensure_future(server.serve([listener]))
    worker = server.service.worker
    while not (worker.ready.is_set() or worker.dead or serving.done()):
        await asyncio.sleep(0.01)
    if worker.ready.is_set():
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        print(f"API   {address}/v1\npage  {address}/", flush=True)
    await serving


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address; port 0 takes any that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or error
        raise InputError(f"cannot listen on {host}:{port}: {why}, choose another --host or --port") from error
    return listener


def _log() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name in ("diffusiongemma", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "diffusiongemma" else logging.WARNING)
