"""The data set: the steps of clips, read from shards."""

import hashlib
from collections import ChainMap, Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import h5py
import numpy as np
from pydantic import Field
from torch.utils.data import Dataset

from lib.core import shards
from lib.core.errors import InputError, SettingError
from lib.core.parameters import Section
from lib.core.shards import Record
from lib.core.targets import Targets
from lib.data.batch import Inputs, Sample
from lib.data.samplers import SAMPLERS
from lib.streams import base
from lib.streams.base import Steps, StreamInfo

if TYPE_CHECKING:  # predictions do not need pandas, which loads slowly
    import pandas as pd


class EncoderInputs(Section):
    """The streams and steps that an encoder reads.

    kind: kind of encoder. reads: references to streams (`faces`) or to arrays of streams (`audio.mfcc`). Steps are
    selected in the first stream; the other streams contribute the steps nearest in time. take, steps: name and argument
    of the sampler (lib/data/samplers.py).
    """

    kind: str
    reads: list[str]
    take: Literal[*SAMPLERS]  # type: ignore[valid-type]
    steps: Annotated[int, Field(ge=1, le=100_000)]

    def completed(self, lengths: Callable[[], Sequence[int]]) -> Self:
        """Return the settings with open values filled in, given the numbers of steps of the training clips."""
        return self

    @property
    def is_random(self) -> bool:
        """Return whether the steps of a training clip differ from epoch to epoch."""
        return SAMPLERS[self.take].random

    def view(self, values: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Return the encoder's input for a clip's steps (T, ...). `rng` is the random generator in training, else None."""
        return values


def find_kind(reference: str) -> base.Kind:
    """Return the kind of the steps of a reference to a stream. Raises InputError for an unknown stream or array."""
    stream, array = split_reference(reference)
    return base.load(stream).kind_of(array)


def split_reference(reference: str) -> tuple[str, str]:
    """Return the names of the stream and of the array of a reference such as `faces` or `audio.mfcc`.

    The array of `faces` is the stream's first array. Raises InputError for an unknown stream or array.
    """
    name, _, array = reference.partition(".")
    arrays = base.load(name).arrays
    if array and array not in arrays:
        raise InputError(f"stream {name} has no array {array!r}; allowed: {', '.join(arrays) or f'{name} alone'}")
    return name, array or (arrays[0] if arrays else "")


def list_streams(encoder_inputs: Mapping[str, EncoderInputs]) -> list[str]:
    """Return the names of the streams that the encoders read, each once."""
    return list(
        dict.fromkeys(
            split_reference(reference)[0]
            for encoder_settings in encoder_inputs.values()
            for reference in encoder_settings.reads
        )
    )


def select_usable(
    table: "pd.DataFrame", data: Path, encoder_inputs: Mapping[str, EncoderInputs], missing: Literal["drop", "keep"]
) -> "pd.DataFrame":
    """Return the clips with all streams that the encoders read, or with "keep" those with all streams of one encoder.

    The streams are folders of shards below `data`. Raises InputError if a shard, or a clip in a shard, is missing.
    """
    import pandas as pd

    accepted = {
        stream: ~table["clip"].isin(read_rejections(table, data, stream)) for stream in list_streams(encoder_inputs)
    }
    by_encoder = [
        pd.concat([accepted[split_reference(reference)[0]] for reference in encoder_settings.reads], axis=1).all(axis=1)
        for encoder_settings in encoder_inputs.values()
    ]
    is_complete = pd.concat(by_encoder, axis=1)
    return table[is_complete.all(axis=1) if missing == "drop" else is_complete.any(axis=1)].reset_index(drop=True)


def read_rejections(table: "pd.DataFrame", data: Path, stream: str) -> dict[str, str]:
    """Return the reason for each clip that a stream rejected. Raises InputError if a shard, or a clip in it, is missing."""
    reasons: dict[str, str] = {}
    for shard, rows in table.groupby("shard"):
        path = data / stream / f"{shard}.h5"
        if not path.exists():
            raise InputError(f"{path} is missing; run `dvc repro {stream}`")
        with shards.open_shard(path) as file:
            if missing := sorted(set(rows["clip"]) - set(file)):
                raise InputError(
                    f"clip {missing[0]} is missing in {path} ({len(missing)} clips in total); run `dvc repro {stream}`"
                )
            attributes = {clip: file[clip].attrs for clip in rows["clip"]}
            reasons |= {
                clip: str(attributes_of_clip["refused"])
                for clip, attributes_of_clip in attributes.items()
                if "refused" in attributes_of_clip
            }
    return reasons


def count_lost(
    table: "pd.DataFrame", usable: Iterable[str], data: Path, encoder_inputs: Mapping[str, EncoderInputs]
) -> "pd.DataFrame":
    """Return the number of clips of `table` that are not in `usable`, by stream (step), reason and split.

    A clip counts for the first stream that rejected it. Reasons end at their colon. A stream without rejected clips has
    a row with 0 clips.
    """
    import pandas as pd

    lost = table[~table["clip"].isin(set(usable))]
    rows: list[tuple[str, str, str, int]] = []
    for stream in list_streams(encoder_inputs):
        reasons = read_rejections(lost, data, stream)
        lost_here = lost[lost["clip"].isin(reasons)]
        counts = Counter(
            (reasons[clip].partition(":")[0], split)
            for clip, split in zip(lost_here["clip"], lost_here["split"], strict=True)
        )
        rows += [(stream, *reason_and_split, clips) for reason_and_split, clips in sorted(counts.items())] or [
            (stream, "", "", 0)
        ]
        lost = lost.drop(lost_here.index)
    return pd.DataFrame(rows, columns=["step", "reason", "split", "clips"])


def select_videos(table: "pd.DataFrame", clips: int | None, seed: int) -> "pd.DataFrame":
    """Return all clips of randomly selected videos, up to `clips` clips in total; None returns all clips.

    Videos are ordered by a hash (SHA-256) of seed and name, so that a smaller selection is a subset of a larger one. Raises
    InputError if the table has fewer clips, or the first video has more.
    """
    if clips is None:
        return table
    if clips > len(table):
        raise SettingError(f"train.clips = {clips}; allowed: null, or up to {len(table)}, the number of training clips")
    clips_of_video = table["video"].value_counts()
    order = sorted(clips_of_video.index, key=lambda video: hashlib.sha256(f"{seed}/{video}".encode()).digest())
    selected = np.array(order)[clips_of_video[order].cumsum().to_numpy() <= clips]
    if not len(selected):
        raise SettingError(
            f"train.clips = {clips}; allowed with train.seed = {seed}: at least {clips_of_video[order[0]]}"
        )
    return table[table["video"].isin(selected)].reset_index(drop=True)


def mask_labelled(table: "pd.DataFrame", targets: Targets) -> np.ndarray:
    """Return (N,) whether a clip has a label for any target."""
    return np.any([np.isfinite(values).any(1) for values in scale_labels(table, targets).values()], axis=0)


_SMALL = 1 << 16
"""Samples of up to this number of bytes stay in memory."""
_CACHED_RECORDS = 20_000
"""Number of records whose times and present steps stay in memory; reading them takes as long as reading some steps."""


class ClipDataset(Dataset[Sample]):
    """Samples of the clips in `table`, read from the folders of shards below `data`.

    seed: of the random steps in training, together with epoch and clip; None selects steps without randomness.
    """

    def __init__(
        self,
        table: "pd.DataFrame",
        data: Path,
        encoder_inputs: Mapping[str, EncoderInputs],
        streams: Mapping[str, StreamInfo],
        targets: Targets,
        seed: int | None = None,
    ) -> None:
        self.table, self._data, self._seed = table, data, seed
        self._encoder_inputs, self._streams = encoder_inputs, streams
        self.targets = scale_labels(table, targets)
        self.epoch = 0
        self._open: dict[Path, h5py.File] = {}
        self._samples: dict[int, Sample] = {}
        self._records: dict[tuple[Path, str], Record] = {}

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Sample:
        if index in self._samples:
            return self._samples[index]
        sample = self._read(index)
        # cache small samples, such as few vectors, because reading them takes most of the time
        is_random = self._seed is not None and any(
            encoder_settings.is_random for encoder_settings in self._encoder_inputs.values()
        )
        steps = [
            part for streams in sample.inputs.values() for stream_steps in streams.values() for part in stream_steps
        ]
        if not is_random and sum(part.nbytes for part in steps) <= _SMALL:
            self._samples[index] = sample
        return sample

    def records(self, index: int, streams: Iterable[str]) -> dict[str, Record]:
        """Return a clip's records by stream, with arrays that are read from the file on access."""
        clip, shard = self.table["clip"].iat[index], self.table["shard"].iat[index]
        return {name: self._record(self._data / name / f"{shard}.h5", clip) for name in streams}

    def _record(self, path: Path, clip: str) -> Record:
        group = self._file(path)[clip]
        metadata = self._records.get((path, clip))
        if metadata is None:
            step_arrays = {name: group[name][()] for name in ("times", "found") if name in group}
            metadata = replace(shards.read_group(group), arrays=step_arrays)
            if len(self._records) < _CACHED_RECORDS:
                self._records[path, clip] = metadata
        return replace(metadata, arrays=ChainMap(dict(metadata.arrays), group))

    def _read(self, index: int) -> Sample:
        records = self.records(index, list_streams(self._encoder_inputs))
        seed = None if self._seed is None else [self._seed, self.epoch, index]
        targets = {group: values[index].astype(np.float32) for group, values in self.targets.items()}
        return Sample(make_inputs(records, self._encoder_inputs, self._streams, seed), targets, index)

    def _file(self, path: Path) -> h5py.File:
        if path not in self._open:
            try:
                self._open[path] = h5py.File(path)
            except OSError as error:
                raise shards.describe_unreadable(path, error) from None
        return self._open[path]


def scale_labels(table: "pd.DataFrame", targets: Targets) -> dict[str, np.ndarray]:
    """Return the labels (N, K) of each target group in units of its range, NaN where unknown.

    Raises InputError if the table lacks a column, or if a label is out of range.
    """
    labels = {}
    for name, group in targets.items():
        if missing := [column for column in group.columns if column not in table]:
            raise SettingError(
                f"targets.{name}.columns has {missing[0]!r}, which data/clips.csv does not have; correct it"
            )
        values = group.to_unit(table[list(group.columns)].to_numpy(float))
        outside = (values < -1e-9) | (values > 1 + 1e-9)
        if outside.any():
            row, column = np.argwhere(outside)[0]
            raise SettingError(
                f"targets.{name}.range = {group.range}, but {group.columns[column]} of clip"
                f" {table['clip'].iat[row]} is {table[group.columns[column]].iat[row]}"
            )
        labels[name] = values
    return labels


def make_inputs(
    records: Mapping[str, Record],
    encoder_inputs: Mapping[str, EncoderInputs],
    streams: Mapping[str, StreamInfo],
    seed: list[int] | None,
) -> Inputs:
    """Return the inputs of each encoder for a clip.

    records: by stream, with arrays in memory or in a file. An encoder gets no steps if one of its streams is rejected. All
    encoders use the same `seed`, so that their random steps are at similar times.
    """
    inputs: Inputs = {}
    for encoder, encoder_settings in encoder_inputs.items():
        rng = None if seed is None else np.random.default_rng(seed)
        references = {reference: split_reference(reference) for reference in encoder_settings.reads}
        if any(records[stream].refused for stream, _ in references.values()):
            inputs[encoder] = {
                reference: _none(encoder_settings, find_kind(reference), streams[stream].shapes[array])
                for reference, (stream, array) in references.items()
            }
            continue
        clock: np.ndarray | None = None
        inputs[encoder] = {}
        for reference, (stream, array) in references.items():
            record = records[stream]
            seconds, indices = base.step_times(record), base.present_steps(record)
            if clock is None:
                indices = SAMPLERS[encoder_settings.take].choose(indices, encoder_settings.steps, rng)
                clock = seconds[indices]
            else:
                indices = indices[np.abs(seconds[indices] - clock[:, None]).argmin(1)]
            values = encoder_settings.view(base.load(stream).read(record, indices, array), rng)
            inputs[encoder][reference] = Steps(values, clock.astype(np.float32), np.ones(len(indices), bool))
    return inputs


def _none(encoder_settings: EncoderInputs, kind: base.Kind, shape: list[int]) -> Steps:
    values = encoder_settings.view(np.zeros((1, *shape), np.uint8 if kind == "pictures" else np.float32), None)[:0]
    return Steps(values, np.zeros(0, np.float32), np.zeros(0, bool))
