"""The lens model: correlations of named measures with labels and scores."""

import json
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest

from lib.analysis import lens
from lib.analysis.lens import lens_table
from lib.core import shards
from lib.core.shards import Record
from lib.core.targets import TargetGroup
from lib.data.pooled import read_statistics
from lib.report import figures
from lib.report.figures import FigureInputs
from lib.scoring.bootstrap import Bootstrap
from lib.streams import base

GROUP = TargetGroup(columns=["warm", "cold"], range=[0, 1], head="linear", loss="mse", weight=1)
CLIPS = [f"c{index:03d}.mp4" for index in range(120)]
VIDEOS = np.repeat([f"v{index:02d}" for index in range(60)], 2)


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Measures, labels and scores: raters use `nod.rate`, the model uses `pitch.mean` in its place; `yaw.std` is noise."""
    rng = np.random.default_rng(0)
    measures = pd.DataFrame(rng.normal(size=(120, 3)), CLIPS, ["nod.rate", "pitch.mean", "yaw.std"])
    measures["away.rate"] = 0.0  # a constant
    noise = rng.normal(0, 0.3, (2, 120))
    actual = pd.DataFrame({"warm": measures["nod.rate"] + noise[0], "cold": noise[0]}, CLIPS)
    predicted = pd.DataFrame({"warm": measures["pitch.mean"] + noise[1], "cold": noise[1]}, CLIPS)
    return measures, actual, predicted


def test_lens_finds_what_raters_and_model_use(tables: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> None:
    table = lens_table(*tables, VIDEOS, GROUP, Bootstrap(200, 0))
    rows = table.set_index(["feature", "side", "target"])
    assert rows.loc[("nod.rate", "label", "warm"), "r"] == pytest.approx(
        np.corrcoef(tables[0]["nod.rate"], tables[1]["warm"])[0, 1]
    )
    assert rows.loc[("nod.rate", "label", "warm"), "low"] > 0.9
    assert abs(rows.loc[("nod.rate", "model", "warm"), "r"]) < 0.3
    assert rows.loc[("pitch.mean", "model", "warm"), "low"] > 0.9
    assert rows.loc[("yaw.std", "label", "cold"), "low"] < 0 < rows.loc[("yaw.std", "label", "cold"), "high"]
    assert set(table["feature"]) == {"nod.rate", "pitch.mean", "yaw.std"}  # a constant has no correlation
    assert set(table["clips"]) == {120}


def test_lens_leaves_out_missing_numbers(tables: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> None:
    measures, actual, predicted = (table.copy() for table in tables)
    measures.iloc[:20, 0] = np.nan
    actual.iloc[20:30, 0] = np.nan
    measures["yaw.std"] = np.nan
    rows = lens_table(measures, actual, predicted, VIDEOS, GROUP, Bootstrap(200, 0))
    rows = rows.set_index(["feature", "side", "target"])
    assert rows.loc[("nod.rate", "label", "warm"), "clips"] == 90
    expected = np.corrcoef(measures["nod.rate"][30:], actual["warm"][30:])[0, 1]
    assert rows.loc[("nod.rate", "label", "warm"), "r"] == pytest.approx(expected)
    assert "yaw.std" not in rows.index


def write_statistics(data: Path, measures: pd.DataFrame) -> None:
    (data / "behaviour").mkdir(parents=True)
    (data / "behaviour" / base.ABOUT).write_text("{}")
    names = json.dumps({"steps": ["pitch"], "statistics": [*measures]})
    with h5py.File(data / "behaviour/a.h5", "w") as file:
        for clip, row in measures.iterrows():
            record = Record(str(clip), {"statistics": row.to_numpy(np.float32)[None]}, {base.NAMES: names})
            shards.write_record(file, record)
        shards.write_record(file, Record("z.mp4", rejected="faces: none"))


def test_lens_of_a_run_names_streams_and_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
) -> None:
    measures, actual, predicted = tables
    write_statistics(tmp_path, measures)
    monkeypatch.setattr(lens, "DATA", tmp_path)
    assert list(read_statistics(tmp_path)) == ["behaviour"]
    rows = pd.DataFrame(
        {"clip": np.repeat(CLIPS, 2), "video": np.repeat(VIDEOS, 2), "target": [*GROUP.columns] * 120}
    ).assign(actual=actual.to_numpy().ravel(), predicted=predicted.to_numpy().ravel())
    context = SimpleNamespace(
        targets={"own": GROUP}, scored_predictions=lambda targets: rows.iloc[::-1], bootstrap=Bootstrap(100, 0)
    )
    table = lens.run_lens(context)
    assert list(table) == ["targets", "feature", "kind", "side", "target", "clips", "r", "low", "high"]
    assert dict(zip(table["feature"], table["kind"], strict=True)) == dict.fromkeys(
        ["behaviour.nod.rate", "behaviour.pitch.mean", "behaviour.yaw.std"], "behaviour head"
    )
    strongest = table.loc[table["r"].idxmax()]
    assert (strongest["feature"], strongest["target"]) in [
        ("behaviour.nod.rate", "warm"), ("behaviour.pitch.mean", "warm"),
    ]  # fmt: skip
    figure = figures.FIGURES["lens"].draw(FigureInputs(lens=table), GROUP)
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == ["warm", "cold"]
    assert "3 of 3 measures" in figures.FIGURES["lens"].describe(FigureInputs(lens=table), GROUP)


def test_lens_without_a_stream_of_measures_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lens, "DATA", tmp_path)
    table = lens.run_lens(SimpleNamespace(targets={"own": GROUP}))
    assert table.empty
    assert not figures.FIGURES["lens"].applies(FigureInputs(lens=table))
    assert figures.FIGURES["lens"].describe(FigureInputs(lens=table), GROUP) == ""
