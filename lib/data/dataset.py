"""Clips' steps from the shards, as samples."""

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

if TYPE_CHECKING:  # a prediction starts sooner without it
    import pandas as pd


class EncoderInputs(Section):
    """Which streams an encoder reads, and which of their steps.

    kind: of the encoder. reads: references to streams, `faces` or with an array `audio.mfcc`. The first is the clock: steps
    are taken from it, from the others those nearest in time. take: the name of a sampler (lib/data/samplers.py), which gets
    the number `steps`.
    """

    kind: str
    reads: list[str]
    take: Literal[*SAMPLERS]  # type: ignore[valid-type]
    steps: Annotated[int, Field(ge=1, le=100_000)]

    def completed(self, lengths: Callable[[], Sequence[int]]) -> Self:
        """Return the settings with what is left open in them taken from the training clips' numbers of steps."""
        return self

    @property
    def by_chance(self) -> bool:
        """Whether what is read of a training clip differs from epoch to epoch."""
        return SAMPLERS[self.take].random

    def view(self, values: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Return what is given to the encoder of a clip's steps (T, ...); `rng` draws, where training does."""
        return values


def find_kind(reference: str) -> base.Kind:
    """Return what a step of what is read is. Raises InputError if there is no such stream or array."""
    stream, array = split_reference(reference)
    return base.load(stream).kind_of(array)


def split_reference(reference: str) -> tuple[str, str]:
    """Return the names of the stream and of the array that `faces` or `audio.mfcc` means; a stream's first array is its
    own. Raises InputError if there is no such stream or array."""
    name, _, array = reference.partition(".")
    arrays = base.load(name).arrays
    if array and array not in arrays:
        raise InputError(f"stream {name} has no array {array!r}; allowed: {', '.join(arrays) or f'{name} alone'}")
    return name, array or (arrays[0] if arrays else "")


def list_streams(encoder_inputs: Mapping[str, EncoderInputs]) -> list[str]:
    """Return the names of the streams that are read, each once."""
    return list(
        dict.fromkeys(
            split_reference(one)[0] for encoder_settings in encoder_inputs.values() for one in encoder_settings.reads
        )
    )


def select_usable(
    table: "pd.DataFrame", data: Path, encoder_inputs: Mapping[str, EncoderInputs], missing: Literal["drop", "keep"]
) -> "pd.DataFrame":
    """Return the clips whose streams (folders of shards below `data`) were not refused: all that are read, or with "keep"
    all of at least one encoder.

    Raises InputError if a shard or a clip in it is not there at all.
    """
    import pandas as pd

    there = {
        stream: ~table["clip"].isin(read_rejections(table, data, stream)) for stream in list_streams(encoder_inputs)
    }
    by_encoder = [
        pd.concat([there[split_reference(one)[0]] for one in encoder_settings.reads], axis=1).all(axis=1)
        for encoder_settings in encoder_inputs.values()
    ]
    whole = pd.concat(by_encoder, axis=1)
    return table[whole.all(axis=1) if missing == "drop" else whole.any(axis=1)].reset_index(drop=True)


def read_rejections(table: "pd.DataFrame", data: Path, stream: str) -> dict[str, str]:
    """Return the clips that a stream refused, with the reason. Raises InputError if a shard or a clip in it is not there."""
    found: dict[str, str] = {}
    for shard, rows in table.groupby("shard"):
        path = data / stream / f"{shard}.h5"
        if not path.exists():
            raise InputError(f"{path} is missing; run `dvc repro {stream}`")
        with shards.open_shard(path) as file:
            if lacking := sorted(set(rows["clip"]) - set(file)):
                raise InputError(f"{path} lacks {lacking[0]} ({len(lacking)} in all); run `dvc repro {stream}`")
            attributes = {clip: file[clip].attrs for clip in rows["clip"]}
            found |= {clip: str(of["refused"]) for clip, of in attributes.items() if "refused" in of}
    return found


def count_lost(
    table: "pd.DataFrame", kept: Iterable[str], data: Path, encoder_inputs: Mapping[str, EncoderInputs]
) -> "pd.DataFrame":
    """Return where the clips of `table` that are not among `kept` were lost: a row for each stream that is read (step),
    reason (up to its colon) and split, with how many clips, one of 0 clips where a stream lost none. A clip counts at the
    first stream that refused it."""
    import pandas as pd

    left = table[~table["clip"].isin(set(kept))]
    rows: list[tuple[str, str, str, int]] = []
    for stream in list_streams(encoder_inputs):
        reasons = read_rejections(left, data, stream)
        here = left[left["clip"].isin(reasons)]
        counts = Counter(
            (reasons[clip].partition(":")[0], split) for clip, split in zip(here["clip"], here["split"], strict=True)
        )
        rows += [(stream, *of, clips) for of, clips in sorted(counts.items())] or [(stream, "", "", 0)]
        left = left.drop(here.index)
    return pd.DataFrame(rows, columns=["step", "reason", "split", "clips"])


def select_videos(table: "pd.DataFrame", clips: int | None, seed: int) -> "pd.DataFrame":
    """Return up to `clips` clips of a table (`video`), None: all: of the videos that come first in an order that `seed`
    draws (by SHA-256 of the video's name), all clips; so fewer clips are among more.

    Raises InputError if the table has fewer, or the first video more.
    """
    if clips is None:
        return table
    if clips > len(table):
        raise SettingError(f"train.clips = {clips}; allowed: null, or up to {len(table)}, the training clips there are")
    of_video = table["video"].value_counts()
    order = sorted(of_video.index, key=lambda video: hashlib.sha256(f"{seed}/{video}".encode()).digest())
    chosen = np.array(order)[of_video[order].cumsum().to_numpy() <= clips]
    if not len(chosen):
        raise SettingError(f"train.clips = {clips}; allowed with train.seed = {seed}: from {of_video[order[0]]} on")
    return table[table["video"].isin(chosen)].reset_index(drop=True)


def mask_labelled(table: "pd.DataFrame", targets: Targets) -> np.ndarray:
    """Return which clips (N,) know a target."""
    return np.any([np.isfinite(values).any(1) for values in scale_labels(table, targets).values()], axis=0)


_SMALL = 1 << 16
"""Bytes of a sample that is kept in memory once it is read."""
_KNOWN = 20_000
"""Of so many clips' streams is kept which steps there are, which takes as long to read as some of the steps."""


class ClipDataset(Dataset[Sample]):
    """Samples of the clips in `table`, read from the folders of shards below `data`.

    seed: of what training draws by chance, with the epoch and the clip; None: nothing is drawn.
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
        self.table, self._data, self._encoder_inputs, self._streams, self._seed = (
            table,
            data,
            encoder_inputs,
            streams,
            seed,
        )
        self.targets = scale_labels(table, targets)
        self.epoch = 0
        self._open: dict[Path, h5py.File] = {}
        self._kept: dict[int, Sample] = {}
        self._known: dict[tuple[Path, str], Record] = {}

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        sample = self._read(index)
        # vectors of few steps: reading them takes longer than all else
        by_chance = self._seed is not None and any(one.by_chance for one in self._encoder_inputs.values())
        steps = [part for read in sample.inputs.values() for one in read.values() for part in one]
        if not by_chance and sum(part.nbytes for part in steps) <= _SMALL:
            self._kept[index] = sample
        return sample

    def records(self, index: int, streams: Iterable[str]) -> dict[str, Record]:
        """Return what the shards hold of a clip, by stream, arrays still in the file."""
        clip, shard = self.table["clip"].iat[index], self.table["shard"].iat[index]
        return {name: self._record(self._data / name / f"{shard}.h5", clip) for name in streams}

    def _record(self, path: Path, clip: str) -> Record:
        group = self._file(path)[clip]
        known = self._known.get((path, clip))
        if known is None:
            of_steps = {name: group[name][()] for name in ("times", "found") if name in group}
            known = replace(shards.read_group(group), arrays=of_steps)
            if len(self._known) < _KNOWN:
                self._known[path, clip] = known
        return replace(known, arrays=ChainMap(dict(known.arrays), group))

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
    """Return of each target group the clips' labels (N, K) in units of its range, NaN where unknown.

    Raises InputError if the table lacks a column, or a label is out of range.
    """
    found = {}
    for name, group in targets.items():
        if lacking := [column for column in group.columns if column not in table]:
            raise SettingError(f"targets.{name}.columns has {lacking[0]!r}, which data/clips.csv lacks")
        values = group.to_unit(table[list(group.columns)].to_numpy(float))
        outside = (values < -1e-9) | (values > 1 + 1e-9)
        if outside.any():
            row, column = np.argwhere(outside)[0]
            raise SettingError(
                f"targets.{name}.range = {group.range}, but {group.columns[column]} of clip"
                f" {table['clip'].iat[row]} is {table[group.columns[column]].iat[row]}"
            )
        found[name] = values
    return found


def make_inputs(
    records: Mapping[str, Record],
    encoder_inputs: Mapping[str, EncoderInputs],
    streams: Mapping[str, StreamInfo],
    seed: list[int] | None,
) -> Inputs:
    """Return what each encoder reads of a clip; `records` by stream, arrays in memory or in a file, refused ones too: an
    encoder of which one stream was refused gets no step. All encoders draw from the same `seed`, so at alike places."""
    inputs: Inputs = {}
    for encoder, encoder_settings in encoder_inputs.items():
        rng = None if seed is None else np.random.default_rng(seed)
        read = {one: split_reference(one) for one in encoder_settings.reads}
        if any(records[stream].refused for stream, _ in read.values()):
            inputs[encoder] = {
                one: _none(encoder_settings, find_kind(one), streams[stream].shapes[array])
                for one, (stream, array) in read.items()
            }
            continue
        clock: np.ndarray | None = None
        inputs[encoder] = {}
        for one, (stream, array) in read.items():
            record = records[stream]
            seconds, chosen = base.step_times(record), base.present_steps(record)
            if clock is None:
                chosen = SAMPLERS[encoder_settings.take].choose(chosen, encoder_settings.steps, rng)
                clock = seconds[chosen]
            else:
                chosen = chosen[np.abs(seconds[chosen] - clock[:, None]).argmin(1)]
            values = encoder_settings.view(base.load(stream).read(record, chosen, array), rng)
            inputs[encoder][one] = Steps(values, clock.astype(np.float32), np.ones(len(chosen), bool))
    return inputs


def _none(encoder_settings: EncoderInputs, kind: base.Kind, shape: list[int]) -> Steps:
    values = encoder_settings.view(np.zeros((1, *shape), np.uint8 if kind == "pictures" else np.float32), None)[:0]
    return Steps(values, np.zeros(0, np.float32), np.zeros(0, bool))
