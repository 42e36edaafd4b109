"""A real server on a free port, in a thread of the test process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from openai import OpenAI

import diffusiongemma as dg
from diffusiongemma.serve.app import create_app
from diffusiongemma.serve.settings import Settings
from diffusiongemma.serve.transport.run import Server, listen


class Running:
    """One running server: its address, its insides, clients for it."""

    def __init__(self, model: dg.DiffusionGemma, settings: Settings):
        self.app = create_app(model, settings)
        self.service = self.app.state.service
        self.worker = self.service.worker
        self._socket = listen("127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(self.app, log_config=None, access_log=False, timeout_graceful_shutdown=2)
        self.server = Server(config, self.service)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([self._socket])), daemon=True)

    def start(self) -> None:
        self.thread.start()
        wait_until(lambda: self.worker.ready.is_set() and self.server.started)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()

    @property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=60)

    def openai(self, **options: Any) -> OpenAI:
        settings = dict(base_url=f"{self.address}/v1", api_key="test-key", max_retries=0, timeout=60)
        return OpenAI(**(settings | options))

    @property
    def idle(self) -> bool:
        """Nothing is accepted, running or waiting any more."""
        engine = self.worker.engine
        return not (self.worker.accepted or engine.running or engine.waiting or self.worker._load.tokens)


@contextmanager
def running(model: dg.DiffusionGemma, **settings: Any) -> Iterator[Running]:
    server = Running(model, Settings(**({"model_name": "tiny", "grace": 10} | settings)))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def left_idle(model: dg.DiffusionGemma, **settings: Any) -> Iterator[Running]:
    """A server that must have nothing left to do when its tests are through."""
    with running(model, **settings) as server:
        yield server
    assert server.idle


def wait_until(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]
