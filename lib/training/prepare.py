"""What training needs before it starts: the streams, the clips, and the fingerprint of all that it depends on."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from lib.core import resume
from lib.core.artifacts import CLIPS, DATA
from lib.core.clips import read_clip_table
from lib.core.errors import InputError, SettingError
from lib.core.targets import Targets
from lib.data.dataset import ClipDataset
from lib.data.inputs import EncoderInputs, list_streams, split_reference
from lib.data.selection import mask_labelled, select_usable, select_videos
from lib.model import encoders
from lib.model.encoders import Encoder
from lib.model.network import Network
from lib.streams import base
from lib.streams.base import Steps, StreamInfo
from lib.training.settings import Parameters


def load_streams(encoder_inputs: Mapping[str, EncoderInputs]) -> dict[str, StreamInfo]:
    """Return how the streams that the encoders read were made. Raises InputError for one that is off."""
    for name, encoder_settings in encoder_inputs.items():
        for stream in dict.fromkeys(split_reference(one)[0] for one in encoder_settings.reads):
            if not (DATA / stream / base.ABOUT).exists():
                raise SettingError(
                    f"model.use has {name}, whose encoder reads {stream}, but {stream}.enabled is false; set"
                    f" {stream}.enabled to true, or remove {name} from model.use"
                )
    return base.load_stream_info(DATA, list_streams(encoder_inputs))


def select_clips(
    given: Parameters, encoder_inputs: Mapping[str, EncoderInputs], targets: Targets
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the clips to train on, up to train.clips, and those to validate on: usable, of corpora in the mix, with a known
    target."""
    table, train = read_clip_table(CLIPS), given.train
    if unknown := train.mix.keys() - set(table["corpus"]):
        raise SettingError(
            f"train.mix has {min(unknown)!r}; allowed: the corpora of data/clips.csv,"
            f" {', '.join(sorted(set(table['corpus'])))}"
        )
    table = select_usable(table, DATA, encoder_inputs, given.model.missing)
    table = table[mask_labelled(table, targets) & (table["corpus"].map(train.mix).fillna(1) > 0)]
    selected = []
    for split in ("training", "validation"):
        rows = table[table["split"] == split].reset_index(drop=True)
        if rows.empty:
            raise InputError(
                f"no clip of the {split} split is usable; data/clips.csv and metrics/STREAM.json have the reasons, and"
                " download.split in params.yaml assigns clips to splits"
            )
        if split == "training":
            rows = select_videos(rows, train.clips, train.seed)
        columns = [column for group in targets.values() for column in group.columns]
        selected.append(shuffle_labels(rows, columns, train.seed) if train.shuffle_labels else rows)
    return selected[0], selected[1]


def shuffle_labels(table: pd.DataFrame, columns: list[str], seed: int) -> pd.DataFrame:
    """Return the clips with their labels permuted at random; the labels of one clip stay together."""
    order = np.random.default_rng(seed).permutation(len(table))
    return table.assign(**{column: table[column].to_numpy()[order] for column in columns})


def read_inputs(
    name: str, training: pd.DataFrame, encoder_inputs: Mapping[str, EncoderInputs], streams: Mapping[str, StreamInfo]
) -> Iterator[dict[str, Steps]]:
    """Yield the inputs of the encoder `name` for each training clip, without random choices."""
    data = ClipDataset(training, DATA, {name: encoder_inputs[name]}, streams, {})
    return (data[index].inputs[name] for index in range(len(data)))


def standardise(
    network: Network,
    training: pd.DataFrame,
    encoder_inputs: Mapping[str, EncoderInputs],
    streams: Mapping[str, StreamInfo],
) -> None:
    """Let each encoder compute what it needs from the training clips, for instance means of its input."""
    for name, encoder in network.encoders.items():
        cast(Encoder, encoder).standardise(read_inputs(name, training, encoder_inputs, streams))


def fingerprint(
    given: Parameters,
    encoder_inputs: Mapping[str, EncoderInputs],
    streams: Mapping[str, StreamInfo],
    *tables_: pd.DataFrame,
) -> str:
    """Return a hash of the code, settings and data that training depends on. An unchanged hash means the model is valid."""
    modules = ["stages.train", "lib.training.run", *(encoders.module_of(one.kind) for one in encoder_inputs.values())]
    read = list_streams(encoder_inputs)
    model, training = given.model.model_dump(), given.train.model_dump()
    training["learning_rate"] = {name: given.train.rate(name) for name in (*encoder_inputs, "head")}
    settings = {
        "model": model | {"encoders": {name: model["encoders"][name] for name in encoder_inputs}},
        "targets": {name: group.model_dump() for name, group in given.model.chosen(given.targets).items()},
        "train": training,
        "streams": {name: about._asdict() for name, about in streams.items()},
    }
    columns = [column for group in settings["targets"].values() for column in group["columns"]]
    data = [table[["clip", "corpus", "shard", *columns]].to_csv(index=False) for table in tables_]
    sums = [resume.hash_file(path) for name in read for path in sorted((DATA / name).glob("*.h5"))]
    files = [given.train.init, *(encoder.get("weights") for encoder in settings["model"]["encoders"].values())]
    files += [encoder.get("landmark_weights") for encoder in settings["model"]["encoders"].values()]
    sums += [resume.hash_file(Path(file)) for file in files if file is not None and Path(file).is_file()]
    return resume.fingerprint([*modules, *(base.load(name).module for name in read)], settings, data, sums)


def complete(given: Parameters, training: pd.DataFrame, streams: Mapping[str, StreamInfo]) -> Parameters:
    """Return the settings with all that encoders leave open set from the training clips' numbers of steps."""
    encoder_inputs = given.model.encoder_inputs()

    def lengths(name: str) -> list[int]:
        return [len(next(iter(read.values())).times) for read in read_inputs(name, training, encoder_inputs, streams)]

    return given.model_copy(update={"model": given.model.completed(lengths)})
