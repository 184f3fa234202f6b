"""Predict and score beside the baselines, on all clips and for groups of persons: data/predictions.csv, data/scores.csv,
data/group_scores.csv, metrics/test.json, data/attention.h5."""

import json
from pathlib import Path
from typing import Annotated, Literal, cast

import h5py
import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from pydantic import Field

from lib.core import clips, command, parameters
from lib.core.device import best_device
from lib.core.errors import InputError
from lib.core.parameters import Section
from lib.core.targets import TRAITS
from lib.data.dataset import Clips, collate, usable
from lib.model import checkpoint
from lib.model.network import Network
from lib.scoring import baselines
from lib.scoring.baselines import is_seen
from lib.scoring.tables import group_table, headline, score_table
from lib.streams import descriptors
from lib.training import loop

CLIPS, GROUPS, FACES, FLOW, DESCRIPTORS, MODEL, PREDICTIONS, ATTENTION, SCORES, GROUP_SCORES, METRICS = (
    Path(name)
    for name in (
        "data/clips.csv", "data/groups.csv", "data/faces", "data/flow", "data/descriptors", "data/model.pt",
        "data/predictions.csv", "data/attention.h5", "data/scores.csv", "data/group_scores.csv", "metrics/test.json",
    )
)  # fmt: skip


class Evaluate(Section):
    split: Literal["test", "validation"]
    batch_size: Annotated[int, Field(ge=1)]
    attention_clips: Annotated[int, Field(ge=0)]
    resamples: Annotated[int, Field(ge=100)]
    seed: Annotated[int, Field(ge=0)]


class Parameters(Section):
    evaluate: Evaluate


def main() -> None:
    settings = parameters.load("evaluate", Parameters).evaluate
    usable_clips = usable(clips.read(CLIPS), FACES, FLOW)
    seen_in = usable_clips[usable_clips["split"] == "training"]
    test = usable_clips[usable_clips["split"] == settings.split].reset_index(drop=True)
    if test.empty:
        raise InputError(f"params.yaml: evaluate.split = {settings.split!r}, but no clip of that split came through")
    served = checkpoint.load(MODEL, best_device())
    data = Clips(test, FACES, FLOW, served.parameters["model"]["static"]["frames"])
    actual, predicted = loop.predict(Fabric(devices=1), served.network, data, settings.batch_size, 0)
    seen = is_seen(seen_in, test)

    names = served.network.predicts
    rows = test.loc[test.index.repeat(len(names)), ["clip", "video", "split"]].assign(
        seen=np.repeat(seen, len(names)), trait=names * len(test), actual=actual.ravel(), predicted=predicted.ravel()
    )
    rows.to_csv(PREDICTIONS, index=False, float_format="%.6f")
    five = slice(0, len(TRAITS))  # the interview, where it is predicted, is in predictions.csv
    # what is scored can't choose a baseline's strength
    validation = usable_clips[(usable_clips["split"] == "validation") & (settings.split != "validation")]
    predictions = {"model": predicted[:, five]}
    predictions |= baselines.predict(seen_in, test, validation, descriptors.read(DESCRIPTORS))
    table = score_table(actual[:, five], predictions, test, seen, settings.resamples, settings.seed)
    table.to_csv(SCORES, index=False, float_format="%.6f")
    persons = pd.read_csv(GROUPS, dtype=str, keep_default_na=False).set_index("clip").loc[test["clip"]]
    of_persons = group_table(actual[:, five], predictions, test, persons, settings.resamples, settings.seed)
    of_persons.to_csv(GROUP_SCORES, index=False, float_format="%.6f")
    METRICS.write_text(json.dumps(headline(table), indent=2) + "\n")
    write_attention(served.network, data, test, settings.attention_clips)


@torch.no_grad()
def write_attention(network: Network, data: Clips, test: pd.DataFrame, count: int) -> None:
    """Write for `count` clips the attention weights (heads, queries, keys) in each direction, the tokens' times, and the
    faces that the static stream saw: uint8 (K, S, S, 3)."""
    device = next(network.parameters()).device
    with h5py.File(ATTENTION, "w", libver="latest") as file:
        for index in np.unique(np.linspace(0, len(test) - 1, min(count, len(test))).astype(int)) if count else ():
            batch = {key: value.to(device) for key, value in collate([data[int(index)]]).items()}
            _, attention = network(batch, with_attention=True)
            group = file.create_group(test["clip"][index])
            for name, weights in attention.items():
                group.create_dataset(name, data=weights[0].cpu().numpy(), track_times=False)
            if attention:
                stride = cast(int, network.streams["dynamic"].time_stride)
                faces = (255 * batch["faces"][0]).round().byte().permute(0, 2, 3, 1)
                group.create_dataset("faces", data=faces.cpu().numpy(), compression="gzip", track_times=False)
                group.create_dataset("static_times", data=batch["face_times"][0].cpu().numpy(), track_times=False)
                group.create_dataset(
                    "dynamic_times", data=batch["flow_times"][0, ::stride].cpu().numpy(), track_times=False
                )


if __name__ == "__main__":
    command.run_stage(main)
