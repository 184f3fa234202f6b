"""tools/ablate.py without training: the experiments that are run, and tables of predictions with known spread."""

import subprocess
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dvc.api
import numpy as np
import pandas as pd
import pytest
from dvc.utils.serialize import load_yaml

from lib.core.errors import InputError
from lib.core.targets import TRAITS, TargetGroup
from lib.report import spread
from lib.scoring.scores import Bootstrap, score_with_intervals
from lib.scoring.tables import score_over_seeds
from tests.conftest import ROOT
from tools import ablate, parameters

SLOPES = {"mse": 0.25, "ccc": 1.0}
"""Of the predictions over the actual values, by loss; the weighting adds 0.25."""


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The parameters as shipped, which the tests may change."""
    values = parameters.plain(load_yaml(ROOT / "params.yaml"))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(dvc.api, "params_show", lambda **_: deepcopy(values))
    return values


class Experiments:
    """In place of DVC: the parameters of each experiment that was run, which begins with those that the one before left
    behind, and the predictions that come of them."""

    def __init__(self, shared: dict[str, Any]) -> None:
        self.shared, self.made, self.run = shared, {}, []
        self.left = shared
        self.fails = ""

    def __call__(self, command: list[str], **_: Any) -> SimpleNamespace:
        if "list" in command:
            self.left = self.shared
            return SimpleNamespace(stdout="\n".join(self.made), returncode=0)
        name = command[command.index("-n") + 1]
        Path("params.yaml").write_text("changed")
        if name == self.fails:
            return SimpleNamespace(returncode=255)
        given = [
            parameters.parsed(one) for one in command[command.index("-n") + 2 :] if one not in ("-S", ablate.TARGET)
        ]
        self.made[name] = self.left = ablate.changed(self.left, dict(given))
        self.run.append(name)
        return SimpleNamespace(returncode=0)

    def scores(self, rev: str) -> str:
        """A model whose R² is a hundredth for each training clip, and 0.001 for each seed, next to a mean without any."""
        train = self.made[rev]["train"]
        rows = []
        for subset, less in (("all", 0.0), ("unseen_videos", 0.1)):
            model = (train["clips"] or 10 * self.made[rev]["download"]["fold"]) / 100 + train["seed"] / 1000 - less
            given = {"model": model, "mean_predictor": 0.0, "shrunk_video_lookup": 0.0, "ridge_text": model / 2}
            rows += [
                {"targets": "traits", "subset": subset, "clips": 60, "videos": 20, "predictor": name, "score": score}
                | {"target": target, "value": value, "low": value - 0.02, "high": value + 0.02}
                for name, value in given.items()
                for score in ("accuracy", "r2", "ccc", "bias")
                for target in ("mean", *TRAITS)
            ]
        return pd.DataFrame(rows).to_csv(index=False)

    def predictions(self, path: str, rev: str) -> str:
        if path == "data/scores.csv":
            return self.scores(rev)
        assert path == "data/predictions.csv"
        train, group = self.made[rev]["train"], self.made[rev]["targets"]["traits"]
        slope = SLOPES[group["loss"]] + 0.25 * (train["label_weighting"] != "none") + 0.01 * train["seed"]
        table = pd.read_csv("data/clips.csv").query("split == 'test'")
        rows = table.melt("clip", list(TRAITS), "target", "actual").assign(split="test", targets="traits")
        return rows.assign(predicted=0.5 + slope * (rows["actual"] - 0.5)).to_csv(index=False)


@pytest.fixture
def experiments(shared: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiments:
    """An empty project with 60 training and 60 test clips, three a video."""
    found = Experiments(shared)
    rng, count = np.random.default_rng(0), 120
    table = pd.DataFrame({"clip": [f"{index:03d}.mp4" for index in range(count)], "reason": ""})
    table = table.assign(video=[f"v{index // 3}" for index in range(count)], split=np.repeat(["training", "test"], 60))
    for trait in TRAITS:
        table[trait] = rng.uniform(size=count)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    table.to_csv("data/clips.csv", index=False)
    Path("params.yaml").write_text("as given")
    monkeypatch.setattr(subprocess, "run", found)
    monkeypatch.setattr(ablate, "run_dvc", lambda *arguments: found([*arguments]).returncode)
    monkeypatch.setattr(dvc.api, "read", found.predictions)
    monkeypatch.setattr(dvc.api, "params_show", lambda rev=None: deepcopy(found.made[rev] if rev else shared))
    monkeypatch.setattr(ablate, "check", lambda values: None)  # imports every stage
    return found


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["tools.ablate", *arguments, "--resamples", "200"])
    ablate.main()


def settings(shared: dict[str, Any], **asked: list[Any]) -> tuple[str, dict[str, ablate.Changes]]:
    return ablate.settings(shared, None, asked)


def test_losses_and_weightings_are_crossed_on_the_first_group(shared: dict[str, Any]) -> None:
    both = settings(shared, losses=["mse", "ccc"], weightings=["none", "label_distribution_smoothing"])
    loss, weighting = "targets.traits.loss", "train.label_weighting"
    assert both == (
        "losses",
        {
            "mse": {loss: "mse", weighting: "none"},
            "ccc": {loss: "ccc", weighting: "none"},
            "mse-label_distribution_smoothing": {loss: "mse", weighting: "label_distribution_smoothing"},
            "ccc-label_distribution_smoothing": {loss: "ccc", weighting: "label_distribution_smoothing"},
        },
    )
    shared["train"][weighting.partition(".")[2]] = "label_distribution_smoothing"
    shared["model"]["targets"] = ["emotions", "traits"]
    assert settings(shared, losses=["kl"])[1] == {
        "kl-label_distribution_smoothing": {
            "targets.emotions.loss": "kl",
            weighting: "label_distribution_smoothing",
        }
    }
    assert settings(shared, weightings=["none"])[1] == {"kl": {"targets.emotions.loss": "kl", weighting: "none"}}
    with pytest.raises(InputError, match=r"--targets 'interview' is none of model\.targets: emotions, traits"):
        ablate.settings(shared, "interview", {"losses": ["mse"]})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"losses": ["mse", "l1"]},
            r"--losses 'l1'; allowed .*head = sigmoid: mse, mae, huber, ccc, mse_ccc$",
        ),
        ({"losses": ["kl"]}, r"--losses 'kl'; allowed .*head = sigmoid: mse, mae, huber, ccc, mse_ccc$"),
        ({"weightings": ["inverse"]}, "--weightings 'inverse'; allowed: none, label_distribution_smoothing$"),
        ({"variants": ["sum"]}, "--variants 'sum'; allowed: faces, flow, late_average"),
        ({"variants": ["faces"], "weightings": ["none"]}, "--variants, --losses/--weightings exclude each other"),
        ({"grid": ["a"], "sizes": [10]}, "--grid, --sizes exclude each other"),
        ({"sizes": [10, 0]}, "train.clips.* = 0; allowed: greater than or equal to 1"),
        ({"losses": ["mse"], "grid": ["a"]}, "--losses/--weightings, --grid exclude each other"),
        ({"grid": ["train.epochs=3"]}, r"'train\.epochs=3'; allowed: NAME='KEY=VALUE KEY=VALUE'"),
        ({"grid": ["a", "a=train.epochs=3"]}, "each NAME once"),
        ({"grid": ["mean_predictor=train.epochs=3"]}, "allowed: NAME="),
        ({"grid": ["a=8"]}, "'8'; allowed: KEY=VALUE"),
        ({"grid": ["a=train.seed=8"]}, r"--seeds sets train\.seed"),
        ({"grid": ["a=train.mix={demo: 2}"]}, r"train\.mix is a mapping"),
        ({"grid": ["a=train.rates.head=2"]}, r"train\.rates\.head: there is no 'rates' in train\.rates; allowed: seed"),
        ({"grid": ["a=model.fusoin=concat"]}, r"unknown key model\.fusoin"),
        ({"grid": ["a=targets.traits.loss=kl"]}, "'kl'; allowed with head = sigmoid: mse, mae, huber, ccc, mse_ccc"),
    ],
)
def test_what_cannot_be_run_is_named_before_anything_is(
    shared: dict[str, Any], asked: dict[str, list[str]], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        settings(shared, **asked)


def test_a_grid_takes_yaml(shared: dict[str, Any]) -> None:
    given = [
        "asis",
        "one=model.use=[faces, flow] train.init=null  train.learning_rate.default=1e-3",
        "two=train.init=a.pt",
    ]
    assert settings(shared, grid=given) == (
        "grid",
        {
            "asis": {},
            "one": {"model.use": ["faces", "flow"], "train.init": None, "train.learning_rate.default": 0.001},
            "two": {"train.init": "a.pt"},
        },
    )


def test_losses_are_run_once_and_compared(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--losses", "mse", "ccc", "--seeds", "0", "1"]
    experiments.fails = "losses-mse-seed1"
    with pytest.raises(InputError, match=r"losses-mse-seed1 -S 'targets\.traits\.loss=\"mse\"' .* ended with 255"):
        main(monkeypatch, *arguments)
    assert Path("params.yaml").read_text() == "as given"
    experiments.fails = ""
    main(monkeypatch, *arguments)
    main(monkeypatch, *arguments, "--weightings", "none", "label_distribution_smoothing")
    names = ["mse-seed0", "ccc-seed0", "mse-seed1", "ccc-seed1"]
    weighted = [name.replace("-", "-label_distribution_smoothing-") for name in names]
    assert experiments.run == [f"losses-{name}" for name in names + weighted]
    assert Path("params.yaml").read_text() == "as given"

    table = pd.read_csv("plots/losses.csv").set_index(["predictor", "target", "score"]).sort_index()
    assert set(table.index.levels[1]) == {"mean", *TRAITS}
    for target in ("mean", *TRAITS):
        for name, slope in (("mse", 0.255), ("ccc-label_distribution_smoothing", 1.255)):  # the mean over seeds
            rows = table.loc[(name, target)]
            inverse = np.mean(1 / (slope + np.array([-0.005, 0.005])))
            for score, value in (
                ("std_ratio", slope), ("regression_to_mean", 1 - slope), ("calibration_slope", inverse)
            ):  # fmt: skip
                assert rows.loc[score, ["value", "low", "high"]].tolist() == pytest.approx([value] * 3, abs=2e-6)
            assert rows.loc["std_ratio", "seed_std"] == pytest.approx(np.std([0, 0.01], ddof=1), abs=1e-6)
        mean = table.loc[("mean_predictor", target)]
        assert mean.loc[["std_ratio", "regression_to_mean"], "value"].tolist() == [0, 1]
        assert np.isnan(mean.loc["calibration_slope", "value"])
        assert mean.loc["accuracy", "low"] < mean.loc["accuracy", "value"] < mean.loc["accuracy", "high"]
    shown = capsys.readouterr().out
    assert "60 clips of 20 videos of the test split; mean ± standard deviation over seeds" in shown
    assert "| mse | 0.255 ± 0.007 [0.255, 0.255] | 3.923 ± 0.109 [3.923, 3.923] | 0.745 ± 0.007 [0.745" in shown
    assert "| training mean | 0.000 [0.000, 0.000] | – | 1.000" in shown
    latex = Path("plots/losses.tex").read_text()
    assert r"mse-label\_distribution\_smoothing & 0.505 $\pm$ 0.007 &" in latex
    assert "\n & [0.255, 0.255] & [3.923, 3.923] & [0.745, 0.745] &" in latex
    assert Path("plots/losses.png").stat().st_size > 5000
    assert Path("plots/losses.pdf").stat().st_size > 5000


def test_a_grid_goes_the_same_way(experiments: Experiments, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = ["--grid", "b=targets.traits.loss=ccc model.use=[faces]", "asis"]
    main(monkeypatch, *grid, "--seeds", "3", "--name", "mine")
    assert experiments.made["mine-asis-seed3"]["model"]["use"] == experiments.shared["model"]["use"]
    assert experiments.made["mine-b-seed3"]["model"]["use"] == ["faces"]
    assert experiments.made["mine-b-seed3"]["train"]["seed"] == 3
    table = pd.read_csv("plots/mine.csv").query("score == 'std_ratio' and target == 'mean'").set_index("predictor")
    assert table["value"].to_dict() == pytest.approx({"asis": 0.28, "b": 1.03, "mean_predictor": 0}, abs=1e-5)
    assert table["seed_std"].isna().all()
    with pytest.raises(InputError, match="--baseline is for --variants"):
        main(monkeypatch, *grid, "--baseline", "asis")
    experiments.shared["train"]["learning_rate"]["default"] = 0.1
    with pytest.raises(InputError, match="mine-b-seed3 was made with another section 'train'"):
        main(monkeypatch, *grid, "--seeds", "3", "--name", "mine")


def test_sizes_are_a_learning_curve(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def curve(*arguments: str) -> pd.DataFrame:
        monkeypatch.setattr("sys.argv", ["tools.ablate", "--sizes", "40", "5", "20", "--seeds", "0", "2", *arguments])
        ablate.main()
        return pd.read_csv("plots/sizes.csv").set_index(["score", "predictor", "target", "training_clips"]).sort_index()

    table = curve()
    assert experiments.run == [f"sizes-{clips}-seed{seed}" for seed in (0, 2) for clips in (5, 20, 40)]
    assert [experiments.made[f"sizes-{clips}-seed2"]["train"]["clips"] for clips in (5, 20, 40)] == [5, 20, 40]
    for target in ("mean", *TRAITS):
        rows = table.loc[("r2", "model", target)]
        assert rows["value"].to_dict() == pytest.approx({5: 0.051, 20: 0.201, 40: 0.401})
        assert (rows["high"] - rows["low"]).tolist() == pytest.approx([0.04] * 3)
        assert rows["seed_std"].tolist() == pytest.approx([0.001 * 2**0.5] * 3, abs=1e-6)
    said = capsys.readouterr().out
    assert "60 clips of 20 videos; each predictor learns" in said
    assert "| R², training clips | 5 | 20 | 40 |" in said
    assert "| model | 0.051 ± 0.001 [0.031, 0.071] | 0.201 ± 0.001 [0.181, 0.221] | 0.401" in said
    assert "| training mean | 0.000 ± 0.000 [" in said
    assert "| ridge on text | " in said
    assert "look-up" not in said  # it is the mean here
    assert r"R$^2$: model & 0.051 $\pm$ 0.001" in Path("plots/sizes.tex").read_text()
    assert min(Path(f"plots/sizes.{suffix}").stat().st_size for suffix in ("png", "pdf")) > 5000
    assert curve("--unseen").loc[("ccc", "model", "mean", 20), "value"] == pytest.approx(0.101)
    assert len(experiments.run) == 6
    with pytest.raises(InputError, match=r"--split is not for --sizes, .* params\.yaml: evaluate"):
        curve("--split", "validation")
    with pytest.raises(InputError, match="--baseline is for --variants"):
        curve("--baseline", "model")


def test_folds_are_scored_together(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["tools.ablate", "--folds", *arguments])
        ablate.main()

    with pytest.raises(InputError, match=r"--folds needs params\.yaml: download\.split = folds; it is 'official'"):
        main("--seeds", "0")
    experiments.shared["download"] |= {"split": "folds", "folds": 4}
    main("--seeds", "0")
    assert [experiments.made[f"folds-fold{fold}-seed0"]["download"]["fold"] for fold in range(4)] == [0, 1, 2, 3]
    table = pd.read_csv("plots/folds.csv").set_index(["predictor", "score", "target"]).sort_index()
    row = table.loc[("model", "r2", "mean")]
    assert row["value"] == pytest.approx(0.15)  # of 0, 0.1, 0.2, 0.3
    assert [row["low"], row["high"]] == pytest.approx([0.14, 0.16])  # 0.02 / √4
    assert row["fold_std"] == pytest.approx(np.std([0, 0.1, 0.2, 0.3], ddof=1), abs=1e-6)
    assert row[["folds", "clips", "videos"]].tolist() == [4, 240, 80]
    said = capsys.readouterr().out
    assert "over 4 folds, 240 clips of 80 videos, none in two folds" in said
    assert "| model | 0.1500 [0.1400, 0.1600] | 0.150 [0.140, 0.160] |" in said
    with pytest.raises(InputError, match="--folds takes one of --seeds"):
        main()
    with pytest.raises(InputError, match="--unseen is not for --folds"):
        main("--seeds", "0", "--unseen")


def test_scores_over_seeds_have_the_interval_of_their_mean() -> None:
    rng, columns = np.random.default_rng(0), ("a", "b")
    actual, videos = rng.normal(size=(90, 2)), np.repeat(np.arange(30), 3)
    group = TargetGroup(columns=[*columns], range=[0, 1], head="linear", loss="mse", weight=1)
    actual[4, 1] = np.nan
    one, other = (0.5 * actual + rng.normal(0, 0.3, (90, 2)) for _ in range(2))
    table = score_over_seeds(
        {"one": [one], "twice": [one, one], "both": [one, other]}, actual, videos, group, Bootstrap(300, 0)
    )
    table = table.set_index(["predictor", "target", "score"]).sort_index()
    alone = score_with_intervals(actual, one, actual, videos, columns, 1, Bootstrap(300, 0)).query("score != 'skill'")
    alone = alone.set_index(["target", "score"])
    ends = ["value", "low", "high"]
    assert len(table) == 3 * len(alone)
    for index, row in alone.iterrows():
        for name in ("one", "twice"):
            assert table.loc[(name, *index), ends].tolist() == pytest.approx(row[ends].tolist(), nan_ok=True)
    assert table.loc["one", "seed_std"].isna().all()
    assert table.loc["twice", "seed_std"].dropna().eq(0).all()
    of_other = score_with_intervals(actual, other, actual, videos, columns, 1, Bootstrap(300, 0)).set_index(
        ["target", "score"]
    )
    both = table.loc[("both", "b", "r2")]
    values = [found.loc[("b", "r2"), "value"] for found in (alone, of_other)]
    assert both["value"] == pytest.approx(np.mean(values))
    assert both["seed_std"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    widths = [found.loc[("b", "r2"), "high"] - found.loc[("b", "r2"), "low"] for found in (alone, of_other)]
    assert both["high"] - both["low"] < max(widths)


def test_the_figure_says_what_is_shown() -> None:
    group = TargetGroup(columns=["warm", "cold"], range=[1, 7], head="linear", loss="mse", weight=1)
    rng = np.random.default_rng(0)
    actual, videos = rng.uniform(1, 7, (60, 2)), np.repeat(np.arange(20), 3)
    predictions = {"mse": [0.3 * actual + 2.8], "mean_predictor": [np.full((60, 2), 4.0)]}
    table = score_over_seeds(predictions, actual, videos, group, Bootstrap(200, 0))
    figure = spread.draw_panels(table, "60 clips", group)
    panels = {axes.get_xlabel(): axes for axes in figure.axes}
    assert list(panels) == [
        "SD ratio,\npredicted / actual",
        "calibration slope,\nactual on predicted",
        "regression to the mean",
        "1 − MAE / 6",
        "R²",
        "CCC",
    ]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["mse", "training mean"]
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["not defined"]
    ideals = [line.get_xdata()[0] for axes in figure.axes for line in axes.lines if line.get_label() == "ideal"]
    assert ideals == [1, 1, 0]
    points = [axes.containers[0].lines[0].get_xdata()[0] for axes in figure.axes[:3]]
    assert points == pytest.approx([0.3, 1 / 0.3, 0.7])
    assert figure.get_suptitle() == "Mean of warm, cold\n60 clips; bars: 95 % interval over videos"
