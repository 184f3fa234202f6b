"""A small corpus through the streams' stages, training and prediction, without DVC. Prediction equals evaluation."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric

import tools.export
import tools.predict
from lib.analysis import attention, importance, robustness, samples
from lib.analysis._regions import list_regions
from lib.core import parallel, parameters, resume
from lib.core.clips import read_clip_table
from lib.core.errors import InputError
from lib.core.targets import TRAITS
from lib.data import images
from lib.data.dataset import ClipDataset
from lib.media.frames import read_frames
from lib.model import checkpoint, infer
from lib.model.checkpoint import TrainingSummary
from lib.model.fusions import FUSIONS
from lib.model.network import Network
from lib.model.settings import STACKED
from lib.report.provenance import describe_newest_input
from lib.serving import explain as serving_explain
from lib.serving.clips import find_clips
from lib.serving.predictor import Predictor
from lib.sources import listing
from lib.sources.demo.head import Identity, Performance, render
from lib.streams import _shards, build
from lib.training.prepare import load_streams, select_clips, standardise
from lib.training.settings import Parameters
from stages import train
from tests.code_blocks import find_code_blocks
from tests.conftest import ODD, ROOT
from tests.run_tool import call_main
from tests.stage_parameters import small_parameters, use_parameters
from tests.video_files import (
    Track,
    resize_frames,
    timed_frames,
    write_conversation,
    write_talking_head,
    write_video_file,
)

CPU, FPS = torch.device("cpu"), 15
START_LOKY = parallel.start_executor  # the fixture `project` replaces it
NAMES = [f"v{index}.000.mp4" for index in range(7)]
MUTE = NAMES[2]
SPLITS = ["training", "training", "training", "training", "validation", "validation", "test"]
STREAMS = ["frames", "audio", "features", "faces", "flow"]


def write_video_without_audio(path: Path, frames: np.ndarray) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, with seven clips and their streams. One clip has no audio."""
    folder = tmp_path_factory.mktemp("project")
    raw = folder / "data/raw/demo/one"
    raw.mkdir(parents=True)
    for index, name in enumerate(NAMES):
        performance = Performance(index / 3 - 1, 0.5 + index / 5, index / 4 - 0.5, index)
        if name == MUTE:
            write_video_without_audio(raw / name, render(Identity(index), performance, 2.0, FPS)[0])
        else:
            write_talking_head(raw / name, index, performance, 2.0, FPS)
    table = pd.DataFrame({"clip": NAMES, "video": NAMES, "split": SPLITS}).assign(
        corpus=["demo"] * 5 + ["own"] * 2,
        shard="demo-one",
        file=[f"demo/one/{name}" for name in NAMES],
        sha256=[resume.hash_file(raw / name) for name in NAMES],
        **{trait: np.linspace(0.2, 0.8, 7) for trait in TRAITS},
        warm=[np.nan, 2, 3, 4, 5, np.nan, 7],
        start=np.nan,
        end=np.nan,
        reason="",
    )
    table.loc[3, list(TRAITS)] = np.nan
    table.to_csv(folder / "data/clips.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(parallel, "start_executor", lambda *_: ThreadPoolExecutor(1))
        use_parameters(patch, small_parameters())
        for name in STREAMS:
            build.build_stream(name)
        yield folder


@pytest.fixture(autouse=True)
def _small_parameters(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_parameters(monkeypatch, small_parameters())


def training_parameters(**changes: Any) -> Parameters:
    values = small_parameters(**changes)
    return parameters.check({name: values[name] for name in Parameters.model_fields}, Parameters)


def test_stream_folder_describes_shapes_and_settings(project: Path) -> None:
    descriptions = {
        name: json.loads((project / f"data/{name}/stream.json").read_text()) for name in STREAMS if name != "features"
    }
    assert {name: description["shapes"] for name, description in descriptions.items()} == {
        "frames": {"": [3, 240, 320]},
        "audio": {"log_mel": [16], "mfcc": [6]},
        "faces": {"": [3, 64, 64]},
        "flow": {"": [2, 64, 64]},
    }
    values = small_parameters()
    assert all(descriptions[name]["settings"] == values[name] for name in descriptions)
    metrics = json.loads((project / "metrics/audio.json").read_text())
    assert (metrics["clips"], metrics["rejected"]) == (6, {"audio: has no sound": 1})


def test_disabled_stream_is_an_empty_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not list((project / "data/features").iterdir())
    assert json.loads((project / "metrics/features.json").read_text()) == {"enabled": False}
    shutil.copytree(project / "data/audio", project / "kept")
    use_parameters(monkeypatch, small_parameters(audio__enabled=False))
    build.build_stream("audio")
    assert not list((project / "data/audio").iterdir())
    use_parameters(monkeypatch, small_parameters())
    monkeypatch.setattr(_shards, "write_shard", lambda *_: pytest.fail("a finished shard is written again"))
    build.build_stream("audio")
    for path in (project / "kept").iterdir():
        assert path.read_bytes() == (project / "data/audio" / path.name).read_bytes()


def test_disabled_input_streams_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    use_parameters(monkeypatch, small_parameters(faces__enabled=False))
    build.build_stream("faces")
    with pytest.raises(InputError) as caught:
        build.build_stream("flow")
    message = "faces.enabled = false, but {}; allowed: true; set faces.enabled to true, or {}"
    assert str(caught.value) == message.format("flow is made from it", "flow.enabled to false")
    with pytest.raises(InputError) as caught:
        load_streams(training_parameters(model__use=["faces"]).model.settings_by_encoder())
    assert str(caught.value) == message.format("model.use has faces, which reads it", "remove faces from model.use")


def test_select_clips_by_streams_labels_and_mix(project: Path) -> None:
    def select(**changes: Any) -> tuple[list[str], list[str]]:
        settings = training_parameters(**changes)
        tables = select_clips(
            settings, settings.model.settings_by_encoder(), settings.model.select_targets(settings.targets)
        )
        return tuple(table["clip"].str[1].tolist() for table in tables)  # type: ignore[return-value]

    assert select() == (list("0123"), list("45"))
    assert select(model__missing="drop") == (list("013"), list("45"))
    assert select(model__targets=["traits"]) == (list("012"), list("45"))  # one clip has no trait label
    assert select(model__use=["faces"], model__missing="drop") == (list("0123"), list("45"))
    with pytest.raises(InputError, match=r"train\.mix has 'fiv2'; allowed: the corpora .*, demo, own"):
        select(train__mix={"fiv2": 1.0})
    assert select(train__mix={"own": 0.0}) == (list("0123"), ["4"])
    with pytest.raises(InputError, match="no clip of the training split is usable"):
        select(train__mix={"demo": 0.0})


def test_train_reuses_a_finished_training(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outs = [project / path for path in ("data/model.pt", "plots/history.csv", "metrics/train.json")]
    train.main()
    contents = [path.read_bytes() for path in outs]
    history = pd.read_csv(outs[1])
    assert len(history) == 2
    assert {f"validation_{score}_{group}" for score in ("accuracy", "r2", "ccc", "spread")
            for group in ("traits", "warmth")} <= set(history)  # fmt: skip
    assert {"training_accuracy_traits", "training_accuracy_warmth"} <= set(history)
    for path in outs:
        path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(train, "train_model", lambda *_: pytest.fail("nothing that it uses has changed"))
        use_parameters(patch, small_parameters(audio__enabled=True, model__encoders__features__width=96))
        train.main()
    assert [path.read_bytes() for path in outs] == contents
    (cached,) = (project / "data/.work/train").iterdir()
    assert not (cached / "last.pt").exists()
    use_parameters(monkeypatch, small_parameters(train__epochs=1))
    train.main()
    assert len(pd.read_csv(outs[1])) == 1
    assert cached not in (project / "data/.work/train").iterdir()  # only the last training is cached


def test_repeated_training_writes_the_same_bytes(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest, listed = "2026-01-02T03:04:05+00:00", tmp_path / "archives.csv"
    listed.write_text(f"path,bytes,sha256,modified\na,1,0,2025-01-01T00:00:00+00:00\nb,1,0,{newest}\nc,1,0,\n")
    monkeypatch.setattr(listing, "LISTING", listed)
    monkeypatch.setattr("lib.training.run.SYNTHETIC", ())
    monkeypatch.setattr("lib.training.run.MODEL", tmp_path / "model.pt")
    models = []
    for run in ("one", "two"):
        monkeypatch.setattr(resume, "ROOT", tmp_path / run)
        train.main()
        models.append((tmp_path / "model.pt").read_bytes())
    assert models[0] == models[1]
    provenance = checkpoint.load(tmp_path / "model.pt", CPU).provenance
    assert provenance["newest_input"] == newest
    assert describe_newest_input(provenance).endswith(" (newest archive)")


def save_random_model(folder: Path, **changes: Any) -> Path:
    """Save a network with random weights, its streams and standardisation."""
    settings = training_parameters(**changes)
    settings_by_encoder, targets = settings.model.settings_by_encoder(), settings.model.select_targets(settings.targets)
    streams = load_streams(settings_by_encoder)
    torch.manual_seed(1)
    network = Network.from_settings(settings.model, targets, streams)
    for parameter in network.absent.values():
        torch.nn.init.normal_(parameter)
    standardise(
        network, read_clip_table(Path("data/clips.csv"))[:4].reset_index(drop=True), settings_by_encoder, streams
    )
    checkpoint.save(
        folder / "model.pt", network.state_dict(), settings.model, targets, streams, TrainingSummary(["demo"])
    )
    return folder / "model.pt"


def raw_path(project: Path, name: str) -> Path:
    return project / "data/raw/demo/one" / name


@pytest.mark.parametrize("fusion", sorted(FUSIONS.keys() - {STACKED}))  # `stacked` needs fitted regressions
def test_predictor_equals_evaluation(project: Path, tmp_path: Path, fusion: str) -> None:
    takes_two = fusion.startswith("multitask")  # takes two encoders of one width
    encoders, width = (["faces", "audio"], 512) if takes_two else (["faces", "flow", "audio"], 64)
    predictor = Predictor(
        save_random_model(tmp_path, model__fusion=fusion, model__use=encoders, model__encoders__audio__width=width), CPU
    )
    trained, table = predictor.trained, read_clip_table(Path("data/clips.csv"))
    assert list(trained.streams) == ["frames", *encoders]
    data = ClipDataset(table, Path("data"), trained.network.settings_by_encoder, trained.streams, {})
    evaluated = infer.predict(Fabric(accelerator="cpu", devices=1), trained.network, data, 3, 0)
    assert evaluated["traits"].std(0).min() > 1e-4
    for index, prediction in enumerate(predictor.many([raw_path(project, name) for name in NAMES])):
        assert (prediction.clip.name, prediction.rejected) == (NAMES[index], "")
        assert list(prediction.targets) == ["traits", "warmth"]
        assert list(prediction.targets["traits"]) == list(TRAITS)
        traits = [target.score for target in prediction.targets["traits"].values()]
        assert traits == pytest.approx(evaluated["traits"][index], abs=1e-6)
        assert prediction.targets["warmth"]["warm"].score == pytest.approx(
            1 + 6 * evaluated["warmth"][index, 0], abs=6e-6
        )


def test_missing_stream_is_handled_as_in_training(project: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    keeping = Predictor(save_random_model(tmp_path), CPU)
    without_audio = keeping(raw_path(project, MUTE))
    assert all(np.isfinite(target.score) for target in without_audio.targets["traits"].values())
    assert without_audio.warnings[1:] == ("audio: has no sound; predicted without it",)
    assert re.match(r"frames: .*; audio: sound cannot be decoded", keeping(tmp_path / "text.mp4").rejected)
    assert keeping(Path("nowhere.mp4")).rejected == "nowhere.mp4 is not a file"
    dropping = Predictor(save_random_model(tmp_path, model__missing="drop"), CPU)
    assert dropping(raw_path(project, MUTE)).rejected == "audio: has no sound"
    assert not dropping(raw_path(project, MUTE)).targets
    assert dropping(raw_path(project, NAMES[0])).targets["traits"]


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


def test_predict_prints_a_row_for_each_unusable_file(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usable = raw_path(project, NAMES[0])
    (tmp_path / "script.mp4").write_text(f"ffconcat version 1.0\nfile '{usable}'\n")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(usable.read_bytes()[:5000])
    (tmp_path / "dangling.mp4").symlink_to("nowhere")
    write_video_file(tmp_path / "tiny.mp4", Track(resize_frames(timed_frames(30), 32, 32)))
    write_video_file(
        tmp_path / "leap.mp4",
        Track(timed_frames(), times=[index / 15 + (7200 if index > 29 else 0) for index in range(60)]),
    )
    unusable = [tmp_path / ("x" * 300), *sorted(tmp_path.iterdir())]
    path = save_random_model(tmp_path, model__missing="drop")
    assert run_predict(*unusable, usable, "--model", path) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["clip"] for row in rows] == [*map(str, unusable), str(usable)]
    reasons = {Path(row["clip"]).stem[:8]: row["rejected"] for row in rows}
    assert reasons.pop("v0.000") == ""
    assert all(reasons.values())
    assert not any("internal" in reason for reason in reasons.values()), reasons
    assert "is not a video" in reasons["script"]
    assert "found in 0% of the frames" in reasons["tiny"]
    assert "time stamps leap by 7200.1 s" in reasons["leap"]
    assert float(rows[-1]["openness"]) > 0


def test_references_come_from_the_models_own_clips(project: Path) -> None:
    train.main()
    predictor = Predictor(project / "data/model.pt", CPU)
    reference = predictor.trained.training.references["warmth"]
    labels = np.array([2, 3, 4])  # of the training clips
    assert reference.quantiles[:, 0].numpy() == pytest.approx(np.quantile(labels, np.linspace(0, 1, 101)), abs=1e-6)
    assert not np.isfinite(reference.half_widths.numpy()[0])  # only one validation clip has a label
    estimate = predictor(raw_path(project, NAMES[6])).targets["warmth"]["warm"]
    assert (estimate.low, estimate.high) == (None, None)
    assert estimate.percentile == pytest.approx(np.clip((estimate.score - 2) / 2 * 100, 0, 100), abs=0.01)


def test_predictor_warns_of_clips_unlike_training_clips(project: Path, tmp_path: Path) -> None:
    train.main()
    predictor = Predictor(project / "data/model.pt", CPU)
    ranges = predictor.trained.training.ranges["faces"]
    for index, name in enumerate(NAMES[:4]):  # the training clips lie within the ranges
        with h5py.File("data/faces/demo-one.h5") as file:
            landmarks = file[name]["landmarks"][()]
        low, high = ranges["pixels between the eyes"]
        assert low <= np.nanmedian(np.linalg.norm(landmarks[:, 0] - landmarks[:, 1], axis=1)) <= high, index
        assert not any("(training clips" in warning for warning in predictor(raw_path(project, name)).warnings)
    frames, _ = render(Identity(1), Performance(0.0, 1.0, 0.0, 1), 2.0, FPS)
    dark = np.full((len(frames), 300, 300, 3), 20, np.uint8)
    for target, frame in zip(dark, frames, strict=True):
        small = cv2.resize(frame, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA) // 3
        target[: len(small), : small.shape[1]] = small
    dark[20:] = 20  # without a person
    write_video_without_audio(tmp_path / "dark.mp4", dark)
    warnings = "\n".join(predictor(tmp_path / "dark.mp4").warnings)
    number = r"\d+(?:\.\d+)?"
    for statistic in (
        "pixels between the eyes",
        "brightness of the face, of 255",
        "fraction of the frames with a face",
    ):
        (numbers,) = re.findall(
            rf"faces: {statistic}: ({number}) \(training clips: ({number})(?: to ({number}))?\)", warnings
        )
        value, low, high = float(numbers[0]), float(numbers[1]), float(numbers[2] or numbers[1])
        assert 0 < value < low <= high
    assert "audio: has no sound; predicted without it" in warnings


def save_model_with_references(folder: Path, seconds: list[float], half_width: float) -> Path:
    """Save a network with random weights and the given references."""
    settings = training_parameters()
    settings_by_encoder, targets = settings.model.settings_by_encoder(), settings.model.select_targets(settings.targets)
    streams = load_streams(settings_by_encoder)
    torch.manual_seed(1)
    weights = Network.from_settings(settings.model, targets, streams).state_dict()
    references = {
        name: checkpoint.Reference(
            torch.linspace(*group.range, 101)[:, None].expand(-1, len(group.columns)),
            torch.full((len(group.columns),), half_width),
        )
        for name, group in targets.items()
    }
    checkpoint.save(
        folder / "model.pt",
        weights,
        settings.model,
        targets,
        streams,
        TrainingSummary(["own"], seconds=seconds, references=references),
    )
    return folder / "model.pt"


def test_interval_ends_at_the_limits_of_the_range(project: Path, tmp_path: Path) -> None:
    predictor = Predictor(save_model_with_references(tmp_path, [1.0, 3.0], 0.9), CPU)
    prediction = predictor(raw_path(project, NAMES[0]))
    assert prediction.warnings == ()
    for target in prediction.targets["traits"].values():
        assert (target.low, target.high) == (
            pytest.approx(max(0, target.score - 0.9)),
            pytest.approx(min(1, target.score + 0.9)),
        )
        assert target.percentile == pytest.approx(100 * target.score, abs=0.01)
    warm = prediction.targets["warmth"]["warm"]  # unbounded
    assert (warm.low, warm.high) == (pytest.approx(warm.score - 0.9), pytest.approx(warm.score + 0.9))


def test_predictor_warns_of_lengths_not_seen_in_training(project: Path, tmp_path: Path) -> None:
    predictor = Predictor(save_model_with_references(tmp_path, [14.0, 16.0], 0.1), CPU)
    (warning,) = predictor(raw_path(project, NAMES[0])).warnings
    assert re.fullmatch(r"the clip takes [12]\.\d s, the training clips 14\.0 to 16\.0 s", warning)


def test_long_clip_score_is_the_mean_of_its_windows(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_path = save_model_with_references(tmp_path, [1.5, 2.0], 0.1)
    parts = [render(Identity(index), Performance(index - 1, 1.0, 0.0, index), 2.0, FPS) for index in range(3)]
    frames = np.concatenate([pictures for pictures, _ in parts])
    frames[FPS * 3 : FPS * 5] = 90  # without a person
    long = tmp_path / "long.mp4"
    write_video_without_audio(long, frames)
    prediction = Predictor(model_path, CPU)(long)
    spans = [(window.start, window.end) for window in prediction.windows]
    assert spans == [pytest.approx((start, start + 2), abs=0.01) for start in (0, 1, 2, 3, 4)]
    window_scores = [
        window.targets["traits"]["openness"].score if window.targets else None for window in prediction.windows
    ]
    usable_fractions = [window.seen for window in prediction.windows]
    assert usable_fractions == pytest.approx([2 / 3, 2 / 3, 1 / 2, 0, 1 / 2], abs=0.1)  # without audio throughout
    assert prediction.windows[3].rejected
    assert window_scores[3] is None
    del usable_fractions[3], window_scores[3]
    assert prediction.targets["traits"]["openness"].score == pytest.approx(
        np.average(window_scores, weights=usable_fractions), abs=1e-6
    )
    assert any("only 4 of 5 windows could be used (faces" in warning for warning in prediction.warnings)
    sample = list(read_frames(long, 5, span=spans[1]))
    second_window = tmp_path / "alone.mp4"
    write_video_without_audio(second_window, frames[FPS : 3 * FPS])
    assert len(sample) == 10
    window_prediction = Predictor(model_path, CPU)(second_window)
    assert not window_prediction.windows
    assert window_prediction.targets["traits"]["openness"].score == pytest.approx(window_scores[1], abs=0.02)
    by_chosen_window = Predictor(model_path, CPU, window=1.0)(second_window)
    assert by_chosen_window.targets == window_prediction.targets
    assert [(window.start, window.end) for window in by_chosen_window.windows] == [(0, 1), (0.5, 1.5), (1, 2)]
    assert len({window.targets["traits"]["openness"].score for window in by_chosen_window.windows}) == 3
    assert [window.end for window in Predictor(model_path, CPU, window=3.0)(long).windows] == pytest.approx(
        [3, 4.5, 6], abs=0.01
    )
    with pytest.raises(InputError, match=r"window = 0\.0; allowed: seconds above 0"):
        Predictor(model_path, CPU, window=0.0)
    run_predict(long, "--model", model_path, "--over-time", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [window["start"] for window in rows] == ["", *(f"{start:.3f}" for start, _ in spans)]
    assert float(rows[2]["openness"]) == pytest.approx(window_scores[1], abs=1e-6)
    run_predict(long, "--model", model_path, "--over-time", "--format", "table")
    assert re.search(r"  1\.0 to 3\.0 s: extraversion 0\.\d+", capsys.readouterr().out)


def test_cut_file_has_a_warning(project: Path, tmp_path: Path) -> None:
    frames, _ = render(Identity(1), Performance(0.0, 1.0, 0.0, 1), 6.0, FPS)
    path = write_video_file(tmp_path / "a.mp4", Track(frames, options={"g": "15"}), options={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: round(0.6 * len(content))])
    for seconds in ([1.0, 2.0], [2.0, 8.0]):  # in windows, and at once
        prediction = Predictor(save_model_with_references(tmp_path, seconds, 0.1), CPU)(path)
        assert not prediction.rejected
        assert re.match(r"the file ends after 3\.\d of 6\.\d s: was the recording", prediction.warnings[0])


def test_predictor_warns_of_several_faces_and_cuts(project: Path, tmp_path: Path) -> None:
    frames, _ = render(Identity(1), Performance(0.0, 1.0, 0.0, 1), 3.0, FPS)
    two_persons = np.concatenate([frames, frames[:, :, ::-1]], axis=2)
    two_persons[30:] //= 2  # darker: another shot of the same person
    two_persons[30:, :, frames.shape[2] :] = 60
    write_video_file(tmp_path / "two.mp4", Track(two_persons))
    predictor = Predictor(save_model_with_references(tmp_path, [2.0, 4.0], 0.1), CPU)
    assert predictor(tmp_path / "two.mp4").warnings == (
        "audio: has no sound; predicted without it",
        "faces: several in 10 of 15 frames; one of 2 persons is tracked",
        "faces: 1 cut; flow is missing across it",
    )
    rejected = Predictor(tmp_path / "model.pt", CPU, "3")(tmp_path / "two.mp4").rejected
    assert "faces: person 3 requested, 2 visible" in rejected
    with pytest.raises(InputError, match=r"person = 'tallest'; allowed: main, left, right, largest, all, or a number"):
        Predictor(tmp_path / "model.pt", CPU, "tallest")
    with pytest.raises(
        InputError, match=r"person = 'left', but the model .*model.pt does not use faces; allowed: main"
    ):
        Predictor(save_random_model(tmp_path, model__use=["audio"]), CPU, "left")
    metrics = json.loads((project / "metrics/faces.json").read_text())
    assert [metrics[name] for name in ("frames_with_several_faces", "cuts", "changes_of_person")] == [0, 0, 0]


def test_each_person_is_predicted_as_alone(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, clip = save_model_with_references(tmp_path, [1.0, 3.0], 0.1), tmp_path / "both.mp4"
    write_conversation(clip, [0, 1, 1], 3.0, FPS)
    main, everyone = Predictor(model, CPU), Predictor(model, CPU, "all")
    decoded: list[Path] = []

    def count_frames(path: Path, *arguments: Any) -> Iterator[Any]:
        decoded.append(path)
        return read_frames(path, *arguments)

    monkeypatch.setattr("lib.media.jpeg_frames.read_frames", count_frames)
    persons = everyone.predict_all(clip)
    assert decoded == [clip]
    alone = [main(clip.with_name(f"{index}-both.mp4")) for index in range(2)]
    for index, prediction in enumerate(persons):
        person = prediction.person
        assert person is not None
        assert (person.number, person.count, prediction.rejected) == (index + 1, 2, "")
        assert person.x == pytest.approx(0.25 + 0.5 * index, abs=0.03)
        assert (person.start, person.end, person.visible) == (0.0, pytest.approx(2.8, abs=0.11), 1.0)
        assert person.speaks == pytest.approx((1.0, 2.0)[index], abs=0.21)
        assert prediction.warnings[-1] == "audio: the same for all 2 persons"
        scores = [estimate.score for estimate in prediction.targets["traits"].values()]
        scores_alone = [estimate.score for estimate in alone[index].targets["traits"].values()]
        assert scores == pytest.approx(scores_alone, abs=0.005)
        assert (
            max(map(abs, np.subtract(scores, [e.score for e in alone[1 - index].targets["traits"].values()]))) > 0.005
        )
    main_person = next(p for p in persons if p.person and p.person.main)
    assert main_person.targets == main(clip).targets
    with pytest.raises(InputError, match=r"person = 'all' gives a prediction for each person; call predict_all"):
        everyone(clip)
    assert [p.rejected for p in everyone.predict_all(tmp_path / "no.mp4")] == [f"{tmp_path}/no.mp4 is not a file"]
    assert run_predict(clip, "--model", model, "--person", "all", "--format", "table") == 0
    assert f"{clip}, person 2 of 2" in capsys.readouterr().out


def test_explain_writes_files_for_each_person(project: Path, tmp_path: Path) -> None:
    model, clip = save_model_with_references(tmp_path, [1.0, 1.5], 0.1), tmp_path / "both.mp4"
    write_conversation(clip, [0, 1], 3.0, FPS)
    arguments = ["--model", model, "--explain", tmp_path / "shown", "--out", tmp_path / "scores.csv"]
    assert run_predict(clip, *arguments, "--person", "all") == 0
    rows = pd.read_csv(tmp_path / "scores.csv")
    assert rows[["person", "persons"]].to_numpy().tolist() == [[1, 2], [2, 2]]
    names = {path.name for path in (tmp_path / "shown").iterdir()}
    assert names == {f"both.mp4-person{number}{end}" for number in (1, 2) for end in (".png", ".mp4")}
    shown = []
    for number in (1, 2):
        frame = next(read_frames(tmp_path / f"shown/both.mp4-person{number}.mp4", 25))[1][:480, :1280]
        blue = np.abs(frame.astype(int) - (68, 119, 170)).max(-1) < 40  # as the square of the face
        shown.append([blue[:, :640].sum(), blue[:, 640:].sum()])
    (left_of_first, right_of_first), (left_of_second, right_of_second) = shown
    assert left_of_first - left_of_second > 500
    assert right_of_second - right_of_first > 500


def test_explain_draws_sheets_and_videos(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder, clip = (
        save_model_with_references(tmp_path, [1.0, 3.0], 0.1),
        tmp_path / "shown",
        raw_path(project, NAMES[0]),
    )
    write_video_without_audio(tmp_path / "long.mp4", render(Identity(1), Performance(0, 1, 0, 1), 5.0, FPS)[0])
    arguments = ["--model", path, "--explain", folder, "--format", "csv"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / NAMES[0]).symlink_to(clip)
    clips_to_predict = clip, tmp_path / "long.mp4", tmp_path / "other" / NAMES[0]
    assert run_predict(*clips_to_predict, "nowhere.mp4", *arguments) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    score = Predictor(path, CPU)(clip).targets["traits"]["openness"].score
    assert float(rows[0]["openness"]) == pytest.approx(score, abs=1e-5)
    names = sorted({path_in_folder.name[:-4] for path_in_folder in folder.iterdir()})
    assert re.fullmatch(rf"long\.mp4 {NAMES[0]}-[0-9a-f]{{6}} {NAMES[0]}-[0-9a-f]{{6}}", " ".join(names))
    assert {path_in_folder.name for path_in_folder in folder.iterdir()} == {
        f"{name}{end}" for name in names for end in (".png", ".mp4")
    }
    for name, frames in zip(names, (25, 10, 10), strict=True):
        assert cv2.imread(str(folder / f"{name}.png")).std() > 20
        video_frames = list(read_frames(folder / f"{name}.mp4", 25))
        assert video_frames[-1][0] == pytest.approx((frames - 1) / 5, abs=0.05)
    record = next(iter(read_frames(clip, 5)))[1]
    scale = 480 / len(record)
    with h5py.File("data/faces/demo-one.h5") as file:
        nose = file[NAMES[0]]["landmarks"][0, 2] * scale
    nose_colour = video_frames[0][1][
        round(nose[1]) - 2 : round(nose[1]) + 3, round(nose[0]) - 2 : round(nose[0]) + 3
    ].mean((0, 1))
    assert np.abs(nose_colour - (238, 102, 119)).max() < 60  # the marker on the nose
    panels = video_frames[0][1][:480, round(record.shape[1] * scale) :]
    assert panels.shape[1] == 160
    assert all(panels[top : top + 160].std() > 5 for top in (0, 160, 320))
    audio_predictor = Predictor(save_random_model(tmp_path, model__use=["audio"]), CPU)
    assert not serving_explain.explain(audio_predictor, clip, tmp_path / "heard").rejected
    assert [path_in_folder.name for path_in_folder in tmp_path.glob("heard*")] == ["heard.png"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--explain: the folder .*/file is not writable \(File exists\)"):
        tools.predict.explaining([clip], tmp_path / "file", "show", "clip")
    with pytest.raises(InputError, match=r"--out: the folder .*/file/of is not writable \(Not a directory\)"):
        tools.predict.check_writable("--out", tmp_path / "file/of")


def test_workers_predict_the_same_as_one_process(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parallel, "start_executor", START_LOKY)
    path, clip_paths = save_random_model(tmp_path), [raw_path(project, name) for name in NAMES[:3]]
    outputs = []
    for workers in (1, 2):
        arguments = [
            *clip_paths,
            "nowhere.mp4",
            "--model",
            path,
            "--workers",
            workers,
            "--explain",
            tmp_path / str(workers),
        ]
        assert run_predict(*arguments, "--format", "csv", "--window", "1", "--over-time") == 1
        outputs.append(capsys.readouterr().out)
    rows = [list(csv.DictReader(io.StringIO(text))) for text in outputs]
    assert sum(bool(row["start"]) for row in rows[0]) == 9  # windows
    for row, other_row in zip(*rows, strict=True):
        assert all(row[name] == other_row[name] for name in ("clip", "start", "rejected"))
        assert not row["openness"] or float(row["openness"]) == pytest.approx(float(other_row["openness"]), abs=1e-5)
    assert len(list((tmp_path / "2").iterdir())) == 6


@pytest.mark.parametrize("export_format", ["onnx", "torch"])
def test_exported_model_predicts_the_same(
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    export_format: str,
) -> None:
    if export_format == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")
        pytest.importorskip("onnxscript", reason="requirements-export.txt is not installed")
    gaussian = {"targets__warmth__head": "gaussian", "targets__warmth__loss": "gaussian_nll"}
    faces = {"model__encoders__faces__backbone": "vgg", "model__encoders__faces__filters": [[8], [8]]}
    small = {"model__use": ["faces", "audio"], "model__missing": "drop", **faces}
    path, names = save_random_model(tmp_path, **small, **gaussian), [NAMES[0], NAMES[1], NAMES[3]]
    clips = [raw_path(project, name) for name in names]
    call_main(tools.export, *clips, "--model", path, "--format", export_format)
    assert "checked on 3 of 3 windows" in capsys.readouterr().out
    predictor, samples = Predictor(path, CPU), list[Any]()
    prediction = predictor(raw_path(project, names[2]), samples.append)
    inputs = {
        f"{encoder}_{stream.replace('.', '_')}_{part}": getattr(steps, part)
        for encoder, steps_by_stream in samples[0].inputs.items()
        for stream, steps in steps_by_stream.items()
        for part in ("values", "times")
    }
    if export_format == "onnx":
        session = onnxruntime.InferenceSession(path.with_suffix(".onnx"))
        assert json.loads(session.get_modelmeta().custom_metadata_map["targets"])["traits"]["columns"] == list(TRAITS)
        input_names = [item.name for item in session.get_inputs()]
        values = session.run(None, {name: inputs[name].numpy() for name in input_names})
    else:
        extra_files = {"about.json": ""}
        program = torch.export.load(path.with_suffix(".pt2"), extra_files=extra_files)
        assert json.loads(extra_files["about.json"])["targets"]["traits"]["columns"] == list(TRAITS)
        values = [item.detach().numpy() for item in program.module()(*inputs.values())]
    *scores, scales = values
    for group_scores, stream in zip(scores, prediction.targets.values(), strict=True):
        assert group_scores[0] == pytest.approx([item.score for item in stream.values()], abs=1e-4)
    assert scales[0] == pytest.approx([prediction.targets["warmth"]["warm"].scale], abs=1e-4)


def test_export_rejects_models_and_clips_that_do_not_fit(project: Path, tmp_path: Path) -> None:
    model, mute = save_random_model(tmp_path), raw_path(project, MUTE)
    for arguments, message in (
        ([raw_path(project, NAMES[0]), "--out", "model.txt"], r"--out model\.txt; allowed: a path that ends in \.onnx"),
        (["nowhere.mp4"], "nowhere.mp4 is rejected: nowhere.mp4 is not a file; choose another clip"),
    ):
        with pytest.raises(InputError, match=message):
            call_main(tools.export, "--model", model, *arguments)
    with pytest.raises(InputError, match=f"{MUTE} has no input for the encoder audio"):
        call_main(tools.export, "--model", model, mute)


def run_predict(*arguments: object) -> int:
    """Return the exit status of tools/predict.py."""
    with pytest.raises(SystemExit) as caught:
        call_main(tools.predict, *arguments)
    return int(caught.value.code)  # type: ignore[arg-type]


def test_predict_accepts_folders_patterns_and_lists(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES[:3]:
        link = tmp_path / "day" / name[:2] / name
        link.parent.mkdir(parents=True)
        link.symlink_to(raw_path(project, name))
    (tmp_path / "day/notes.txt").write_text("none")
    path = save_random_model(tmp_path)
    listed = f'\ufeff"{raw_path(project, NAMES[4])}"\r\n\r\n'.encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
    assert run_predict(tmp_path / "day", f"{project}/data/raw/*/one/v3*", "-", "--model", path) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [Path(row["clip"]).name for row in rows] == NAMES[:5]
    (tmp_path / "none").mkdir()
    for argument, message in (
        (tmp_path / "none", "contains no video; allowed"),
        ("x*.mp4", "no file matches"),
    ):
        with pytest.raises(InputError, match=message):
            list(find_clips([str(argument)]))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_interrupted_predict_continues_its_file(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path, out, clip_paths = (
        save_random_model(tmp_path),
        tmp_path / f"of/scores{suffix}",
        [raw_path(project, name) for name in NAMES[:3]],
    )
    assert run_predict(*clip_paths, "--model", path, "--out", out) == 0
    complete = out.read_text()
    lines = complete.splitlines(keepends=True)
    out.write_text("".join(lines[:-1]) + lines[-1][:20])  # as if killed within the last row
    (tmp_path / "empty.mp4").write_bytes(b"")
    predicted_clips: list[Path] = []
    original_call = Predictor.predict_all
    monkeypatch.setattr(
        Predictor, "predict_all", lambda self, clip: (predicted_clips.append(clip), original_call(self, clip))[1]
    )
    assert run_predict(*clip_paths, tmp_path / "empty.mp4", "--model", path, "--out", out) == 1
    assert predicted_clips == [clip_paths[2], tmp_path / "empty.mp4"]
    assert out.read_text().startswith(complete)
    assert "empty.mp4" in out.read_text().splitlines()[-1]
    assert run_predict(clip_paths[0], "--model", path, "--out", out) == 1  # one clip of the file was rejected
    (tmp_path / f"other{suffix}").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="contains no predictions of this model"):
        run_predict(clip_paths[0], "--model", path, "--out", tmp_path / f"other{suffix}")


def test_predict_prints_a_readable_table(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_model_with_references(tmp_path, [1.0, 3.0], 0.1)
    assert run_predict(raw_path(project, NAMES[0]), "nowhere.mp4", "--model", path, "--format", "table") == 1
    text = capsys.readouterr().out
    line = r"  extraversion       0\.\d{3}  90 % interval 0\.\d{3} to 0\.\d{3}  higher than \d+ % of training clips"
    assert re.search(line, text)
    assert text.endswith("nowhere.mp4\n  rejected: nowhere.mp4 is not a file\n")


def test_documented_example_runs(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example, *_ = find_code_blocks(ROOT / "docs/predict.md", "python")  # test_wheel.py and test_chain.py run the others
    (tmp_path / "data").mkdir()
    save_model_with_references(tmp_path / "data", [1.0, 3.0], 0.1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "interviews").mkdir()
    for name in NAMES[:2]:
        (tmp_path / "interviews" / name).symlink_to(raw_path(project, name))
    scope: dict[str, Any] = {}
    exec(example, scope)
    assert scope["prediction"].clip.name == NAMES[1]
    assert 0 < scope["prediction"].targets["traits"]["openness"].score < 1


def test_closed_output_gives_no_traceback(project: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tools.predict",
        *[str(ROOT / "README.md")] * 3,
        "--model",
        str(save_random_model(tmp_path)),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read().splitlines() == [
            "warning: the model was trained on rendered clips, so its scores of real people mean nothing"
        ]


@pytest.mark.skipif(not ODD.is_dir(), reason="the unusual clips are missing")
def test_each_unusual_clip_of_a_folder_is_a_row(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_random_model(tmp_path, model__missing="drop", model__use=["faces", "flow"])
    assert run_predict(ODD, "--model", path, "--format", "csv") == 1
    printed = capsys.readouterr()
    rows = {Path(row["clip"]).name: row for row in csv.DictReader(io.StringIO(printed.out))}
    assert set(rows) == {path_of_clip.name for path_of_clip in ODD.iterdir()} - {"README.md"}
    for row in rows.values():
        assert bool(row["rejected"]) != bool(row["openness"]), row
        assert not row["rejected"].startswith("internal"), row
    for name, reason in (
        ("audio_only.mp4", "frames: has no video stream"),
        ("one_frame.mp4", "frames: 1 at 5.0 per second"),
        ("no_face.mp4", "faces: found in 0% of the frames"),
        ("truncated_nomoov_or_cut.mp4", "frames: cannot be decoded"),
        ("two_faces.mp4", ""),
        ("vfr.mp4", ""),
    ):
        rejected = rows[name]["rejected"]
        assert rejected.startswith(reason) if reason else not rejected, rows[name]
    assert "Traceback" not in printed.err


def test_predict_help_does_not_load_torch() -> None:
    script = "import sys, tools.predict; sys.argv = ['predict', '--help']\ntry: tools.predict.main()\n"
    script += "except SystemExit: print(sorted({'torch', 'cv2', 'pandas', 'av'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_predictor_loads_only_what_it_needs() -> None:
    heavy = "{'pandas', 'lightning_fabric', 'dvc', 'joblib', 'sklearn', 'matplotlib', 'librosa', 'torch._dynamo'}"
    script = f"import sys, lib.serving.predictor, torchvision; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
