"""Target names with any characters, lengths and numbers in tables, figures, LaTeX and Markdown."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError

from lib.core.artifacts import PREDICTIONS, TEXT_COLUMNS
from lib.core.clips import column_names, read_clip_table, read_csv, write_csv
from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.targets import TargetGroup, Targets
from lib.report import latex, names
from lib.report.comparison import draw_differences
from lib.report.figures import FigureInputs, learning_curve
from tests.report_data import WARMTH

OUR_COLUMNS = ["score", "kind", "group", "control", "target", "targets", "subset", "predictor", "what", "step"]


def make_group(columns: list[str]) -> TargetGroup:
    return WARMTH.model_copy(update={"columns": columns, "detect": [], "column_weights": None})


def test_targets_named_like_our_columns_are_numbers(tmp_path: Path) -> None:
    row = dict.fromkeys(column_names([]), "") | {"clip": "NA"} | dict.fromkeys(OUR_COLUMNS, 0.25)
    write_csv(tmp_path / "clips.csv", pd.DataFrame([row])[column_names(OUR_COLUMNS)])
    table = read_clip_table(tmp_path / "clips.csv")
    assert table["clip"].tolist() == ["NA"]
    np.testing.assert_array_equal(table[OUR_COLUMNS].mean(), 0.25)


def test_text_cells_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    rows = [{"clip": "007", "targets": "1", "target": "NA", "actual": ""}]
    pd.DataFrame(rows).to_csv(tmp_path / "predictions.csv", index=False)
    table = read_csv(tmp_path / "predictions.csv", TEXT_COLUMNS[PREDICTIONS])
    assert table[["clip", "targets", "target"]].to_numpy().tolist() == [["007", "1", "NA"]]
    assert table["actual"].isna().all()


def test_target_named_mean_is_rejected() -> None:
    values = WARMTH.model_dump() | {"columns": ["mean", "warm"], "detect": [], "column_weights": None}
    with pytest.raises(InputError, match="columns has 'mean'; allowed: any other name"):
        check(values, TargetGroup)


def test_latex_has_a_command_for_each_special_character() -> None:
    assert latex.escape(r"50 % & #1 a_b $x$ {y} ~ ^ \z <-1>") == (
        r"50 \% \& \#1 a\_b \$x\$ \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}z $<$$-$1$>$"
    )


def test_escape_markdown_removes_special_meaning() -> None:
    assert names.escape_markdown("a_b|*c* <i> [d] _e_ `f`") == r"a_b\|\*c\* \<i> \[d\] \_e\_ \`f\`"
    table = names.escape_table(pd.DataFrame({"target": ["a|b", "mean"], "value": [1, 2]}))
    assert table["target"].tolist() == [r"a\|b", "mean"]


def test_figures_have_ten_targets_with_short_names() -> None:
    columns = ["x" * 100, "x" * 99, *(f"t{index}" for index in range(58))]
    group = make_group(columns)
    rows = [{"targets": "own", "target": target, "value": 1.0} for target in ("mean", *columns)]
    clips = pd.DataFrame([dict.fromkeys(columns, 0.5) | {"clip": "a"}])
    results = names.prepare_figures(FigureInputs(scores=pd.DataFrame(rows), clips=clips, targets={"own": group}))
    short_names = results.targets["own"].columns
    assert len(short_names) == names.MOST
    assert len(set(short_names)) == names.MOST
    assert max(map(len, short_names)) == 30
    assert results.scores["target"].tolist() == ["mean", *short_names]
    assert set(short_names) <= set(results.clips)
    assert names.describe_limit(group) == " The figure shows the first 10 of 60 targets; the tables list all."
    assert names.describe_limit(make_group(columns[:10])) == ""


def test_learning_curve_is_drawn_for_long_names() -> None:
    columns = ["x" * 100, "x" * 99, "a.b"]
    ends = ["", *(f".{column}" for column in columns)]
    scores = [f"validation_{score}_own{end}" for score in ("accuracy", "r2", "ccc") for end in ends]
    losses = ["training_loss", "validation_loss", "training_accuracy_own"]
    history = pd.DataFrame(dict.fromkeys([*losses, *scores], [0.5, 0.4]))
    results = names.prepare_figures(
        FigureInputs(history=history.assign(epoch=[1, 2]), targets={"own": make_group(columns)})
    )
    figure = learning_curve.draw(results)
    labels = [text.get_text() for text in figure.axes[2].get_legend().get_texts()]
    assert labels[1:-1] == [f"{'x' * 29}…", f"{'x' * 25}… (2)", "a.b"]


def test_tables_without_rows_keep_their_columns() -> None:
    empty = pd.DataFrame(columns=["targets", "control", "target", "loss"])
    results = names.prepare_figures(FigureInputs(controls=empty, clips=pd.DataFrame(), targets={"own": WARMTH}))
    assert list(results.controls.columns) == list(empty.columns)


def test_comparison_figure_has_ten_targets_and_the_mean() -> None:
    rows = [
        {"predictor": name, "target": target, "difference": 0.1, "low": 0.0, "high": 0.2}
        for name in ("a", "b")
        for target in ("mean", *(f"$t{index}$ $" for index in range(60)))
    ]
    figure = draw_differences(pd.DataFrame(rows), "base", "1 − MAE")
    assert len(figure.axes) == names.MOST + 1
    figure.draw_without_rendering()  # dollar signs do not start mathematics


def test_group_names_must_be_valid_folder_names() -> None:
    adapter = TypeAdapter(Targets)
    assert list(adapter.validate_python({"own-1 a": WARMTH})) == ["own-1 a"]
    with pytest.raises(ValidationError, match="a name of letters, digits"):
        adapter.validate_python({"../a": WARMTH})
