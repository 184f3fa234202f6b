"""Networks without batch norm compared with the same networks with it."""

import copy

import pytest
import torch
from torch import nn

from lib.model.encoders.volumes import Conv3d, _video_resnet
from lib.model.folding import fold_batch_norm


@pytest.mark.parametrize("kind", ["conv3d", "r3d_18", "r2plus1d_18"])
def test_folded_network_agrees_without_batch_norm(kind: str) -> None:
    torch.manual_seed(0)
    network = Conv3d(2) if kind == "conv3d" else _video_resnet(kind, None, 2)
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm3d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()  # type: ignore[union-attr, operator]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    folded = copy.deepcopy(network.eval())
    fold_batch_norm(folded)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in folded.modules())
    flow = torch.randn(1, 2, 9, 32, 32)
    with torch.no_grad():
        expected, found = network(flow), folded(flow)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
