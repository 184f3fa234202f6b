"""Which fusions find events of two streams that take place at the same time? On planted tokens, or on other clips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lib.core.targets import TargetGroup
from lib.model.fusions import FUSIONS
from lib.model.positions import position_encoding
from lib.model.settings import FusionOptions
from lib.model.tokens import Tokens
from lib.report import comparison, words
from lib.scoring.bootstrap import Bootstrap
from lib.scoring.paired import compare_predictors
from lib.scoring.scores import score_columns
from lib.sources.demo.patterns import draw_pattern

TRAINING, TEST, STEPS, SECONDS = 256, 300, 16, 0.5
"""Numbers of clips and of tokens of each stream in a clip, and the time between tokens."""

NEAR = "cross_attention with time_slope"
VARIANTS = {
    "appearance": ("concat", None),
    "motion": ("concat", None),
    "late_average": ("late_average", None),
    "concat": ("concat", None),
    "cross_attention": ("cross_attention", None),
    NEAR: ("cross_attention", 4.0),
}
"""Name -> fusion and `time_slope`. The first two read the stream of their name alone."""

GROUP = TargetGroup(columns=["together"], range=[0, 1], head="binary", loss="bce", weight=1)

NAMES = "appearance", "motion"
"""The streams."""
_WIDTH, _NOISE, _UPDATES, _BATCH, _RATE = 24, 0.3, 300, 32, 3e-3


class Clips(NamedTuple):
    """The tokens of N clips, `seconds` apart, their target (N,) and their videos (N,). streams: by name, (N, T, D)."""

    streams: dict[str, Tensor]
    target: Tensor
    seconds: float
    videos: np.ndarray


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
    tensors = (torch.tensor(stream).float() for stream in streams)
    return Clips(dict(zip(NAMES, tensors, strict=True)), torch.tensor(target).float(), SECONDS, np.arange(count))


def make_planted() -> tuple[Clips, Clips]:
    """Return the planted training clips and test clips."""
    return make_clips(TRAINING, 0), make_clips(TEST, 1000)


class Model(nn.Module):
    """A small network for each stream's tokens, a fusion, and a prediction of each vector of the fusion.

    widths: numbers in a token, by stream. seconds: time between tokens.
    """

    def __init__(self, widths: Mapping[str, int], seconds: float, fusion: str, time_slope: float | None) -> None:
        super().__init__()
        self.seconds = seconds
        self.tokens = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(width, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, _WIDTH))
                for name, width in widths.items()
            }
        )
        self.fusion = FUSIONS[fusion](dict.fromkeys(widths, _WIDTH), FusionOptions.with_defaults(time_slope=time_slope))
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(self.fusion.output_dim, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, 1))
            for _ in range(self.fusion.vectors)
        )

    def forward(self, streams: Mapping[str, Tensor]) -> Tensor:
        """Return the logit (B,) of the target."""
        tokens = {}
        for name, layer in self.tokens.items():
            count, steps = streams[name].shape[:2]
            times = self.seconds * torch.arange(steps).expand(count, -1)
            values = layer(streams[name]) + position_encoding(times, 1, 1, _WIDTH)
            tokens[name] = Tokens(values, times, torch.ones(count, steps, dtype=torch.bool), (1, 1))
        vectors = self.fusion(tokens)[0].unbind(1)
        return torch.stack([head(vector)[:, 0] for head, vector in zip(self.heads, vectors, strict=True)]).mean(0)


def train(variant: str, seed: int, clips: Clips) -> Model:
    """Return a model of VARIANTS, trained on `clips`."""
    torch.manual_seed(seed)
    widths = {
        name: stream.shape[2] for name, stream in clips.streams.items() if variant == name or variant not in NAMES
    }
    model = Model(widths, clips.seconds, *VARIANTS[variant])
    optimizer = torch.optim.AdamW(model.parameters(), _RATE)
    for _ in range(_UPDATES):
        chosen = torch.randint(len(clips.target), (_BATCH,))
        logits = model({name: stream[chosen] for name, stream in clips.streams.items()})
        loss = nn.functional.binary_cross_entropy_with_logits(logits, clips.target[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def predict(model: Model, clips: Clips, *, shifted: bool = False) -> np.ndarray:
    """Return the probabilities (N, 1) of the target. shifted: motion comes half a clip later; its last half comes first."""
    motion = clips.streams["motion"]
    moved = motion.roll(motion.shape[1] // 2, 1) if shifted else motion
    return model({**clips.streams, "motion": moved}).sigmoid().double().numpy()[:, None]


def run(seeds: Sequence[int], training: Clips, clips: Clips, kind: str) -> None:
    """Train each of VARIANTS with each seed, and print scores, paired differences and the scores of shifted clips.

    kind: a word for the clips.
    """
    actual = clips.target.double().numpy()[:, None]
    predicted: dict[str, list[np.ndarray]] = {}
    rows = []
    for variant in VARIANTS:
        for seed in seeds:
            model = train(variant, seed, training)
            intact, shifted = predict(model, clips), predict(model, clips, shifted=True)
            predicted.setdefault(variant, []).append(intact)
            rows.append({"predictor": variant, "intact": score(actual, intact), "shifted": score(actual, shifted)})
            print(f"{variant}, seed {seed}: R² {rows[-1]['intact']:.2f}, shifted {rows[-1]['shifted']:.2f}", flush=True)
    predicted["ridge_mean"] = [predict_ridge(training, clips)]
    compared = compare_predictors(predicted, actual, clips.videos, NEAR, GROUP, Bootstrap(10_000, 0))
    which, accuracy = f"{len(actual)} {kind} clips", words.name_accuracy(GROUP)
    print(comparison.format_markdown(compared, NEAR, which, accuracy, 10_000))
    comparison.write(compared, NEAR, accuracy, Path("plots", f"together_{kind}"))
    print(format_shifted(pd.DataFrame(rows)))


def score(actual: np.ndarray, predicted: np.ndarray) -> float:
    """Return R²."""
    value = score_columns(actual, predicted, GROUP.columns, GROUP.span)["r2"]["mean"]
    return np.nan if value is None else value


def predict_ridge(training: Clips, clips: Clips) -> np.ndarray:
    """Return the predictions (N, 1) of ridge on mean and standard deviation over time of both streams."""
    from sklearn.linear_model import RidgeCV

    fitted, new = (
        torch.cat([part for stream in some.streams.values() for part in (stream.mean(1), stream.std(1))], 1).numpy()
        for some in (training, clips)
    )
    ridge = RidgeCV(np.logspace(-2, 4, 13)).fit(fitted, training.target.numpy())
    return ridge.predict(new)[:, None].clip(0, 1)


def format_shifted(table: pd.DataFrame) -> str:
    """Return a Markdown table of R² with intact and shifted clips by predictor: mean ± SD over several seeds."""
    lines = ["\nR² with motion half a clip later\n", "| predictor | intact | shifted |", "|---|---|---|"]
    for name, rows in table.groupby("predictor", sort=False):
        spread = (lambda values: f" ± {values.std():.2f}") if len(rows) > 1 else (lambda values: "")
        cells = [f"{rows[kind].mean():.2f}{spread(rows[kind])}" for kind in ("intact", "shifted")]
        lines.append(f"| {name} | {' | '.join(cells)} |".replace("-", "−"))
    return "\n".join(lines)
