"""The stream waveform: tones, silence, unusual clips, batches of different lengths, and prediction with it."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.core import parallel, shards
from lib.core.shards import Record
from lib.core.targets import TRAITS, TargetGroup
from lib.data.batch import Sample, collate
from lib.data.dataset import make_inputs
from lib.data.inputs import EncoderSettings
from lib.data.pooled import pool_vectors
from lib.media.audio import read_audio
from lib.media.writing import write_video
from lib.model import checkpoint
from lib.model.checkpoint import TrainingSummary
from lib.model.network import Network
from lib.serving.predictor import Predictor
from lib.streams import base, waveform
from lib.streams._shards import write_shards
from lib.streams.base import Raw, StreamInfo
from tests.small_network import make_settings

RATE = 16_000
CPU = torch.device("cpu")


def write_clip(path: Path, samples: np.ndarray, rate: int = RATE) -> Raw:
    write_video(path, np.full((30, 64, 64, 3), 90, np.uint8), 15, samples, rate)
    return Raw(path.name, path, None)


def make_tone(seconds: float, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)


def make_stream_settings(rate: int = RATE) -> waveform.Settings:
    return waveform.Settings(enabled=True, sample_rate=rate)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_chunks_are_the_audio_in_16_bits(tmp_path: Path, rate: int) -> None:
    raw = write_clip(tmp_path / "a.mp4", make_tone(2))
    record = waveform.make_extractor(make_stream_settings(rate))(raw)
    start, audio = read_audio(raw.path, rate)
    samples, times = record.arrays["samples"], record.arrays["times"]
    length = rate // 50
    assert samples.dtype == np.int16
    assert samples.shape == (len(audio) // length, length)
    assert times[0] == pytest.approx(start + 0.01)
    assert np.diff(times) == pytest.approx(0.02)
    steps = waveform.read_steps(record, np.arange(len(times)))
    assert steps.dtype == np.float32
    assert steps.ravel() == pytest.approx(audio[: steps.size], abs=1 / 65_000)
    assert waveform.read_steps(record, np.array([3, 0, 3])).tolist() == steps[[3, 0, 3]].tolist()


def test_full_scale_audio_does_not_overflow(tmp_path: Path) -> None:
    raw = write_clip(tmp_path / "a.mp4", np.sign(make_tone(1)))
    steps = waveform.read_steps(waveform.read_waveform(raw, RATE), np.arange(40))
    audio = read_audio(raw.path, RATE)[1]
    assert audio.max() > 0.9
    assert steps.ravel() == pytest.approx(audio[: steps.size], abs=1e-4)


def test_clip_without_enough_audio_is_rejected(tmp_path: Path) -> None:
    short = write_clip(tmp_path / "a.mp4", np.zeros(RATE))._replace(span=(0.0, 0.015))
    assert waveform.read_waveform(short, RATE).rejected == "waveform: 0.015 s of audio, a chunk has 0.02 s"
    assert waveform.read_waveform(Raw("b.mp4", None, None), RATE).rejected == "waveform: no video"
    (tmp_path / "c.mp4").write_bytes(b"no video")
    damaged = waveform.read_waveform(Raw("c.mp4", tmp_path / "c.mp4", None), RATE)
    assert damaged.rejected.startswith("waveform: sound cannot be decoded")


def test_batch_of_different_lengths_is_padded_and_masked() -> None:
    stream = {"waveform": StreamInfo({}, {"": [320]})}
    inputs = {"voice": EncoderSettings(kind="vectors", reads=["waveform"], take="all", steps=1)}
    records = [
        Record("a", {"samples": np.full((count, 320), 16_384, np.int16), "times": 0.02 * np.arange(count) + 0.01})
        for count in (5, 2)
    ]
    records.append(Record("c", rejected="waveform: has no sound"))
    samples = [
        Sample(make_inputs({"waveform": record}, inputs, stream, None), {}, index)
        for index, record in enumerate(records)
    ]
    steps = collate(samples).inputs["voice"]["waveform"]
    assert steps.values.shape == (3, 5, 320)
    assert steps.values.dtype == torch.float32
    assert steps.present.sum(1).tolist() == [5, 2, 0]
    assert (steps.values[steps.present] == 0.5).all()
    assert not steps.values[~steps.present].any()


def test_waveform_shards_are_small_and_no_baseline_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parallel, "start_executor", lambda *_: ThreadPoolExecutor(1))
    raw = write_clip(tmp_path / "a.mp4", make_tone(2))
    extract = waveform.make_extractor(make_stream_settings())
    options = parallel.Parallel(engine="loky", workers=1)
    stream, out = base.load("waveform"), tmp_path / "data/waveform"
    write_shards(stream, make_stream_settings(), out, {"one": 1}, lambda name: [extract(raw)], clips=1, options=options)
    assert json.loads((out / base.ABOUT).read_text())["shapes"] == {"": [320]}
    (samples,) = shards.read_arrays(out, "samples")
    assert samples.nbytes == pytest.approx(2 * 32_000, rel=0.02)
    assert (out / "one.h5").stat().st_size < samples.nbytes + 20_000
    assert waveform.summary(out) == {"hours": round(len(samples) * 0.02 / 3600, 3)}
    assert pool_vectors(tmp_path / "data") == {}


def test_predictor_reads_the_waveform_as_training(tmp_path: Path) -> None:
    raw = write_clip(tmp_path / "a.mp4", make_tone(2), 44_100)
    voice = {"kind": "vectors", "reads": ["waveform"], "take": "all", "steps": 1, "net": "mlp", "width": 24}
    encoders = {"voice": voice | {"depth": 1, "dropout": 0.0, "pool": 50}}
    settings = make_settings(["voice"], encoders=encoders)
    streams = {"waveform": StreamInfo(make_stream_settings().model_dump(), {"": [320]})}
    targets = {"traits": TargetGroup(columns=list(TRAITS), range=[0, 1], head="sigmoid", loss="mse", weight=1.0)}
    network = Network.from_settings(settings, targets, streams).eval()
    checkpoint.save(tmp_path / "model.pt", network.state_dict(), settings, targets, streams, TrainingSummary(["table"]))
    prediction = Predictor(tmp_path / "model.pt", CPU)(tmp_path / "a.mp4")
    inputs = make_inputs({"waveform": waveform.read_waveform(raw, RATE)}, network.settings_by_encoder, streams, None)
    with torch.no_grad():
        expected = network(collate([Sample(inputs, {}, 0)]).inputs).predicted["traits"][0]
    assert prediction.rejected == ""
    assert [target.score for target in prediction.targets["traits"].values()] == pytest.approx(
        expected.tolist(), abs=1e-6
    )
