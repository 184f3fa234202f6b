"""Serve a trained or published model over HTTP: POST a video clip to /predict, and get the JSON of
`tools.predict --format jsonl`.

GET /health and /model describe the service and the model, /docs its interface. One of --workers processes predicts a clip;
up to --queue further clips wait, and others get status 429 with Retry-After. If the environment variable
APPARENT_PERSONALITY_KEY is set, requests need the header X-API-Key. Uploads are deleted after their prediction. The log on
standard error has a JSON object for each request, without the clip's name.

examples:
  python -m tools.serve --model published
  curl -F clip=@talk.mp4 http://127.0.0.1:8000/predict
"""

import argparse
import datetime
import json
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path

from lib.core import command, interrupts
from lib.core.artifacts import MODEL
from lib.core.errors import InputError
from tools.page import check_address

KEY = "APPARENT_PERSONALITY_KEY"
_LOCAL = ("127.0.0.1", "localhost", "::1")


def main() -> None:
    arguments = make_parser().parse_args()
    key = check_key(arguments.host, os.environ.get(KEY, ""))
    if not arguments.model.exists():
        raise InputError(
            f"{arguments.model} is missing; run `dvc repro train`, or name a published folder with --model"
        )
    check_address(arguments.host, arguments.port)
    with interrupts.loading():
        try:
            import uvicorn

            from lib.serving import service
            from lib.serving.workers import Work
        except ImportError as error:
            raise InputError(f"{error.name} is not installed; run pip install -r requirements-serve.txt") from None
    log_requests()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # uvicorn raises it again at its end; uploads would stay
    with tempfile.TemporaryDirectory(prefix="serve-", ignore_cleanup_errors=True) as folder:
        work = Work(arguments.model, arguments.max_seconds, arguments.timeout)
        limits = service.Limits(arguments.max_mb, arguments.queue, key)
        app = service.make_app(work, arguments.workers, limits, Path(folder))
        uvicorn.run(
            app,
            host=arguments.host,
            port=arguments.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=30,
        )


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, default=MODEL, help="trained model or published folder (%(default)s)")
    add("--host", default="127.0.0.1", help="address to listen at (%(default)s: only this machine can reach it)")
    add("--port", type=int, default=8000, help="port to listen at (%(default)s)")
    add("--workers", type=int, default=1, choices=range(1, 33), metavar="N",
        help="number of processes, each with its own copy of the model (%(default)s)")  # fmt: skip
    add("--queue", type=int, default=8, choices=range(1025), metavar="N",
        help="number of clips that may wait for a worker (%(default)s)")  # fmt: skip
    add("--max-mb", type=float, default=100, help="largest upload in megabytes (%(default)s)")
    add("--max-seconds", type=float, default=600, help="longest clip in seconds (%(default)s)")
    add("--timeout", type=float, default=600, help="most seconds for one prediction (%(default)s)")
    return parser


def check_key(host: str, key: str) -> str:
    """Return the key. Raises InputError if other machines could reach a service without a key."""
    if not key and host not in _LOCAL:
        raise InputError(
            f"--host {host} without a key; allowed: 127.0.0.1, or a key in the environment variable {KEY}; set one, such as"
            f" {KEY}=$(openssl rand -hex 16)"
        )
    return key


class JsonLines(logging.Formatter):
    """Formats a message as a JSON object with time, logger, message, the values of `extra`, and the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        line |= getattr(record, "values", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_requests() -> None:
    """Log requests, and warnings of libraries, as JSON lines to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler])
    for name in ("serve", "uvicorn"):
        logging.getLogger(name).setLevel(logging.INFO)


if __name__ == "__main__":
    command.run(main)
