"""tools/ablate/ without training: which experiments it runs, and its tables of predictions with known spread."""

import re
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
from lib.scoring.bootstrap import Bootstrap, score_with_intervals
from lib.scoring.seeds import score_over_seeds
from tests.conftest import ROOT
from tools import experiments as dvc_experiments
from tools import parameters
from tools.ablate import __main__ as ablate
from tools.ablate import plan

SLOPES = {"mse": 0.25, "ccc": 1.0}
"""Slope of the predictions over the actual values for each loss. Label weighting adds 0.25."""


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The parameters of params.yaml. Tests may change them."""
    values = parameters.plain(load_yaml(ROOT / "params.yaml"))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(dvc.api, "params_show", lambda **_: deepcopy(values))
    return values


class Experiments:
    """Stands in for DVC: keeps the parameters of each experiment and returns predictions that depend on them.

    Like DVC's, an experiment starts with the parameters that the experiment before left behind.
    """

    def __init__(self, shipped: dict[str, Any]) -> None:
        self.shipped, self.parameters, self.names = shipped, {}, []
        self.current = shipped
        self.failing = ""

    def __call__(self, command: list[str], **_: Any) -> SimpleNamespace:
        if "list" in command:
            self.current = self.shipped
            return SimpleNamespace(stdout="\n".join(self.parameters), returncode=0)
        name = command[command.index("-n") + 1]
        Path("params.yaml").write_text("changed")
        if name == self.failing:
            return SimpleNamespace(returncode=255)
        changes = [
            parameters.parse_change(change)
            for change in command[command.index("-n") + 2 :]
            if change not in ("-S", dvc_experiments.TARGET)
        ]
        self.parameters[name] = self.current = plan.changed(self.current, dict(changes))
        self.names.append(name)
        return SimpleNamespace(returncode=0)

    def scores(self, rev: str) -> str:
        """Scores of baselines and of a model whose R² is 0.01 per training clip plus 0.001 times the seed."""
        train = self.parameters[rev]["train"]
        rows = []
        for subset, less in (("all", 0.0), ("unseen_videos", 0.1)):
            download = self.parameters[rev]["download"]
            size = train["clips"] or 10 * download["fold"]
            if download["split"] == "group_out":
                size = {"female": 10, "male": 20, "non binary": 30}[download["group"]["value"]]
            model = size / 100 + train["seed"] / 1000 - less
            means = {"model": model, "mean_predictor": 0.0, "shrunk_video_lookup": 0.0, "ridge_text": model / 2}
            rows += [
                {"targets": "traits", "subset": subset, "clips": 60, "videos": 20, "predictor": name, "score": score}
                | {"target": target, "value": value, "low": value - 0.02, "high": value + 0.02}
                for name, value in means.items()
                for score in ("accuracy", "r2", "ccc", "bias")
                for target in ("mean", *TRAITS)
            ]
        return pd.DataFrame(rows).to_csv(index=False)

    def corpus_scores(self, rev: str) -> str:
        """The model's scores on each corpus: r is 0.3 on a held-out corpus, else 0.6, plus 0.01 times the seed."""
        parameters = self.parameters[rev]
        fits = {"training": 0.0, "within_corpus": 0.1, "drop": -0.2}
        rows = [
            {"targets": "traits", "corpus": corpus, "clips": 30, "videos": 30, "predictor": "model", "fit": fit}
            | {"score": score, "target": target, "value": value + more, "low": value - 0.1, "high": value + 0.1}
            for corpus in parameters["evaluate"]["on"]
            for value in [
                (0.3 if corpus in parameters["download"]["held_out"] else 0.6) + parameters["train"]["seed"] / 100
            ]
            for fit, more in fits.items()
            for score in ("accuracy", "pearson", "spearman")
            for target in ("mean", *TRAITS)
        ]
        return pd.DataFrame(rows).to_csv(index=False)

    def predictions(self, path: str, rev: str) -> str:
        if path == "data/scores.csv":
            return self.scores(rev)
        if path == "data/corpus_scores.csv":
            return self.corpus_scores(rev)
        assert path == "data/predictions.csv"
        train, group = self.parameters[rev]["train"], self.parameters[rev]["targets"]["traits"]
        slope = SLOPES[group["loss"]] + 0.25 * (train["label_weighting"] != "none") + 0.01 * train["seed"]
        table = pd.read_csv("data/clips.csv").query("split == 'test'")
        rows = table.melt("clip", list(TRAITS), "target", "actual").assign(split="test", targets="traits")
        return rows.assign(predicted=0.5 + slope * (rows["actual"] - 0.5)).to_csv(index=False)


@pytest.fixture
def experiments(shipped: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiments:
    """An empty project with 60 training clips and 60 test clips, three per video."""
    stand_in = Experiments(shipped)
    rng, count = np.random.default_rng(0), 120
    table = pd.DataFrame({"clip": [f"{index:03d}.mp4" for index in range(count)], "reason": ""})
    table = table.assign(video=[f"v{index // 3}" for index in range(count)], split=np.repeat(["training", "test"], 60))
    for trait in TRAITS:
        table[trait] = rng.uniform(size=count)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    table.to_csv("data/clips.csv", index=False)
    Path("params.yaml").write_text("original")
    monkeypatch.setattr(subprocess, "run", stand_in)
    monkeypatch.setattr(dvc_experiments, "run_dvc", lambda arguments: stand_in(arguments).returncode)
    monkeypatch.setattr(dvc.api, "read", stand_in.predictions)
    monkeypatch.setattr(dvc.api, "params_show", lambda rev=None: deepcopy(stand_in.parameters[rev] if rev else shipped))
    monkeypatch.setattr(plan, "check", lambda values: None)  # the real one imports all stages
    return stand_in


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["tools.ablate", *arguments, "--resamples", "200"])
    ablate.main()


def plan_shipped(shipped: dict[str, Any], **options: list[Any]) -> tuple[str, dict[str, plan.ParameterChanges]]:
    return plan.plan_experiments(shipped, None, options)


def test_ablate_crosses_losses_and_weightings_of_first_group(shipped: dict[str, Any]) -> None:
    crossed = plan_shipped(shipped, losses=["mse", "ccc"], weightings=["none", "label_distribution_smoothing"])
    loss, weighting = "targets.traits.loss", "train.label_weighting"
    assert crossed == (
        "losses",
        {
            "mse": {loss: "mse", weighting: "none"},
            "ccc": {loss: "ccc", weighting: "none"},
            "mse-label_distribution_smoothing": {loss: "mse", weighting: "label_distribution_smoothing"},
            "ccc-label_distribution_smoothing": {loss: "ccc", weighting: "label_distribution_smoothing"},
        },
    )
    shipped["train"][weighting.partition(".")[2]] = "label_distribution_smoothing"
    shipped["model"]["targets"] = ["emotions", "traits"]
    assert plan_shipped(shipped, losses=["kl"])[1] == {
        "kl-label_distribution_smoothing": {
            "targets.emotions.loss": "kl",
            weighting: "label_distribution_smoothing",
        }
    }
    assert plan_shipped(shipped, weightings=["none"])[1] == {"kl": {"targets.emotions.loss": "kl", weighting: "none"}}
    with pytest.raises(InputError, match=r"--targets 'interview'; allowed: one of model\.targets: emotions, traits"):
        plan.plan_experiments(shipped, "interview", {"losses": ["mse"]})


def test_ablation_runs_encoders_and_fusions(shipped: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    encoders, fusions = ["faces", "flow", "audio"], ["cross_attention", "concat", "late_average"]
    queries = [f"queries_{name}" for name in encoders]
    assert list(plan_shipped(shipped)[1]) == [*encoders, *queries, *fusions]
    monkeypatch.setattr(plan, "FUSIONS", (*plan.FUSIONS, "maximum"))
    variants = plan_shipped(shipped)[1]
    assert list(variants) == [*encoders, *queries, *fusions, "maximum"]
    assert variants["maximum"] == {"model.use": encoders, "model.fusion": "maximum", "model.queries": []}
    shipped["model"] |= {"use": ["audio"], "fusion": "plain_concat"}
    assert list(plan_shipped(shipped)[1]) == ["audio", "plain_concat", "maximum"]


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "params").glob("*.yaml")))
def test_variants_of_each_file_of_parameters_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    values = parameters.plain(parameters.merge_parameters(name, []))
    variants = plan.plan_variants(values["model"])
    assert values["model"]["fusion"] in variants or len(values["model"]["use"]) == 1
    for changes in variants.values():
        parameters.check(plan.changed(values, changes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"losses": ["mse", "l1"]},
            r"--losses 'l1'; allowed .*head = sigmoid: mse, mae, huber, ccc, mse_ccc$",
        ),
        ({"losses": ["kl"]}, r"--losses 'kl'; allowed .*head = sigmoid: mse, mae, huber, ccc, mse_ccc$"),
        (
            {"weightings": ["inverse"]},
            "--weightings 'inverse'; allowed: none, label_distribution_smoothing, reliability$",
        ),
        ({"variants": ["sum"]}, "--variants 'sum'; allowed: faces, flow, audio, queries_faces"),
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
        ({"grid": ["a=train.rates.head=2"]}, r"train\.rates\.head: train has no section 'rates'; allowed: seed"),
        ({"grid": ["a=model.fusoin=concat"]}, r"unknown key model\.fusoin"),
        ({"grid": ["a=targets.traits.loss=kl"]}, "'kl'; allowed with head = sigmoid: mse, mae, huber, ccc, mse_ccc"),
    ],
)
def test_ablate_rejects_invalid_options_before_any_run(
    shipped: dict[str, Any], options: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        plan_shipped(shipped, **options)


def test_ablate_reads_yaml_values_in_a_grid(shipped: dict[str, Any]) -> None:
    grid = [
        "asis",
        "one=model.use=[faces, flow] train.init=null  train.learning_rate.default=1e-3",
        "two=train.init=a.pt",
    ]
    assert plan_shipped(shipped, grid=grid) == (
        "grid",
        {
            "asis": {},
            "one": {"model.use": ["faces", "flow"], "train.init": None, "train.learning_rate.default": 0.001},
            "two": {"train.init": "a.pt"},
        },
    )


def test_ablate_runs_each_loss_once_and_compares_spreads(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--losses", "mse", "ccc", "--seeds", "0", "1"]
    experiments.failing = "losses-mse-seed1"
    with pytest.raises(InputError, match=r"losses-mse-seed1 -S 'targets\.traits\.loss=\"mse\"' .* ended with 255"):
        main(monkeypatch, *arguments)
    assert Path("params.yaml").read_text() == "original"
    experiments.failing = ""
    main(monkeypatch, *arguments)
    main(monkeypatch, *arguments, "--weightings", "none", "label_distribution_smoothing")
    names = ["mse-seed0", "ccc-seed0", "mse-seed1", "ccc-seed1"]
    weighted = [name.replace("-", "-label_distribution_smoothing-") for name in names]
    assert experiments.names == [f"losses-{name}" for name in names + weighted]
    assert Path("params.yaml").read_text() == "original"

    table = pd.read_csv("plots/losses.csv").set_index(["predictor", "target", "score"]).sort_index()
    assert set(table.index.levels[1]) == {"mean", *TRAITS}
    for target in ("mean", *TRAITS):
        for name, slope in (("mse", 0.255), ("ccc-label_distribution_smoothing", 1.255)):  # slopes: means over seeds
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
    output = capsys.readouterr().out
    assert "60 clips of 20 videos of the test split; mean ± standard deviation over seeds" in output
    assert "| mse | 0.255 ± 0.007 [0.255, 0.255] | 3.923 ± 0.109 [3.923, 3.923] | 0.745 ± 0.007 [0.745" in output
    assert "| training mean | 0.000 [0.000, 0.000] | – | 1.000" in output
    latex = Path("plots/losses.tex").read_text()
    assert r"mse-label\_distribution\_smoothing & 0.505 $\pm$ 0.007 &" in latex
    assert "\n & [0.255, 0.255] & [3.923, 3.923] & [0.745, 0.745] &" in latex
    assert Path("plots/losses.png").stat().st_size > 5000
    assert Path("plots/losses.pdf").stat().st_size > 5000


def test_ablate_runs_a_grid_and_writes_its_table(experiments: Experiments, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = ["--grid", "b=targets.traits.loss=ccc model.use=[faces]", "asis"]
    main(monkeypatch, *grid, "--seeds", "3", "--name", "mine")
    assert experiments.parameters["mine-asis-seed3"]["model"]["use"] == experiments.shipped["model"]["use"]
    assert experiments.parameters["mine-b-seed3"]["model"]["use"] == ["faces"]
    assert experiments.parameters["mine-b-seed3"]["train"]["seed"] == 3
    table = pd.read_csv("plots/mine.csv").query("score == 'std_ratio' and target == 'mean'").set_index("predictor")
    assert table["value"].to_dict() == pytest.approx({"asis": 0.28, "b": 1.03, "mean_predictor": 0}, abs=1e-5)
    assert table["seed_std"].isna().all()
    with pytest.raises(InputError, match="--baseline is for --variants"):
        main(monkeypatch, *grid, "--baseline", "asis")
    experiments.shipped["train"]["learning_rate"]["default"] = 0.1
    with pytest.raises(InputError, match="mine-b-seed3 was made with another section 'train'"):
        main(monkeypatch, *grid, "--seeds", "3", "--name", "mine")


def test_ablate_compares_networks_of_a_stream(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiments.shipped["model"]["use"] = ["embeddings", "flow"]
    names = ["sface", "facebook/dinov2-small", "timm/vit_small.dino=pretrained", "emonext_base=imagenet"]
    main(monkeypatch, "--networks", "embeddings", *names, "--seeds", "0")
    used = {
        name: (values["embeddings"]["network"], values["embeddings"]["weights"])
        for name, values in experiments.parameters.items()
    }
    assert used == {
        "networks-sface-seed0": ("sface", None),
        "networks-facebook_dinov2-small-seed0": ("facebook/dinov2-small", None),
        "networks-timm_vit_small_dino-seed0": ("timm/vit_small.dino", "pretrained"),
        "networks-emonext_base-seed0": ("emonext_base", "imagenet"),
    }
    table = pd.read_csv("plots/networks.csv")
    assert {"sface", "facebook_dinov2-small", "timm_vit_small_dino", "emonext_base"} < set(table["predictor"])
    assert "| facebook_dinov2-small |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        (["faces", "sface"], "--networks 'faces'; allowed: .*embeddings, "),
        (
            ["speech", "a/b"],
            "--networks speech a/b: no encoder of model.use reads speech; allowed: a stream that the model",
        ),
        (["text"], "--networks text: no network; allowed: a stream that the model reads, and its networks"),
        (["text", "a/b", "a_b"], "--networks 'a_b'; allowed: NETWORK or NETWORK=WEIGHTS, each network once"),
        (["text", "a/b=imagenet"], "--networks 'a/b=imagenet'; allowed for text: NETWORK, whose folder contains"),
        (["embeddings", "sface="], "--networks embeddings sface=: no encoder of model.use reads embeddings"),
    ],
)
def test_ablate_rejects_invalid_networks(shipped: dict[str, Any], networks: list[str], message: str) -> None:
    shipped["model"]["use"] = ["text"]
    shipped["model"]["encoders"]["text"]["reads"] = ["text.transformer"]
    shipped["text"]["enabled"] = True
    with pytest.raises(InputError, match=message):
        plan.plan_networks(networks, shipped)


def test_ablate_draws_a_learning_curve_over_sizes(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def curve(*arguments: str) -> pd.DataFrame:
        monkeypatch.setattr("sys.argv", ["tools.ablate", "--sizes", "40", "5", "20", "--seeds", "0", "2", *arguments])
        ablate.main()
        return pd.read_csv("plots/sizes.csv").set_index(["score", "predictor", "target", "training_clips"]).sort_index()

    table = curve()
    assert experiments.names == [f"sizes-{clips}-seed{seed}" for seed in (0, 2) for clips in (5, 20, 40)]
    assert [experiments.parameters[f"sizes-{clips}-seed2"]["train"]["clips"] for clips in (5, 20, 40)] == [5, 20, 40]
    for target in ("mean", *TRAITS):
        rows = table.loc[("r2", "model", target)]
        assert rows["value"].to_dict() == pytest.approx({5: 0.051, 20: 0.201, 40: 0.401})
        assert (rows["high"] - rows["low"]).tolist() == pytest.approx([0.04] * 3)
        assert rows["seed_std"].tolist() == pytest.approx([0.001 * 2**0.5] * 3, abs=1e-6)
    output = capsys.readouterr().out
    assert "60 clips of 20 videos; each predictor learns" in output
    assert "| R², training clips | 5 | 20 | 40 |" in output
    assert "| model | 0.051 ± 0.001 [0.031, 0.071] | 0.201 ± 0.001 [0.181, 0.221] | 0.401" in output
    assert "| training mean | 0.000 ± 0.000 [" in output
    assert "| ridge on text | " in output
    assert "look-up" not in output  # the look-up equals the mean here
    assert r"R$^2$: model & 0.051 $\pm$ 0.001" in Path("plots/sizes.tex").read_text()
    assert min(Path(f"plots/sizes.{suffix}").stat().st_size for suffix in ("png", "pdf")) > 5000
    assert curve("--unseen").loc[("ccc", "model", "mean", 20), "value"] == pytest.approx(0.101)
    assert len(experiments.names) == 6
    with pytest.raises(InputError, match=r"--split is not for --sizes, .* params\.yaml: evaluate"):
        curve("--split", "validation")
    with pytest.raises(InputError, match="--baseline is for --variants"):
        curve("--baseline", "model")


def test_ablate_scores_folds_together(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["tools.ablate", "--folds", *arguments])
        ablate.main()

    with pytest.raises(InputError, match=r"--folds needs params\.yaml: download\.split = folds; it is 'official'"):
        main("--seeds", "0")
    experiments.shipped["download"] |= {"split": "folds", "folds": 4}
    main("--seeds", "0")
    assert [experiments.parameters[f"folds-fold{fold}-seed0"]["download"]["fold"] for fold in range(4)] == [0, 1, 2, 3]
    table = pd.read_csv("plots/folds.csv").set_index(["predictor", "score", "target"]).sort_index()
    row = table.loc[("model", "r2", "mean")]
    assert row["value"] == pytest.approx(0.15)  # of 0, 0.1, 0.2, 0.3
    assert [row["low"], row["high"]] == pytest.approx([0.14, 0.16])  # 0.02 / √4
    assert row["fold_std"] == pytest.approx(np.std([0, 0.1, 0.2, 0.3], ddof=1), abs=1e-6)
    assert row[["folds", "clips", "videos"]].tolist() == [4, 240, 80]
    output = capsys.readouterr().out
    assert "over 4 folds, 240 clips of 80 videos, none in two folds" in output
    assert "| model | 0.1500 [0.1400, 0.1600] | 0.150 [0.140, 0.160] |" in output
    with pytest.raises(InputError, match="--folds with 3 seeds; allowed: one, "):
        main()
    with pytest.raises(InputError, match="--unseen is not for --folds"):
        main("--seeds", "0", "--unseen")


def test_ablate_tests_each_group_of_a_column(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["tools.ablate", "--groups", *arguments])
        ablate.main()

    with pytest.raises(InputError, match=r"--groups 'gender'; allowed: a column of data/groups\.csv, .*: none"):
        main("gender", "--seeds", "0")
    values = ["male", "female", "", "non binary", "male"]
    groups = {"clip": [f"{index:03d}.mp4" for index in range(5)], "gender": values, "age": ["old", "", "old", "", ""]}
    pd.DataFrame(groups).to_csv("data/groups.csv", index=False)
    with pytest.raises(InputError, match=r"--groups 'race'; .*: gender, age"):
        main("race", "--seeds", "0")
    with pytest.raises(InputError, match=r"--groups age: .* the groups \['old'\]; allowed: .* two groups or more"):
        main("age", "--seeds", "0")
    main("gender", "--seeds", "0")
    names = {f"groups-{value.replace(' ', '_')}-seed0": value for value in ("female", "male", "non binary")}
    assert experiments.names == list(names)
    for name, value in names.items():
        download = experiments.parameters[name]["download"]
        assert (download["split"], download["group"]) == ("group_out", {"column": "gender", "value": value})
    table = pd.read_csv("plots/groups.csv").set_index(["predictor", "score", "target", "group"]).sort_index()
    r2 = table.loc[("model", "r2", "mean"), "value"].to_dict()
    assert r2 == pytest.approx({"female": 0.1, "male": 0.2, "non_binary": 0.3})
    assert set(table.index.levels[0]) == {"model", "mean_predictor", "shrunk_video_lookup", "ridge_text"}
    output = capsys.readouterr().out
    assert "written: plots/groups.csv" in output
    assert re.search(r"^non_binary( +0\.3){3}$", output, re.M)
    assert Path("params.yaml").read_text() == "original"
    main("gender", "--seeds", "0")
    assert len(experiments.names) == 3
    with pytest.raises(InputError, match="--groups with 3 seeds; allowed: one, "):
        main("gender")
    with pytest.raises(InputError, match="--unseen is not for --groups"):
        main("gender", "--seeds", "0", "--unseen")
    pd.DataFrame(groups | {"gender": ["a b", "a_b", "", "", ""]}).to_csv("data/groups.csv", index=False)
    with pytest.raises(InputError, match=r"two of the groups .* differ only in signs"):
        main("gender", "--seeds", "0")


def test_ablate_leaves_out_each_corpus(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["tools.ablate", "--corpora", *arguments])
        ablate.main()

    experiments.shipped["download"]["sources"] = ["demo", "mosei"]
    with pytest.raises(InputError, match=r"--corpora needs two corpora with targets .*; these have some: demo"):
        main("--seeds", "0")
    experiments.shipped["download"]["sources"] = ["demo", "mosei", "vlogs"]
    main("--seeds", "0", "2")
    assert experiments.names == [f"corpora-{name}-seed{seed}" for seed in (0, 2) for name in ("demo", "vlogs")]
    for name in experiments.names:
        section = experiments.parameters[name]
        assert section["download"]["held_out"] == [name.split("-")[1]]
        assert section["evaluate"]["on"] == ["demo", "vlogs"]
    table = pd.read_csv("plots/corpora.csv").set_index(["corpus", "fit", "score", "target"])
    row = table.loc[("vlogs", "training", "pearson", "mean")]
    assert row[["value", "low", "high"]].tolist() == pytest.approx([0.31, 0.21, 0.41])
    assert row["seed_std"] == pytest.approx(np.std([0.3, 0.32], ddof=1), abs=1e-6)
    output = capsys.readouterr().out
    assert "| demo | 30 | model | other corpora | 0.310 [0.210, 0.410] | 0.310 [0.210, 0.410] |" in output
    assert "| vlogs | 30 | model | drop | 0.110 " in output
    with pytest.raises(InputError, match="--unseen is not for --corpora"):
        main("--unseen")


def test_score_over_seeds_has_the_interval_of_the_mean() -> None:
    rng, columns = np.random.default_rng(0), ("a", "b")
    actual, videos = rng.normal(size=(90, 2)), np.repeat(np.arange(30), 3)
    group = TargetGroup(columns=[*columns], range=[0, 1], head="linear", loss="mse", weight=1)
    actual[4, 1] = np.nan
    first, second = (0.5 * actual + rng.normal(0, 0.3, (90, 2)) for _ in range(2))
    table = score_over_seeds(
        {"one": [first], "twice": [first, first], "both": [first, second]}, actual, videos, group, Bootstrap(300, 0)
    )
    table = table.set_index(["predictor", "target", "score"]).sort_index()
    first_scores = score_with_intervals(actual, first, actual, videos, columns, 1, Bootstrap(300, 0)).query(
        "score != 'skill'"
    )
    first_scores = first_scores.set_index(["target", "score"])
    ends = ["value", "low", "high"]
    assert len(table) == 3 * len(first_scores)
    for index, row in first_scores.iterrows():
        for name in ("one", "twice"):
            assert table.loc[(name, *index), ends].tolist() == pytest.approx(row[ends].tolist(), nan_ok=True)
    assert table.loc["one", "seed_std"].isna().all()
    assert table.loc["twice", "seed_std"].dropna().eq(0).all()
    second_scores = score_with_intervals(actual, second, actual, videos, columns, 1, Bootstrap(300, 0)).set_index(
        ["target", "score"]
    )
    both_scores = table.loc[("both", "b", "r2")]
    values = [scores.loc[("b", "r2"), "value"] for scores in (first_scores, second_scores)]
    assert both_scores["value"] == pytest.approx(np.mean(values))
    assert both_scores["seed_std"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    widths = [
        scores.loc[("b", "r2"), "high"] - scores.loc[("b", "r2"), "low"] for scores in (first_scores, second_scores)
    ]
    assert both_scores["high"] - both_scores["low"] < max(widths)


def test_spread_figure_labels_its_panels() -> None:
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


def test_ablate_compares_fairness_settings(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    persons = pd.DataFrame(
        {"clip": [f"{index:03d}.mp4" for index in range(120)], "gender": ["female", "male", ""] * 40}
    )
    persons.to_csv("data/groups.csv", index=False)

    def predict(path: str, rev: str) -> str:
        """Return predictions of test and validation clips; for each setting but none, those of women are 0.1 lower."""
        train = experiments.parameters[rev]["train"]
        table = pd.read_csv("data/clips.csv").query("split == 'test'")
        rows = table.melt(["clip", "video"], list(TRAITS), "target", "actual").assign(targets="traits", corpus="demo")
        women = rows["clip"].map(persons.set_index("clip")["gender"]) == "female"
        rows["predicted"] = 0.5 - 0.1 * women * (train["fairness"] != "none") + 0.01 * train["seed"]
        splits = [rows.assign(split=split) for split in ("test", "validation")]
        return pd.concat(splits).assign(video_in_training=rows["video"].str.len() > 3, scale=np.nan).to_csv(index=False)

    monkeypatch.setattr(dvc.api, "read", predict)
    main(monkeypatch, "--fair", "--seeds", "0", "1")
    names = ("none", "balanced", "adversarial", "matching")
    assert experiments.names == [f"fair-{name}-seed{seed}" for seed in (0, 1) for name in names]
    trained = experiments.parameters["fair-matching-seed1"]["train"]
    assert (trained["fairness"], trained["fairness_group"], trained["seed"]) == ("matching", "gender", 1)
    table = pd.read_csv("plots/fair.csv").set_index(["setting", "measure", "target"])
    assert set(table.index.levels[0]) == set(names)
    sign = 1 if "female minus male" in capsys.readouterr().out else -1
    for name, change in (("none", 0.0), ("balanced", -0.1), ("adversarial", -0.1), ("matching", -0.1)):
        row = table.loc[(name, "error_difference", "mean")]
        assert row["change"] == pytest.approx(sign * change, abs=1e-6)
        assert row["seeds"] == 2
        assert row["low"] < row["value"] < row["high"]
    assert min(Path(f"plots/fair.{suffix}").stat().st_size for suffix in ("tex", "png", "pdf")) > 500
    main(monkeypatch, "--fair", "gender", "--seeds", "0", "--unseen")
    assert len(experiments.names) == 8
    assert "unseen in training" in capsys.readouterr().out
    with pytest.raises(InputError, match="--split is not for --fair"):
        main(monkeypatch, "--fair", "--split", "validation")


def test_ablate_runs_fairness_settings_in_each_fold(shipped: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "check", lambda values: None)
    shipped["download"] |= {"split": "folds", "folds": 3}
    kind, chosen = plan.plan_experiments(shipped, None, {"fair": "age"})
    assert kind == "fair"
    assert len(chosen) == 12
    assert chosen["matching-fold2"] == {
        "train.fairness": "matching",
        "train.fairness_group": "age",
        "download.fold": 2,
    }
