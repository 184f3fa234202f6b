"""Receive the clip of a request within limits of size and time."""

import asyncio
import shutil
from collections.abc import MutableMapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

FIELD = "clip"
SECONDS = 300.0
"""Longest upload."""
_MEGABYTE = 10**6
_FORM_BYTES = 4096
"""Bytes of a request besides the clip: the borders and headers of its form."""
_WAY = (
    f"allowed: one file in the field {FIELD!r} of a form (multipart/form-data), as `curl -F {FIELD}=@talk.mp4` sends it"
)


class Upload(NamedTuple):
    """The name that the client gave a clip, without folders, and its size in bytes."""

    name: str
    size: int


async def receive_clip(request: Request, max_mb: float, to: Path) -> Upload:
    """Write the clip of a request to the file `to`.

    Raises HTTPException 400 without a file, 408 if it takes more than SECONDS, and 413 if it is larger than `max_mb`
    megabytes (10^6 bytes). No more than that is read.
    """
    most = int(max_mb * _MEGABYTE)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():
        _check_size(int(declared), most)
    try:
        async with asyncio.timeout(SECONDS), _limit_body(request, most).form(max_files=1, max_fields=1) as form:
            clip = form.get(FIELD)
            if not isinstance(clip, UploadFile):
                raise HTTPException(HTTPStatus.BAD_REQUEST, f"the form has no file in the field {FIELD!r}; {_WAY}")
            size = await run_in_threadpool(_copy, clip, to)
            return Upload(Path(clip.filename or FIELD).name, size)
    except TimeoutError:
        raise HTTPException(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the upload took more than {SECONDS:.0f} s; allowed: up to {SECONDS:.0f} s; send a smaller clip",
        ) from None
    except ClientDisconnect:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"the connection ended before the clip did; {_WAY}") from None
    except HTTPException:
        raise
    except Exception as error:  # of the parser of forms
        reason = getattr(error, "detail", None) or f"{error}"
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"the form can't be read ({reason}); {_WAY}") from None


def _copy(clip: UploadFile, to: Path) -> int:
    with to.open("wb") as file:
        shutil.copyfileobj(clip.file, file)
        return file.tell()


def _limit_body(request: Request, most: int) -> Request:
    """Return a request whose body raises HTTPException 413 when it exceeds `most` bytes."""
    read = 0

    async def receive() -> MutableMapping[str, Any]:
        nonlocal read
        message = await request.receive()
        read += len(message.get("body", b""))
        _check_size(read, most)
        return message

    return Request(request.scope, receive)


def _check_size(size: int, most: int) -> None:
    if size > most + _FORM_BYTES:
        raise HTTPException(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the clip has more than {most / _MEGABYTE:g} MB; allowed: up to {most / _MEGABYTE:g} MB; send a smaller clip",
        )
