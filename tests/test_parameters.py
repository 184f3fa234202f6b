"""Settings are checked before any work starts."""

import pytest

from lib.core.errors import InputError
from tools.parameters import check, merge_parameters

EMOTIONS = "{columns: [anger], range: [0, 1], head: sigmoid, loss: mse, weight: 1.0}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["flow.enabled=false"],
            r"^params\.yaml: flow\.enabled = false, but model\.use has flow and model\.encoders\.flow\.reads has flow;"
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
        (["targets.traits.loss=bce"], r"^params\.yaml: targets\.traits\..*allowed"),
    ],
)
def test_parameters_that_fail_later_are_rejected_now(changes: list[str], message: str) -> None:
    check(merge_parameters("demo", []))
    with pytest.raises(InputError, match=message):
        check(merge_parameters("demo", changes))
