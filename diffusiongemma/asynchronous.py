"""`astream`: events for programs that wait for other things meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

from diffusiongemma.events import Event

_END = object()


async def events_in_thread(make: Callable[[], Iterator[Event]]) -> AsyncIterator[Event]:
    """The events of a generation that runs in threads, step by step: who stops listening stops it."""
    events = await asyncio.to_thread(make)
    while (event := await asyncio.to_thread(next, events, _END)) is not _END:
        yield event  # type: ignore[misc]  # not the end
