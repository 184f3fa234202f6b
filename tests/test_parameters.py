"""Settings are checked before any work starts."""

import os
from pathlib import Path

import pytest

from lib.core import command, parameters
from lib.core.errors import InputError, SettingError, prefix_errors
from lib.core.parallel import Parallel
from tests.conftest import ROOT
from tools.parameters import check, merge_parameters

EMOTIONS = "{columns: [anger], range: [0, 1], head: sigmoid, loss: mse, weight: 1.0}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["flow.enabled=false"],
            r"^flow\.enabled = false, but model\.use has flow and model\.encoders\.flow\.reads has flow;"
            r" allowed: true; set flow\.enabled to true, or remove flow from model\.use$",
        ),
        (
            ["frames.enabled=false"],
            r"frames\.enabled = false, but model\.use has faces .* which is made from frames; allowed",
        ),
        (
            ["model.use=[audio]", "audio.enabled=false"],
            r"audio\.enabled = false, but .*reads has audio\.mfcc; allowed: true",
        ),
        (
            [f"targets.angry={EMOTIONS}", "model.targets=[angry]"],
            r"targets\.angry\.columns has 'anger', which no source of download\.sources = \['demo'\] has; allowed:"
            r" extraversion, .*, interview; correct the columns, or remove angry from model\.targets$",
        ),
        (["train.learning_rate.face=1e-4"], r"^train\.learning_rate has 'face'; allowed: default, head, faces, flow"),
        (
            ["train.accumulate=3", "train.devices=2"],
            r"^train\.batch_size = \d+ must be a multiple of train\.devices x train\.accumulate = 6; try 18$",
        ),
        (["targets.traits.loss=bce"], r"^targets\.traits\..*allowed"),
        (
            ["download.table.targets={lively: 1-7}"],
            r"^download\.table\.targets\.lively = '1-7'; allowed: two numbers, such as \[1, 7\]$",
        ),
        (["targets.traits.range=[1]"], r"^targets\.traits\.range = \[1\]; allowed: two numbers, such as \[1, 7\]$"),
    ],
)
def test_parameters_that_fail_later_are_rejected_now(changes: list[str], message: str) -> None:
    check(merge_parameters("demo", []))
    with pytest.raises(InputError, match=message):
        check(merge_parameters("demo", changes))


def test_commands_print_the_file_before_each_setting() -> None:
    with pytest.raises(SystemExit) as ended:
        command.run(
            lambda: parameters.check({"engine": "loky", "workers": -1, "threads": 2}, Parallel, "parallel") and None
        )
    first, second = str(ended.value).splitlines()
    assert first == "error: params.yaml: parallel.workers = -1; allowed: greater than or equal to 0"
    assert second == "       params.yaml: unknown key parallel.threads = 2; remove it or correct its name"
    with pytest.raises(SystemExit, match=r"^error: no such clip$"):
        command.run(lambda: raise_error(InputError("no such clip")))


def test_prefix_errors_turns_arguments_into_settings() -> None:
    with pytest.raises(SettingError, match=r"^model\.width = 7; allowed: 8$"), prefix_errors("model."):
        raise InputError("width = 7; allowed: 8")


def raise_error(error: Exception) -> None:
    raise error


def test_changed_stages_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^dvc\.yaml is missing"):
        parameters.read_stages()
    for name in ("train", "evaluate"):
        Path("dvc.yaml").write_text(f"stages:\n  {name}:\n    cmd: python\n")
        os.utime("dvc.yaml", ns=(0, len(name)))
        assert [*parameters.read_stages()] == [name]


def test_changes_of_merged_parameters_stay_with_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    before = merge_parameters("fiv2", ["train.epochs=77"])
    before["model"]["use"].append("audio")
    after = merge_parameters("fiv2", [])
    assert after["train"]["epochs"] != 77
    assert after["model"]["use"] != before["model"]["use"]
