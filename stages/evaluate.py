"""Predict and score beside the baselines, on all clips and for groups of persons: data/predictions.csv, data/scores.csv,
data/group_scores.csv, metrics/test.json, data/attention.h5."""

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from lightning_fabric import Fabric
from pydantic import Field

from lib.core import clips, command, parameters
from lib.core.device import best_device
from lib.core.errors import InputError
from lib.core.parameters import Section
from lib.data import pooled
from lib.data.dataset import Clips, usable
from lib.model import checkpoint, explain, infer
from lib.scoring import baselines
from lib.scoring.baselines import is_seen
from lib.scoring.tables import group_table, headline, score_table

CLIPS, GROUPS, DATA, MODEL, PREDICTIONS, ATTENTION, SCORES, GROUP_SCORES, METRICS = (
    Path(name)
    for name in (
        "data/clips.csv", "data/groups.csv", "data", "data/model.pt", "data/predictions.csv", "data/attention.h5",
        "data/scores.csv", "data/group_scores.csv", "metrics/test.json",
    )
)  # fmt: skip


class Evaluate(Section):
    split: Literal["test", "validation"]
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    attention_clips: Annotated[int, Field(ge=0, le=10_000)]
    resamples: Annotated[int, Field(ge=100, le=1_000_000)]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]


class Parameters(Section):
    evaluate: Evaluate


def main() -> None:
    settings = parameters.load("evaluate", Parameters).evaluate
    served = checkpoint.load(MODEL, best_device())
    readings = served.network.readings
    table = usable(clips.read(CLIPS), DATA, readings, served.settings.missing)
    training = table[(table["split"] == "training") & table["corpus"].isin(served.corpora)]
    # what is scored can't choose a baseline's strength
    validation = table[(table["split"] == "validation") & (settings.split != "validation")]
    test = table[table["split"] == settings.split].reset_index(drop=True)
    if test.empty:
        raise InputError(f"params.yaml: evaluate.split = {settings.split!r}, but no clip of that split came through")
    data = Clips(test, DATA, readings, served.streams, {})
    predicted = infer.predict(Fabric(devices=1), served.network, data, settings.batch_size, 0)
    seen, vectors = is_seen(training, test), pooled.vectors(DATA)
    persons = pd.read_csv(GROUPS, dtype=str, keep_default_na=False).set_index("clip").loc[test["clip"]]

    rows, scores, of_persons = [], [], []
    for name, group in served.targets.items():
        values, columns = group.from_unit(predicted[name]), group.columns
        actual = test[list(columns)].to_numpy(np.float32).astype(float)  # in the precision that is trained on
        about = test.loc[test.index.repeat(len(columns)), ["clip", "video", "corpus", "split"]]
        about = about.assign(seen=np.repeat(seen, len(columns)), targets=name, target=columns * len(test))
        rows.append(about.assign(actual=actual.ravel(), predicted=values.ravel()))
        known = np.isfinite(actual).any(1)
        if not known.any():
            raise InputError(
                f"params.yaml: model.targets has {name}, but no {settings.split} clip's {', '.join(columns)} are known"
            )
        predictions = {"model": values} | baselines.predict(training, test, validation, columns, vectors)
        predictions = {of: one[known] for of, one in predictions.items()}
        scored = actual[known], predictions, test[known].reset_index(drop=True)
        span, resamples, seed = group.span, settings.resamples, settings.seed
        table = score_table(*scored, seen[known], columns, span, resamples, seed)
        scores.append(table.assign(targets=name))
        table = group_table(*scored, persons[known], columns, span, resamples, seed)
        of_persons.append(table.assign(targets=name))
    pd.concat(rows).to_csv(PREDICTIONS, index=False, float_format="%.6f")
    found = first_column("targets", pd.concat(scores))
    found.to_csv(SCORES, index=False, float_format="%.6f")
    first_column("targets", pd.concat(of_persons)).to_csv(GROUP_SCORES, index=False, float_format="%.6f")
    METRICS.write_text(
        json.dumps({name: headline(of) for name, of in found.groupby("targets", sort=False)}, indent=2) + "\n"
    )
    count = min(settings.attention_clips, len(test))
    explain.write_attention(ATTENTION, served.network, data, spread(len(test), count))


def spread(clips_: int, count: int) -> list[int]:
    """Return `count` indices spread over `clips_`."""
    return np.unique(np.linspace(0, clips_ - 1, count).astype(int)).tolist() if count else []


def first_column(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with that column in front."""
    return table[[name, *table.columns.drop(name)]]


if __name__ == "__main__":
    command.run_stage(main)
