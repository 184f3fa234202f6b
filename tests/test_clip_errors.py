"""An error at one clip does not stop a stage or a prediction: it becomes the reason in that clip's row."""

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from lib.core import errors, parallel, shards
from lib.core.errors import InputError
from lib.core.shards import Record
from lib.media.frames import Probe
from lib.model.checkpoint import TrainingSummary
from lib.serving import predictor as serving
from lib.sources import _check as check
from lib.sources import base as sources
from lib.sources._check import Corpus
from lib.sources.fiv2 import LATTICE, SCORES
from lib.streams import _shards, base, build
from lib.streams.base import Raw
from tests.stage_parameters import small_parameters, use_parameters


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which stages run in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parallel, "start_executor", lambda *_: ThreadPoolExecutor(1))
    errors.log_once.cache_clear()
    return tmp_path


def write_clip_table(folder: Path, *names: str) -> None:
    (folder / "data/raw/demo/one").mkdir(parents=True)
    for name in names:
        (folder / "data/raw/demo/one" / name).write_text(name)
    table = pd.DataFrame({"clip": names, "video": names, "split": "training", "corpus": "demo", "shard": "demo-one"})
    table.assign(file=[f"demo/one/{name}" for name in names], sha256=names, start=None, end=None, reason="").to_csv(
        folder / "data/clips.csv", index=False
    )


def replace_frames_extractor(patch: pytest.MonkeyPatch, make: Callable[[Raw], Record]) -> None:
    fake = replace(base.load("frames"), make_extractor=lambda settings: make, summary=lambda folder: {})
    patch.setattr(base, "load", lambda name: fake)
    patch.setattr(_shards, "_shapes", lambda *_: {})


def test_stage_records_errors_of_clips_and_continues(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_clip_table(folder, "a.mp4", "b.mp4", "c.mp4", "d.mp4")
    calls: list[str] = []

    def make(raw: Raw) -> Record:
        calls.append(raw.clip)
        if raw.clip in ("b.mp4", "c.mp4"):
            raise ValueError("all input arrays\nmust have the same shape")
        return Record(raw.clip)

    replace_frames_extractor(monkeypatch, make)
    reason = "internal: ValueError: all input arrays must have the same shape"
    use_parameters(monkeypatch, small_parameters(download__allow_missing=0.5))
    with caplog.at_level(logging.INFO):
        build.build_stream("frames")
    assert shards.read_rejections(folder / "data/frames") == {"b.mp4": reason, "c.mp4": reason}
    summary = json.loads((folder / "metrics/frames.json").read_text())
    assert (summary["clips"], summary["rejected"], summary["internal"]) == (2, {reason: 2}, 2)
    assert caplog.text.count("Traceback") == 1
    use_parameters(monkeypatch, small_parameters(download__allow_missing=0.25))
    with pytest.raises(InputError, match=r"^frames: 50\.00% of .* data/\.work/rejected-frames.csv.*allows 25\.00%"):
        build.build_stream("frames")
    assert pd.read_csv("data/.work/rejected-frames.csv")["clip"].tolist() == ["b.mp4", "c.mp4"]
    assert len(calls) == 8  # a shard with an internal error is not cached


def test_invalid_parameters_stop_the_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip_table(folder, "a.mp4")

    def make(raw: Raw) -> Record:
        raise InputError("params.yaml: features.files")

    replace_frames_extractor(monkeypatch, make)
    use_parameters(monkeypatch, small_parameters())
    with pytest.raises(InputError, match=r"^params\.yaml: features\.files$"):
        build.build_stream("frames")


def test_verification_records_errors_of_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["a.000.mp4", "b.000.mp4", "c.000.mp4"]
    for name in names[:2]:
        (tmp_path / name).write_text(name)
    (tmp_path / names[2]).symlink_to(tmp_path / "nowhere")  # its bytes cannot be read
    monkeypatch.setattr(
        check.joblib,
        "Parallel",
        lambda **_: lambda tasks: [function(*arguments, **keywords) for function, arguments, keywords in tasks],
    )
    probe = Probe(3.0, 45, 15, 9, 9, True)
    monkeypatch.setattr(check, "probe_video", lambda path, span: 1 // 0 if path.name == names[0] else probe)
    errors.log_once.cache_clear()
    rows = pd.DataFrame({"clip": names, "video": "v", "split": "training", "shard": "one", "file": names})
    rows = rows.assign(**{name: 40 / LATTICE[name] for name in SCORES})
    corpus = Corpus("fiv2", sources.load("fiv2"), tmp_path, [Path(name) for name in names], rows)
    reasons = check.build_clip_table([corpus], True, 2.0, 10)["reason"].tolist()
    assert reasons[0] == "internal: ZeroDivisionError: integer division or modulo by zero"
    assert reasons[1] == ""
    assert reasons[2].startswith("internal: FileNotFoundError")
    assert caplog.text.count("Traceback") == 2


def test_predictor_returns_internal_errors_as_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(raw: Raw) -> Record:
        raise ValueError("no such thing")

    network = torch.nn.Module()
    network.settings_by_encoder = {}
    loaded = SimpleNamespace(
        network=network,
        streams={"frames": base.StreamInfo({}, {})},
        targets={},
        training=TrainingSummary([]),
    )
    monkeypatch.setattr(serving.checkpoint, "load", lambda *_: loaded)
    monkeypatch.setattr(base, "make_extractors", lambda _: {"frames": fail})
    monkeypatch.setattr(serving, "make_inputs", lambda *_, **__: 1 // 0)
    errors.log_once.cache_clear()
    (tmp_path / "a.mp4").write_text("not empty")
    predictor = serving.Predictor(tmp_path / "model.pt", torch.device("cpu"))
    for _ in range(2):
        assert predictor(tmp_path / "a.mp4").rejected.startswith("internal: ZeroDivisionError: ")
    assert caplog.text.count("Traceback") == 2  # one in the extractor and one after it
    assert "no such thing" in caplog.text
