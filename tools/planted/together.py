"""Which fusions find events of two streams that take place at the same time? Planted tokens, without encoders or clips."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lib.core.targets import TargetGroup
from lib.model.fusions import FUSIONS
from lib.model.positions import position_encoding
from lib.model.tokens import Tokens
from lib.report import comparison, words
from lib.scoring.paired import compare_predictors
from lib.scoring.scores import Bootstrap, score_columns
from lib.sources.demo.patterns import draw_pattern

TRAINING, TEST, STEPS, SECONDS = 256, 300, 16, 0.5
"""Numbers of clips and of tokens of each stream in a clip, and the time between tokens."""

NEAR = "cross_attention with time_slope"
VARIANTS = {
    "late_average": ("late_average", None),
    "concat": ("concat", None),
    "cross_attention": ("cross_attention", None),
    NEAR: ("cross_attention", 4.0),
}
"""Name -> fusion and `time_slope`."""

GROUP = TargetGroup(columns=["together"], range=[0, 1], head="binary", loss="bce", weight=1)

_NAMES = "appearance", "motion"
_WIDTH, _NOISE, _UPDATES, _BATCH, _RATE = 24, 0.3, 300, 32, 3e-3

Clips = tuple[Tensor, Tensor, Tensor]
"""Appearance and motion (N, STEPS, 2), and the target (N,)."""


def make_clips(count: int, seed: int) -> Clips:
    """Return clips whose two patterns (lib/sources/demo/patterns.py) are equal for the target 1 and opposite for 0.

    The first number of a token is the state with noise, the second is noise.
    """
    rng = np.random.default_rng(seed)
    appearance = np.array([draw_pattern(STEPS, rng) for _ in range(count)])
    target = rng.integers(0, 2, count)
    states = appearance, appearance * (2 * target - 1)[:, None]
    streams = [
        np.stack([state + _NOISE * rng.normal(size=state.shape), rng.normal(size=state.shape)], -1) for state in states
    ]
    return torch.tensor(streams[0]).float(), torch.tensor(streams[1]).float(), torch.tensor(target).float()


class Model(nn.Module):
    """A small network for each stream's tokens, a fusion, and a prediction of each vector of the fusion."""

    def __init__(self, fusion: str, time_slope: float | None) -> None:
        super().__init__()
        self.tokens = nn.ModuleList(
            nn.Sequential(nn.Linear(2, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, _WIDTH)) for _ in _NAMES
        )
        self.fusion = FUSIONS[fusion](dict.fromkeys(_NAMES, _WIDTH), heads=4, time_slope=time_slope)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(self.fusion.output_dim, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, 1))
            for _ in range(self.fusion.vectors)
        )

    def forward(self, *streams: Tensor) -> Tensor:
        """Return the logit (B,) of the target."""
        count = len(streams[0])
        times = SECONDS * torch.arange(STEPS).expand(count, -1)
        positions, present = position_encoding(times, 1, 1, _WIDTH), torch.ones(count, STEPS, dtype=torch.bool)
        tokens = {
            name: Tokens(layer(stream) + positions, times, present, (1, 1))
            for name, layer, stream in zip(_NAMES, self.tokens, streams, strict=True)
        }
        vectors = self.fusion(tokens)[0].unbind(1)
        return torch.stack([head(vector)[:, 0] for head, vector in zip(self.heads, vectors, strict=True)]).mean(0)


def train(variant: str, seed: int) -> Model:
    """Return a model of VARIANTS, trained on TRAINING clips."""
    torch.manual_seed(seed)
    *streams, target = make_clips(TRAINING, seed)
    model = Model(*VARIANTS[variant])
    optimizer = torch.optim.AdamW(model.parameters(), _RATE)
    for _ in range(_UPDATES):
        chosen = torch.randint(TRAINING, (_BATCH,))
        logits = model(*(stream[chosen] for stream in streams))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def predict(model: Model, clips: Clips, shift: int = 0) -> np.ndarray:
    """Return the probabilities (N, 1) of the target, with motion `shift` tokens later; the last ones come first."""
    appearance, motion, _ = clips
    return model(appearance, motion.roll(shift, 1)).sigmoid().double().numpy()[:, None]


def run(seeds: Sequence[int]) -> None:
    """Train each of VARIANTS with each seed, and print scores, paired differences and the scores of shifted clips."""
    clips = make_clips(TEST, 1000)
    actual, order = clips[2].double().numpy()[:, None], np.arange(TEST)
    predicted: dict[str, list[np.ndarray]] = {}
    rows = []
    for variant in VARIANTS:
        for seed in seeds:
            model = train(variant, seed)
            intact, shifted = predict(model, clips), predict(model, clips, STEPS // 2)
            predicted.setdefault(variant, []).append(intact)
            rows.append({"predictor": variant, "intact": score(actual, intact), "shifted": score(actual, shifted)})
            print(f"{variant}, seed {seed}: R² {rows[-1]['intact']:.2f}, shifted {rows[-1]['shifted']:.2f}", flush=True)
    *streams, target = make_clips(TRAINING, seeds[0])
    predicted["ridge_mean"] = [predict_ridge(streams, target, clips)]
    compared = compare_predictors(predicted, actual, order, NEAR, GROUP, Bootstrap(10_000, 0))
    accuracy = words.name_accuracy(GROUP)
    print(comparison.format_markdown(compared, NEAR, f"{TEST} planted clips", accuracy, 10_000))
    comparison.write(compared, NEAR, accuracy, Path("plots/together"))
    print(format_shifted(pd.DataFrame(rows)))


def score(actual: np.ndarray, predicted: np.ndarray) -> float:
    """Return R²."""
    return float(score_columns(actual, predicted, GROUP.columns, GROUP.span)["r2"]["mean"] or np.nan)


def predict_ridge(streams: Sequence[Tensor], target: Tensor, clips: Clips) -> np.ndarray:
    """Return the predictions (N, 1) of ridge on mean and standard deviation over time of both streams."""
    from sklearn.linear_model import RidgeCV

    vectors = [
        torch.cat([part for stream in pair for part in (stream.mean(1), stream.std(1))], 1).numpy()
        for pair in (streams, clips[:2])
    ]
    return RidgeCV(np.logspace(-2, 4, 13)).fit(vectors[0], target.numpy()).predict(vectors[1])[:, None].clip(0, 1)


def format_shifted(table: pd.DataFrame) -> str:
    """Return R² with intact and with shifted clips by predictor as Markdown: mean ± standard deviation over seeds."""
    lines = ["\nR² with motion half a clip later\n", "| predictor | intact | shifted |", "|---|---|---|"]
    for name, rows in table.groupby("predictor", sort=False):
        cells = [f"{rows[kind].mean():.2f} ± {rows[kind].std():.2f}" for kind in ("intact", "shifted")]
        lines.append(f"| {name} | {' | '.join(cells)} |".replace("-", "−"))
    return "\n".join(lines)
