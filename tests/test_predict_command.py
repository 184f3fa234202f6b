"""The command tools.predict: files and lists, its tables, interruptions, and unusual clips."""

import csv
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lib.core.errors import InputError
from lib.serving.clips import find_clips
from lib.serving.predictor import Predictor
from tests.code_blocks import find_code_blocks
from tests.conftest import ODD, ROOT
from tests.small_corpus import (
    NAMES,
    raw_path,
    run_predict,
    save_model_with_references,
    save_random_model,
)
from tests.small_corpus import corpus_with_streams as corpus_with_streams
from tests.small_corpus import use_small_corpus as use_small_corpus


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
