"""tools/compare.py on CSV files with the column names of published predictions, and on predictions of other targets."""

import pickle
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tools.compare
from lib.core.errors import InputError
from lib.core.targets import TRAITS
from lib.scoring import predictions
from lib.sources.fiv2 import LATTICE, SCORES
from tests.conftest import ROOT
from tests.run_tool import run_tool

OFFICIAL = ["ValueExtraversion", "ValueAgreeableness", "ValueConscientiousness", "ValueNeurotisicm", "ValueOpenness"]


@pytest.fixture
def labels(tmp_path: Path) -> pd.DataFrame:
    """Write annotation pickles of 30 training and 60 test clips of 20 videos; return the labels of the test clips."""
    rng, tables = np.random.default_rng(0), {}
    for split, count, first in (("training", 30, 0), ("test", 60, 2)):
        names = [f"video{index % 20:06d}.{first + index // 20:03d}.mp4" for index in range(count)]
        scores = {
            name: dict(zip(names, (rng.integers(20, 80, count) / LATTICE[name]).tolist(), strict=True))
            for name in SCORES
        }
        (tmp_path / f"annotation_{split}.pkl").write_bytes(pickle.dumps(scores))
        tables[split] = pd.DataFrame(scores)
    return tables["test"]


def options(folder: Path) -> tuple[str, ...]:
    return "--labels", str(folder), "--out", str(folder / "out"), "--resamples", "500"


def compare(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_tool(tools.compare, *arguments, *options(folder), cwd=ROOT)


def write_predictions(labels: pd.DataFrame, path: Path, error: float, **columns: str) -> None:
    rng = np.random.default_rng(1)
    table = labels[list(TRAITS)] + rng.choice([-error, error], (len(labels), 5))
    table = table.set_axis(OFFICIAL, axis=1)[OFFICIAL[::-1]]
    table.rename_axis("VideoName").reset_index().assign(**columns).to_csv(path, index=False)


def test_compare_reads_published_predictions(labels: pd.DataFrame, tmp_path: Path) -> None:
    write_predictions(labels, tmp_path / "near.csv", 0.02)
    write_predictions(labels.set_axis(labels.index.str.removesuffix(".mp4")), tmp_path / "far.csv", 0.05, note="x")
    sources = (f"near={tmp_path}/near.csv", f"far={tmp_path}/far.csv,{tmp_path}/near.csv", "video_lookup")
    result = compare(tmp_path, *sources, "--baseline", "near")
    assert result.returncode == 0, result.stderr
    assert "60 clips of 20 videos of the test split" in result.stdout
    table = pd.read_csv(tmp_path / "out.csv").set_index(["predictor", "target"])
    for trait in ("mean", *TRAITS):
        assert table.loc[("near", trait), "accuracy"] == pytest.approx(0.98)
        assert table.loc[("far", trait), "accuracy"] == pytest.approx(0.965)
        assert table.loc[("far", trait), "seed_std"] == pytest.approx(np.std([0.95, 0.98], ddof=1), abs=1e-6)
        assert table.loc[("far", trait), ["low", "high"]].tolist() == pytest.approx([-0.015, -0.015], abs=1e-6)
    assert table.loc[("video_lookup", "mean"), "accuracy"] < 0.95
    assert "\\toprule" in (tmp_path / "out.tex").read_text()
    for text in (result.stdout, (tmp_path / "out.tex").read_text()):
        assert "video look-up" in text
        assert "training mean" in text
        assert "video_lookup" not in text
        assert "mean_predictor" not in text
    assert (tmp_path / "out.png").stat().st_size > 5000
    assert (tmp_path / "out.pdf").stat().st_size > 5000


@pytest.mark.slow
def test_compare_reads_letters_and_arrays(labels: pd.DataFrame, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    predicted = labels[list(TRAITS)] + rng.normal(0, 0.05, (len(labels), 5))
    order = ["openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism"]
    stems = labels.index.str.removesuffix(".mp4")
    letters = predicted[order].set_axis([f"pred_{name}" for name in "OCEAN"], axis=1).set_axis(stems)
    letters = letters.assign(**{f"true_{name}": 0.5 for name in "OCEAN"})
    letters.rename_axis("sample_id").reset_index().to_csv(tmp_path / "published.csv", index=False)
    np.save(tmp_path / "array.npy", predicted[order].to_numpy())
    (tmp_path / "clips.txt").write_text("\n".join(stems) + "\n")
    (tmp_path / "all.csv").write_text(predicted.rename_axis("clip").to_csv())
    array = f"{tmp_path}/array.npy@{tmp_path}/clips.txt"
    sources = (f"named={tmp_path}/all.csv", f"letters={tmp_path}/published.csv", f"array={array}@OCEAN")
    result = compare(tmp_path, *sources, "--baseline", "named")
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / "out.csv").set_index(["predictor", "target"])
    for name in ("letters", "array"):
        np.testing.assert_allclose(
            table.loc[name, ["accuracy", "r2", "ccc"]], table.loc["named", ["accuracy", "r2", "ccc"]], atol=1e-6
        )
    result = compare(
        tmp_path, "named=" + f"{tmp_path}/all.csv", f"array={array}@{'+'.join(order)}", "--baseline", "named"
    )
    assert result.returncode == 0, result.stderr
    for wrong, message in (
        (array, "has the order ''; required: ARRAY.npy@CLIPS.txt@ORDER, where ORDER is extraversion+"),
        (f"{array}@OCEAO", "has the order 'OCEAO'; required"),
        (f"{tmp_path}/array.npy@{tmp_path}/none.txt@OCEAN", "none.txt is not a file; correct the path"),
        (f"{tmp_path}/array.npy@{tmp_path}/all.csv@OCEAN", "has the shape (60, 5); required: (61, 5), for 61 clips of"),
    ):
        result = compare(tmp_path, f"a={wrong}", "--baseline", "a")
        assert result.returncode == 1
        assert message in result.stderr


@pytest.mark.slow
def test_compare_prints_ccc_and_p_at_the_floor(labels: pd.DataFrame, tmp_path: Path) -> None:
    write_predictions(labels, tmp_path / "near.csv", 0.01)
    result = compare(tmp_path, f"near={tmp_path}/near.csv", "--baseline", "mean_predictor")
    table = pd.read_csv(tmp_path / "out.csv").set_index(["predictor", "target"])
    row = table.loc[("near", "mean")]
    assert f"| near | {row['r2']:.3f} |" in result.stdout
    assert f"| near | {row['ccc']:.3f} |" in result.stdout
    assert row["p"] == pytest.approx(1 / 501, abs=1e-6)
    assert f"], p < {row['p_holm']:.4f}" in result.stdout
    weak = table.loc[("median_predictor", "mean")]
    assert weak["p"] > 0.01
    assert f"], p {weak['p_holm']:.4f}" in result.stdout


@pytest.mark.slow
def test_compare_rejects_tables_that_do_not_match(labels: pd.DataFrame, tmp_path: Path) -> None:
    write_predictions(labels, tmp_path / "all.csv", 0.02)
    write_predictions(labels.iloc[1:], tmp_path / "fewer.csv", 0.02)
    result = compare(tmp_path, f"a={tmp_path}/all.csv", f"b={tmp_path}/fewer.csv", "--baseline", "a")
    assert result.returncode == 1
    assert f"fewer.csv has other clips than {tmp_path}/all.csv" in result.stderr
    assert f"1 are missing, first {labels.index[0]}" in result.stderr
    pd.read_csv(tmp_path / "all.csv").drop(columns="ValueOpenness").to_csv(tmp_path / "four.csv")
    result = compare(tmp_path, f"a={tmp_path}/four.csv", "--baseline", "a")
    assert f"required: a column of clips (such as {labels.index[0]}) and one for each of extraversion" in result.stderr
    for column, message in (
        ({"ValueOpenness": np.nan}, "has no number for clip"),
        ({"true_openness": 0.5}, "two columns of openness: ValueOpenness, true_openness"),
    ):
        pd.read_csv(tmp_path / "all.csv").assign(**column).to_csv(tmp_path / "odd.csv", index=False)
        result = compare(tmp_path, f"a={tmp_path}/odd.csv", "--baseline", "a")
        assert message in result.stderr
    for predictors in (["a=x.csv", "a=y.csv"], ["a=x.csv", "ridge_descriptors=y.csv"]):
        assert "occurs twice" in compare(tmp_path, *predictors, "--baseline", "a").stderr
    predictions_table = labels.melt(ignore_index=False, value_vars=list(TRAITS), var_name="target", value_name="actual")
    predictions_table = (
        predictions_table.rename_axis("clip").reset_index().assign(split="test", targets="traits", predicted=0.5)
    )
    predictions_table.to_csv(tmp_path / "ours.csv")
    assert compare(tmp_path, f"a={tmp_path}/ours.csv", "--baseline", "a").returncode == 0
    result = compare(tmp_path, f"a={tmp_path}/ours.csv", "--baseline", "a", "--targets", "traits")
    assert "not allowed with argument" in result.stderr
    predictions_table.rename(columns={"target": "trait"}).drop(columns="targets").to_csv(tmp_path / "older.csv")
    assert compare(tmp_path, f"a={tmp_path}/older.csv", "--baseline", "a").returncode == 0
    predictions_table.assign(targets="warmth").to_csv(tmp_path / "warmth.csv")
    result = compare(tmp_path, f"a={tmp_path}/warmth.csv", "--baseline", "a")
    assert "predicts warmth, not traits; choose the target group" in result.stderr
    predictions_table.assign(actual=predictions_table["actual"] + 0.01).to_csv(tmp_path / "other.csv")
    result = compare(tmp_path, f"a={tmp_path}/other.csv", "--baseline", "a")
    assert "was made on another split or corpus: extraversion of its test clip" in result.stderr
    result = compare(tmp_path, "a=no-such-experiment", "--baseline", "a")
    assert (
        "'no-such-experiment' is not a revision or experiment for which DVC has data/predictions.csv" in result.stderr
    )
    assert "a .csv file, mean_predictor, median_predictor" in result.stderr
    assert result.stderr.count("\n") == 1
    (tmp_path / "annotation_training.pkl").unlink()
    result = compare(tmp_path, f"a={tmp_path}/all.csv", "--baseline", "a")
    assert "no training clip has labels" in result.stderr
    assert result.stderr.count("\n") == 1


def test_predictions_of_own_targets_allow_missing_labels(tmp_path: Path) -> None:
    labels = pd.DataFrame({"clip": ["x.mov", "y.mov"], "split": "test", "warm": [2.0, np.nan], "warmth": [1.0, 7.0]})
    columns, path = ["warm", "warmth"], str(tmp_path / "own.csv")
    predictions_table = labels.melt(["clip", "split"], columns, "target", "actual").assign(
        targets="mine", predicted=[3, 4, 5, 6]
    )
    predictions_table.to_csv(path, index=False)
    table = predictions.read(path, "mine", columns, labels, labels["clip"])
    assert table.loc["y.mov"].tolist() == [4, 6]
    assert list(table.index) == ["x.mov", "y.mov"]
    assert list(predictions.read(path, "mine", columns, labels, ["y.mov"]).index) == ["y.mov"]
    with pytest.raises(InputError, match=r"warm of its test clip y\.mov is nan, here 3\.0"):
        predictions.read(path, "mine", columns, labels.fillna(3.0), labels["clip"])
    with pytest.raises(InputError, match="has no predictions of cold"):
        predictions.read(path, "mine", ["cold"], labels.assign(cold=1.0), labels["clip"])
    # an exact column name precedes one that contains it; clip names may omit the suffix; other clips are ignored
    wide = pd.DataFrame({"video": ["x", "y", "z"], "name": ["x", "y", "z"], "Warm": [1, 2, 3], "warmth_hat": [4, 5, 6]})
    wide.to_csv(path, index=False)
    table = predictions.read(path, "mine", columns, labels, labels["clip"])
    assert table.loc["x.mov"].tolist() == [1, 4]
    assert table.loc["y.mov"].tolist() == [2, 5]
    assert len(table) == 2


def test_compare_names_the_difference_of_two_test_sets(labels: pd.DataFrame, tmp_path: Path) -> None:
    table = labels.melt(ignore_index=False, value_vars=list(TRAITS), var_name="target", value_name="actual")
    table = table.rename_axis("clip").reset_index().assign(split="test", targets="traits", predicted=0.5)
    clips = list(labels.index)
    for name, members in (("first", clips[:40]), ("second", clips[30:])):
        table[table["clip"].isin(members)].to_csv(tmp_path / f"{name}.csv", index=False)
    result = compare(tmp_path, f"a={tmp_path}/first.csv", f"b={tmp_path}/second.csv", "--baseline", "a")
    assert result.returncode == 1
    missing, extra = min(clips[:30]), min(clips[40:])
    assert f"second.csv has other clips than {tmp_path}/first.csv (40 of this split)" in result.stderr
    assert f"30 are missing, first {missing}; has 20 more, first {extra}" in result.stderr
    assert result.stderr.count("\n") == 1


def test_read_predictions_rejects_invalid_tables(tmp_path: Path) -> None:
    labels = pd.DataFrame({"clip": ["a", "b"], "split": "test", "warm": [0.25, 0.5]})
    row = {"clip": "a", "split": "test", "targets": "own", "target": "warm", "actual": 0.25, "predicted": 0.5}
    predictions_table = pd.DataFrame([row, row | {"clip": "b", "actual": 0.5}])
    path = str(tmp_path / "a.csv")

    def read_message(text: str) -> str:
        def read() -> None:
            table = predictions.read(path, "own", ["warm"], labels, labels["clip"])
            predictions.check_same_clips(path, table.index, "b.csv", pd.Index(["a", "b"]))

        Path(path).write_text(text)
        with pytest.raises(InputError, match=r"a\.csv") as caught:
            read()
        return str(caught.value).removeprefix(path)

    assert read_message("") == " is not a readable CSV file (No columns to parse from file); write it again"
    assert read_message(predictions_table.iloc[:0].to_csv(index=False)).startswith(" predicts nothing, not own")
    assert (
        read_message(pd.concat([predictions_table, predictions_table.iloc[:1]]).to_csv(index=False))
        == " has warm of clip a twice; allowed: one prediction. Remove one"
    )
    assert (
        read_message(predictions_table.assign(target="cold").to_csv(index=False))
        == " has no predictions of warm; choose another source or --targets"
    )
    assert read_message(predictions_table.drop(columns="actual").to_csv(index=False)).startswith(
        " has no column actual"
    )
    assert read_message("clip,warm\n").startswith(" has the columns clip, warm; required: ")
    assert read_message("clip,warm\na,0.5\na,0.5\nb,1\n") == " has clip a twice; allowed: once. Remove a row"
    assert read_message("clip,warm\na,0.5\nb,high\n").startswith(" has no number for clip b")
