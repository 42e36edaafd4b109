"""The web application of one engine, started where Ray wants it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from fastapi import FastAPI

from diffusiongemma.cluster.fleet import Fleet


async def started(fleet: Fleet) -> tuple[FastAPI, AsyncExitStack]:
    """The application, once its model has answered, and what ends it."""
    # Here, so that what only names a replica does not load torch.
    from diffusiongemma.api import load
    from diffusiongemma.serve.app import create_app
    from diffusiongemma.serve.transport.threads import in_own_thread

    model = await asyncio.to_thread(in_own_thread, lambda: load(fleet.model, **fleet.loading))
    app, running = create_app(model, fleet.settings), AsyncExitStack()
    await running.enter_async_context(app.router.lifespan_context(app))
    await asyncio.to_thread(app.state.service.worker.ready.wait)
    return app, running
