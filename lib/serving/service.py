"""The web service: a clip is uploaded, predicted by a worker process, and deleted."""

import asyncio
import contextlib
import logging
import math
import secrets
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from starlette.exceptions import HTTPException as AnyHTTPException

from lib.serving import uploads
from lib.serving.workers import TooLongError, Work, Worker, WorkerError

KEY_HEADER = "X-API-Key"
_DESCRIPTION = """POST a video clip to /predict, and get the object that `tools.predict --format jsonl` writes. A clip that
can't be used has no targets, and `rejected` is the reason. Uploads are deleted after their prediction."""
_UPLOAD = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {uploads.FIELD: {"type": "string", "format": "binary", "description": "video file"}},
                "required": [uploads.FIELD],
            }
        }
    },
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The form has no file in the field `clip`"},
    401: {"description": f"The header {KEY_HEADER} is missing or wrong"},
    408: {"description": "The upload took too long"},
    413: {"description": "The clip is too large or too long"},
    429: {"description": "The queue is full; the header Retry-After says when to try again, in seconds"},
    503: {"description": "The worker ended or took too long; another one has been started"},
}
log = logging.getLogger("serve")


@dataclass(frozen=True)
class Limits:
    """The largest upload in megabytes, the number of clips that may wait for a worker, and the key (empty for none)."""

    max_mb: float
    queue: int
    key: str = ""


@dataclass
class Service:
    """The workers, how they predict, the limits, and the folder of uploads."""

    workers: list[Worker]
    work: Work
    limits: Limits
    folder: Path
    pending: int = 0
    """Number of requests that are being uploaded, wait for a worker, or are predicted."""
    seconds: float = 0.0
    """Moving average of the seconds of a prediction; 0 before the first."""
    free: asyncio.Queue[Worker] = field(default_factory=asyncio.Queue)
    about: dict[str, Any] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def run(self, _: FastAPI) -> AsyncIterator[None]:
        """Wait until all workers have loaded the model; end them afterwards. Raises InputError if one can't load it."""
        try:
            for worker in self.workers:
                self.about = await run_in_threadpool(worker.wait_ready)
                self.free.put_nowait(worker)
            log.info("ready", extra={"values": {"workers": len(self.workers), "model": self.about["model"]}})
            yield
        finally:
            for worker in self.workers:
                worker.close()

    def check_key(self, key: str | None) -> None:
        """Raise HTTPException 401 if the service has another key."""
        if self.limits.key and not secrets.compare_digest((key or "").encode(), self.limits.key.encode()):
            raise HTTPException(
                HTTPStatus.UNAUTHORIZED,
                f"the header {KEY_HEADER} is missing or wrong; allowed: the service's key; ask its operator",
            )

    def check_queue(self) -> None:
        """Raise HTTPException 429 if the queue is full. Retry-After estimates when a place is free."""
        most = len(self.workers) + self.limits.queue
        if self.pending >= most:
            seconds = max(1, math.ceil(self.seconds * (1 + self.limits.queue) / len(self.workers)))
            raise HTTPException(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self.pending} clips are being predicted or wait; allowed: up to {most}; try again in {seconds} s",
                {"Retry-After": f"{seconds}"},
            )

    async def handle(self, request: Request) -> dict[str, Any]:
        """Return the prediction of the clip in a request, and log the request without the clip's name."""
        began = time.monotonic()
        values: dict[str, Any] = {"status": int(HTTPStatus.OK)}
        try:
            self.check_queue()
            self.pending += 1
            try:
                return await self._predict_upload(request, values)
            finally:
                self.pending -= 1
        except HTTPException as error:
            values["status"] = error.status_code
            raise
        except BaseException:
            values["status"] = int(HTTPStatus.INTERNAL_SERVER_ERROR)
            raise
        finally:
            values["seconds"] = round(time.monotonic() - began, 3)
            log.info("predict", extra={"values": values})

    async def _predict_upload(self, request: Request, values: dict[str, Any]) -> dict[str, Any]:
        """Return a prediction under the clip's own name; its file is deleted. values: what is logged about the request."""
        path = self.folder / uuid.uuid4().hex
        try:
            upload = await uploads.receive_clip(request, self.limits.max_mb, path)
            values["bytes"] = upload.size
            prediction = await self._predict(path)
        except TooLongError as error:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the clip {error}") from None
        except WorkerError as error:
            raise HTTPException(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"the worker that predicted this clip was replaced: {error}; allowed: clips that fit into the memory and"
                f" take up to {self.work.timeout:.0f} s; send the clip again once",
                {"Retry-After": "1"},
            ) from None
        finally:
            await run_in_threadpool(path.unlink, missing_ok=True)
        values["rejected"] = bool(prediction["rejected"])
        return prediction | {"clip": upload.name, "rejected": prediction["rejected"].replace(path.name, upload.name)}

    async def _predict(self, clip: Path) -> dict[str, Any]:
        worker = await self.free.get()
        began = time.monotonic()
        try:
            prediction = await run_in_threadpool(worker.predict, clip)
        finally:
            self.free.put_nowait(worker)
        last = time.monotonic() - began
        self.seconds = 0.9 * self.seconds + 0.1 * last if self.seconds else last
        return prediction


def make_app(work: Work, workers: int, limits: Limits, folder: Path) -> FastAPI:
    """Return the service. Its worker processes start now, and the service answers when they have loaded the model."""
    service = Service([Worker(work) for _ in range(workers)], work, limits, folder)
    app = FastAPI(title="Apparent personality", description=_DESCRIPTION, lifespan=service.run)
    app.state.service = service
    header = APIKeyHeader(name=KEY_HEADER, auto_error=False, description="the key, if the service has one")

    def check_key(key: str | None = Depends(header)) -> None:
        service.check_key(key)

    @app.post("/predict", dependencies=[Depends(check_key)], openapi_extra={"requestBody": _UPLOAD}, responses=_ANSWERS)
    async def predict(request: Request) -> dict[str, Any]:
        """Predict a clip."""
        return await service.handle(request)

    @app.get("/model", dependencies=[Depends(check_key)])
    async def model() -> dict[str, Any]:
        """Describe the model: checksum, targets, training clips, streams, warnings, versions; and the service's limits."""
        mine = {"max_mb": limits.max_mb, "max_seconds": work.max_seconds, "queue": limits.queue, "workers": workers}
        return service.about | {"limits": mine}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Return the number of running workers, and of requests that are not answered yet."""
        running = sum(worker.process.is_alive() for worker in service.workers)
        return {"status": "ok" if running else "no worker", "workers": running, "pending": service.pending}

    app.add_exception_handler(AnyHTTPException, _answer_error)
    return app


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    """Answer with what is wrong, what is allowed and what to do, also for errors that the framework finds."""
    assert isinstance(error, AnyHTTPException)
    detail = error.detail
    if detail == HTTPStatus(error.status_code).phrase:  # of the framework
        detail = (
            f"{request.method} {request.url.path} is not possible; allowed: POST /predict, GET /model, /health, /docs;"
            " correct the address"
        )
    return JSONResponse({"detail": detail}, error.status_code, error.headers)
