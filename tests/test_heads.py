"""Heads: their predictions, the losses that they allow, and what is said of settings that don't fit."""

from typing import Any

import pytest
import torch

from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.targets import TargetGroup
from lib.model.heads import HEADS, find_head
from lib.training.losses import LOSSES
from tests.test_training import settings

TWO: dict[str, Any] = {"columns": ["warm", "cold"], "range": [0, 1], "head": "sigmoid", "loss": "mse", "weight": 1.0}


def test_every_loss_of_a_head_exists() -> None:
    assert {loss for head in HEADS.values() for loss in head.losses} == set(LOSSES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "tanh"}, r"head = 'tanh'; allowed: sigmoid, linear, softmax, binary"),
        ({"head": "softmax", "loss": "bce"}, r"loss = 'bce'; allowed with head = softmax: kl, mse"),
        ({"loss": "mes"}, r"loss = 'mes'; allowed with head = sigmoid: mse, mae"),
        ({"head": "softmax", "loss": "kl", "range": [1, 7]}, r"head = softmax with range \[1\.0, 7\.0\] and 2 columns"),
        (
            {"head": "softmax", "loss": "kl", "columns": ["warm"]},
            r"head = softmax with range \[0\.0, 1\.0\] and 1 columns",
        ),
    ],
)
def test_head_that_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    group = TargetGroup(**TWO | changes)
    with pytest.raises(InputError, match=f"^{message}"):
        find_head(group)
    with pytest.raises(InputError, match=rf"^params\.yaml: targets\.own\.{message}"):
        settings(targets=["own"]).chosen({"own": group})


def test_old_key_activation_names_the_new_one() -> None:
    old = {key: value for key, value in TWO.items() if key != "head"} | {"activation": "linear"}
    with pytest.raises(InputError, match=r"targets\.own\.activation no longer exists; write head = sigmoid"):
        check(old, TargetGroup, "targets.own")


def test_binary_head_averages_probabilities_of_vectors() -> None:
    torch.manual_seed(0)
    head, vectors = HEADS["binary"](4, 3, vectors=2), [torch.randn(5, 4), torch.randn(5, 4)]
    found = head(vectors)
    each = torch.stack([layer(vector).sigmoid() for layer, vector in zip(head.layers, vectors, strict=True)])
    torch.testing.assert_close(found.mean, each.mean(0))
    torch.testing.assert_close(found.logits, torch.logit(each.mean(0)))
    assert found.scale is None
