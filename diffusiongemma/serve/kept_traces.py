"""Traces that the server keeps of its requests, with `--trace-dir`."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from diffusiongemma.engine.request import Request
from diffusiongemma.errors import UserError
from diffusiongemma.events import Result
from diffusiongemma.recording import save_trace
from diffusiongemma.serve.errors import ApiError
from diffusiongemma.serve.settings import MIB, Settings
from diffusiongemma.serve.token_texts import Texts

ROOM = MIB  # bytes that must be free before a request whose trace is kept


class KeptTraces:
    """Does nothing without a folder to keep them in."""

    def __init__(self, settings: Settings, texts: Texts):
        self.folder, self.model_name, self.texts = settings.trace_dir, settings.model_name, texts

    def check_room(self) -> None:
        """Raises the 507 that is due where a trace could not be written."""
        if self.folder is None:
            return
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise ApiError(507, f"traces cannot be kept: {error.strerror}") from error
        if free < ROOM:
            raise ApiError(507, "the disk for traces is full: free some space or start the server without --trace-dir")

    def recorded(self, requests: Sequence[Request]) -> list[Request]:
        """The requests, told to record their steps where they are to be kept."""
        return list(requests) if self.folder is None else [replace(request, record=True) for request in requests]

    async def keep(self, request: Request, result: Result, request_id: str) -> None:
        """Write the trace; a disk that does not take it fails this request with 507."""
        if self.folder is None:
            return
        path = self.folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{request_id or 'request'}-{request.id}.npz"
        write = partial(
            save_trace,
            path,
            result,
            prompt=self.texts.written(request.prompt.ids),
            prompt_ids=request.prompt.ids,
            model=self.model_name,
            config=request.config,
            text_of=self.texts.of,
            complete=request.plain,
        )
        try:
            await asyncio.to_thread(write)
        except UserError as error:
            raise ApiError(507, str(error)) from error
