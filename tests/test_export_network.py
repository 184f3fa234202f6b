"""Export of a network: errors name the code or the operator that prevents it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.model.encoders.s2d import windows
from lib.serving import export

pytest.importorskip("onnxscript", reason="requirements-export.txt is not installed")
pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")


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


@pytest.mark.slow
def test_export_names_the_operator_that_onnx_lacks(tmp_path: Path) -> None:
    program = torch.export.export(SortStably(), (torch.rand(2, 3),))
    window: Any = SimpleNamespace(names=["values"], outputs=["order"])
    with pytest.raises(InputError, match=r"can't be written as ONNX \(ConversionError: No ONNX function .*aten\.sort"):
        export.write_onnx(program, window, tmp_path / "network.onnx", {})
