"""Scores of predictions, for each target and as the mean over targets."""

from collections.abc import Mapping, Sequence

import numpy as np

MOMENTS = 14
"""Number of sums over clips from which every score is computed."""


def score_columns(
    actual: np.ndarray, predicted: np.ndarray, columns: Sequence[str], span: float
) -> dict[str, dict[str, float | None]]:
    """Return {score: {"mean": ..., column: ...}} for arrays (N, K) of K columns; an undefined score is None.

    `actual` is NaN where unknown. Each column is scored on the clips with a label; "mean" is the mean over columns.
    accuracy is 1 - MAE / span for targets with a range of width `span` (Ponce-López et al. 2016, ChaLearn LAP 2016,
    equation 1, where span is 1). All other scores are in the targets' units. R² is relative to the mean of `actual`. CCC is
    Lin's (1989) with population moments. CCC and R² are undefined for constant targets, the correlations for constant
    values. bias is the mean of predicted - actual. std_ratio is the predictions' standard deviation divided by the targets'.
    regression_to_mean is 1 - the slope of the regression of predictions on targets: 0 if extreme targets get predictions as
    extreme, 1 if every prediction is the mean. calibration_slope is the slope of the regression of targets on predictions: 1
    for a calibrated predictor, whose regression to the mean is 1 - R².
    """
    values = scores_from_moments(compute_moments(actual, predicted, actual).sum(0), span)
    del values["skill"]
    return {name: dict(zip(("mean", *columns), map(_number, row), strict=True)) for name, row in values.items()}


def prepend_mean(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return {score: (..., K + 1)} for {score: (..., K)}: the mean over columns, then each column."""
    return {name: np.concatenate([row.mean(-1, keepdims=True), row], -1) for name, row in values.items()}


def compute_moments(
    actual: np.ndarray, predicted: np.ndarray, baseline: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return each clip's terms (N, K, MOMENTS) of the sums that scores are computed from; 0 where `actual` is NaN.

    weights (N, K): positive; each clip counts as that number of clips. Ranks for Spearman's correlation are not weighted.
    """
    from scipy.stats import rankdata  # it takes half a second to load

    labelled = ~np.isnan(actual)
    count = np.maximum(labelled.sum(0), 1)
    a, p, error = actual, np.where(labelled, predicted, np.nan), predicted - actual
    rank_a, rank_p = (rankdata(values, axis=0, nan_policy="omit") / count - 0.5 for values in (a, p))
    centre = (
        np.where(labelled, a, 0).sum(0) / count
    )  # subtracted first, because differences of large numbers lose digits
    a, p = a - centre, p - centre
    parts = [np.ones_like(a), np.abs(error), error**2, a, p, a * a, p * p, a * p, (baseline - actual) ** 2]
    parts += [rank_a, rank_p, rank_a**2, rank_p**2, rank_a * rank_p]
    terms = np.stack(parts, -1) * (1 if weights is None else weights[..., None])
    return np.where(labelled[..., None], terms, 0)


def scores_from_moments(sums: np.ndarray, span: float) -> dict[str, np.ndarray]:
    """Return {score: (..., K + 1)}, the mean over columns first, from sums (..., K, MOMENTS) over clips."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums / sums[..., :1]
        mae, mse, a, p, aa, pp, ap, base = (mean[..., index] for index in range(1, 9))
        variance, predicted_variance, covariance = _variance(aa, a, span), _variance(pp, p, span), ap - a * p
        values = {
            "accuracy": 1 - mae / span,
            "mae": mae,
            "mse": mse,
            "rmse": np.sqrt(mse),
            "r2": 1 - mse / variance,
            "ccc": 2 * covariance / (variance + np.nan_to_num(predicted_variance) + (a - p) ** 2),
            "pearson": covariance / np.sqrt(variance * predicted_variance),
            "spearman": _correlation(*(mean[..., index] for index in range(9, 14))),
            "skill": 1 - mse / base,
            "bias": p - a,
            "std_ratio": np.sqrt(np.nan_to_num(predicted_variance) / variance),
            "regression_to_mean": 1 - covariance / variance,
            "calibration_slope": covariance / predicted_variance,
        }
    return prepend_mean(values)


def _correlation(x: np.ndarray, y: np.ndarray, xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> np.ndarray:
    return (xy - x * y) / np.sqrt(_variance(xx, x, 1) * _variance(yy, y, 1))


def _variance(square: np.ndarray, mean: np.ndarray, span: float) -> np.ndarray:
    """Return the variance; NaN if it is 0 within rounding errors."""
    variance = square - mean**2
    return np.where(variance > 1e-12 * span**2, variance, np.nan)


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
