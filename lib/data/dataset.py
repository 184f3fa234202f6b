"""Clips' faces and flow from the shards, as padded batches."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from lib.core.errors import InputError
from lib.core.targets import SCORES

Sample = dict[str, Tensor]


def usable(table: pd.DataFrame, *streams: Path) -> pd.DataFrame:
    """Return the clips that none of the streams (folders of shards) has refused.

    Raises InputError if a shard or a clip in it is not there at all.
    """
    refused = set()
    for stream, (shard, rows) in product(streams, table.groupby("shard")):
        path = stream / f"{shard}.h5"
        if not path.exists():
            raise InputError(f"{path} is missing; run `dvc repro {stream.name}`")
        with h5py.File(path) as file:
            if missing := sorted(set(rows["clip"]) - set(file)):
                raise InputError(f"{path} lacks {missing[0]} ({len(missing)} in all); run `dvc repro {stream.name}`")
            refused |= {clip for clip in rows["clip"] if "refused" in file[clip].attrs}
    return table[~table["clip"].isin(refused)].reset_index(drop=True)


class Clips(Dataset[Sample]):
    """Samples of the clips in `table`: `frames` faces each, one of each of as many equal parts, and the whole flow.

    In training the face of a part is drawn by chance, as in Wang et al. 2016 (Temporal segment networks), from `seed`,
    the epoch and the clip alone; else it is the one in the middle.
    """

    def __init__(self, table: pd.DataFrame, faces: Path, flow: Path, frames: int, seed: int | None = None) -> None:
        self.table, self._faces, self._flow, self._frames, self._seed = table, faces, flow, frames, seed
        self.epoch = 0
        self._open: dict[Path, h5py.File] = {}

    def __len__(self) -> int:
        return len(self.table)

    def labels(self) -> np.ndarray:
        """Return the scores of all clips, (N, 6), in SCORES' order."""
        return self.table[list(SCORES)].to_numpy(float)

    def __getitem__(self, index: int) -> Sample:
        row = self.table.iloc[index]
        shard = f"{row['shard']}.h5"
        rng = None if self._seed is None else np.random.default_rng([self._seed, self.epoch, index])
        faces, flow = self._file(self._faces / shard)[row["clip"]], self._file(self._flow / shard)[row["clip"]]
        sample = sample_of(faces, flow, flow.attrs["scale"], self._frames, rng)
        sample["scores"] = torch.tensor(row[list(SCORES)].to_numpy(np.float32))
        sample["index"] = torch.tensor(index)
        return sample

    def _file(self, path: Path) -> h5py.File:
        if path not in self._open:
            self._open[path] = h5py.File(path)
        return self._open[path]


def sample_of(
    faces: Mapping[str, np.ndarray],
    flow: Mapping[str, np.ndarray],
    scale: float,
    frames: int,
    rng: np.random.Generator | None,
) -> Sample:
    """Return one clip's sample from its arrays (in memory or in a file): faces uint8 (K, 3, S, S), flow (T, 2, S, S)."""
    times = faces["times"][()]
    present = np.flatnonzero(faces["found"][()])
    place = np.full(frames, 0.5) if rng is None else rng.uniform(size=frames)
    chosen = present[((np.arange(frames) + place) * len(present) / frames).astype(int)]
    pictures = np.stack([faces["faces"][step] for step in chosen])
    return {
        "faces": torch.from_numpy(pictures).permute(0, 3, 1, 2),
        "face_times": torch.from_numpy(times[chosen]).float(),
        "flow": torch.from_numpy(flow["flow"][()]).permute(0, 3, 1, 2).float() * scale,
        "flow_times": torch.from_numpy(times[:-1]).float(),
    }


def collate(samples: Sequence[Sample]) -> Sample:
    """Stack samples; flows are padded at the end to the longest: (B, 2, T, S, S), with `flow_length` (B,)."""
    batch = {key: torch.stack([s[key] for s in samples]) for key in samples[0] if not key.startswith("flow")}
    batch["faces"] = batch["faces"].float() / 255
    batch["flow"] = pad_sequence([s["flow"] for s in samples], batch_first=True).transpose(1, 2)
    batch["flow_times"] = pad_sequence([s["flow_times"] for s in samples], batch_first=True)
    batch["flow_length"] = torch.tensor([len(s["flow"]) for s in samples])
    return batch
