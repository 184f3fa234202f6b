"""Preparation of a training: its streams, its clips, and the fingerprint of everything that it depends on."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from lib.core import resume
from lib.core.artifacts import CLIPS, DATA, GROUPS
from lib.core.clips import read_clip_table
from lib.core.errors import InputError, SettingError
from lib.core.persons import find_groups, read_persons
from lib.core.targets import RELIABILITY, Targets, list_rating_columns
from lib.data.dataset import ClipDataset
from lib.data.inputs import EncoderSettings, list_streams
from lib.data.selection import mask_labelled, select_usable, select_videos
from lib.data.shard_cache import describe_memory
from lib.model.encoders import Encoder
from lib.model.network import Network
from lib.model.settings import Settings, find_module_name
from lib.streams import base
from lib.streams.base import Steps, StreamInfo
from lib.training.fairness import BALANCED, NONE
from lib.training.settings import Parameters, Train


@dataclass(frozen=True)
class TrainingJob:
    """A training: its settings, the predicted target groups, the streams, and the clips of both splits.

    derived: numbers in the settings that come from the training clips, for metrics/train.json. groups: of `select_groups`.
    """

    sections: Parameters
    targets: Targets
    streams: Mapping[str, StreamInfo]
    training: pd.DataFrame
    validation: pd.DataFrame
    derived: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)


def load_streams(settings_by_encoder: Mapping[str, EncoderSettings]) -> dict[str, StreamInfo]:
    """Return the info of the streams that the encoders read. Raises SettingError for a disabled stream."""
    infos: dict[str, StreamInfo] = {}
    for name, encoder_settings in settings_by_encoder.items():
        needed_by, otherwise = f"model.use has {name}, which reads it", f", or remove {name} from model.use"
        infos |= base.load_stream_info(DATA, list_streams({name: encoder_settings}), needed_by, otherwise)
    return infos


def select_clips(
    sections: Parameters, settings_by_encoder: Mapping[str, EncoderSettings], targets: Targets
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the training clips, up to train.clips, and the validation clips.

    They are usable, have a label, and belong to a corpus whose `train.mix` is above 0. Raises InputError if a split
    has no such clip.
    """
    table, train = read_clip_table(CLIPS), sections.train
    if unknown := train.mix.keys() - set(table["corpus"]):
        raise SettingError(
            f"train.mix has {min(unknown)!r}; allowed: the corpora of data/clips.csv,"
            f" {', '.join(sorted(set(table['corpus'])))}"
        )
    table = select_usable(table, DATA, settings_by_encoder, sections.model.missing)
    table = table[mask_labelled(table, targets) & (table["corpus"].map(train.mix).fillna(1) > 0)]
    selected = []
    for split in ("training", "validation"):
        rows = table[table["split"] == split].reset_index(drop=True)
        if rows.empty:
            raise InputError(
                f"no clip of the {split} split is usable; data/clips.csv and metrics/STREAM.json have the reasons, and"
                " download.split assigns clips to splits"
            )
        if split == "training":
            rows = select_videos(rows, train.clips, train.seed)
        columns = [column for group in targets.values() for column in group.columns]
        selected.append(shuffle_labels(rows, columns, train.seed) if train.shuffle_labels else rows)
    return selected[0], selected[1]


def print_memory(settings_by_encoder: Mapping[str, EncoderSettings], tables: Iterable[pd.DataFrame]) -> None:
    """Print the sizes of the streams of vectors, and whether they fit into memory, in the first of several processes."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return
    shard_of_clip = {clip: shard for table in tables for clip, shard in zip(table["clip"], table["shard"], strict=True)}
    for line in describe_memory(DATA, list_streams(settings_by_encoder), shard_of_clip):
        print(line, flush=True)


def select_groups(train: Train, training: pd.DataFrame) -> dict[str, str]:
    """Return the group of persons of each training clip whose group is known, by name of the clip; empty without fairness.

    Raises SettingError if data/groups.csv has no column train.fairness_group, or the training clips have one group only.
    """
    return {} if train.fairness == NONE else find_groups(read_persons(GROUPS), training["clip"], train.fairness_group)


def shuffle_labels(table: pd.DataFrame, columns: list[str], seed: int) -> pd.DataFrame:
    """Return the clips with their labels permuted at random; the labels of one clip stay together."""
    order = np.random.default_rng(seed).permutation(len(table))
    return table.assign(**{column: table[column].to_numpy()[order] for column in columns})


def read_inputs(
    name: str,
    training: pd.DataFrame,
    settings_by_encoder: Mapping[str, EncoderSettings],
    streams: Mapping[str, StreamInfo],
) -> Iterator[dict[str, Steps]]:
    """Yield the inputs of the encoder `name` for each training clip, without random choices."""
    data = ClipDataset(training, DATA, {name: settings_by_encoder[name]}, streams, {})
    return (data[index].inputs[name] for index in range(len(data)))


def standardise(
    network: Network,
    training: pd.DataFrame,
    settings_by_encoder: Mapping[str, EncoderSettings],
    streams: Mapping[str, StreamInfo],
) -> None:
    """Let each encoder compute what it needs from the training clips, for instance means of its input."""
    for name, encoder in network.encoders.items():
        cast(Encoder, encoder).standardise(read_inputs(name, training, settings_by_encoder, streams))


def fingerprint(
    sections: Parameters,
    settings_by_encoder: Mapping[str, EncoderSettings],
    streams: Mapping[str, StreamInfo],
    *tables: pd.DataFrame,
    groups: Mapping[str, str] | None = None,
) -> str:
    """Return a hash of the code, settings and data that training depends on. An unchanged hash means the model is valid.

    groups: of `select_groups`. Without fairness, data/groups.csv has no effect on the hash.
    """
    encoder_modules = [find_module_name(encoder_settings.kind) for encoder_settings in settings_by_encoder.values()]
    stream_names = list_streams(settings_by_encoder)
    modules = ["stages.train", "lib.training.run", *encoder_modules]
    model, training = sections.model.model_dump(), sections.train.model_dump()
    training["learning_rate"] = {name: sections.train.rate(name) for name in (*settings_by_encoder, "head")}
    unused = {NONE: ("fairness_group", "fairness_weight"), BALANCED: ("fairness_weight",)}
    training = {key: value for key, value in training.items() if key not in unused.get(training["fairness"], ())}
    settings = {
        "model": model | {"encoders": {name: model["encoders"][name] for name in settings_by_encoder}},
        "targets": {
            name: group.model_dump() for name, group in sections.model.select_targets(sections.targets).items()
        },
        "train": training,
        "streams": {name: info._asdict() for name, info in streams.items()},
    }
    columns = [column for group in settings["targets"].values() for column in group["columns"]]
    if sections.train.label_weighting == RELIABILITY:
        columns += [name for name in list_rating_columns(tables[0]) if name not in columns]
    data: list[Any] = [dict(groups or {})]
    data += [table[["clip", "corpus", "shard", *columns]].to_csv(index=False) for table in tables]
    sums = [resume.hash_file(path) for name in stream_names for path in sorted((DATA / name).glob("*.h5"))]
    files = [sections.train.init, *(encoder.get("weights") for encoder in settings["model"]["encoders"].values())]
    files += [encoder.get("landmark_weights") for encoder in settings["model"]["encoders"].values()]
    files += [path for encoder_settings in settings_by_encoder.values() for path in encoder_settings.files()]
    sums += [resume.hash_file(Path(file)) for file in files if file is not None and Path(file).is_file()]
    return resume.fingerprint([*modules, *(base.load(name).module for name in stream_names)], settings, data, sums)


def complete(sections: Parameters, training: pd.DataFrame, streams: Mapping[str, StreamInfo]) -> Parameters:
    """Return the settings, with the values that encoders derive from the training clips' numbers of steps filled in."""
    settings_by_encoder = sections.model.settings_by_encoder()

    def lengths(name: str) -> list[int]:
        return [
            len(next(iter(read.values())).times) for read in read_inputs(name, training, settings_by_encoder, streams)
        ]

    return sections.model_copy(update={"model": sections.model.fill_from_clips(lengths)})


def log_derived(before: Settings, after: Settings) -> dict[str, int]:
    """Log and return the numbers that encoders derive from the training clips, by ENCODER_KEY, such as `audio_length`.

    before, after: the settings before and after `complete`.
    """
    derived = {
        (name, key): value
        for name, encoder_settings in before.settings_by_encoder().items()
        for key, value in after.encoders[name].items()
        if isinstance(value, int) and getattr(encoder_settings, key) is None
    }
    for (name, key), value in derived.items():
        logging.getLogger("train").info("model.encoders.%s.%s = %d, from the training clips", name, key, value)
    return {f"{name}_{key}": value for (name, key), value in derived.items()}
