"""Importance maps are compared with marked regions and times: a planted network scores 1, random maps at chance level."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from lightning_fabric import Fabric

from lib.analysis import cues
from lib.analysis._cue_masks import find_marked_cells, find_marked_moments
from lib.analysis._regions import Region
from lib.core.errors import InputError
from lib.core.face_template import TEMPLATE
from lib.core.shards import Record
from lib.report import figures
from lib.report.figures import FigureInputs
from lib.scoring.bootstrap import Bootstrap
from lib.sources._cues import COLUMNS, read_cues
from lib.sources.demo.cues import list_boxes
from lib.sources.demo.head import HEIGHT, WIDTH, Identity, Performance, render
from tests.test_importance import BROW, GROUP, MOUTH, SAMPLES, PlantedNetwork

SIZE = 160, 120
SHIFT = np.array([40.0, 20.0])
SCALE = 0.5
"""The aligned face of 112 pixels is the square from SHIFT to SHIFT + 56 in frames of SIZE pixels."""
CLIPS = [f"v{index // 2}.00{index % 2}.mp4" for index in range(len(SAMPLES))]


def make_records() -> dict[str, Record]:
    jpeg = cv2.imencode(".jpg", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))[1].ravel()
    times, count = np.arange(16.0), 16
    frames = {"times": times, "jpeg": np.tile(jpeg, count), "offsets": np.arange(count + 1) * len(jpeg)}
    landmarks = np.tile((TEMPLATE + 0.5) * SCALE + SHIFT - 0.5, (count, 1, 1))
    landmarks[3] = np.nan
    return {"frames": Record("a", frames), "faces": Record("a", {"landmarks": landmarks, "times": times})}


def mark_cell(cell: tuple[int, int], target: str, start: float = np.nan, end: float = np.nan) -> dict[str, Any]:
    """Return a cue whose box is a cell of a grid of 8 x 8 on the aligned face."""
    side = 112 * SCALE / 8
    x, y = SHIFT + side * np.array(cell[::-1])
    box = {"x": x / SIZE[0], "y": y / SIZE[1], "w": side / SIZE[0], "h": side / SIZE[1]}
    return {"target": target, "start": start, "end": end, **box}


def make_context(count: int) -> Any:
    table = pd.DataFrame({"clip": CLIPS, "video": [clip[:-8] for clip in CLIPS]})

    class Clips(list):
        def records(self, index: int, streams: Any) -> dict[str, Record]:
            return make_records()

    clips = Clips(SAMPLES)
    clips.table = table  # type: ignore[attr-defined]
    return SimpleNamespace(
        settings=SimpleNamespace(cue_clips=count, importance_grid=8, importance_moments=8, control_repeats=20),
        clips=clips,
        network=PlantedNetwork(),
        fabric=Fabric(devices=1),
        batch_size=6,
        targets={"planted": GROUP},
        bootstrap=Bootstrap(200, 0),
        evaluation=SimpleNamespace(trained=SimpleNamespace(streams={"frames": None, "faces": None})),
    )


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    marks = [mark_cell(BROW, "red"), mark_cell(MOUTH, "moved", 9.5, 11.5)]
    rows = [{"clip": clip, **mark} for clip in CLIPS for mark in marks]
    return cues.run_cues(make_context(50), pd.DataFrame(rows, columns=[*COLUMNS]))


def test_planted_evidence_scores_1_and_shuffled_by_chance(table: pd.DataFrame) -> None:
    rows = table.set_index(["target", "stream", "kind", "score", "map"])
    assert set(table["target"]) == {"red", "moved"}  # other targets have no mark
    for key in (("red", "faces", "place"), ("moved", "flow", "place"), ("moved", "flow", "time")):
        for score in ("pointing", "energy"):
            assert rows["value"][*key, score, "occlusion"] == pytest.approx(1, abs=1e-4)
            chance = 1 / 64 if key[2] == "place" else 1 / 8
            assert rows["value"][*key, score, "shuffled"] == pytest.approx(chance, abs=0.06)
            gain = rows.loc[(*key, score, "occlusion - shuffled")]
            assert gain["low"] > 0.8
            assert gain["clips"] == 12
    assert rows["value"]["red", "faces", "place", "pointing", "centre"] == 0
    assert 0 < rows["value"]["red", "faces", "place", "energy", "centre"] < 0.03
    assert rows["value"]["moved", "faces", "place", "energy", "occlusion"] == pytest.approx(1 / 64)  # a map of zeros


def test_ideal_map_scores_1_and_a_random_one_by_chance() -> None:
    inside = np.zeros(64, bool)
    inside[[3, 17, 18]] = True
    assert cues.point(inside * 2.0, inside) == cues.measure_energy(inside * 2.0, inside) == 1
    rng = np.random.default_rng(0)
    drawn = [rng.random(64) for _ in range(4000)]
    assert np.mean([cues.point(values, inside) for values in drawn]) == pytest.approx(3 / 64, abs=0.01)
    assert np.mean([cues.measure_energy(values, inside) for values in drawn]) == pytest.approx(3 / 64, abs=0.002)
    assert cues.point(np.ones(64), inside) == 3 / 64  # no maximum


def test_boxes_are_moved_into_the_aligned_face() -> None:
    cells = [Region("faces", (row, column), parts=8) for row in range(8) for column in range(8)]
    records = make_records()

    def find(*boxes: dict[str, Any], stream: str = "faces") -> list[tuple[int, int]] | None:
        table = pd.DataFrame([{"clip": "a", **box} for box in boxes], columns=[*COLUMNS])
        mask = find_marked_cells(records, table, stream, cells)
        return None if mask is None else [cell.cell for cell, marked in zip(cells, mask, strict=True) if marked]  # type: ignore[misc]

    assert find(mark_cell((2, 5), "")) == find(mark_cell((2, 5), ""), stream="flow") == [(2, 5)]
    assert find(mark_cell((2, 5), ""), mark_cell((6, 1), "")) == [(2, 5), (6, 1)]
    small = mark_cell((4, 4), "")
    assert find(small | {"w": small["w"] / 4, "h": small["h"] / 4}) == [(4, 4)]  # no cell is covered by half
    assert find({"target": "", "start": np.nan, "end": np.nan, "x": 0.9, "y": 0.9, "w": 0.1, "h": 0.1}) is None
    assert find(mark_cell((2, 5), "", 3.0, 3.0)) is None  # no face at that time
    quarter = {"target": "", "start": np.nan, "end": np.nan, "x": 0.5, "y": 0.0, "w": 0.25, "h": 0.125}
    assert find(quarter, stream="frames") == [(0, 4), (0, 5)]
    assert find(quarter, stream="scenes") is None


def test_marked_times_become_parts_of_the_clip() -> None:
    times = pd.DataFrame({"start": [0.0, 7.0], "end": [2.0, 7.4]})
    assert np.flatnonzero(find_marked_moments(times, 8, 8.0)).tolist() == [0, 1]
    assert np.flatnonzero(find_marked_moments(times[1:], 8, 8.0)).tolist() == [7]  # the largest fraction
    assert not find_marked_moments(pd.DataFrame({"start": [9.0], "end": [10.0]}), 8, 8.0).any()


def test_clips_without_marks_give_an_empty_table() -> None:
    none = pd.DataFrame(columns=[*COLUMNS])
    for count, marked in (
        (50, none),
        (0, pd.DataFrame([{"clip": CLIPS[0], **mark_cell(BROW, "")}], columns=[*COLUMNS])),
    ):
        table = cues.run_cues(make_context(count), marked)
        assert table.empty
        assert "energy" not in table.columns
        assert not figures.FIGURES["cues"].applies(FigureInputs(cue_scores=table))


def test_cues_figure_and_sentence(table: pd.DataFrame) -> None:
    module, results = figures.FIGURES["cues"], FigureInputs(cue_scores=table)
    assert module.applies(results)
    figure = module.draw(results, GROUP)
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == ["red", "moved"]
    text = module.describe(results, GROUP)
    assert text.startswith(
        "Of the maps of a stream and a target (12 to 12 clips), the energy is above that of the centre map"
    )
    figure.savefig("/dev/null", format="png")


HEADER = ",".join(COLUMNS)


def write_cues(folder: Path, *rows: str) -> list[Path]:
    (folder / "cues.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return [folder / "cues.csv", folder / "clips.csv"]


def test_read_cues_matches_clips_and_keeps_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["b,warm,1,2,,,,", "a.mp4,,,,0.1,0.2,0.9,0.3", "gone,warm,0,1,,,,", "bad.mp4,warm,0,1,,,,"]
    table = read_cues(write_cues(tmp_path, *rows), ["a.mp4", "b.mp4"], ["warm"], ["bad.mp4"])
    assert table[["clip", "target"]].to_numpy().tolist() == [["a.mp4", ""], ["b.mp4", "warm"]]
    assert table[["start", "end"]].to_numpy()[1].tolist() == [1, 2]
    assert table.loc[0, "start":"h"].isna().tolist() == [True, True, False, False, False, False]
    assert "cues.csv: 1 of 4 rows match no clip of the corpus: gone" in capsys.readouterr().out
    assert read_cues([], ["a.mp4"], ["warm"]).columns.tolist() == [*COLUMNS]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,cold,0,1,,,,", "row 2, column 'target': 'cold'; allowed: warm, or empty for all targets"),
        ("a,warm,-1,1,,,,", "row 2, column 'start': '-1'; allowed: seconds from 0 on"),
        ("a,warm,2,1,,,,", "row 2, column 'end': '1'; allowed: a time after start, 2"),
        ("a,warm,2,,,,,", "row 2, column 'end': ''; allowed: a number, because start has one; or start, end empty"),
        ("a,warm,,,,,,", "row 2, column 'start': ''; allowed: a time (start, end), a box (x, y, w, h), or both"),
        ("a,warm,,,0.5,0.5,20,0.1", "row 2, column 'w': '20'; allowed: a fraction of the frame from 0 to 1, above 0"),
        ("a,warm,,,0.5,0.5,0.6,0.1", "row 2, column 'w': '0.6'; allowed: up to 0.5, the edge of the frame"),
        ("a,warm,,,left,0.5,0.6,0.1", "row 2, column 'x': 'left'; allowed: a fraction of the frame from 0 to 1"),
        ("gone,warm,0,1,,,,", "1 of 1 rows match no clip of the corpus: gone; name clips as in data/clips.csv"),
    ],
)
def test_invalid_cues_are_named(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_cues(write_cues(tmp_path, row), ["a.mp4"], ["warm"])
    assert message in str(error.value)


def test_cues_need_all_columns(tmp_path: Path) -> None:
    (tmp_path / "cues.csv").write_text("clip,target,start,end\na,warm,0,1\n")
    with pytest.raises(InputError, match=r"cues\.csv has the columns clip, target, start, end; required: .*; add x"):
        read_cues([tmp_path / "cues.csv"], ["a.mp4"], ["warm"])


def test_boxes_of_the_demo_contain_the_planted_motion() -> None:
    for seed in (1, 2):
        talking, still = (render(Identity(1), Performance(0, rate, 0, seed), 2.0, 5)[0] for rate in (2.0, 0.0))
        change = np.abs(talking.astype(float) - still).sum((0, 3))
        inside = np.zeros((HEIGHT, WIDTH), bool)
        for x, y, w, h in list_boxes():
            inside[round(y * HEIGHT) : round((y + h) * HEIGHT), round(x * WIDTH) : round((x + w) * WIDTH)] = True
        assert change[inside].sum() > 0.9 * change.sum()
        assert inside.mean() < 0.25
