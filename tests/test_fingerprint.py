"""Fingerprints: a changed constant causes a rebuild; comments, docstrings and unused code and settings do not."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision

from lib.core import parallel, parameters, resume, shards
from lib.core.errors import InputError
from lib.core.parallel import Parallel
from lib.core.shards import Record
from lib.data.inputs import list_streams
from lib.streams import base, build
from lib.streams._shards import write_shards
from lib.streams.base import StreamInfo
from lib.training.prepare import fingerprint
from lib.training.settings import Parameters
from tests.conftest import ROOT
from tests.stage_parameters import small_parameters, use_parameters
from tools.parameters import merge_parameters, plain


@pytest.fixture
def code_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the code, which fingerprints read."""
    for folder in ("lib", "stages"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(resume, "_PROJECT", tmp_path)
    monkeypatch.setattr(resume, "ROOT", tmp_path / "work")
    return tmp_path


def replace_in(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_fingerprint_ignores_comments_and_new_modules(code_copy: Path) -> None:
    before = resume.fingerprint(["lib.streams.faces"], {"side": 64})
    replace_in(code_copy / "lib/streams/faces/follow.py", "def follow(", "# a comment\n\n\ndef follow(")
    replace_in(code_copy / "lib/streams/faces/align.py", '"""Align the tracked face', '"""Turn the tracked face')
    replace_in(code_copy / "lib/core/errors.py", '"""A mistake in the input', '"""An error in the input')
    (code_copy / "lib/core/unrelated.py").write_text("NUMBER = 1\n")
    assert resume.fingerprint(["lib.streams.faces"], {"side": 64}) == before
    assert resume.fingerprint(["lib.streams.faces"], {"side": 72}) != before
    replace_in(
        code_copy / "lib/streams/faces/tracks.py", "_SAME_FACE = 0.3", "_SAME_FACE = 0.4"
    )  # align imports it inside a function
    assert resume.fingerprint(["lib.streams.faces"], {"side": 64}) != before


def make_records(folder: Path, name: str) -> Iterator[Record]:
    (folder / f"{name}{len(list(folder.iterdir()))}").touch()
    yield Record("a.mp4", rejected="why")


def test_changed_constant_rebuilds_shards(code_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "start_executor", lambda *_: ThreadPoolExecutor(1))
    (code_copy / "made").mkdir()
    stream = base.load("descriptors")
    settings = stream.settings(enabled=True, source="faces", face_cells=8, flow_cells=4)

    def run() -> int:
        make, options = partial(make_records, code_copy / "made"), Parallel(engine="loky", workers=1)
        write_shards(stream, settings, code_copy / "out", {"x": 1, "y": 2}, make, clips=2, options=options)
        return len(list((code_copy / "made").iterdir()))

    assert run() == 2
    replace_in(
        code_copy / "lib/streams/descriptors.py", "def compute_descriptor(", "# a comment\ndef compute_descriptor("
    )
    replace_in(
        code_copy / "lib/streams/_shards.py", "_PARTIAL, _COUNT", "_UNRELATED = 1\n_PARTIAL, _COUNT"
    )  # does not affect the bytes of shards
    assert run() == 2
    replace_in(code_copy / "lib/streams/descriptors.py", "/ 255", "/ 256")
    assert run() == 4


def test_new_weights_in_the_same_file_rebuild_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parallel, "start_executor", lambda *_: ThreadPoolExecutor(1))
    values = small_parameters(faces__enabled=True)
    values["embeddings"] |= {"enabled": True, "network": "mobilenet_v2", "weights": "w.pt", "side": 32, "steps": 1}
    use_parameters(monkeypatch, values)
    Path("data/faces").mkdir(parents=True)
    Path("data/frames").mkdir()
    for name in ("frames", "faces"):
        Path(f"data/{name}/stream.json").write_text(json.dumps({"settings": {}, "shapes": {"": [3, 32, 32]}}))
    with h5py.File("data/faces/one.h5", "w") as file:
        arrays = {"faces": np.full((1, 32, 32, 3), 128, np.uint8), "found": np.ones(1), "times": np.zeros(1)}
        shards.write_record(file, Record("a.mp4", arrays))

    def vector() -> np.ndarray:
        build.build_stream("embeddings")
        return next(shards.read_arrays(Path("data/embeddings"), "values"))

    weights = torchvision.models.mobilenet_v2().state_dict()
    torch.save(weights, "w.pt")
    before = vector()
    assert (vector() == before).all()
    torch.save({name: value * 0 if value.is_floating_point() else value for name, value in weights.items()}, "w.pt")
    assert before.any()
    assert not vector().any()
    Path("w.pt").unlink()
    with pytest.raises(InputError, match=r"embeddings\.weights = 'w\.pt'; allowed: null, imagenet, or the path"):
        build.build_stream("embeddings")


@pytest.mark.parametrize("name", base.list_names())
def test_each_stream_lists_existing_files(name: str) -> None:
    settings = base.load(name).settings(**plain(merge_parameters("demo", []))[name])
    assert all(path.is_file() for path in base.load(name).files(settings))


CLIPS = pd.DataFrame({"clip": ["a", "b"], "corpus": "demo", "shard": "s", "openness": [0.5, 0.6]}).assign(
    **dict.fromkeys(("extraversion", "agreeableness", "conscientiousness", "neuroticism"), 0.5)
)


def fingerprint_of(*changes: str, flow: str = "torch", clips: pd.DataFrame = CLIPS) -> str:
    values = plain(merge_parameters("demo", ["model.use=[faces, flow]", *changes]))
    settings = parameters.check({name: values[name] for name in Parameters.model_fields}, Parameters)
    settings_by_encoder = settings.model.settings_by_encoder()
    streams = {
        name: StreamInfo({"of": flow if name == "flow" else name}, {"": [1]})
        for name in list_streams(settings_by_encoder)
    }
    return fingerprint(settings, settings_by_encoder, streams, clips, clips)


@pytest.mark.slow
def test_training_fingerprint_depends_on_used_settings_and_code(code_copy: Path) -> None:
    before, faces = fingerprint_of(), fingerprint_of("model.use=[faces]")
    assert before != faces
    assert fingerprint_of("model.encoders.audio.width=24") == before  # an unused encoder
    assert fingerprint_of("train.learning_rate.audio=0.5") == before
    assert fingerprint_of("targets.interview.weight=2.0") == before  # a group without predictions
    assert fingerprint_of("train.learning_rate.faces=0.5") != before
    assert fingerprint_of("model.use=[faces]", flow="opencv") == faces  # an unused stream
    assert fingerprint_of(flow="opencv") != before
    assert fingerprint_of("train.seed=1") != before
    assert fingerprint_of("model.encoders.faces.steps=5") != before
    assert fingerprint_of(clips=CLIPS.assign(openness=[0.5, 0.7])) != before
    assert fingerprint_of(clips=CLIPS.assign(duration=[1.0, 2.0])) == before
    replace_in(code_copy / "lib/training/loop.py", "def fit(", "# a comment\ndef fit(")
    replace_in(code_copy / "lib/model/encoders/vectors.py", "STEPS = 20", "STEPS = 30")
    assert fingerprint_of() == before
    replace_in(code_copy / "lib/model/encoders/volumes.py", "FLOW_UNIT = 2.0", "FLOW_UNIT = 3.0")
    assert fingerprint_of() != before
    assert fingerprint_of("model.use=[faces]") == faces
