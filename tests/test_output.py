"""Files of predictions: names, resuming, locks and texts, without a model."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from lib.core import command
from lib.core.errors import InputError
from lib.core.estimates import average_usable_fractions, check_usable_fraction
from lib.core.targets import TargetGroup
from lib.serving import output
from lib.serving.clips import find_clips, parse_list
from lib.serving.output import PredictionOrigin
from lib.serving.pool import predict_many
from lib.serving.predictor import Predictor
from lib.serving.results import Estimate, Person, Prediction, Values, Window, to_frame
from tests.conftest import ROOT

ODD_NAME = os.fsdecode(b"caf\xe9.mp4")
ORIGIN = PredictionOrigin("0123456789ab", "person=main window= min_usable=0.5")


def make_group(*columns: str) -> TargetGroup:
    return TargetGroup.model_construct(columns=list(columns), range=(0.0, 1.0))


NAMES = output.column_names({"own": make_group("score")})


def make_prediction(clip: str, percentile: float = 40.0) -> Prediction:
    return Prediction(Path(clip), {"own": {"score": Estimate(0.5, 0.4, 0.6, percentile)}}, "", (), (), 0.75)


def write_predictions(path: Path, clips: list[str], run: PredictionOrigin = ORIGIN) -> output.Before:
    with output.locked(path) as file:
        before = output.read_before(path, file, NAMES, run)
        todo = [make_prediction(clip) for clip in clips if clip not in before.clips]
        output.write(todo, NAMES, path.suffix[1:], file, run, not file.tell(), False)
    return before


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_clip_names_that_are_not_utf8_are_resumed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scores{suffix}"
    assert write_predictions(path, ["a.mp4", ODD_NAME]).clips == set()
    content = path.read_bytes()
    assert write_predictions(path, ["a.mp4", ODD_NAME]).clips == {"a.mp4", ODD_NAME}
    assert path.read_bytes() == content
    path.write_bytes(content + b'"begun')
    assert write_predictions(path, ["b.mp4"]).clips == {"a.mp4", ODD_NAME}
    assert path.read_bytes().startswith(content)
    assert path.read_bytes().count(b"\n") == content.count(b"\n") + 1
    if suffix == ".csv":
        assert b"caf\xe9.mp4" in content
    else:
        assert json.loads(content.splitlines()[1])["clip"] == ODD_NAME


@pytest.mark.parametrize(
    ("field", "value"), [("model", "ba9876543210"), ("options", "person=left window= min_usable=0.5")]
)
def test_file_of_another_model_or_options_is_rejected(tmp_path: Path, field: str, value: str) -> None:
    write_predictions(tmp_path / "scores.csv", ["a.mp4"])
    other = PredictionOrigin(**{"model": ORIGIN.model, "options": ORIGIN.options} | {field: value})
    with pytest.raises(
        InputError, match=f"another {field} .*; this run has {value}: choose another file, or remove this one"
    ):
        write_predictions(tmp_path / "scores.csv", ["b.mp4"], other)
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [(row["clip"], row["usable fraction"], row["model"]) for row in rows] == [("a.mp4", "0.750", ORIGIN.model)]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_clip_with_missing_persons_is_predicted_again(tmp_path: Path, suffix: str) -> None:
    path, clip = tmp_path / f"scores{suffix}", 'a "b"\n.mp4'
    persons = [Person(number, 2, number == 1, 0.3, 0.0, 3.0, 1.0, None) for number in (1, 2)]
    predictions = [
        replace(make_prediction(name), person=person) for name in ("first.mp4", clip, "last.mp4") for person in persons
    ]
    names = output.column_names({"own": make_group("score")}, persons=True)

    def write(rows: list[Prediction]) -> output.Before:
        with output.locked(path) as file:
            before = output.read_before(path, file, names, ORIGIN)
            output.write(rows, names, suffix[1:], file, ORIGIN, header=not file.tell(), over_time=False, persons=True)
        return before

    write(predictions[:3])
    assert write(predictions[2:4]).clips == {"first.mp4"}
    assert write(predictions[4:]).clips == {"first.mp4", clip}
    assert write([]).clips == {"first.mp4", clip, "last.mp4"}
    if suffix == ".csv":
        table = pd.read_csv(path)
        assert table["person"].tolist() == [1, 2] * 3
        assert table["person speaks"].isna().all()
    else:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["person"]["number"] for line in lines] == [1, 2] * 3
    frame = to_frame(predictions[:2])
    assert frame[["person", "person main"]].to_numpy().tolist() == [[1, True], [2, False]]
    assert "person" not in to_frame([make_prediction("a.mp4")])


@pytest.mark.slow
def test_full_disk_ends_a_run_and_keeps_the_rows(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from lib.core import command; from tests import test_output\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "command.run(lambda: test_output.write_predictions(Path(sys.argv[1]), [f'{number}.mp4' for number in range(50)]))"
    )
    path, clips = tmp_path / "scores.csv", [f"{number}.mp4" for number in range(50)]
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    remedy = "; free disk space and run the command again (finished parts are kept)\n"
    assert re.fullmatch(f"error: .*File too large{re.escape(remedy)}", done.stderr)
    assert path.stat().st_size == 1000
    assert 5 < len(write_predictions(path, clips).clips) < 20
    with path.open() as file:
        assert [row["clip"] for row in csv.DictReader(file)] == clips


@pytest.mark.slow
def test_second_writer_is_rejected_and_names_the_first(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from lib.serving import output\n"
        "with output.locked(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "scores.csv")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(InputError, match=rf"scores\.csv: process {process.pid} is writing to this file"):
            write_predictions(tmp_path / "scores.csv", ["a.mp4"])
        process.communicate()
    assert not write_predictions(tmp_path / "scores.csv", ["a.mp4"]).clips


def test_ambiguous_columns_get_the_name_of_their_group(tmp_path: Path) -> None:
    names = output.column_names({"own": make_group("clip", "score", "score low", "warmth")})
    assert list(names.values()) == ["clip (own)", "score", "score low (own)", "warmth"]
    two_groups = output.column_names({"a": make_group("warm"), "b": make_group("warm")})
    assert list(two_groups.values()) == ["warm (a)", "warm (b)"]


@pytest.mark.parametrize(
    ("percentile", "words"),
    [
        (100.0, "higher than all training clips"),
        (0.0, "lower than all training clips"),
        (99.9, "higher than 99 % of training clips"),
        (41.6, "higher than 42 % of training clips"),
    ],
)
def test_percentile_is_described_in_words(percentile: float, words: str) -> None:
    text = make_prediction("a.mp4", percentile).to_text()
    assert text == f"a.mp4\n  score  0.500  90 % interval 0.400 to 0.600  {words}\n"


def test_windows_are_rows_with_times() -> None:
    window = Window(1.0, 3.0, {}, 0.0, "faces: found in 0% of the frames")
    prediction = Prediction(Path("a.mp4"), {}, "", (), (window,), 0.5)
    file = io.StringIO()
    output.write([prediction], NAMES, "csv", file, ORIGIN, True, True)
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert [(row["start"], row["end"], row["usable fraction"], row["rejected"]) for row in rows] == [
        ("", "", "0.500", ""),
        ("1.000", "3.000", "0.000", "faces: found in 0% of the frames"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf"C:\\a b.mp4"\r\nc.mp4\r\n\r\n',
        '\ufeff"C:\\a b.mp4"\r\nc.mp4\r\n'.encode("utf-16-le"),
        b"C:\\a b.mp4\nc.mp4",
    ],
)
def test_clip_lists_of_microsoft_windows_are_read(content: bytes) -> None:
    assert list(map(str, parse_list(content))) == ["C:\\a b.mp4", "c.mp4"]


def test_linked_folders_are_searched(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.MP4").touch()
    (tmp_path / "videos/.hidden.mp4").touch()
    (tmp_path / "given").mkdir()
    (tmp_path / "given/link").symlink_to(tmp_path / "videos")
    (tmp_path / "given/loop").symlink_to(tmp_path / "given")
    assert list(find_clips([str(tmp_path / "given")])) == [tmp_path / "given/link/a.MP4"]


@pytest.mark.parametrize("model", [None, b"data/model.pt", 3.5])
def test_predictor_rejects_models_that_are_not_paths(model: Any) -> None:
    with pytest.raises(
        InputError, match=r"^model has the type .*; allowed: the path of a file, as str or pathlib\.Path$"
    ):
        Predictor(model)


def test_log_goes_to_stderr_if_no_folder_can_be_created(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file, where the folder would be")
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from lib.core import command, errors\n"
        "command.log_to('predict'); errors.log_once('predict', 'the traceback')"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stderr.endswith("predict: the traceback\n")


def test_log_makes_no_folder_without_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = command.LogFile(Path("logs/a.log"), delay=True)
    assert not list(tmp_path.iterdir())
    log.close()


def test_stage_prints_its_error_once(tmp_path: Path) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from lib.core import command, errors\n"
        "def main(): raise errors.InputError('width = 7')\ncommand.run_stage(main, 'train')"
    )
    (tmp_path / "train.py").write_text(script)
    result = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.count("width = 7") == 1
    assert "width = 7" in (tmp_path / "logs/train.log").read_text()


def test_predictor_returns_a_row_for_a_failed_clip(caplog: pytest.LogCaptureFixture) -> None:
    def draw(_: Any, clip: Path) -> Prediction:
        if clip.name == ODD_NAME:
            raise UnicodeEncodeError("utf-8", ODD_NAME, 3, 4, "surrogates not allowed")
        return make_prediction(str(clip))

    predictor = SimpleNamespace(warnings=())
    paths = [Path("a.mp4"), Path(ODD_NAME), Path("b.mp4")]
    results = list(predict_many(predictor, partial(SimpleNamespace), draw, paths, workers=1))
    assert [result.rejected[:28] for result in results] == ["", "internal: UnicodeEncodeError", ""]
    assert "Traceback" in caplog.text


def test_clips_with_few_usable_parts_are_rejected() -> None:
    half = Values({}, {"faces": 1.0, "audio": 0.0}, [])
    poor = Values({}, {"faces": 0.5, "audio": 0.0}, [])
    fractions = average_usable_fractions([half.usable_fractions, poor.usable_fractions])
    assert fractions == [1.0, 0.5]  # the mean ignores streams that the clip does not have
    assert average_usable_fractions([{"faces": 0.0, "audio": 0.0}]) == [0.0]
    assert average_usable_fractions([{"faces": 1.0, "audio": 0.5}, {"faces": 0.0, "audio": 0.5}]) == [0.75, 0.25]
    check_usable_fraction(0.5, 0.5, 4, 8, "")
    with pytest.raises(
        InputError, match=r"^only 12 % of the clip can be used, 1 of its 8 windows \(min_usable is 50 %\); .*: no face$"
    ):
        check_usable_fraction(0.12, 0.5, 1, 8, "no face")
