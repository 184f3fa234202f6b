"""Prediction of clips equals evaluation; windows, persons, warnings, sheets, export and the command."""

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric

import tools.export
import tools.predict
from lib.core import parallel
from lib.core.clips import read_clip_table
from lib.core.errors import InputError
from lib.core.targets import TRAITS
from lib.data.dataset import ClipDataset
from lib.media.frames import read_frames
from lib.model import infer
from lib.model.fusions import FUSIONS
from lib.model.settings import STACKED
from lib.serving import explain as serving_explain
from lib.serving.predictor import Predictor
from lib.sources.demo.head import Identity, Performance, render
from stages import train
from tests.conftest import ROOT
from tests.run_tool import call_main
from tests.small_corpus import (
    CPU,
    FPS,
    MUTE,
    NAMES,
    START_LOKY,
    raw_path,
    run_predict,
    save_model_with_references,
    save_random_model,
    write_video_without_audio,
)
from tests.small_corpus import corpus_with_streams as corpus_with_streams
from tests.small_corpus import use_small_corpus as use_small_corpus
from tests.video_files import (
    Track,
    resize_frames,
    timed_frames,
    write_conversation,
    write_video_file,
)


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
    usable_fractions = [window.usable_fraction for window in prediction.windows]
    assert usable_fractions == pytest.approx(
        [1, 1, 3 / 4, 0, 3 / 4], abs=0.1
    )  # of faces and flow: the clip has no audio
    assert prediction.usable_fraction == pytest.approx(np.mean(usable_fractions))
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


def test_windows_are_decoded_in_one_pass(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_path = save_model_with_references(tmp_path, [1.5, 2.0], 0.1)
    clip, separate = tmp_path / "clip.mp4", list[object]()
    write_video_without_audio(clip, render(Identity(0), Performance(0.0, 1.0, 0.0, 0), 2.0, FPS)[0])

    def record_spans(*arguments: Any) -> Iterator[tuple[float, np.ndarray]]:
        separate.append(arguments[3])
        return read_frames(*arguments)

    monkeypatch.setattr("lib.media.jpeg_frames.read_frames", record_spans)
    predictor = Predictor(model_path, CPU, window=1.0)
    windows = predictor(clip).windows
    assert separate == [None]
    monkeypatch.setattr(Predictor, "_read_windows", lambda *arguments: iter(()))
    assert predictor(clip).windows == windows
    assert separate == [None, None, (0, 1), (0.5, 1.5), (1, 2)]
    assert all(window.targets for window in windows)


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
    reads = {"model__encoders__features__reads": ["audio.mfcc"]}
    small = {"model__use": ["faces", "features"], "model__missing": "drop", **reads, **faces}
    path, names = save_random_model(tmp_path, **small, **gaussian), [NAMES[0], NAMES[1], NAMES[3]]
    clips = [raw_path(project, name) for name in names]
    saved = tmp_path / "inputs.npz"
    call_main(tools.export, *clips, "--model", path, "--format", export_format, "--save-inputs", saved)
    assert "checked on 3 of 3 windows" in capsys.readouterr().out
    predictor, samples = Predictor(path, CPU), list[Any]()
    prediction = predictor(raw_path(project, names[2]), samples.append)
    inputs = {
        f"{encoder}_{stream.replace('.', '_')}_{part}": getattr(steps, part)
        for encoder, steps_by_stream in samples[0].inputs.items()
        for stream, steps in steps_by_stream.items()
        for part in ("values", "times")
    }
    with np.load(saved) as arrays:
        assert arrays.keys() == inputs.keys()
        assert all(np.array_equal(arrays[name][2:], values.numpy()) for name, values in inputs.items())
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


def test_predictor_loads_only_what_it_needs() -> None:
    heavy = "{'pandas', 'lightning_fabric', 'dvc', 'joblib', 'sklearn', 'matplotlib', 'librosa', 'torch._dynamo'}"
    script = f"import sys, lib.serving.predictor, torchvision; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
