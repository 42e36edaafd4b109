"""Works on the batches of a store, one after the other, while the engine has room beside what else is asked of it."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

from fastapi import FastAPI

from diffusiongemma.errors import UserError
from diffusiongemma.serve.batch.answers import AnswerFile, hold, succeeded
from diffusiongemma.serve.batch.asking import answer_all, not_asked
from diffusiongemma.serve.batch.requests import BatchRequest, RequestFile
from diffusiongemma.serve.batch.store import ENDED, BatchMistake, BatchMistakes, BatchObject, RequestCounts, Store
from diffusiongemma.serve.errors import ApiError

logger = logging.getLogger("diffusiongemma.serve")
PAUSE = 0.05  # seconds between two looks at whether there is room
IDLE = 0.3  # seconds between two looks for a batch
SAVED = 0.5  # seconds between two savings of a batch's counts
MISTAKES = 100  # bad lines that are told


class Runner:
    def __init__(self, app: FastAPI, store: Store):
        self.app, self.store = app, store
        self.worker, self.most = app.state.service.worker, app.state.service.settings.max_requests
        self._in_flight = 0

    async def run(self) -> None:
        """Until cancelled. Waits while another server works on the same store."""
        await asyncio.to_thread(self.worker.ready.wait)
        with self.store.lock.open("wb") as lock:
            while not _held(lock):
                await asyncio.sleep(IDLE)
            while True:
                await self._look()

    async def _look(self) -> None:
        """Work on the oldest batch that has not ended."""
        batches = await asyncio.to_thread(self.store.all_batches)
        batch = next((one for one in batches if one.status not in ENDED), None)
        if batch is None or self._stopping:
            await asyncio.sleep(IDLE)
            return
        try:
            await self._work(batch)
        except (OSError, UserError) as error:
            self._fail(batch, [BatchMistake(code="batch_broken", message=str(error))])
        except ApiError:  # the server is being stopped: the next one goes on
            await asyncio.sleep(IDLE)

    @property
    def _stopping(self) -> bool:
        return self.worker.stopping or self.worker.dead

    async def _work(self, batch: BatchObject) -> None:
        asked = await asyncio.to_thread(RequestFile, self.store.data_of(batch.input_file_id), [batch.endpoint])
        if asked.bad or not asked.places:
            bad = [BatchMistake(code="invalid_line", message=one.reason, line=one.number) for one in asked.bad]
            empty = BatchMistake(code="empty_file", message="the file holds no request: write one a line")
            return self._fail(batch, bad[:MISTAKES] or [empty])
        answers = AnswerFile(self.store.answers_of(batch.id), asked)
        await asyncio.to_thread(answers.__enter__)
        with answers:
            await self._answer(batch, asked, answers)
            if self._stopping and self._goes_on(batch):
                return
            await asyncio.to_thread(self._finish, batch, asked, answers)
        self.store.answers_of(batch.id).unlink(missing_ok=True)
        self.store.cancel_mark(batch.id).unlink(missing_ok=True)

    async def _answer(self, batch: BatchObject, asked: RequestFile, answers: AnswerFile) -> None:
        saved = 0.0
        batch.status, batch.in_progress_at = "in_progress", batch.in_progress_at or int(time.time())

        def took(answer: Any) -> None:
            nonlocal saved
            self._in_flight -= 1
            answers.add(answer)
            if time.monotonic() - saved > SAVED:
                self._count(batch, asked, answers)
                saved = time.monotonic()

        async def turn() -> bool:
            while self._goes_on(batch) and not self._stopping and self._is_full:
                await asyncio.sleep(PAUSE)
            return self._goes_on(batch) and not self._stopping

        self._in_flight = 0
        self._count(batch, asked, answers)
        requests = self._counted(asked.read(answers.unanswered))
        await answer_all(self.app, [batch.endpoint], requests, took, self.most, turn)

    def _counted(self, requests: Iterator[BatchRequest]) -> Iterator[BatchRequest]:
        for request in requests:
            self._in_flight += 1
            yield request

    @property
    def _is_full(self) -> bool:
        """Whether one more of a batch would have to wait, or would have somebody else wait."""
        return max(self._in_flight, self.worker.accepted) >= self.most

    def _goes_on(self, batch: BatchObject) -> bool:
        return not self.store.is_cancelled(batch.id) and time.time() < batch.expires_at

    def _count(self, batch: BatchObject, asked: RequestFile, answers: AnswerFile) -> None:
        completed = sum(answers.answered.values())
        failed = len(answers.answered) - completed
        batch.request_counts = RequestCounts(total=len(asked.places), completed=completed, failed=failed)
        self.store.save(batch)

    def _fail(self, batch: BatchObject, mistakes: list[BatchMistake]) -> None:
        logger.warning("batch %s failed: %s", batch.id, mistakes[0].message)
        batch.status, batch.failed_at, batch.errors = "failed", int(time.time()), BatchMistakes(data=mistakes)
        self.store.save(batch)

    def _finish(self, batch: BatchObject, asked: RequestFile, answers: AnswerFile) -> None:
        """Give the batch its two files: answers with 200, and all others."""
        cancelled, now = self.store.is_cancelled(batch.id), int(time.time())
        batch.status, batch.finalizing_at = "finalizing", now
        if cancelled:
            batch.cancelling_at = int(self.store.cancel_mark(batch.id).stat().st_mtime)
        self._count(batch, asked, answers)
        left = [place.custom_id for place in asked.places if place.custom_id not in answers.answered]
        code, said = ("batch_cancelled", "cancelled") if cancelled else ("batch_expired", "out of time")
        answers.put_in_order()
        with tempfile.TemporaryFile() as good, tempfile.TemporaryFile() as bad:
            with self.store.answers_of(batch.id).open("rb") as ordered:
                for line in ordered:
                    (good if succeeded(json.loads(line)) else bad).write(line)
            for custom_id in left:
                told = not_asked(custom_id, code, f"the batch was {said} before this was asked")
                bad.write(json.dumps(told).encode() + b"\n")
            batch.output_file_id = self._kept(good, f"{batch.id}_output.jsonl")
            batch.error_file_id = self._kept(bad, f"{batch.id}_error.jsonl")
        batch.status = "cancelled" if cancelled else "expired" if left else "completed"
        setattr(batch, f"{batch.status}_at", int(time.time()))
        self.store.save(batch)

    def _kept(self, source: IO[bytes], filename: str) -> str | None:
        if not source.tell():
            return None
        source.seek(0)
        return self.store.add_file(source, filename, "batch_output").id


def _held(lock: IO[bytes]) -> bool:
    with suppress(BlockingIOError):
        hold(lock)
        return True
    return False
