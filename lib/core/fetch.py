"""Download a file over HTTP, resuming an interrupted download."""

import hashlib
from pathlib import Path

import requests
from tqdm import tqdm

from lib.core.errors import InputError

_CHUNK = 1 << 20
_TIMEOUT = 60  # seconds without a byte


def fetch(url: str, destination: Path, sha256: str | None, hint: str) -> None:
    """Download `url` to `destination`, by way of DESTINATION.part until the file is complete and its checksum is right.

    hint: what to do about a wrong URL or checksum. Raises InputError if the server reports an error, the size differs from
    the announced one, or the checksum differs.
    """
    partial = destination.with_name(destination.name + ".part")
    have = partial.stat().st_size if partial.exists() else 0
    try:
        with requests.get(url, headers={"Range": f"bytes={have}-"}, stream=True, timeout=_TIMEOUT) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable and have:
                total: int | None = int(answer.headers.get("Content-Range", f"*/{have}").rsplit("/", 1)[1])
            else:
                answer.raise_for_status()
                if answer.status_code != requests.codes.partial_content:
                    have = 0  # the server ignores the range and sends the complete file
                length = answer.headers.get("Content-Length")
                total = have + int(length) if length else None
                with (
                    partial.open("ab" if have else "wb") as file,
                    tqdm(
                        total=total, initial=have, desc=destination.name, unit="B", unit_scale=True, disable=None
                    ) as bar,
                ):
                    for chunk in answer.iter_content(_CHUNK):
                        file.write(chunk)
                        bar.update(len(chunk))
    except requests.RequestException as error:
        raise InputError(f"{url}: {error}; run again to resume, or {hint}") from None
    size = partial.stat().st_size
    if total is not None and size != total:
        if size > total:
            partial.unlink()
        raise InputError(f"{url}: {size} of {total} bytes arrived; run again to resume")
    if sha256 is not None:
        with partial.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256:
            partial.unlink()
            raise InputError(
                f"{url}: sha256 is {digest}, but must be {sha256}; the file was removed. Run again, or {hint}"
            )
    partial.rename(destination)
