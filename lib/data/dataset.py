"""The data set: the steps of clips, read from shards."""

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch.utils.data import Dataset

from lib.core import shards
from lib.core.errors import SettingError
from lib.core.shards import Record
from lib.core.targets import Targets
from lib.data.batch import Inputs, Sample, collate, concatenate
from lib.data.inputs import EncoderSettings, find_kind, list_streams, split_reference
from lib.data.samplers import SAMPLERS, jitter_steps, select_steps
from lib.data.shard_cache import read_cached
from lib.streams import base
from lib.streams.base import Steps, StreamInfo

if TYPE_CHECKING:  # predictions do not need pandas, which loads slowly
    import pandas as pd


_SMALL = 1 << 16
"""Samples of up to this number of bytes stay in memory."""
_JOINED = 4096
"""Number of samples that are joined at a time: a sample needs much more memory than its numbers."""
_CACHED_RECORDS = 20_000
"""Number of records whose times and present steps stay in memory; reading them takes as long as reading some steps."""


class ClipDataset(Dataset[Sample]):
    """Samples of the clips in `table`, read from the folders of shards below `data`.

    seed: of the random steps in training, together with epoch and clip; None selects steps without randomness. jitter: with
    a seed, the largest number of steps by which each selected step moves.
    """

    def __init__(
        self,
        table: "pd.DataFrame",
        data: Path,
        settings_by_encoder: Mapping[str, EncoderSettings],
        streams: Mapping[str, StreamInfo],
        targets: Targets,
        seed: int | None = None,
        jitter: int = 0,
    ) -> None:
        self.table, self._data, self._seed, self._jitter = table, data, seed, jitter
        self._clips, self._shards = (table[name].tolist() if name in table else [] for name in ("clip", "shard"))
        self._settings_by_encoder, self._streams = settings_by_encoder, streams
        self.targets = scale_labels(table, targets)
        self.epoch = 0
        self._open: dict[Path, h5py.File] = {}
        self._samples: dict[int, Sample] = {}
        self._records: dict[tuple[Path, str], Record] = {}
        self._cached: dict[tuple[str, str], Mapping[str, Record] | None] = {}
        self._all: Sample | None = None
        self._can_join = True

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Sample:
        if index in self._samples:
            return self._samples[index]
        sample = self._read(index)
        # cache small samples, such as few vectors, because reading them takes most of the time
        steps = [
            part for streams in sample.inputs.values() for stream_steps in streams.values() for part in stream_steps
        ]
        if not self._is_random and sum(part.nbytes for part in steps) <= _SMALL:
            self._samples[index] = sample
        return sample

    def __getitems__(self, indices: Sequence[int]) -> Sample | list[Sample]:
        """Return the batch of these clips if all clips have one small step, else their samples.

        DataLoader gives the result to `collate`. All clips are read and joined for the first batch.
        """
        if self._can_join and self._all is None:
            self._all = self._join()
            self._can_join = self._all is not None
        if self._all is None:
            return [self[index] for index in indices]
        rows = torch.as_tensor(indices)
        return apply_to_collection(self._all, torch.Tensor, lambda values: values[rows])

    def _join(self) -> Sample | None:
        """Return a batch of all clips, or None if a clip is not small, has several steps, or has random steps."""
        if self._is_random or not len(self):
            return None
        parts = []
        for start in range(0, len(self), _JOINED):
            indices = range(start, min(start + _JOINED, len(self)))
            for index in indices:
                sample = self[index]
                lengths = {len(steps.times) for streams in sample.inputs.values() for steps in streams.values()}
                if index not in self._samples or not lengths <= {0, 1}:
                    return None
            parts.append(collate([self._samples.pop(index) for index in indices]))
        return concatenate(parts)

    @property
    def _is_random(self) -> bool:
        return self._seed is not None and (
            self._jitter > 0 or any(settings.is_random for settings in self._settings_by_encoder.values())
        )

    def records(self, index: int, streams: Iterable[str]) -> dict[str, Record]:
        """Return a clip's records by stream, with arrays that are read from the file on access."""
        clip, shard = self._clips[index], self._shards[index]
        return {name: self._record(name, shard, clip) for name in streams}

    def _record(self, stream: str, shard: str, clip: str) -> Record:
        if (stream, shard) not in self._cached:
            self._cached[stream, shard] = read_cached(self._data, stream, shard)
        if (cached := self._cached[stream, shard]) is not None:
            return cached[clip]
        path = self._data / stream / f"{shard}.h5"
        group = self._file(path)[clip]
        metadata = self._records.get((path, clip))
        if metadata is None:
            names = (name for name in group if name in ("times", "found") or name.endswith(".times"))
            step_arrays = {name: group[name][()] for name in names}
            record = shards.read_group(group)
            in_place = record.arrays.maps[0] if isinstance(record.arrays, ChainMap) else {}
            metadata = replace(record, arrays=step_arrays | dict(in_place))
            if len(self._records) < _CACHED_RECORDS:
                self._records[path, clip] = metadata
        return replace(metadata, arrays=ChainMap(dict(metadata.arrays), group))

    def _read(self, index: int) -> Sample:
        records = self.records(index, list_streams(self._settings_by_encoder))
        seed = None if self._seed is None else [self._seed, self.epoch, index]
        targets = {group: values[index].astype(np.float32) for group, values in self.targets.items()}
        inputs = make_inputs(records, self._settings_by_encoder, self._streams, seed, self._jitter)
        return Sample(inputs, targets, index)

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
                f" {table['clip'].iat[row]} is {table[group.columns[column]].iat[row]};"
                " correct the label or the range"
            )
        labels[name] = values
    return labels


def make_inputs(
    records: Mapping[str, Record],
    settings_by_encoder: Mapping[str, EncoderSettings],
    streams: Mapping[str, StreamInfo],
    seed: list[int] | None,
    jitter: int = 0,
) -> Inputs:
    """Return the inputs of each encoder for a clip.

    records: by stream, with arrays in memory or in a file. An encoder gets no steps if one of its streams is rejected. All
    encoders use the same `seed`, so that their random steps are at similar times. With a seed, each step moves by up to
    `jitter` steps.
    """
    inputs: Inputs = {}
    for encoder, encoder_settings in settings_by_encoder.items():
        rng = None if seed is None else np.random.default_rng(seed)
        references = {reference: split_reference(reference) for reference in encoder_settings.reads}
        if any(records[stream].rejected for stream, _ in references.values()):
            inputs[encoder] = {
                reference: _none(encoder_settings, find_kind(reference), streams[stream].shapes[array])
                for reference, (stream, array) in references.items()
            }
            continue
        choose = partial(_choose, encoder_settings, rng, jitter)
        inputs[encoder] = {}
        for reference, (indices, times) in select_steps(records, references, choose).items():
            stream, array = references[reference]
            values = encoder_settings.view(base.load(stream).read(records[stream], indices, array), rng)
            inputs[encoder][reference] = Steps(values, times.astype(np.float32), np.ones(len(indices), bool))
    return inputs


def _none(encoder_settings: EncoderSettings, kind: base.Kind, shape: list[int]) -> Steps:
    values = encoder_settings.view(np.zeros((1, *shape), np.uint8 if kind == "pictures" else np.float32), None)[:0]
    return Steps(values, np.zeros(0, np.float32), np.zeros(0, bool))


def _choose(
    encoder_settings: EncoderSettings, rng: np.random.Generator | None, jitter: int, indices: np.ndarray
) -> np.ndarray:
    """Return the indices (K,) of the steps that an encoder reads, among those present (T,)."""
    chosen = SAMPLERS[encoder_settings.take].choose(indices, encoder_settings.steps, rng)
    return jitter_steps(indices, chosen, jitter, rng) if rng is not None and jitter else chosen
