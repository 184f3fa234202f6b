"""Export of a network to ONNX: free numbers of clips and steps, and errors that name what prevents it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.data.batch import Inputs
from lib.model.encoders.s2d import windows
from lib.model.network import Network
from lib.serving import export
from lib.streams.base import Steps, StreamInfo
from tests.small_network import TRAITS_GROUP, make_settings
from tests.test_s2d import SMALL_SETTINGS

pytest.importorskip("onnxscript", reason="requirements-export.txt is not installed")
pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")

S2D = SMALL_SETTINGS | {"reads": ["faces", "landmarks"], "landmarks": "points", "init": "reference", "depth": 2}
SHAPES = {"faces": [3, 32, 32], "landmarks": [5, 2]}


def make_inputs(clips: int, steps: int) -> Inputs:
    times = torch.arange(float(steps)).expand(clips, -1) / 5
    present = torch.ones(clips, steps, dtype=torch.bool)
    arrays = {name: torch.rand(clips, steps, *shape) for name, shape in SHAPES.items()}
    return {"s2d": {name: Steps(values, times, present) for name, values in arrays.items()}}


@pytest.mark.slow
def test_s2d_exports_for_any_number_of_clips_and_windows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = make_settings(["s2d"], "plain_concat", encoders={"s2d": S2D})
    streams = {name: StreamInfo({}, {"": shape}) for name, shape in SHAPES.items()}
    network = Network.from_settings(settings, TRAITS_GROUP, streams).eval()
    window = export.Window(network, TRAITS_GROUP, make_inputs(1, 4))
    parts = window.parts(make_inputs(1, 4))
    assert parts is not None
    run = export.write_onnx(export.export_program(window, parts), window, tmp_path / "network.onnx", {})
    for clips, steps in ((1, 4), (3, 9), (2, 2)):  # windows of 4 steps: one, three, and one that is not full
        inputs = make_inputs(clips, steps)
        with torch.no_grad():
            expected = network(inputs).predicted["traits"].numpy()
        assert np.ptp(expected) > 0.01
        parts = export.Window(network, TRAITS_GROUP, inputs).parts(inputs)
        assert parts is not None
        np.testing.assert_allclose(run(*parts)[0], expected, atol=1e-4)


class Windows(nn.Module):
    """A network whose number of windows depends on values, not only on shapes."""

    def forward(self, *parts: Tensor) -> Tensor:
        return windows(parts[0] > 0.5, 2, repeat=False)[1]


class SortStably(nn.Module):
    """A network with an operator that PyTorch does not write as ONNX."""

    def forward(self, values: Tensor) -> Tensor:
        return values.argsort(dim=1, stable=True)


def test_export_names_the_code_that_prevents_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.compiler.is_exporting", lambda: False)
    window: Any = Windows()
    with pytest.raises(InputError, match=r"because of lib/model/encoders/s2d\.py, line \d+: `.*int\(counts\.max\(\)\)"):
        export.export_program(window, (torch.rand(1, 3),))


def test_export_names_the_operator_that_onnx_lacks(tmp_path: Path) -> None:
    program = torch.export.export(SortStably(), (torch.rand(2, 3),))
    window: Any = SimpleNamespace(names=["values"], outputs=["order"])
    with pytest.raises(InputError, match=r"can't be written as ONNX \(ConversionError: No ONNX function .*aten\.sort"):
        export.write_onnx(program, window, tmp_path / "network.onnx", {})
