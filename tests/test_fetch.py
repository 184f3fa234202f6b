"""Downloads that continue after an interruption."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lib.core.errors import InputError
from lib.core.fetch import fetch


class RangeServer(BaseHTTPRequestHandler):
    content = bytes(range(256)) * 1000
    ranges: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        requested = self.headers["Range"]
        self.ranges.append(requested)
        start = int(requested.removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.content)}")
            self.end_headers()
            return
        self.send_response(206)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start:])

    def log_message(self, *_: object) -> None:
        pass


def test_fetch_resumes_and_checks_the_sha256(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), RangeServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a.zip"
    (tmp_path / "a.zip.part").write_bytes(RangeServer.content[:1234])
    fetch(url, tmp_path / "a.zip", None, "correct it")
    assert RangeServer.ranges == ["bytes=1234-"]
    assert (tmp_path / "a.zip").read_bytes() == RangeServer.content
    with pytest.raises(InputError, match="sha256 is"):
        fetch(url, tmp_path / "b.zip", "0" * 64, "correct it")
    assert not (tmp_path / "b.zip").exists()
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match="run again"):
        fetch(url, tmp_path / "c.zip", None, "correct it")
