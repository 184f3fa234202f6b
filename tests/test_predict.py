"""A small corpus through the streams' stages, training and prediction, without DVC: what is served is what was evaluated."""

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
from dvc.utils.serialize import load_yaml
from lightning_fabric import Fabric

import tools.export
import tools.predict
from lib.analysis import attention, importance, robustness, samples
from lib.core import parallel, parameters, resume
from lib.core.clips import read_clip_table
from lib.core.errors import InputError
from lib.core.targets import TRAITS
from lib.data import images
from lib.data.dataset import ClipDataset
from lib.media.frames import read_frames
from lib.media.writing import write_video
from lib.model import checkpoint, infer
from lib.model.checkpoint import TrainingSummary
from lib.model.fusions import FUSIONS
from lib.model.network import Network
from lib.report import words
from lib.serving import explain as serving_explain
from lib.serving.clips import find_clips
from lib.serving.predictor import Predictor
from lib.sources import listing
from lib.sources.demo.head import SAMPLE_RATE, Identity, Performance, render
from lib.streams import build
from lib.training.prepare import load_streams, select_clips, standardise
from lib.training.settings import Parameters
from stages import train
from tests.conftest import ODD, ROOT
from tests.video_files import Track, larger, numbered, write

CPU, FPS = torch.device("cpu"), 15
LOKY = parallel.start_executor  # which the fixture replaces
NAMES = [f"v{index}.000.mp4" for index in range(7)]
MUTE = NAMES[2]
SPLITS = ["training", "training", "training", "training", "validation", "validation", "test"]
WARMTH = {"columns": ["warm"], "range": [1, 7], "head": "linear", "loss": "mae", "weight": 1.0}
STREAMS = ["frames", "audio", "features", "faces", "flow"]


def without_sound(path: Path, frames: np.ndarray) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def parameters_(**changes: Any) -> dict[str, Any]:
    """The shipped parameters, small, and some changed by SECTION__KEY=value."""
    values = json.loads(json.dumps(load_yaml(ROOT / "params.yaml")))
    small = {
        "download__allow_missing": 0.2,
        "flow__scales": 2, "flow__warps": 2, "flow__iterations": 10, "audio__mels": 16, "audio__mfcc": 6,
        "model__use": ["faces", "flow", "audio"], "model__width": 24, "model__targets": ["traits", "warmth"],
        "model__missing": "keep", "targets__warmth": WARMTH, "train__epochs": 2, "train__batch_size": 4,
    }  # fmt: skip
    for path, value in (small | changes).items():
        *sections, key = path.split("__")
        inner = values
        for section in sections:
            inner = inner[section]
        inner[key] = value
    return values


def use(patch: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    """Let stages find these parameters, as DVC would give them."""

    def load(stage: str, model: type[parameters.Section]) -> parameters.Section:
        return parameters.check({name: values[name] for name in model.model_fields}, model)

    patch.setattr(parameters, "load", load)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder, the working one, with seven clips and their streams; one clip has no sound."""
    folder = tmp_path_factory.mktemp("project")
    raw = folder / "data/raw/demo/one"
    raw.mkdir(parents=True)
    for index, name in enumerate(NAMES):
        performance = Performance(index / 3 - 1, 0.5 + index / 5, index / 4 - 0.5, index)
        frames, voice = render(Identity(index), performance, 2.0, FPS)
        if name == MUTE:
            without_sound(raw / name, frames)
        else:
            write_video(raw / name, frames, FPS, voice, SAMPLE_RATE)
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
        use(patch, parameters_())
        for name in STREAMS:
            build.build_stream(name)
        yield folder


@pytest.fixture(autouse=True)
def _given(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, parameters_())


def given(**changes: Any) -> Parameters:
    values = parameters_(**changes)
    return parameters.check({name: values[name] for name in Parameters.model_fields}, Parameters)


def test_a_streams_folder_says_how_it_was_made(project: Path) -> None:
    about = {
        name: json.loads((project / f"data/{name}/stream.json").read_text()) for name in STREAMS if name != "features"
    }
    assert {name: of["shapes"] for name, of in about.items()} == {
        "frames": {"": [3, 240, 320]},
        "audio": {"log_mel": [16], "mfcc": [6]},
        "faces": {"": [3, 64, 64]},
        "flow": {"": [2, 64, 64]},
    }
    values = parameters_()
    assert all(about[name]["settings"] == values[name] for name in about)
    metrics = json.loads((project / "metrics/audio.json").read_text())
    assert (metrics["clips"], metrics["refused"]) == (6, {"audio: has no sound": 1})


def test_a_stream_that_is_off_is_an_empty_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not list((project / "data/features").iterdir())
    assert json.loads((project / "metrics/features.json").read_text()) == {"enabled": False}
    shutil.copytree(project / "data/audio", project / "kept")
    use(monkeypatch, parameters_(audio__enabled=False))
    build.build_stream("audio")
    assert not list((project / "data/audio").iterdir())
    use(monkeypatch, parameters_())
    monkeypatch.setattr(build, "_make", lambda *_: pytest.fail("what was made is kept"))
    build.build_stream("audio")
    for path in (project / "kept").iterdir():
        assert path.read_bytes() == (project / "data/audio" / path.name).read_bytes()


def test_what_needs_a_stream_that_is_off_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    use(monkeypatch, parameters_(faces__enabled=False))
    build.build_stream("faces")
    with pytest.raises(InputError) as said:
        build.build_stream("flow")
    assert "flow.enabled is true and faces.enabled is false" in str(said.value)
    with pytest.raises(InputError) as said:
        load_streams(given(model__use=["faces"]).model.encoder_inputs())
    assert "model.use has faces, whose encoder reads faces, but faces.enabled is false" in str(said.value)
    assert "\n" not in str(said.value)


def test_who_is_trained_on(project: Path) -> None:
    def of(**changes: Any) -> tuple[list[str], list[str]]:
        chosen = given(**changes)
        found = select_clips(chosen, chosen.model.encoder_inputs(), chosen.model.chosen(chosen.targets))
        return tuple(one["clip"].str[1].tolist() for one in found)  # type: ignore[return-value]

    assert of() == (list("0123"), list("45"))
    assert of(model__missing="drop") == (list("013"), list("45"))
    assert of(model__targets=["traits"]) == (list("012"), list("45"))  # one has no known trait
    assert of(model__use=["faces"], model__missing="drop") == (list("0123"), list("45"))
    with pytest.raises(InputError, match=r"train\.mix has 'fiv2'; allowed: the corpora .*, demo, own"):
        of(train__mix={"fiv2": 1.0})
    assert of(train__mix={"own": 0.0}) == (list("0123"), ["4"])
    with pytest.raises(InputError, match="no clip of the training split came through"):
        of(train__mix={"demo": 0.0})


def test_a_finished_training_is_kept(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outs = [project / path for path in ("data/model.pt", "plots/history.csv", "metrics/train.json")]
    train.main()
    before = [path.read_bytes() for path in outs]
    history = pd.read_csv(outs[1])
    assert len(history) == 2
    assert {f"validation_{score}_{group}" for score in ("accuracy", "r2", "ccc", "spread")
            for group in ("traits", "warmth")} <= set(history)  # fmt: skip
    assert {"training_accuracy_traits", "training_accuracy_warmth"} <= set(history)
    for path in outs:
        path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(train, "train_model", lambda *_: pytest.fail("nothing that it uses has changed"))
        use(patch, parameters_(audio__enabled=True, model__encoders__features__width=96))
        train.main()
    assert [path.read_bytes() for path in outs] == before
    (kept,) = (project / "data/.work/train").iterdir()
    assert not (kept / "last.pt").exists()
    use(monkeypatch, parameters_(train__epochs=1))
    train.main()
    assert len(pd.read_csv(outs[1])) == 1
    assert kept not in (project / "data/.work/train").iterdir()  # only the last one


def test_two_trainings_give_the_same_bytes_with_the_date_of_the_newest_input(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest, listed = "2026-01-02T03:04:05+00:00", tmp_path / "archives.csv"
    listed.write_text(f"path,bytes,sha256,modified\na,1,0,2025-01-01T00:00:00+00:00\nb,1,0,{newest}\nc,1,0,\n")
    monkeypatch.setattr(listing, "LISTING", listed)
    monkeypatch.setattr("lib.training.run.SYNTHETIC", ())
    monkeypatch.setattr(train, "MODEL", tmp_path / "model.pt")
    made = []
    for run in ("one", "two"):
        monkeypatch.setattr(resume, "ROOT", tmp_path / run)
        train.main()
        made.append((tmp_path / "model.pt").read_bytes())
    assert made[0] == made[1]
    provenance = checkpoint.load(tmp_path / "model.pt", CPU).provenance
    assert provenance["newest_input"] == newest
    assert words.describe_newest_input(provenance).endswith(" (newest archive)")


def model(folder: Path, **changes: Any) -> Path:
    """A model of chance, with what it must know, in its file."""
    chosen = given(**changes)
    encoder_inputs, targets = chosen.model.encoder_inputs(), chosen.model.chosen(chosen.targets)
    streams = load_streams(encoder_inputs)
    torch.manual_seed(1)
    network = Network.from_settings(chosen.model, targets, streams)
    for parameter in network.absent.values():
        torch.nn.init.normal_(parameter)
    standardise(network, read_clip_table(Path("data/clips.csv"))[:4].reset_index(drop=True), encoder_inputs, streams)
    checkpoint.save(
        folder / "model.pt", network.state_dict(), chosen.model, targets, streams, TrainingSummary(["demo"])
    )
    return folder / "model.pt"


def raw(project: Path, name: str) -> Path:
    return project / "data/raw/demo/one" / name


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_is_served_is_what_was_evaluated(project: Path, tmp_path: Path, fusion: str) -> None:
    two = fusion.startswith("multitask")  # takes two encoders of one width
    use, width = (["faces", "audio"], 512) if two else (["faces", "flow", "audio"], 64)
    predict = Predictor(model(tmp_path, model__fusion=fusion, model__use=use, model__encoders__audio__width=width), CPU)
    served, table = predict.served, read_clip_table(Path("data/clips.csv"))
    assert list(served.streams) == ["frames", *use]
    data = ClipDataset(table, Path("data"), served.network.encoder_inputs, served.streams, {})
    evaluated = infer.predict(Fabric(accelerator="cpu", devices=1), served.network, data, 3, 0)
    assert evaluated["traits"].std(0).min() > 1e-4
    for index, found in enumerate(predict.many([raw(project, name) for name in NAMES])):
        assert (found.clip.name, found.refused) == (NAMES[index], "")
        assert list(found.targets) == ["traits", "warmth"]
        assert list(found.targets["traits"]) == list(TRAITS)
        traits = [target.score for target in found.targets["traits"].values()]
        assert traits == pytest.approx(evaluated["traits"][index], abs=1e-6)
        assert found.targets["warmth"]["warm"].score == pytest.approx(1 + 6 * evaluated["warmth"][index, 0], abs=6e-6)


def test_a_clip_that_lacks_a_stream_is_predicted_or_refused_as_the_model_was_trained(
    project: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    keep = Predictor(model(tmp_path), CPU)
    mute = keep(raw(project, MUTE))
    assert all(np.isfinite(target.score) for target in mute.targets["traits"].values())
    assert mute.warnings[1:] == ("audio: has no sound; predicted without it",)
    assert re.match(r"frames: .*; audio: sound cannot be decoded", keep(tmp_path / "text.mp4").refused)
    assert keep(Path("nowhere.mp4")).refused == "nowhere.mp4 is not a file"
    drop = Predictor(model(tmp_path, model__missing="drop"), CPU)
    assert drop(raw(project, MUTE)).refused == "audio: has no sound"
    assert not drop(raw(project, MUTE)).targets
    assert drop(raw(project, NAMES[0])).targets["traits"]


def test_samples_are_what_the_shards_hold(project: Path, tmp_path: Path) -> None:
    def written(name: str, **changes: Any) -> Path:
        served = checkpoint.load(model(tmp_path, **changes), CPU)
        table = read_clip_table(Path("data/clips.csv")).iloc[[3, 0, NAMES.index(MUTE)]]
        encoder_inputs, streams = served.network.encoder_inputs, served.streams
        samples.write_samples(tmp_path / name, table, Path("data"), encoder_inputs, streams)
        return tmp_path / name

    path = written("samples.h5")
    assert path.read_bytes() == written("again.h5").read_bytes()
    with (
        h5py.File(path) as file,
        h5py.File("data/faces/demo-one.h5") as faces,
        h5py.File("data/audio/demo-one.h5") as of,
    ):
        assert list(file) == [NAMES[3], NAMES[0], MUTE]
        group, sound, pictures = file[NAMES[3]], of[NAMES[3]], faces[NAMES[3]]
        assert set(group["pictures"]) == {"faces", "flow"}
        assert group["pictures/flow/values"].shape == (4, 64, 64, 3)  # the last one is the wheel
        assert len(group["pictures/flow/times"]) == 3
        assert group["pictures/flow"].attrs["full"] > 0.1
        times = group["pictures/faces/times"][()]
        assert len(times) == 4
        assert (np.diff(times) > 0).all()
        at = [np.abs(pictures["times"][()] - time).argmin() for time in times]
        assert np.array_equal(group["pictures/faces/values"], pictures["faces"][()][at])
        for array in ("log_mel", "mfcc"):
            assert np.array_equal(group[f"sound/{array}/values"], sound[array])
            assert group[f"sound/{array}/times"][()] == pytest.approx(sound["times"][()])
        read = {name: bool(group[name].attrs["read"]) for name in ("pictures/faces", "sound/log_mel", "sound/mfcc")}
        assert read == {"pictures/faces": True, "sound/log_mel": False, "sound/mfcc": True}
        assert "sound" not in file[MUTE]
        # on the mel scale bands lie at like distances: linear to 1000 Hz, logarithmic above
        centres = group["sound/log_mel/frequencies"][()]
        mel = np.where(centres < 1000, centres * 3 / 200, 15 + 27 * np.log(np.maximum(centres, 1) / 1000) / np.log(6.4))
        assert mel == pytest.approx(mel[0] * np.arange(1, 17))
        assert 17 * mel[0] == pytest.approx(15 + 27 * np.log(8) / np.log(6.4))
    with h5py.File(written("flow.h5", model__use=["flow"])) as file:  # what flow is made from
        assert set(file[MUTE]) == {"pictures"}
        assert not file[f"{MUTE}/pictures/faces"].attrs["read"]
    with h5py.File(written("audio.h5", model__use=["audio"])) as file:
        assert set(file[NAMES[0]]) == {"sound"}
        assert not list(file[MUTE])


def test_flow_has_the_standard_colours_up_to_a_full_one() -> None:
    rng = np.random.default_rng(0)
    flow = rng.normal(0, 2, (3, 2, 16, 20)).astype(np.float32)
    flow[0, :, 0, 0], flow[0, :, 0, 1], flow[0, :, 0, 2] = 0, (-100, 0), (0, 100)
    pictures, full = images.colour_flow(flow)
    assert pictures.shape == (4, 3, 16, 20)
    assert (np.linalg.norm(flow, axis=1) > full).mean() == pytest.approx(0.01, abs=0.002)
    assert (pictures[0, :, 0, 0] == 255).all()
    wheel = pictures[3]
    assert (wheel[:, [0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
    left, down = pictures[0, :, 0, 1].astype(int), pictures[0, :, 0, 2].astype(int)
    assert np.abs(wheel[:, 7:9, 1].astype(int) - left[:, None]).max() < 60
    assert np.abs(wheel[:, 14, 9:11].astype(int) - down[:, None]).max() < 60
    assert np.abs(left - down).max() > 100
    assert images.colour_flow(np.zeros((2, 2, 16, 16), np.float32))[0][:2].min() == 255


def test_what_the_network_looked_at_is_written(project: Path, tmp_path: Path) -> None:
    served = checkpoint.load(model(tmp_path), CPU)
    data = ClipDataset(
        read_clip_table(Path("data/clips.csv")), Path("data"), served.network.encoder_inputs, served.streams, {}
    )
    attention.write_attention(tmp_path / "attention.h5", served.network, data, [0, NAMES.index(MUTE)])
    with h5py.File(tmp_path / "attention.h5") as file, h5py.File("data/faces/demo-one.h5") as faces:
        assert set(file) == {NAMES[0], MUTE}
        group = file[NAMES[0]]
        use = ["faces", "flow", "audio"]
        assert set(group["attention"]) == {f"{query}_to_{key}" for query in use for key in use if query != key}
        counts = {}
        for name in use:
            times, grid = group[f"tokens/{name}/times"][()], group[f"tokens/{name}/grid"][()]
            counts[name] = len(times) * grid.prod()
            assert (np.diff(times) > 0).all()
        assert group["tokens/audio/grid"][()].tolist() == [1, 1]
        for pair, weights in group["attention"].items():
            query, key = pair.split("_to_")
            assert weights.shape == (4, counts[query], counts[key])
            assert weights[()].sum(-1) == pytest.approx(1, abs=1e-5)
        assert list(group["pictures"]) == ["faces"]
        stored = faces[NAMES[0]]["faces"][()]
        shown = group["pictures/faces"][()]
        assert shown.shape == (4, 64, 64, 3)
        at = np.searchsorted(faces[NAMES[0]]["times"][()], group["tokens/faces/times"][()] - 1e-6)
        assert (shown == stored[at]).all()
        assert file[MUTE]["tokens/audio/times"].shape == (1,)
    sample = [0, 1, NAMES.index(MUTE)]
    attention.write_mean_attention(tmp_path / "mean.h5", served.network, data, sample, 0)
    with h5py.File(tmp_path / "mean.h5") as file:
        assert (set(file), file.attrs["clips"]) == ({"faces", "flow"}, 3)  # audio is one token
        for name in file:
            for part in ("heads", "shuffled"):
                looks = file[name][part][()]
                assert looks.shape[0] == 4
                assert looks.mean((1, 2)) == pytest.approx(1, abs=1e-5)
            assert len(file[name]["correlations"]) == 3
            assert np.abs(file[name]["correlations"]).max() <= 1
        assert not np.allclose(file["faces/heads"], file["faces/shuffled"])
        assert file["faces/picture"].shape == (64, 64, 3)
        assert "picture" not in file["flow"]
    concat = checkpoint.load(model(tmp_path, model__fusion="concat"), CPU)
    attention.write_attention(tmp_path / "none.h5", concat.network, data, [0])
    attention.write_mean_attention(tmp_path / "no_mean.h5", concat.network, data, [0], 0)
    for name in ("none.h5", "no_mean.h5"):
        with h5py.File(tmp_path / name) as file:
            assert not list(file)


def test_importance_and_robustness_of_clips_that_lack_a_stream(project: Path, tmp_path: Path) -> None:
    served = checkpoint.load(model(tmp_path), CPU)
    data = ClipDataset(
        read_clip_table(Path("data/clips.csv")), Path("data"), served.network.encoder_inputs, served.streams, {}
    )
    fabric, chosen = Fabric(accelerator="cpu", devices=1), [0, NAMES.index(MUTE)]
    found = importance.measure_importance(
        fabric, served.network, [data[index]._replace(index=at) for at, index in enumerate(chosen)], 2
    )
    assert {(region.stream, region.cell is None) for region in found.regions} == {
        ("faces", False), ("faces", True), ("flow", False), ("flow", True), ("audio", True),
    }  # fmt: skip
    for method in importance.METHODS:
        sizes = found.sizes[method]["traits"]
        assert sizes.shape == (2 * 64 + 3 * 8, 5)
        for stream in ("faces", "flow", "audio"):
            assert sizes[[region.stream == stream for region in found.regions]].max() > 0
    predicted = infer.predict(fabric, served.network, data, 2, 0)["traits"][chosen]
    assert np.abs(found.missed["traits"]).max() < 0.2 * np.ptp(predicted)
    worse = robustness.predict(fabric, served.network, served.streams, data, chosen, 2)
    assert worse[robustness.INTACT]["traits"][0] == pytest.approx(predicted[0], abs=1e-6)
    assert np.isnan(worse[robustness.INTACT]["traits"][1]).all()  # without sound it is not compared
    assert all(
        np.abs(of["traits"][0] - predicted[0]).max() > 1e-7 for what, of in worse.items() if what != robustness.INTACT
    )


def test_every_file_is_a_row(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = raw(project, NAMES[0])
    (tmp_path / "script.mp4").write_text(f"ffconcat version 1.0\nfile '{whole}'\n")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[:5000])
    (tmp_path / "dangling.mp4").symlink_to("nowhere")
    write(tmp_path / "tiny.mp4", Track(larger(numbered(30), 32, 32)))
    write(tmp_path / "leap.mp4", Track(numbered(), times=[at / 15 + (7200 if at > 29 else 0) for at in range(60)]))
    refused = [tmp_path / ("x" * 300), *sorted(tmp_path.iterdir())]
    path = model(tmp_path, model__missing="drop")
    monkeypatch.setattr(sys, "argv", ["predict", "--model", str(path), *map(str, refused), str(whole)])
    with pytest.raises(SystemExit) as ended:
        tools.predict.main()
    assert ended.value.code == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["clip"] for row in rows] == [*map(str, refused), str(whole)]
    said = {Path(row["clip"]).stem[:8]: row["refused"] for row in rows}
    assert said.pop("v0.000") == ""
    assert all(said.values())
    assert not any("internal" in reason for reason in said.values()), said
    assert "is not a video" in said["script"]
    assert "found in 0% of the frames" in said["tiny"]
    assert "time stamps leap by 7200.1 s" in said["leap"]
    assert float(rows[-1]["openness"]) > 0


def test_a_trained_models_intervals_and_percentiles_come_from_its_own_clips(project: Path) -> None:
    train.main()
    predict = Predictor(project / "data/model.pt", CPU)
    reference = predict.served.training.references["warmth"]
    known = np.array([2, 3, 4])  # the training clips' labels
    assert reference.quantiles[:, 0].numpy() == pytest.approx(np.quantile(known, np.linspace(0, 1, 101)), abs=1e-6)
    assert not np.isfinite(reference.half_widths.numpy()[0])  # one validation clip knows it
    found = predict(raw(project, NAMES[6])).targets["warmth"]["warm"]
    assert (found.low, found.high) == (None, None)
    assert found.percentile == pytest.approx(np.clip((found.score - 2) / 2 * 100, 0, 100), abs=0.01)


def test_a_clip_unlike_those_of_training_is_warned_of(project: Path, tmp_path: Path) -> None:
    train.main()
    predict = Predictor(project / "data/model.pt", CPU)
    ranges = predict.served.training.ranges["faces"]
    for index, name in enumerate(NAMES[:4]):  # the training clips lie within
        with h5py.File("data/faces/demo-one.h5") as file:
            landmarks = file[name]["landmarks"][()]
        low, high = ranges["pixels between the eyes"]
        assert low <= np.nanmedian(np.linalg.norm(landmarks[:, 0] - landmarks[:, 1], axis=1)) <= high, index
        assert not any("in the training clips" in warning for warning in predict(raw(project, name)).warnings)
    frames, _ = render(Identity(1), Performance(0.0, 1.0, 0.0, 1), 2.0, FPS)
    dark = np.full((len(frames), 300, 300, 3), 20, np.uint8)
    for to, picture in zip(dark, frames, strict=True):
        small = cv2.resize(picture, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA) // 3
        to[: len(small), : small.shape[1]] = small
    dark[20:] = 20  # nobody is there
    without_sound(tmp_path / "dark.mp4", dark)
    warnings = "\n".join(predict(tmp_path / "dark.mp4").warnings)
    number = r"\d+(?:\.\d+)?"
    for what in ("pixels between the eyes", "brightness of the face, of 255", "share of the frames with a face"):
        (found,) = re.findall(rf"faces: {what}: ({number}), in the training clips ({number}) to ({number})", warnings)
        value, low, high = map(float, found)
        assert 0 < value < low <= high
    assert "audio: has no sound; predicted without it" in warnings


def model_with(folder: Path, seconds: list[float], half_width: float) -> Path:
    """The model of chance with references that are given."""
    chosen = given()
    encoder_inputs, targets = chosen.model.encoder_inputs(), chosen.model.chosen(chosen.targets)
    streams = load_streams(encoder_inputs)
    torch.manual_seed(1)
    weights = Network.from_settings(chosen.model, targets, streams).state_dict()
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
        chosen.model,
        targets,
        streams,
        TrainingSummary(["own"], seconds=seconds, references=references),
    )
    return folder / "model.pt"


def test_an_interval_ends_where_the_range_does(project: Path, tmp_path: Path) -> None:
    predict = Predictor(model_with(tmp_path, [1.0, 3.0], 0.9), CPU)
    found = predict(raw(project, NAMES[0]))
    assert found.warnings == ()
    for target in found.targets["traits"].values():
        assert (target.low, target.high) == (
            pytest.approx(max(0, target.score - 0.9)),
            pytest.approx(min(1, target.score + 0.9)),
        )
        assert target.percentile == pytest.approx(100 * target.score, abs=0.01)
    warm = found.targets["warmth"]["warm"]  # unbounded
    assert (warm.low, warm.high) == (pytest.approx(warm.score - 0.9), pytest.approx(warm.score + 0.9))


def test_a_clip_of_another_length_than_any_in_training_is_warned_of(project: Path, tmp_path: Path) -> None:
    predict = Predictor(model_with(tmp_path, [14.0, 16.0], 0.1), CPU)
    (warning,) = predict(raw(project, NAMES[0])).warnings
    assert re.fullmatch(r"it takes [12]\.\d s, the training clips 14\.0 to 16\.0 s", warning)


def test_a_long_clip_is_predicted_in_windows_whose_mean_it_is(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_with(tmp_path, [1.5, 2.0], 0.1)
    parts = [render(Identity(index), Performance(index - 1, 1.0, 0.0, index), 2.0, FPS) for index in range(3)]
    frames = np.concatenate([pictures for pictures, _ in parts])
    frames[FPS * 3 : FPS * 5] = 90  # nobody is there
    long = tmp_path / "long.mp4"
    without_sound(long, frames)
    found = Predictor(model, CPU)(long)
    spans = [(window.start, window.end) for window in found.windows]
    assert spans == [pytest.approx((start, start + 2), abs=0.01) for start in (0, 1, 2, 3, 4)]
    of_window = [window.targets["traits"]["openness"].score if window.targets else None for window in found.windows]
    seen = [window.seen for window in found.windows]
    assert seen == pytest.approx([2 / 3, 2 / 3, 1 / 2, 0, 1 / 2], abs=0.1)  # never heard
    assert found.windows[3].refused
    assert of_window[3] is None
    del seen[3], of_window[3]
    assert found.targets["traits"]["openness"].score == pytest.approx(np.average(of_window, weights=seen), abs=1e-6)
    assert any("only 4 of 5 windows could be used (faces" in warning for warning in found.warnings)
    sample = list(read_frames(long, 5, span=spans[1]))
    alone = tmp_path / "alone.mp4"
    without_sound(alone, frames[FPS : 3 * FPS])
    assert len(sample) == 10
    whole = Predictor(model, CPU)(alone)
    assert not whole.windows
    assert whole.targets["traits"]["openness"].score == pytest.approx(of_window[1], abs=0.02)
    asked = Predictor(model, CPU, window=1.0)(alone)
    assert asked.targets == whole.targets
    assert [(one.start, one.end) for one in asked.windows] == [(0, 1), (0.5, 1.5), (1, 2)]
    assert len({one.targets["traits"]["openness"].score for one in asked.windows}) == 3
    assert [one.end for one in Predictor(model, CPU, window=3.0)(long).windows] == pytest.approx([3, 4.5, 6], abs=0.01)
    with pytest.raises(InputError, match=r"window = 0\.0; allowed: seconds above 0"):
        Predictor(model, CPU, window=0.0)
    predicted(monkeypatch, long, "--model", model, "--over-time", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [one["start"] for one in rows] == ["", *(f"{start:.3f}" for start, _ in spans)]
    assert float(rows[2]["openness"]) == pytest.approx(of_window[1], abs=1e-6)
    predicted(monkeypatch, long, "--model", model, "--over-time", "--format", "table")
    assert re.search(r"  1\.0 to 3\.0 s: extraversion 0\.\d+", capsys.readouterr().out)


def test_several_faces_cuts_and_changes_are_warned_of(project: Path, tmp_path: Path) -> None:
    frames, _ = render(Identity(1), Performance(0.0, 1.0, 0.0, 1), 3.0, FPS)
    two = np.concatenate([frames, frames[:, :, ::-1]], axis=2)
    two[30:] //= 2  # the light goes out: another shot of the same person
    two[30:, :, frames.shape[2] :] = 60
    write(tmp_path / "two.mp4", Track(two))
    predict = Predictor(model_with(tmp_path, [2.0, 4.0], 0.1), CPU)
    assert predict(tmp_path / "two.mp4").warnings == (
        "audio: has no sound; predicted without it",
        "faces: several in 10 of 15 frames; one of 2 persons is tracked",
        "faces: 1 cut; flow is missing across it",
    )
    refused = Predictor(tmp_path / "model.pt", CPU, "3")(tmp_path / "two.mp4").refused
    assert "faces: person 3 requested, 2 visible" in refused
    with pytest.raises(InputError, match=r"person = 'tallest'; allowed: main, left, right, largest, or a number"):
        Predictor(tmp_path / "model.pt", CPU, "tallest")
    with pytest.raises(InputError, match=r"person = 'left', but .*model.pt sees no faces; allowed: main"):
        Predictor(model(tmp_path, model__use=["audio"]), CPU, "left")
    counted = json.loads((project / "metrics/faces.json").read_text())
    assert [counted[name] for name in ("frames_with_several_faces", "cuts", "changes_of_person")] == [0, 0, 0]


def test_what_a_prediction_rests_on_is_drawn(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, shown, whole = model_with(tmp_path, [1.0, 3.0], 0.1), tmp_path / "shown", raw(project, NAMES[0])
    without_sound(tmp_path / "long.mp4", render(Identity(1), Performance(0, 1, 0, 1), 5.0, FPS)[0])
    arguments = ["--model", path, "--explain", shown, "--format", "csv"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / NAMES[0]).symlink_to(whole)
    clips_ = whole, tmp_path / "long.mp4", tmp_path / "other" / NAMES[0]
    assert predicted(monkeypatch, *clips_, "nowhere.mp4", *arguments) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    alone = Predictor(path, CPU)(whole).targets["traits"]["openness"].score
    assert float(rows[0]["openness"]) == pytest.approx(alone, abs=1e-5)
    names = sorted({one.name[:-4] for one in shown.iterdir()})
    assert re.fullmatch(rf"long\.mp4 {NAMES[0]}-[0-9a-f]{{6}} {NAMES[0]}-[0-9a-f]{{6}}", " ".join(names))
    assert {one.name for one in shown.iterdir()} == {f"{name}{end}" for name in names for end in (".png", ".mp4")}
    for name, frames in zip(names, (25, 10, 10), strict=True):
        assert cv2.imread(str(shown / f"{name}.png")).std() > 20
        film = list(read_frames(shown / f"{name}.mp4", 25))
        assert film[-1][0] == pytest.approx((frames - 1) / 5, abs=0.05)
    record = next(iter(read_frames(whole, 5)))[1]
    scale = 480 / len(record)
    with h5py.File("data/faces/demo-one.h5") as file:
        nose = file[NAMES[0]]["landmarks"][0, 2] * scale
    at = film[0][1][round(nose[1]) - 2 : round(nose[1]) + 3, round(nose[0]) - 2 : round(nose[0]) + 3].mean((0, 1))
    assert np.abs(at - (238, 102, 119)).max() < 60  # the point on the nose
    panels = film[0][1][:480, round(record.shape[1] * scale) :]
    assert panels.shape[1] == 160
    assert all(panels[top : top + 160].std() > 5 for top in (0, 160, 320))
    deaf = Predictor(model(tmp_path, model__use=["audio"]), CPU)
    assert not serving_explain.explain(deaf, whole, tmp_path / "heard").refused
    assert [one.name for one in tmp_path.glob("heard*")] == ["heard.png"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--explain: nothing can be written in .*/file \(File exists\)"):
        tools.predict.explaining([whole], tmp_path / "file")
    with pytest.raises(InputError, match=r"--out: nothing can be written in .*/file/of \(Not a directory\)"):
        tools.predict.check_writable("--out", tmp_path / "file/of")


def test_workers_predict_what_one_predicts(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parallel, "start_executor", LOKY)
    path, clips_ = model(tmp_path), [raw(project, name) for name in NAMES[:3]]
    said = []
    for workers in (1, 2):
        arguments = [
            *clips_,
            "nowhere.mp4",
            "--model",
            path,
            "--workers",
            workers,
            "--explain",
            tmp_path / str(workers),
        ]
        assert predicted(monkeypatch, *arguments, "--format", "csv", "--window", "1", "--over-time") == 1
        said.append(capsys.readouterr().out)
    rows = [list(csv.DictReader(io.StringIO(text))) for text in said]
    assert sum(bool(one["start"]) for one in rows[0]) == 9  # windows
    for one, other in zip(*rows, strict=True):
        assert all(one[name] == other[name] for name in ("clip", "start", "refused"))
        assert not one["openness"] or float(one["openness"]) == pytest.approx(float(other["openness"]), abs=1e-5)
    assert len(list((tmp_path / "2").iterdir())) == 6


@pytest.mark.parametrize("format_", ["onnx", "torch"])
def test_what_is_exported_predicts_the_same(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    if format_ == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")
    gaussian = {"targets__warmth__head": "gaussian", "targets__warmth__loss": "gaussian_nll"}
    path, names = model(tmp_path, model__missing="drop", **gaussian), [NAMES[0], NAMES[1], NAMES[3]]
    monkeypatch.setattr(
        sys, "argv", ["export", *(str(raw(project, name)) for name in names), "--model", str(path), "--format", format_]
    )
    tools.export.main()
    assert "3 of 3 windows have these steps" in capsys.readouterr().out
    predictor, seen = Predictor(path, CPU), list[Any]()
    found = predictor(raw(project, names[2]), seen.append)
    given_ = {
        f"{encoder}_{of.replace('.', '_')}_{part}": getattr(steps, part)
        for encoder, read in seen[0].inputs.items()
        for of, steps in read.items()
        for part in ("values", "times")
    }
    if format_ == "onnx":
        session = onnxruntime.InferenceSession(path.with_suffix(".onnx"))
        assert json.loads(session.get_modelmeta().custom_metadata_map["targets"])["traits"]["columns"] == list(TRAITS)
        taken = [one.name for one in session.get_inputs()]
        values = session.run(None, {name: given_[name].numpy() for name in taken})
    else:
        about = {"about.json": ""}
        program = torch.export.load(path.with_suffix(".pt2"), extra_files=about)
        assert json.loads(about["about.json"])["targets"]["traits"]["columns"] == list(TRAITS)
        values = [one.detach().numpy() for one in program.module()(*given_.values())]
    *scores, scales = values
    for of_group, of in zip(scores, found.targets.values(), strict=True):
        assert of_group[0] == pytest.approx([one.score for one in of.values()], abs=1e-4)
    assert scales[0] == pytest.approx([found.targets["warmth"]["warm"].scale], abs=1e-4)


def test_what_can_not_be_exported_says_so(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s2d, mute = model(tmp_path, model__use=["s2d"]), raw(project, MUTE)
    for arguments, said in (
        ([raw(project, NAMES[0])], "this network can't be exported"),
        ([raw(project, NAMES[0]), "--out", "model.txt"], r"--out model\.txt; allowed: a path that ends in \.onnx"),
        (["nowhere.mp4"], "nowhere.mp4 is refused: nowhere.mp4 is not a file"),
    ):
        monkeypatch.setattr(sys, "argv", ["export", "--model", str(s2d), *map(str, arguments)])
        with pytest.raises(InputError, match=said):
            tools.export.main()
    monkeypatch.setattr(sys, "argv", ["export", "--model", str(model(tmp_path)), str(mute)])
    with pytest.raises(InputError, match=f"{MUTE} has no step for the encoder audio"):
        tools.export.main()


def predicted(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        tools.predict.main()
    return int(ended.value.code)  # type: ignore[arg-type]


def test_folders_patterns_and_a_list_are_taken(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES[:3]:
        place = tmp_path / "day" / name[:2] / name
        place.parent.mkdir(parents=True)
        place.symlink_to(raw(project, name))
    (tmp_path / "day/notes.txt").write_text("none")
    path = model(tmp_path)
    listed = f'\ufeff"{raw(project, NAMES[4])}"\r\n\r\n'.encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
    assert predicted(monkeypatch, tmp_path / "day", f"{project}/data/raw/*/one/v3*", "-", "--model", path) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [Path(row["clip"]).name for row in rows] == NAMES[:5]
    (tmp_path / "none").mkdir()
    for given_, said in (
        (tmp_path / "none", "contains no video; allowed"),
        ("x*.mp4", "no file matches"),
    ):
        with pytest.raises(InputError, match=said):
            list(find_clips([str(given_)]))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_an_interrupted_run_goes_on_in_its_file(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path, out, clips_ = model(tmp_path), tmp_path / f"of/scores{suffix}", [raw(project, name) for name in NAMES[:3]]
    assert predicted(monkeypatch, *clips_, "--model", path, "--out", out) == 0
    whole = out.read_text()
    lines = whole.splitlines(keepends=True)
    out.write_text("".join(lines[:-1]) + lines[-1][:20])  # killed within the last row
    (tmp_path / "empty.mp4").write_bytes(b"")
    made: list[Path] = []
    call = Predictor.__call__
    monkeypatch.setattr(Predictor, "__call__", lambda self, clip: (made.append(clip), call(self, clip))[1])
    assert predicted(monkeypatch, *clips_, tmp_path / "empty.mp4", "--model", path, "--out", out) == 1
    assert made == [clips_[2], tmp_path / "empty.mp4"]
    assert out.read_text().startswith(whole)
    assert "empty.mp4" in out.read_text().splitlines()[-1]
    assert predicted(monkeypatch, clips_[0], "--model", path, "--out", out) == 1  # one in it was refused
    (tmp_path / f"other{suffix}").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="contains no predictions of this model"):
        predicted(monkeypatch, clips_[0], "--model", path, "--out", tmp_path / f"other{suffix}")


def test_a_table_is_for_reading(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = model_with(tmp_path, [1.0, 3.0], 0.1)
    assert predicted(monkeypatch, raw(project, NAMES[0]), "nowhere.mp4", "--model", path, "--format", "table") == 1
    text = capsys.readouterr().out
    line = r"  extraversion       0\.\d{3}  90 % interval 0\.\d{3} to 0\.\d{3}  higher than \d+ % of training clips"
    assert re.search(line, text)
    assert text.endswith("nowhere.mp4\n  refused: nowhere.mp4 is not a file\n")


def test_documented_example_runs(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/predict.md").read_text(), re.DOTALL)
    (tmp_path / "data").mkdir()
    model_with(tmp_path / "data", [1.0, 3.0], 0.1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "interviews").mkdir()
    for name in NAMES[:2]:
        (tmp_path / "interviews" / name).symlink_to(raw(project, name))
    scope: dict[str, Any] = {}
    exec(example, scope)
    assert scope["prediction"].clip.name == NAMES[1]
    assert 0 < scope["prediction"].targets["traits"]["openness"].score < 1


def test_who_reads_a_part_of_the_rows_gets_no_traceback(project: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.predict", *["nowhere.mp4"] * 3, "--model", str(model(tmp_path))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout
        assert run.stderr
        run.stdout.close()
        assert run.stderr.read().splitlines() == [
            "warning: the model was trained on rendered clips, so its scores of real people mean nothing"
        ]


@pytest.mark.skipif(not ODD.is_dir(), reason="the odd clips are not here")
def test_a_folder_of_odd_clips_is_a_row_each(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = model(tmp_path, model__missing="drop", model__use=["faces", "flow"])
    assert predicted(monkeypatch, ODD, "--model", path, "--format", "csv") == 1
    said = capsys.readouterr()
    rows = {Path(row["clip"]).name: row for row in csv.DictReader(io.StringIO(said.out))}
    assert set(rows) == {one.name for one in ODD.iterdir()} - {"README.md"}
    for row in rows.values():
        assert bool(row["refused"]) != bool(row["openness"]), row
        assert not row["refused"].startswith("internal"), row
    for name, reason in (
        ("audio_only.mp4", "frames: has no video stream"),
        ("one_frame.mp4", "frames: 1 at 5.0 a second"),
        ("no_face.mp4", "faces: found in 0% of the frames"),
        ("truncated_nomoov_or_cut.mp4", "frames: cannot be decoded"),
        ("two_faces.mp4", ""),
        ("vfr.mp4", ""),
    ):
        refused = rows[name]["refused"]
        assert refused.startswith(reason) if reason else not refused, rows[name]
    assert "Traceback" not in said.err


def test_help_needs_no_network() -> None:
    script = "import sys, tools.predict; sys.argv = ['predict', '--help']\ntry: tools.predict.main()\n"
    script += "except SystemExit: print(sorted({'torch', 'cv2', 'pandas', 'av'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_prediction_loads_nothing_that_it_needs_not() -> None:
    heavy = "{'pandas', 'lightning_fabric', 'torchmetrics', 'dvc', 'joblib', 'sklearn', 'matplotlib', 'librosa'}"
    script = f"import sys, lib.serving.predictor; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
