"""Losses, and the weights of clips and columns in losses."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lib.core.targets import TRAITS, TargetGroup
from lib.model.heads import HeadOutput
from lib.training.losses import LOSSES, find_loss
from lib.training.weightings import Density, label_distribution_smoothing, uniform


def from_values(values: Tensor) -> HeadOutput:
    """A prediction with all parts that a loss can read: `values` in (0, 1), a constant scale, and logits."""
    return HeadOutput(values, torch.full_like(values, 0.2), torch.logit(values))


def test_losses_equal_values_by_hand() -> None:
    actual, predicted = torch.tensor([[0.2], [0.4], [0.9]]), torch.tensor([[0.25], [0.3], [0.6]])
    ones = torch.ones(3, 1)
    assert LOSSES["mse"](from_values(predicted), actual, ones).item() == pytest.approx((0.05**2 + 0.1**2 + 0.3**2) / 3)
    assert LOSSES["mae"](from_values(predicted), actual, ones).item() == pytest.approx(0.15)
    huber = (0.5 * 0.05**2 + 0.5 * 0.1**2 + 0.1 * (0.3 - 0.05)) / 3
    assert LOSSES["huber"](from_values(predicted), actual, ones).item() == pytest.approx(huber)
    x, y = predicted[:, 0].double().numpy(), actual[:, 0].double().numpy()
    ccc = 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert LOSSES["ccc"](from_values(predicted), actual, ones).item() == pytest.approx(1 - ccc, abs=1e-6)
    twice = torch.tensor([[2.0], [1.0], [0.0]])
    repeated = torch.tensor([0, 0, 1])
    for name in LOSSES.keys() - {"kl"}:  # weight 2 counts a clip twice, weight 0 omits it
        assert LOSSES[name](from_values(predicted), actual, twice).item() == pytest.approx(
            LOSSES[name](from_values(predicted[repeated]), actual[repeated], ones).item(), abs=1e-6
        )


def test_rare_labels_have_larger_weights() -> None:
    labels = np.column_stack([np.r_[np.full(90, 0.5), np.full(10, 0.9)], np.linspace(0, 1, 100)])
    weights = label_distribution_smoothing(labels)
    assert weights.mean(0) == pytest.approx(1)
    assert weights[-1, 0] / weights[0, 0] == pytest.approx(3)  # the root of nine
    assert np.ptp(weights[5:-5, 1]) < 0.2
    assert (uniform(labels) == 1).all()


def test_missing_labels_do_not_change_other_weights() -> None:
    labels = np.column_stack([np.r_[np.full(90, 0.5), np.full(10, 0.9)], np.linspace(0, 1, 100)])
    unknown = labels.copy()
    unknown[3, 0] = np.nan
    weights, others = label_distribution_smoothing(unknown), label_distribution_smoothing(labels)
    assert (weights[:, 1] == others[:, 1]).all()
    alone = label_distribution_smoothing(np.delete(labels, 3, 0))[:, 0]
    assert np.delete(weights[:, 0], 3) == pytest.approx(alone)
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("loss", sorted(LOSSES.keys() - {"kl"}))
def test_loss_ignores_missing_labels(loss: str) -> None:
    generator = torch.Generator().manual_seed(0)
    actual, weights = torch.rand(8, 3, generator=generator), torch.rand(8, 3, generator=generator)
    predicted = torch.rand(8, 3, generator=generator, requires_grad=True)
    if loss == "mse":  # to the last bit
        assert LOSSES[loss](from_values(predicted), actual, weights) == (weights * (predicted - actual).square()).mean()
    partly_known = actual.clone()
    partly_known[2] = partly_known[5] = torch.nan
    rest = torch.tensor([0, 1, 3, 4, 6, 7])
    value = LOSSES[loss](from_values(predicted), partly_known, weights)
    torch.testing.assert_close(value, LOSSES[loss](from_values(predicted[rest]), actual[rest], weights[rest]))
    value.backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
    assert (predicted.grad[[2, 5]] == 0).all()
    assert (predicted.grad[rest] != 0).all()
    predicted.grad = None
    without_labels = LOSSES[loss](from_values(predicted), torch.full_like(actual, torch.nan), weights)
    without_labels.backward()
    assert without_labels == 0
    assert (predicted.grad == 0).all()


def test_kl_equals_value_by_hand() -> None:
    actual = torch.tensor([[0.5, 0.5, 0.0], [torch.nan] * 3, [1.0, 0.0, 0.0]])
    predicted, ones = torch.tensor([[0.25, 0.5, 0.25], [0.2, 0.3, 0.5], [0.5, 0.25, 0.25]]), torch.ones(3, 3)
    expected = (0.5 * np.log(2) + np.log(2)) / 2
    assert LOSSES["kl"](from_values(predicted), actual, ones).item() == pytest.approx(expected, abs=1e-6)


def test_bce_equals_torchs_on_known_labels() -> None:
    logits, actual, weights = torch.randn(6, 2), torch.randint(0, 2, (6, 2)).float(), torch.rand(6, 2) + 0.5
    expected = functional.binary_cross_entropy(logits.sigmoid(), actual, weights)
    predicted = HeadOutput(logits.sigmoid(), logits=logits)
    assert LOSSES["bce"](predicted, actual, weights).item() == pytest.approx(expected.item(), abs=1e-6)
    actual[:3] = torch.nan
    expected = functional.binary_cross_entropy(logits[3:].sigmoid(), actual[3:], weights[3:])
    assert LOSSES["bce"](predicted, actual, weights).item() == pytest.approx(expected.item(), abs=1e-6)


def test_bce_of_a_confident_error_has_a_gradient() -> None:
    logits = torch.tensor([[-40.0, 40.0]], requires_grad=True)  # here 1 - sigmoid is exactly 0 in float32
    LOSSES["bce"](HeadOutput(logits.sigmoid(), logits=logits), torch.tensor([[1.0, 0.0]]), torch.ones(1, 2)).backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[-0.5, 0.5]]


def test_gaussian_nll_equals_torchs_normal() -> None:
    torch.manual_seed(0)
    mean, scale, actual = torch.randn(6, 2), torch.rand(6, 2) + 0.1, torch.randn(6, 2)
    weights = torch.rand(6, 2) + 0.5
    actual[2, 1] = torch.nan
    is_known = actual.isfinite()
    densities = torch.distributions.Normal(mean[is_known], scale[is_known]).log_prob(actual[is_known])
    expected = (weights[is_known] * (-densities - 0.5 * np.log(2 * np.pi))).mean()
    loss = LOSSES["gaussian_nll"](HeadOutput(mean, scale), actual, weights)
    torch.testing.assert_close(loss, expected)


def test_gaussian_nll_is_lowest_at_the_errors_size() -> None:
    scales = torch.linspace(0.05, 0.5, 46)[:, None]
    losses = [
        LOSSES["gaussian_nll"](HeadOutput(torch.zeros(1, 1), scale[None]), torch.full((1, 1), 0.2), torch.ones(1, 1))
        for scale in scales
    ]
    assert scales[int(torch.stack(losses).argmin())].item() == pytest.approx(0.2)


def make_group(loss: str, **numbers: float) -> TargetGroup:
    return TargetGroup(columns=list(TRAITS[:1]), range=[0, 1], head="sigmoid", loss=loss, weight=1.0, **numbers)  # type: ignore[arg-type]


def test_target_group_sets_the_numbers_of_its_loss() -> None:
    predicted, actual, ones = torch.tensor([[0.2], [0.9]]), torch.tensor([[0.25], [0.6]]), torch.ones(2, 1)
    errors = np.array([0.05, 0.3])
    huber = find_loss(make_group("huber", huber_delta=0.2))(from_values(predicted), actual, ones).item()
    assert huber == pytest.approx(np.mean([errors[0] ** 2 / 2, 0.2 * (errors[1] - 0.1)]))
    both = find_loss(make_group("mse_ccc", mse_std=0.5))(from_values(predicted), actual, ones).item()
    ccc = LOSSES["ccc"](from_values(predicted), actual, ones).item()
    assert both == pytest.approx((errors**2).mean() / 0.25 + ccc)
    for name in ("huber", "mse_ccc", "mse"):  # the defaults of a group are those of the loss
        values = [loss(from_values(predicted), actual, ones) for loss in (find_loss(make_group(name)), LOSSES[name])]
        assert values[0] == values[1]


def test_density_sets_bins_and_width_of_smoothing() -> None:
    labels = np.array([[0.1], [0.12], [0.9]])
    merged = label_distribution_smoothing(labels, Density(bins=2, std=0.1, radius=0))  # 2 labels, and 1
    assert merged[2, 0] / merged[0, 0] == pytest.approx(np.sqrt(2))
    assert label_distribution_smoothing(labels, Density(bins=2, std=100.0, radius=1)).std() < 0.1 * merged.std()
