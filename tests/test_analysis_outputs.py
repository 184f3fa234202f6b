"""Files of the analyses of a small corpus: samples, attention, importance and robustness."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from lightning_fabric import Fabric

from lib.analysis import attention, importance, robustness, samples
from lib.analysis._regions import list_regions
from lib.core.clips import read_clip_table
from lib.data import images
from lib.data.dataset import ClipDataset
from lib.model import checkpoint, infer
from tests.small_corpus import (
    CPU,
    MUTE,
    NAMES,
    save_random_model,
)
from tests.small_corpus import corpus_with_streams as corpus_with_streams
from tests.small_corpus import use_small_corpus as use_small_corpus


def test_samples_equal_the_records_of_shards(project: Path, tmp_path: Path) -> None:
    def write(name: str, **changes: Any) -> Path:
        trained = checkpoint.load(save_random_model(tmp_path, **changes), CPU)
        table = read_clip_table(Path("data/clips.csv")).iloc[[3, 0, NAMES.index(MUTE)]]
        settings_by_encoder, streams = trained.network.settings_by_encoder, trained.streams
        samples.write_samples(tmp_path / name, table, Path("data"), settings_by_encoder, streams)
        return tmp_path / name

    path = write("samples.h5")
    assert path.read_bytes() == write("again.h5").read_bytes()
    with (
        h5py.File(path) as file,
        h5py.File("data/faces/demo-one.h5") as faces,
        h5py.File("data/audio/demo-one.h5") as audio,
    ):
        assert list(file) == [NAMES[3], NAMES[0], MUTE]
        group, audio_records, face_records = file[NAMES[3]], audio[NAMES[3]], faces[NAMES[3]]
        assert set(group["pictures"]) == {"faces", "flow"}
        assert group["pictures/flow/values"].shape == (4, 64, 64, 3)  # the last one is the wheel
        assert len(group["pictures/flow/times"]) == 3
        assert group["pictures/flow"].attrs["full"] > 0.1
        times = group["pictures/faces/times"][()]
        assert len(times) == 4
        assert (np.diff(times) > 0).all()
        indices = [np.abs(face_records["times"][()] - time).argmin() for time in times]
        assert np.array_equal(group["pictures/faces/values"], face_records["faces"][()][indices])
        for array in ("log_mel", "mfcc"):
            assert np.array_equal(group[f"sound/{array}/values"], audio_records[array])
            assert group[f"sound/{array}/times"][()] == pytest.approx(audio_records["times"][()])
        is_read = {name: bool(group[name].attrs["read"]) for name in ("pictures/faces", "sound/log_mel", "sound/mfcc")}
        assert is_read == {"pictures/faces": True, "sound/log_mel": False, "sound/mfcc": True}
        assert "sound" not in file[MUTE]
        # mel bands are equally spaced on a scale that is linear to 1000 Hz and logarithmic above
        centres = group["sound/log_mel/frequencies"][()]
        mel = np.where(centres < 1000, centres * 3 / 200, 15 + 27 * np.log(np.maximum(centres, 1) / 1000) / np.log(6.4))
        assert mel == pytest.approx(mel[0] * np.arange(1, 17))
        assert 17 * mel[0] == pytest.approx(15 + 27 * np.log(8) / np.log(6.4))
    with h5py.File(write("flow.h5", model__use=["flow"])) as file:  # flow is computed from faces
        assert set(file[MUTE]) == {"pictures"}
        assert not file[f"{MUTE}/pictures/faces"].attrs["read"]
    with h5py.File(write("audio.h5", model__use=["audio"])) as file:
        assert set(file[NAMES[0]]) == {"sound"}
        assert not list(file[MUTE])


def test_colour_flow_uses_the_standard_colours() -> None:
    rng = np.random.default_rng(0)
    flow = rng.normal(0, 2, (3, 2, 16, 20)).astype(np.float32)
    flow[0, :, 0, 0], flow[0, :, 0, 1], flow[0, :, 0, 2] = 0, (-100, 0), (0, 100)
    colours, full = images.colour_flow(flow)
    assert colours.shape == (4, 3, 16, 20)
    assert (np.linalg.norm(flow, axis=1) > full).mean() == pytest.approx(0.01, abs=0.002)
    assert (colours[0, :, 0, 0] == 255).all()
    wheel = colours[3]
    assert (wheel[:, [0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
    left, down = colours[0, :, 0, 1].astype(int), colours[0, :, 0, 2].astype(int)
    assert np.abs(wheel[:, 7:9, 1].astype(int) - left[:, None]).max() < 60
    assert np.abs(wheel[:, 14, 9:11].astype(int) - down[:, None]).max() < 60
    assert np.abs(left - down).max() > 100
    assert images.colour_flow(np.zeros((2, 2, 16, 16), np.float32))[0][:2].min() == 255


def test_attention_files_contain_weights_times_and_faces(project: Path, tmp_path: Path) -> None:
    trained = checkpoint.load(save_random_model(tmp_path), CPU)
    data = ClipDataset(
        read_clip_table(Path("data/clips.csv")), Path("data"), trained.network.settings_by_encoder, trained.streams, {}
    )
    attention.write_attention(tmp_path / "attention.h5", trained.network, data, [0, NAMES.index(MUTE)])
    with h5py.File(tmp_path / "attention.h5") as file, h5py.File("data/faces/demo-one.h5") as faces:
        assert set(file) == {NAMES[0], MUTE}
        group = file[NAMES[0]]
        encoders = ["faces", "flow", "audio"]
        assert set(group["attention"]) == {
            f"{query}_to_{key}" for query in encoders for key in encoders if query != key
        }
        counts = {}
        for name in encoders:
            times, grid = group[f"tokens/{name}/times"][()], group[f"tokens/{name}/grid"][()]
            counts[name] = len(times) * grid.prod()
            assert (np.diff(times) > 0).all()
        assert group["tokens/audio/grid"][()].tolist() == [1, 1]
        for pair, weights in group["attention"].items():
            query, key = pair.split("_to_")
            assert weights.shape == (4, counts[query], counts[key])
            assert weights[()].sum(-1) == pytest.approx(1, abs=1e-5)
        assert list(group["pictures"]) == ["faces"]
        faces_of_clip = faces[NAMES[0]]["faces"][()]
        images = group["pictures/faces"][()]
        assert images.shape == (4, 64, 64, 3)
        indices = np.searchsorted(faces[NAMES[0]]["times"][()], group["tokens/faces/times"][()] - 1e-6)
        assert (images == faces_of_clip[indices]).all()
        assert file[MUTE]["tokens/audio/times"].shape == (1,)
    sample = [0, 1, NAMES.index(MUTE)]
    attention.write_mean_attention(tmp_path / "mean.h5", trained.network, data, sample, 0)
    with h5py.File(tmp_path / "mean.h5") as file:
        assert (set(file), file.attrs["clips"]) == ({"faces", "flow"}, 3)  # audio is one token
        for name in file:
            for part in ("heads", "shuffled"):
                attention_maps = file[name][part][()]
                assert attention_maps.shape[0] == 4
                assert attention_maps.mean((1, 2)) == pytest.approx(1, abs=1e-5)
            assert len(file[name]["correlations"]) == 3
            assert np.abs(file[name]["correlations"]).max() <= 1
        assert not np.allclose(file["faces/heads"], file["faces/shuffled"])
        assert file["faces/picture"].shape == (64, 64, 3)
        assert "picture" not in file["flow"]
    concat = checkpoint.load(save_random_model(tmp_path, model__fusion="concat"), CPU)
    attention.write_attention(tmp_path / "none.h5", concat.network, data, [0])
    attention.write_mean_attention(tmp_path / "no_mean.h5", concat.network, data, [0], 0)
    for name in ("none.h5", "no_mean.h5"):
        with h5py.File(tmp_path / name) as file:
            assert not list(file)


def test_importance_and_robustness_allow_missing_streams(project: Path, tmp_path: Path) -> None:
    trained = checkpoint.load(save_random_model(tmp_path), CPU)
    data = ClipDataset(
        read_clip_table(Path("data/clips.csv")), Path("data"), trained.network.settings_by_encoder, trained.streams, {}
    )
    fabric, chosen = Fabric(accelerator="cpu", devices=1), [0, NAMES.index(MUTE)]
    samples = [data[index]._replace(index=number) for number, index in enumerate(chosen)]
    regions = list(list_regions(trained.network, samples, 8, 8))
    measured = importance.measure_importance(fabric, trained.network, samples, regions, 2)
    assert {(region.stream, region.cell is None) for region in measured.regions} == {
        ("faces", False), ("faces", True), ("flow", False), ("flow", True), ("audio", True),
    }  # fmt: skip
    for method in importance.METHODS:
        sizes = measured.sizes[method]["traits"]
        assert sizes.shape == (2 * 64 + 3 * 8, 5)
        for stream in ("faces", "flow", "audio"):
            assert sizes[[region.stream == stream for region in measured.regions]].max() > 0
    predicted = infer.predict(fabric, trained.network, data, 2, 0)["traits"][chosen]
    assert np.abs(measured.missed["traits"]).max() < 0.2 * np.ptp(predicted)
    degraded = robustness.predict(fabric, trained.network, trained.streams, data, chosen, 2)
    assert degraded[robustness.INTACT]["traits"][0] == pytest.approx(predicted[0], abs=1e-6)
    assert np.isnan(degraded[robustness.INTACT]["traits"][1]).all()  # not measured for a clip without audio
    assert all(
        np.abs(predictions["traits"][0] - predicted[0]).max() > 1e-7
        for corruption, predictions in degraded.items()
        if corruption != robustness.INTACT
    )
