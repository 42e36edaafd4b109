"""/v1/files and /v1/batches of OpenAI's API, over a store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import APIRouter, FastAPI, File, Form, Query, UploadFile
from fastapi.responses import FileResponse
from pydantic import Field

from diffusiongemma.serve.batch.asking import urls_of
from diffusiongemma.serve.batch.store import BatchObject, FileObject, Store
from diffusiongemma.serve.body_types import Reply, Text
from diffusiongemma.serve.errors import ApiError, refusal
from diffusiongemma.serve.tolerance import Tolerant, also

WINDOW = 24 * 3600  # seconds
Kept = TypeVar("Kept", FileObject, BatchObject)
Limit = Annotated[int, Query(ge=1, le=10_000)]


class Deleted(Reply):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class Page(Reply, Generic[Kept]):
    object: Literal["list"] = "list"
    data: list[Kept]
    first_id: str | None
    last_id: str | None
    has_more: bool


class BatchBody(Tolerant):
    harmless = also(output_expires_after=("any value",))

    input_file_id: Text
    endpoint: Text
    completion_window: Literal["24h"]
    metadata: dict[Annotated[Text, Field(max_length=64)], Annotated[Text, Field(max_length=512)]] | None = None


def batch_router(app: FastAPI, store: Store) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["batches"])
    _add_files(router, store)

    @router.post("/batches")
    async def create(body: BatchBody) -> BatchObject:
        if body.endpoint not in (urls := urls_of(app)):
            raise refusal(f"endpoint must be one of {', '.join(sorted(urls))}", "endpoint")
        if (await _aside(store.file, body.input_file_id)).purpose != "batch":
            raise refusal("input_file_id: the file is no input, its purpose is not batch", "input_file_id")
        return await _aside(lambda: store.add_batch(**body.model_dump(), expires_at=int(time.time()) + WINDOW))

    @router.get("/batches")
    async def every(after: str | None = None, limit: Limit = 20) -> Page[BatchObject]:
        return _page((await _aside(store.all_batches))[::-1], after, limit)

    @router.get("/batches/{batch_id}")
    async def one(batch_id: str) -> BatchObject:
        return await _aside(store.batch, batch_id)

    @router.post("/batches/{batch_id}/cancel")
    async def cancel(batch_id: str) -> BatchObject:
        return await _aside(store.cancel, batch_id)

    return router


def _add_files(router: APIRouter, store: Store) -> None:
    @router.post("/files")
    async def upload(file: Annotated[UploadFile, File()], purpose: Annotated[Literal["batch"], Form()]) -> FileObject:
        return await _aside(store.add_file, file.file, (file.filename or "file")[:255], purpose)

    @router.get("/files")
    async def files(
        purpose: str | None = None, after: str | None = None, limit: Limit = 10_000,
        order: Literal["asc", "desc"] = "desc",
    ) -> Page[FileObject]:  # fmt: skip
        found = [kept for kept in await _aside(store.all_files) if purpose in (None, kept.purpose)]
        return _page(found if order == "asc" else found[::-1], after, limit)

    @router.get("/files/{file_id}")
    async def file_object(file_id: str) -> FileObject:
        return await _aside(store.file, file_id)

    @router.get("/files/{file_id}/content", response_class=FileResponse)
    async def content(file_id: str) -> FileResponse:
        kept = await _aside(store.file, file_id)
        return FileResponse(store.data_of(file_id), media_type="application/octet-stream", filename=kept.filename)

    @router.delete("/files/{file_id}")
    async def delete(file_id: str) -> Deleted:
        await _aside(store.delete_file, file_id)
        return Deleted(id=file_id)


T = TypeVar("T")


async def _aside(work: Callable[..., T], *arguments: Any) -> T:
    """Beside the event loop: disks are slow. Raises what `work` raises, a full disk as 507."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError as error:
        raise ApiError(507, f"the directory of batches cannot be used: {error.strerror}") from error


def _page(found: Sequence[Any], after: str | None, limit: int) -> Any:
    ids = [one.id for one in found]
    if after is not None and after not in ids:
        raise refusal(f"there is no {after[:100]!r} in this list", "after")
    start = 0 if after is None else ids.index(after) + 1
    shown = found[start : start + limit]
    first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
    return {"data": shown, "first_id": first, "last_id": last, "has_more": start + limit < len(found)}
