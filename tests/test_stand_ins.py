"""tools/_stand_ins.py: the check of parameters with stand-ins accepts no other settings than the check with the packages."""

import subprocess
import sys
from pathlib import Path

import pytest

from lib.core.errors import InputError
from tests.conftest import ROOT
from tools import parameters

INVALID = (
    "model.width=7",
    "model.fusion=sum",
    "model.use=[sound]",
    "model.encoders.flow.kind=flows",
    "targets.traits.loss=bce",
    "targets.traits.head=logit",
    "train.optimizer=adam",
    "train.augment.mixup=-1",
    "train.schedule=steps",
    "analyse.attention_clips=many",
    "evaluate.split=all",
    "download.sources=[corpus]",
    "flow.enabled=false",
)
SCRIPT = """
import sys
from lib.core.errors import InputError
from tools import _stand_ins, parameters
_stand_ins.install()
for change in sys.argv[1:]:
    name, _, changes = change.partition(" ")
    try:
        parameters.check_stages(parameters.merge_parameters(name, [changes] if changes else []))
        print("valid")
    except InputError:
        print("invalid")
    except Exception as error:
        print(f"unknown: {type(error).__name__}")
"""


def check_all(cases: list[str]) -> dict[str, str]:
    """Return the result of the check with stand-ins of each case, the name of a parameter file and at most one change."""
    line = [sys.executable, "-c", SCRIPT, *cases]
    result = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(zip(cases, result.stdout.splitlines(), strict=True))


def test_check_with_stand_ins_accepts_all_parameter_files() -> None:
    names = [path.stem for path in sorted(Path(ROOT, parameters.FOLDER).glob("*.yaml"))]
    assert check_all(names) == dict.fromkeys(names, "valid")


def test_check_with_stand_ins_accepts_no_invalid_setting() -> None:
    for change in INVALID:
        with pytest.raises(InputError):
            parameters.check_stages(parameters.merge_parameters("demo", [change]))
    results = check_all([f"demo {change}" for change in INVALID])
    assert [case for case, result in results.items() if result == "valid"] == []


@pytest.mark.parametrize(
    "use",
    [
        "torch.cuda.device_count() > 1",
        "[*torch.float32]",
        "str(torch.nn.Linear)",
        "not torch.ones(2)",
        "torch.__version__",
    ],
)
def test_use_of_a_stand_in_as_a_value_raises(use: str) -> None:
    script = (
        f"from tools._stand_ins import install; install(); import torch\ntry: {use}\nexcept Exception: print('raised')"
    )
    line = [sys.executable, "-c", script]
    assert subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False).stdout == "raised\n"
