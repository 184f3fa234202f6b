"""tools/serve.py: predictions over HTTP, limits, the queue, the key, the log, and workers that are killed."""

import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn

import tools.predict
import tools.serve
from lib.core.errors import InputError
from lib.serving import service, uploads
from lib.serving.workers import Work, Worker, WorkerError
from lib.sources.demo.head import Performance
from tests.processes import wait_until
from tests.run_tool import call_main, run_tool
from tests.test_publish import save_model
from tests.video_files import write_talking_head
from tools.benchmarks import service as benchmark

KEY = "a key"
HEADERS = {service.KEY_HEADER: KEY}
LIMITS = service.Limits(max_mb=1, queue=1, key=KEY)
PORTS: list[int] = []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a clip of 2 s and a clip that is too long."""
    folder = tmp_path_factory.mktemp("serve")
    save_model(folder / "model.pt", flow={"backend": "opencv"})
    for name, seconds in (("talk", 2.0), ("long", 5.0)):
        write_talking_head(folder / f"{name}.mp4", 2, Performance(0.0, 1.0, 0.0, 2), seconds, 15)
    (folder / "uploads").mkdir()
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[service.Service]:
    """A service with one worker, a queue of one clip and a key, at PORTS[0]."""
    app = service.make_app(Work(folder / "model.pt", 4.0, 100.0), 1, LIMITS, folder / "uploads")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, 300)
    PORTS.append(server.servers[0].sockets[0].getsockname()[1])
    yield app.state.service
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def client(served: service.Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{PORTS[0]}", headers=HEADERS, timeout=300, trust_env=False) as client:
        yield client


def post(client: httpx.Client, path: Path, **options: Any) -> httpx.Response:
    with path.open("rb") as file:
        return client.post("/predict", files={"clip": (path.name, file)}, **options)


def detail(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    return str(response.json()["detail"])


def test_answer_equals_a_line_of_predict(
    client: httpx.Client, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    answer = post(client, Path("talk.mp4"))
    with pytest.raises(SystemExit):
        call_main(tools.predict, "talk.mp4", "--model", "model.pt", "--format", "jsonl")
    assert answer.json() == json.loads(capsys.readouterr().out)
    assert not list((folder / "uploads").iterdir())


def test_clip_that_cannot_be_used_has_the_reason(client: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    answer = post(client, tmp_path / "text.mp4").json()
    assert answer["clip"] == "text.mp4"
    assert answer["targets"] == {}
    assert "cannot be decoded" in answer["rejected"]


def test_model_and_health_describe_the_service(client: httpx.Client) -> None:
    about = client.get("/model").json()
    assert about["targets"]["traits"]["range"] == [0, 1]
    assert about["streams"] == ["frames", "faces", "flow"]
    assert about["limits"] == {"max_mb": 1, "max_seconds": 4.0, "queue": 1, "workers": 1}
    assert client.get("/health").json() == {"status": "ok", "workers": 1, "pending": 0}
    schema = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    assert "multipart/form-data" in schema["requestBody"]["content"]
    assert {"401", "413", "429", "503"} < {*schema["responses"]}
    assert client.get("/docs").status_code == 200


def test_limits_reject_with_allowed_values(client: httpx.Client, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "large.mp4").write_bytes(bytes(1_100_000))
    text = "the clip has more than 1 MB; allowed: up to 1 MB; send a smaller clip"
    assert detail(post(client, tmp_path / "large.mp4"), 413) == text
    form = b'--x\r\nContent-Disposition: form-data; name="clip"; filename="a"\r\n\r\n' + bytes(1_100_000) + b"\r\n--x--"
    parts = (form[start : start + 65536] for start in range(0, len(form), 65536))  # sent without its length
    chunked = client.post("/predict", content=parts, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert detail(chunked, 413) == text
    assert detail(post(client, folder / "long.mp4"), 413) == "the clip takes 5 s; allowed: up to 4 s; cut the clip"
    assert not list((folder / "uploads").iterdir())


def test_wrong_requests_name_what_is_allowed(client: httpx.Client, folder: Path) -> None:
    for key in ({service.KEY_HEADER: "wrong"}, {service.KEY_HEADER: ""}):
        assert "X-API-Key is missing or wrong; allowed" in detail(post(client, folder / "talk.mp4", headers=key), 401)
        assert client.get("/model", headers=key).status_code == 401
        assert client.get("/health", headers=key).status_code == 200
    assert "no file in the field 'clip'; allowed: one file" in detail(client.post("/predict", data={"clip": "a"}), 400)
    two = [("clip", ("a", b"")), ("clip", ("b", b""))]
    assert "the form can't be read (Too many files" in detail(client.post("/predict", files=two), 400)
    assert detail(client.get("/predict"), 405).startswith("GET /predict is not possible; allowed: POST /predict, GET")


def test_slow_upload_is_rejected(client: httpx.Client, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SECONDS", 0.0)
    assert "more than 0 s; allowed: up to 0 s" in detail(post(client, folder / "talk.mp4"), 408)


def test_full_queue_answers_when_to_try_again(client: httpx.Client, served: service.Service, folder: Path) -> None:
    (worker,) = served.workers
    os.kill(worker.process.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as threads:
        accepted = [threads.submit(post, client, folder / "talk.mp4") for _ in range(2)]
        wait_until(lambda: client.get("/health").json()["pending"] == 2, 30)
        rejected = post(client, folder / "talk.mp4")
        os.kill(worker.process.pid, signal.SIGCONT)
        assert "2 clips are being predicted or wait; allowed: up to 2; try again in" in detail(rejected, 429)
        assert int(rejected.headers["Retry-After"]) >= 1
        assert [future.result().status_code for future in accepted] == [200, 200]


def test_killed_worker_fails_one_request_only(client: httpx.Client, served: service.Service, folder: Path) -> None:
    (worker,) = served.workers
    process = worker.process
    os.kill(process.pid, signal.SIGSTOP)  # so that it is killed while it has a clip
    with ThreadPoolExecutor(1) as threads:
        failing = threads.submit(post, client, folder / "talk.mp4")
        wait_until(lambda: any((folder / "uploads").iterdir()) and not served.free.qsize(), 30)
        process.kill()
        response = failing.result()
    assert "was replaced: its process ended with status -9; allowed" in detail(response, 503)
    assert response.headers["Retry-After"] == "1"
    assert post(client, folder / "talk.mp4").json()["rejected"] == ""
    worker.process.kill()  # without a clip: no request fails
    worker.process.join()
    assert post(client, folder / "talk.mp4").json()["rejected"] == ""
    assert not list((folder / "uploads").iterdir())


def test_load_test_loses_no_clip(served: service.Service, folder: Path) -> None:
    benchmark.HEADERS.update(HEADERS)
    results = benchmark.send_clips(psutil.Process(), PORTS[0], folder / "talk.mp4", 6, 4)
    assert (len(results.seconds), results.lost) == (6, 0)
    assert results.statuses[200] == 6
    assert set(results.statuses) <= {200, 429}  # one worker and a queue of one clip for four clients
    assert len(results.memory) == 6
    assert min(results.memory) > 50


def test_worker_that_takes_too_long_is_replaced(served: service.Service, folder: Path) -> None:
    (worker,) = served.workers
    worker.wait_ready()
    process, work = worker.process, worker.work
    worker.work = replace(work, timeout=0.01)
    try:
        with pytest.raises(WorkerError, match="it took more than 0 s"):
            worker.predict(folder / "talk.mp4")
    finally:
        worker.work = work
    assert not process.is_alive()


def test_log_has_no_clip_name(client: httpx.Client, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        post(client, folder / "talk.mp4")
    lines = [json.loads(tools.serve.JsonLines().format(record)) for record in caplog.records if record.name == "serve"]
    assert [line["message"] for line in lines] == ["predict"]
    assert {"time", "level", "logger", "message", "status", "bytes", "rejected", "seconds"} == {*lines[0]}
    assert lines[0]["status"] == 200
    assert lines[0]["bytes"] == (folder / "talk.mp4").stat().st_size
    assert "talk" not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--host", "0.0.0.0"],
            "--host 0.0.0.0 without a key; allowed: 127.0.0.1, or a key in the environment variable",
        ),
        (["--model", "none.pt"], "none.pt is missing; run `dvc repro train`, or name a published folder"),
        (["--model", ".", "--port", "99999"], "--port 99999; allowed: 1 to 65535"),
    ],
)
def test_wrong_options_are_rejected(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(tools.serve.KEY, raising=False)
    assert message in run_tool(tools.serve, *arguments, cwd=tmp_path).stderr


def test_service_without_model_ends_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("no model")
    worker = Worker(Work(tmp_path / "model.pt", 4.0, 1.0))
    with pytest.raises(InputError, match="is not a complete model"):
        worker.wait_ready()
    worker.close()
