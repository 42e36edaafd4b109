"""One engine of a fleet: the web application of `serve`, asked over Ray in place of a socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from ray import serve

from diffusiongemma.cluster.engine import started
from diffusiongemma.cluster.fleet import Fleet

TOLD = 1.0  # seconds between two reports of metrics
Message = dict[str, Any]  # of ASGI


class Replica:
    async def __init__(self, fleet: Fleet):  # type: ignore[misc]  # Ray awaits it
        self._app, self._running = await started(fleet)
        self._service = self._app.state.service
        self._telling = asyncio.ensure_future(self._tell())

    async def __call__(self, scope: Message, body: bytes) -> AsyncIterator[list[Message]]:
        """What the application sends; what comes while the last messages are on their way comes together."""
        sent: asyncio.Queue[Any] = asyncio.Queue()  # messages, then None
        whole = False

        async def receive() -> Message:
            nonlocal whole
            if whole:  # a client that leaves cancels this call
                await asyncio.Event().wait()
            whole = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def run() -> None:
            try:
                await self._app(scope, receive, sent.put)
            finally:
                sent.put_nowait(None)

        running = asyncio.ensure_future(run())
        try:
            while (message := await sent.get()) is not None:
                messages = [message]
                while not sent.empty() and (message := sent.get_nowait()) is not None:
                    messages.append(message)
                yield messages
                if message is None:
                    break
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def check_health(self) -> None:
        """Raises what is wrong: Ray then replaces this replica."""
        self._service.worker.check_alive()

    async def _tell(self) -> None:
        """Report metrics to the front, which adds them up."""
        context = serve.get_replica_context()
        front = serve.get_deployment_handle("Front", context.app_name)
        while True:
            with contextlib.suppress(Exception):  # the front is being replaced: the next word is as good
                await front.told.remote(context.replica_id.unique_id, self._service.metrics.text().decode())
            await asyncio.sleep(TOLD)

    async def __del__(self) -> None:
        self._telling.cancel()
        await self._running.aclose()
