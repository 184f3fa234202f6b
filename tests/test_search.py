"""tools/search/: which experiments run, which scores choose, and the tables. One test runs DVC; others replace it."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import dvc.api
import numpy as np
import pandas as pd
import pytest
from dvc.utils.serialize import load_yaml

from lib.core.errors import InputError
from lib.model import infer
from lib.scoring.evaluation import Evaluation
from tests.conftest import ROOT
from tests.project_copy import WITHOUT_VIDEO, Project
from tests.run_tool import call_main
from tools import parameters
from tools.experiments import changed
from tools.search import __main__ as search
from tools.search import queue, space, trials

RATE, FUSION = "train.learning_rate.default", "model.fusion"
GRID = f"{RATE}=1e-4,1e-3", f"{FUSION}=concat,late_average"


class Experiments:
    """Stands in for DVC. R² on the validation split: 3 - |log10(rate)| / 2, plus 0.1 for concat; it is 0.2 less on the test
    split, and there concat is worse. A fold adds a hundredth of its number."""

    def __init__(self) -> None:
        self.shared: dict[str, Any] = parameters.plain(load_yaml(ROOT / "params.yaml"))
        self.runs: dict[str, dict[str, Any]] = {}
        self.failing, self.interrupted_at = "", -1

    def run(self, arguments: list[str]) -> int:
        name = arguments[arguments.index("-n") + 1]
        settings = [text for text, option in zip(arguments[1:], arguments, strict=False) if option == "-S"]
        Path("params.yaml").write_text("changed")
        if len(self.runs) == self.interrupted_at:
            self.interrupted_at = -1
            raise KeyboardInterrupt
        values = changed(self.shared, dict(map(parameters.parse_change, settings)))
        if self.failing and self.failing in name + str(settings):
            return 255
        self.runs[name] = values
        return 0

    def read(self, path: str, rev: str) -> str:
        if rev not in self.runs:
            raise FileNotFoundError(rev)
        values = self.runs[rev]
        is_test = values["evaluate"]["split"] == "test"
        advantage = 0.1 * (values["model"]["fusion"] == "concat") * (-1 if is_test else 1)
        r2 = 3 - abs(np.log10(values["train"]["learning_rate"]["default"])) / 2 + advantage - 0.2 * is_test
        r2 += 0.01 * values["download"]["inner_fold"]
        rows = [
            {"targets": "traits", "subset": "all", "clips": 60, "videos": 20, "predictor": predictor, "score": score}
            | {"target": "mean", "value": value, "low": value - spread, "high": value + spread}
            for predictor, value, spread in (
                ("model", r2, 0.03),
                ("mean_predictor", 0.0, 0.01),
                ("ceiling", 0.9, np.nan),
            )
            for score in (*trials.METRICS, "bias")
        ]
        return pd.DataFrame(rows).to_csv(index=False)


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiments:
    stand_in = Experiments()
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("original")
    monkeypatch.setattr(trials, "run_dvc", stand_in.run)
    monkeypatch.setattr(trials, "list_names", lambda: set(stand_in.runs))
    monkeypatch.setattr(dvc.api, "read", stand_in.read)
    monkeypatch.setattr(
        dvc.api, "params_show", lambda rev=None: deepcopy(stand_in.runs[rev] if rev else stand_in.shared)
    )
    for module in (space, trials):
        monkeypatch.setattr(module, "check", lambda values: None)  # the real one imports all stages
    return stand_in


def of_split(experiments: Experiments, split: str) -> list[str]:
    return [name for name, values in experiments.runs.items() if values["evaluate"]["split"] == split]


def test_grid_chooses_by_validation_and_tests_once(
    experiments: Experiments, capsys: pytest.CaptureFixture[str]
) -> None:
    call_main(search, *GRID)
    assert len(of_split(experiments, "validation")) == 4
    (tested,) = of_split(experiments, "test")
    chosen = tested.replace("test-", "")
    values = experiments.runs[tested]
    # on the test split, late_average is better
    assert (values["train"]["learning_rate"]["default"], values["model"]["fusion"]) == (0.001, "concat")
    table = pd.read_csv("plots/search.csv")
    assert table["value"].tolist() == pytest.approx([1.6, 1.5, 1.1, 1.0])
    assert table["state"].tolist() == ["chosen", "done", "done", "done"]
    assert table.loc[0, ["trial", RATE, FUSION]].tolist() == [chosen, 0.001, "concat"]
    assert not [name for name in table if "test" in name]
    row = pd.read_csv("plots/search-test.csv").set_index("score").loc["r2"]
    assert row[["validation_value", "test_value", "optimism_value"]].tolist() == pytest.approx([1.6, 1.2, 0.4])
    reach = 0.03 * 2**0.5
    assert row[["optimism_low", "optimism_high"]].tolist() == pytest.approx([0.4 - reach, 0.4 + reach], abs=1e-5)
    assert row[["test_low", "test_high", "test_ceiling"]].tolist() == pytest.approx([1.17, 1.23, 0.9])
    output = capsys.readouterr().out
    assert f"Chosen: {chosen} ({RATE}=0.001 {FUSION}=concat)" in output
    assert "| R², chose | 1.600 [1.570, 1.630] | 1.200 [1.170, 1.230] | 0.400 [0.358, 0.442] | 0.900 |" in output
    assert "the best of 4, which makes it too high; report the test score" in output
    assert Path("params.yaml").read_text() == "original"


def test_search_continues_after_an_interruption(experiments: Experiments, capsys: pytest.CaptureFixture[str]) -> None:
    experiments.interrupted_at = 2
    with pytest.raises(KeyboardInterrupt):
        call_main(search, *GRID)
    assert Path("params.yaml").read_text() == "original"
    assert len(experiments.runs) == 2
    first = {name: id(values) for name, values in experiments.runs.items()}
    call_main(search, *GRID)
    assert len(experiments.runs) == 5
    assert {name: id(experiments.runs[name]) for name in first} == first
    assert capsys.readouterr().out.count(" is there") == 2
    call_main(search, *GRID)
    assert len(experiments.runs) == 5
    assert "exist by now" not in capsys.readouterr().out
    call_main(search, f"{RATE}=1e-4,1e-3,1e-2", GRID[1])  # the larger grid reuses four trials, and chooses another one
    assert len(of_split(experiments, "validation")) == 6
    assert "Test scores of 2 trials named search exist by now" in capsys.readouterr().out


def test_folds_score_each_trial_on_every_inner_fold(experiments: Experiments) -> None:
    call_main(search, GRID[1], "--folds", "3", "--name", "inner", "--out", "out/inner")
    folds = [values["download"] for values in experiments.runs.values() if values["evaluate"]["split"] == "validation"]
    used = sorted((fold["inner_folds"], fold["inner_fold"]) for fold in folds)
    assert used == sorted([(3, fold) for fold in range(3)] * 2)
    (tested,) = of_split(experiments, "test")
    assert experiments.runs[tested]["download"]["inner_folds"] == 0
    table = pd.read_csv("out/inner.csv")
    assert table["value"].tolist() == pytest.approx([1.61, 1.51])
    assert table["high"][0] - table["value"][0] == pytest.approx(0.03 / 3**0.5, abs=1e-5)


def test_failed_trial_is_listed_and_tried_again(experiments: Experiments, capsys: pytest.CaptureFixture[str]) -> None:
    experiments.failing = '"concat"'
    call_main(search, GRID[1])
    table = pd.read_csv("plots/search.csv")
    assert table["state"].tolist() == ["chosen", "failed"]
    assert "| concat | failed |" in capsys.readouterr().out
    experiments.failing = ""
    call_main(search, GRID[1])
    assert pd.read_csv("plots/search.csv")["state"].tolist() == ["chosen", "done"]
    experiments.runs.clear()
    experiments.failing = "search-"
    with pytest.raises(InputError, match=r"no trial succeeded; search-\w{8} is the first that failed"):
        call_main(search, GRID[1])


@pytest.mark.slow
def test_optuna_continues_with_the_same_trials(experiments: Experiments) -> None:
    pytest.importorskip("optuna", reason="requirements-search.txt is not installed")
    command = "--optuna", "13", f"{RATE}=1e-6..1e-1:log", "model.use=[faces],[faces, flow]", "train.patience=2..9"
    call_main(search, *command)
    names = list(experiments.runs)
    assert len(of_split(experiments, "validation")) == 13
    assert all(type(values["train"]["patience"]) is int for values in experiments.runs.values())
    assert {len(values["model"]["use"]) for values in experiments.runs.values()} == {1, 2}
    table = pd.read_csv("plots/search.csv")
    (tested,) = of_split(experiments, "test")
    rates = [values["train"]["learning_rate"]["default"] for values in experiments.runs.values()]
    assert experiments.runs[tested]["train"]["learning_rate"]["default"] == max(rates)
    experiments.runs.clear()
    experiments.interrupted_at = 7
    with pytest.raises(KeyboardInterrupt):
        call_main(search, *command)
    call_main(search, *command)
    assert list(experiments.runs) == names
    pd.testing.assert_frame_equal(pd.read_csv("plots/search.csv"), table)
    call_main(search, *command, "--select", "mae", "--name", "low")
    errors = pd.read_csv("plots/low.csv")["value"]
    assert errors.is_monotonic_increasing


def test_optuna_skips_invalid_combinations(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna", reason="requirements-search.txt is not installed")

    def check(values: dict[str, Any]) -> None:
        if values["model"]["fusion"] == "concat":
            raise InputError("no concat")

    monkeypatch.setattr(trials, "check", check)
    call_main(search, "--optuna", "6", *GRID)
    assert {values["model"]["fusion"] for values in experiments.runs.values()} == {"late_average"}
    assert "invalid, not run: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.fusion"], r"'model\.fusion'; allowed: KEY=VALUE,VALUE"),
        (["train.epochs=1", "train.epochs=2"], "each key once"),
        (["train.epochs=1,1"], "each value once"),
        (["train.rates.head=1"], "train has no section 'rates'"),
        (
            ["train.learning_rate=1e-3"],
            r"train\.learning_rate is a section; allowed: its keys, such as train\.",
        ),
        (["evaluate.split=test"], "allowed: keys outside download, evaluate"),
        (["download.fold=0,1"], "the scores of all trials must be of the same clips"),
        (["train.dropout=0.1..0.5"], r"is a range; give single values, .*, or --optuna TRIALS"),
        (["--optuna", "2", "train.weight_decay=0..0.1:log"], "above 0 for log"),
        (["--optuna", "2", "train.weight_decay=a..b"], "allowed: KEY=LOW..HIGH or KEY=LOW..HIGH:log, with numbers"),
        (["--optuna", "0", "train.epochs=1"], "--optuna 0; allowed: 1 or more"),
        (["--folds", "1", "train.epochs=1"], "--folds 1; allowed: 2 or more"),
        (["--jobs", "0", "train.epochs=1"], "--jobs 0; allowed: 1 or more"),
        (["--select", "loss", "train.epochs=1"], "--select 'loss'; allowed: accuracy, r2"),
    ],
)
def test_search_rejects_invalid_arguments(experiments: Experiments, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call_main(search, *arguments)
    assert not experiments.runs


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("train.epochs=3,0", r"train\.epochs = 0; allowed: greater than or equal to 1"),
        ("train.epoch=3", r"unknown key train\.epoch"),
        ("model.fusion=concat,sum", r"model\.fusion = 'sum'; allowed: cross_attention"),
        ("train.epochs=0..3", r"train\.epochs = 0; allowed"),
    ],
)
def test_settings_reject_values_before_any_run(monkeypatch: pytest.MonkeyPatch, values: str, message: str) -> None:
    monkeypatch.chdir(ROOT)
    shared = parameters.plain(load_yaml(ROOT / "params.yaml"))
    parsed = space.parse_space([values], shared, ".." in values)
    with pytest.raises(InputError, match=message):
        (space.check_values if ".." in values else space.make_grid)(parsed, shared)


class Queue:
    """Stands in for DVC's queue: each look at it moves every experiment to its next state."""

    def __init__(self, failing: str = "", interrupts: bool = False) -> None:
        self.states: dict[str, str] = {}
        self.calls: list[tuple[str, ...]] = []
        self.failing, self.interrupts = failing, interrupts

    def call(self, *arguments: str) -> str:
        self.calls.append(arguments)
        if arguments == ("queue", "status"):
            lines = [f"abc1234  {name}  05:14 PM  {state}" for name, state in self.states.items()]
            following = {"Queued": "Running", "Running": "Success"}
            if ("queue", "start", "-j", "2") in self.calls:
                if self.interrupts and "Running" in self.states.values():
                    self.interrupts = False
                    raise KeyboardInterrupt
                self.states = {name: following.get(state, state) for name, state in self.states.items()}
                self.states |= {name: "Failed" for name in self.states if name == self.failing}
            return "\n".join(["Task     Name    Created    Status", *lines, "", "Worker status: 1 active, 0 idle"])
        if arguments[:2] in (("queue", "remove"), ("queue", "stop")):
            self.states = {name: state for name, state in self.states.items() if name not in arguments}
        return ""

    def add(self, arguments: list[str]) -> int:
        assert "--queue" in arguments
        self.states[arguments[arguments.index("-n") + 1]] = "Queued"
        return 0


def use_queue(monkeypatch: pytest.MonkeyPatch, stand_in: Queue) -> Queue:
    monkeypatch.setattr(queue, "call_dvc", stand_in.call)
    monkeypatch.setattr(queue, "run_dvc", stand_in.add)
    monkeypatch.setattr(queue, "SECONDS", 0.0)
    return stand_in


def test_queue_runs_all_and_names_failures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in = use_queue(monkeypatch, Queue("b"))
    stand_in.states = {"a": "Failed", "mine": "Success"}  # an earlier search
    assert queue.run_queue({"a": {}, "b": {}, "c": {}}, set(), 2) == {"b"}
    assert ("queue", "remove", "a") in stand_in.calls
    assert capsys.readouterr().out.splitlines() == ["b: Failed", "a: Success", "c: Success"]


def test_queue_with_other_experiments_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = use_queue(monkeypatch, Queue())
    stand_in.states = {"mine": "Queued"}
    with pytest.raises(InputError, match=r"DVC's queue has 1 other experiments \(mine, \.\.\.\), which would start"):
        queue.run_queue({"a": {}}, set(), 2)
    assert stand_in.states == {"mine": "Queued"}


def test_interrupt_empties_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    use_queue(monkeypatch, Queue(interrupts=True))
    ended: list[list[str]] = []
    monkeypatch.setattr(queue.subprocess, "run", lambda command, **_: ended.append(command[3:]))
    with pytest.raises(KeyboardInterrupt):
        queue.run_queue({"a": {}, "b": {}}, set(), 2)
    assert ended == [["queue", "stop", "--kill"], ["queue", "remove", "a", "b"]]


@pytest.mark.parametrize(("scored", "expected"), [("test", {"validation", "test"}), ("validation", {"validation"})])
def test_validation_scores_predict_no_test_clip(
    monkeypatch: pytest.MonkeyPatch, scored: str, expected: set[str]
) -> None:
    monkeypatch.setattr(Evaluation, "clips", dict.fromkeys(("validation", "test")))
    monkeypatch.setattr(infer, "predict_outputs", lambda *_, **__: {})
    trained: Any = type("Trained", (), {"network": None, "targets": {}})
    table = pd.DataFrame()
    assert set(Evaluation(trained, table, table, {}, scored, 2).predict()) == expected


@pytest.mark.slow
def test_search_runs_dvc_and_its_queue(tmp_path: Path) -> None:
    project, rng = Project(tmp_path, compiled_flow=False), np.random.default_rng(0)
    rows, features = [], {}
    for number in range(60):
        clip, value = f"person{number}.000.mp4", rng.uniform()
        features |= {clip: np.column_stack([np.full(3, value), rng.normal(size=3)]), f"{clip}:times": np.arange(3.0)}
        split = ("training", "training", "training", "validation", "test")[number % 5]
        rows.append({"clip": clip, "split": split, "warm": value})
    np.savez(project.folder / "data/archives/features.npz", **features)
    project.use_table(
        pd.DataFrame(rows), *WITHOUT_VIDEO, "features.enabled=true", "features.files=[features.npz]",
        "download.table.targets={warm: [0, 1]}", "targets.own.columns=[warm]", "targets.own.range=[0, 1]",
        "model.targets=[own]", "model.use=[features]", "model.fusion=concat", "train.epochs=1", "train.warmup=0",
        "evaluate.resamples=100",
    )  # fmt: skip
    project.commit("features")
    parameters_before = (project.folder / "params.yaml").read_bytes()
    output = project.run_module("tools.search", f"{RATE}=1e-9,1e-3,1e-2", "--jobs", "2")
    assert output.count("waits for the queue") == 2
    assert "| R², chose |" in output
    assert (project.folder / "params.yaml").read_bytes() == parameters_before
    table = pd.read_csv(project.folder / "plots/search.csv")
    assert table["value"].notna().all()
    assert project.dvc("exp", "list", "--names-only").count("search-test-") == 1
    predictions = dvc.api.read("data/predictions.csv", repo=str(project.folder), rev=table["trial"][0])
    assert ",validation," in predictions
    assert ",test," not in predictions
    again = project.run_module("tools.search", f"{RATE}=1e-9,1e-3,1e-2", "--jobs", "2")
    assert again.count(" is there") == 4
    assert "Running stage" not in again
