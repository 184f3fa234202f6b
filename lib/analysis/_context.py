"""The context of every analysis: the model, its clips, its settings; and functions for output files."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd

from lib.analysis._features import record_features
from lib.analysis._settings import ClipCount as ClipCount
from lib.core.records import choose_evenly
from lib.core.targets import TargetGroup, Targets
from lib.data.dataset import ClipDataset
from lib.data.settings import Augment
from lib.model.network import Network
from lib.scoring.bootstrap import Bootstrap
from lib.scoring.evaluation import Evaluation, select_labels, sort_clips_by_error, tabulate_predictions

if TYPE_CHECKING:  # it takes a second to load; checks of parameters and predictions do not need it
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Context:
    """A trained model, the clips of each split, and the settings of all analyses.

    settings: the keys of all analyses' Settings. bootstrap: of all intervals and tests. augment: of the
    training.
    """

    evaluation: Evaluation
    settings: Any
    bootstrap: Bootstrap
    augment: Augment

    @property
    def seed(self) -> int:
        """The seed of every random draw."""
        return self.bootstrap.seed

    @property
    def network(self) -> Network:
        return self.evaluation.trained.network  # type: ignore[return-value]  # a Committee has the same attributes

    @property
    def targets(self) -> Targets:
        return self.evaluation.trained.targets

    @property
    def clips(self) -> ClipDataset:
        """The data set of the scored split, in the order of `clips.table`."""
        return self.evaluation.clips[self.evaluation.scored_split]

    @property
    def batch_size(self) -> int:
        return self.evaluation.batch_size

    @cached_property
    def fabric(self) -> "Fabric":
        from lightning_fabric import Fabric

        return Fabric(devices=1)

    def sample(self, count: int) -> list[int]:
        """Return the indices of up to `count` clips of the scored split, evenly spaced."""
        indices: list[int] = choose_evenly(np.arange(len(self.clips)), count).tolist()
        return indices

    def actual(self, rows: list[int], group: TargetGroup) -> np.ndarray:
        """Return the labels (N, K) of these clips of the scored split; NaN where unknown."""
        return select_labels(self.clips.table.iloc[rows], group)

    @cached_property
    def clips_by_error(self) -> pd.Index:
        """The scored clips with a known target of the first group, from the lowest to the highest error."""
        return sort_clips_by_error(self.scored_predictions(next(iter(self.targets))))

    def scored_predictions(self, targets: str) -> pd.DataFrame:
        """Return the predictions of the scored clips for a target group, a row for each clip and target."""
        table, _ = self._predicted
        return table[(table["split"] == self.evaluation.scored_split) & (table["targets"] == targets)]

    @cached_property
    def features(self) -> dict[str, pd.DataFrame]:
        """Vectors of the clips of all splits: the mean of each encoder's tokens, and FUSED, the fusion's output."""
        return self._predicted[1]

    @cached_property
    def all_clips(self) -> pd.DataFrame:
        """The clips of all splits, one split after the other."""
        tables = self.evaluation.tables
        return pd.concat([tables[split] for split in self.evaluation.clips], ignore_index=True)

    @cached_property
    def _predicted(self) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
        with record_features(self.network) as batches:
            table = tabulate_predictions(self.evaluation, self.evaluation.predict())
        clips = self.all_clips["clip"]
        return table, {name: pd.DataFrame(np.concatenate(arrays), index=clips) for name, arrays in batches.items()}


def concatenate_tables(tables: list[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    """Return the concatenated tables with these columns, or an empty table for an empty list."""
    return pd.concat(tables)[[*columns]] if tables else pd.DataFrame(columns=[*columns])


def create_file(path: Path) -> h5py.File:
    """Open a new HDF5 file, for `write_array`. Groups and arrays are listed in the order in which they are written."""
    return h5py.File(path, "w", libver="latest", track_order=True)


def write_array(group: h5py.Group, name: str, array: np.ndarray) -> None:
    """Write an array under `name`, PARENT/.../NAME, with the parents that it needs.

    Parents keep the order of writing, because HDF5 lists names in alphabetical order by default. The time of writing is left
    out, so that equal arrays give equal files.
    """
    *parents, last = name.split("/")
    for parent in parents:
        group = group[parent] if parent in group else group.create_group(parent, track_order=True)
    compression = "gzip" if array.ndim > 1 else None
    group.create_dataset(last, data=array, compression=compression, track_times=False)
