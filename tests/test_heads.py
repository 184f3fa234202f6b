"""Heads: their predictions, the losses that they allow, and messages about settings that do not fit."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.targets import LOSSES_OF_HEADS, TargetGroup
from lib.model.checkpoint import LabelQuantiles
from lib.model.heads import HEADS, HeadOutput, average_predictions, find_head
from lib.scoring.evaluation import tabulate_predictions
from lib.serving.estimates import estimate_group
from lib.training.losses import LOSSES
from lib.training.run import make_reference
from tests.small_network import make_settings

TWO_COLUMNS: dict[str, Any] = {
    "columns": ["warm", "cold"],
    "range": [0, 1],
    "head": "sigmoid",
    "loss": "mse",
    "weight": 1.0,
}
GAUSSIAN: dict[str, Any] = TWO_COLUMNS | {"range": [1, 7], "head": "gaussian", "loss": "gaussian_nll"}


def test_losses_of_all_heads_exist() -> None:
    assert {loss for losses in LOSSES_OF_HEADS.values() for loss in losses} == set(LOSSES)
    assert LOSSES_OF_HEADS.keys() == HEADS.keys()


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
def test_find_head_rejects_settings_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    group = TargetGroup(**TWO_COLUMNS | changes)
    with pytest.raises(InputError, match=f"^{message}"):
        find_head(group)
    with pytest.raises(InputError, match=rf"^targets\.own\.{message}"):
        make_settings(targets=["own"]).select_targets({"own": group})


def test_old_key_activation_gives_the_new_key() -> None:
    settings = {key: value for key, value in TWO_COLUMNS.items() if key != "head"} | {"activation": "linear"}
    with pytest.raises(InputError, match=r"targets\.own\.activation no longer exists; write head = sigmoid"):
        check(settings, TargetGroup, "targets.own")


def test_binary_head_averages_probabilities_of_vectors() -> None:
    torch.manual_seed(0)
    head, vectors = HEADS["binary"](4, 3, vectors=2), [torch.randn(5, 4), torch.randn(5, 4)]
    prediction = head(vectors)
    probabilities = torch.stack([layer(vector).sigmoid() for layer, vector in zip(head.layers, vectors, strict=True)])
    torch.testing.assert_close(prediction.mean, probabilities.mean(0))
    torch.testing.assert_close(prediction.logits, torch.logit(probabilities.mean(0)))
    assert prediction.scale is None


def test_gaussian_head_starts_at_the_middle_with_fiv2_scale() -> None:
    prediction = HEADS["gaussian"](4, 3)([torch.zeros(5, 4)])
    torch.testing.assert_close(prediction.mean, torch.full((5, 3), 0.5))
    torch.testing.assert_close(prediction.scale, torch.full((5, 3), 0.15))


def test_gaussian_scale_stays_above_its_bound() -> None:
    prediction = HEADS["gaussian"](4, 3).predict(torch.full((2, 6), -1e4))
    assert prediction.mean.tolist() == [[-1e4] * 3] * 2
    torch.testing.assert_close(prediction.scale, torch.full((2, 3), 0.01))


def test_gaussian_head_combines_vectors_to_the_mixture() -> None:
    torch.manual_seed(0)
    head, vectors = HEADS["gaussian"](4, 3, vectors=2), [torch.randn(5, 4), torch.randn(5, 4)]
    predictions = [head.predict(layer(vector)) for layer, vector in zip(head.layers, vectors, strict=True)]
    prediction = head(vectors)
    normals = torch.distributions.Normal(
        torch.stack([part.mean for part in predictions], -1), torch.stack([part.scale for part in predictions], -1)
    )
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(2)), normals)
    torch.testing.assert_close(prediction.mean, mixture.mean)
    torch.testing.assert_close(prediction.scale, mixture.stddev)
    arrays = [HeadOutput(part.mean.detach().numpy(), part.scale.detach().numpy()) for part in predictions]
    window_average = average_predictions(arrays, [0.5, 0.5])
    np.testing.assert_allclose(window_average.mean, prediction.mean.detach(), rtol=1e-5)
    np.testing.assert_allclose(window_average.scale, prediction.scale.detach(), rtol=1e-5)


def test_average_of_windows_is_weighted() -> None:
    windows = [HeadOutput(np.array([0.2]), np.array([0.1])), HeadOutput(np.array([0.6]), np.array([0.3]))]
    average = average_predictions(windows, [3, 1])
    assert average.mean == pytest.approx([0.3])
    # variance within the windows, 0.75 x 0.01 + 0.25 x 0.09, plus between them, 0.75 x 0.01 + 0.25 x 0.09
    assert average.scale == pytest.approx([np.sqrt(0.06)])
    assert average_predictions([HeadOutput(window.mean) for window in windows], [3, 1]).scale is None


def test_gaussian_estimate_has_scale_and_interval_in_table_units() -> None:
    group = TargetGroup(**GAUSSIAN)
    reference = LabelQuantiles(torch.linspace(1, 7, 101)[:, None].repeat(1, 2), torch.tensor([2.0, torch.inf]))
    estimates = estimate_group(group, reference, HeadOutput(np.array([0.5, 0.5]), np.array([0.1, 0.2])))
    assert estimates["warm"].score == pytest.approx(4)
    assert estimates["warm"].scale == pytest.approx(0.6)
    assert (estimates["warm"].low, estimates["warm"].high) == pytest.approx((2.8, 5.2))
    assert estimates["warm"].percentile == pytest.approx(50)
    assert (estimates["cold"].low, estimates["cold"].high) == (None, None)
    assert estimates["cold"].scale == pytest.approx(1.2)


def test_gaussian_head_learns_noise_and_its_intervals() -> None:
    group, generator = TargetGroup(**GAUSSIAN | {"columns": ["warm"]}), torch.Generator().manual_seed(0)
    inputs = torch.rand(3000, 1, generator=generator)
    noise = torch.where(inputs < 0.5, 0.02, 0.1)
    labels = 0.3 + 0.4 * inputs + noise * torch.randn(3000, 1, generator=generator)
    features = torch.cat([inputs, (inputs < 0.5).float()], 1)
    training, held_out, new = slice(0, 1500), slice(1500, 2000), slice(2000, 3000)
    torch.manual_seed(0)
    head = HEADS["gaussian"](2, 1)
    optimizer = torch.optim.Adam(head.parameters(), 0.03)
    for _ in range(600):
        optimizer.zero_grad()
        LOSSES["gaussian_nll"](head([features[training]]), labels[training], torch.ones(1500, 1)).backward()
        optimizer.step()
    with torch.no_grad():
        mean, scale, _ = (None if part is None else part.double().numpy() for part in head([features]))
    actual, is_quiet = labels.double().numpy(), inputs[new, 0].numpy() < 0.5
    assert scale[new][is_quiet].mean() == pytest.approx(0.02, rel=0.2)
    assert scale[new][~is_quiet].mean() == pytest.approx(0.1, rel=0.2)
    reference = make_reference(
        group,
        actual[training],
        actual[held_out],
        HeadOutput(mean[held_out], scale[held_out]),
        np.arange(len(mean))[held_out],
    )
    clips = [
        estimate_group(group, reference, HeadOutput(*mean_and_scale))
        for mean_and_scale in zip(mean[new], scale[new], strict=True)
    ]
    low, high = (np.array([getattr(clip["warm"], end) for clip in clips]) for end in ("low", "high"))
    inside = (low <= group.from_unit(actual[new, 0])) & (group.from_unit(actual[new, 0]) <= high)
    assert 0.85 <= inside[is_quiet].mean() <= 0.95
    assert 0.85 <= inside[~is_quiet].mean() <= 0.95
    assert (high - low)[is_quiet].mean() < 0.4 * (high - low)[~is_quiet].mean()


def test_prediction_table_has_scales_of_gaussian_heads() -> None:
    table = pd.DataFrame(
        {"clip": ["a"], "video": ["v"], "corpus": ["c"], "split": ["test"], "warm": [2.0], "cold": [3.0]}
    )
    targets = {"own": TargetGroup(**TWO_COLUMNS), "noisy": TargetGroup(**GAUSSIAN)}
    tables = {"training": table[:0], "test": table}
    evaluation: Any = SimpleNamespace(trained=SimpleNamespace(targets=targets), tables=tables)
    values = np.array([[0.25, 0.5]])
    unit = {"own": HeadOutput(values), "noisy": HeadOutput(values, np.array([[0.1, 0.2]]))}
    predicted = {"test": {name: prediction.from_unit(targets[name]) for name, prediction in unit.items()}}
    rows = tabulate_predictions(evaluation, predicted).set_index(["targets", "target"])
    assert rows["scale"].loc["own"].isna().all()
    assert rows["scale"].loc["noisy"].tolist() == pytest.approx([0.6, 1.2])
    assert rows["predicted"].loc["own"].tolist() == [0.25, 0.5]
    assert rows["predicted"].loc["noisy"].tolist() == pytest.approx([2.5, 4])
