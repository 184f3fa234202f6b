"""A trained model with the clips of each split that it can predict."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.core.artifacts import CLIPS, DATA, MODEL
from lib.core.clips import SPLITS, read_clip_table
from lib.core.device import best_device
from lib.core.errors import SettingError
from lib.core.targets import TargetGroup
from lib.data.dataset import ClipDataset
from lib.data.lengths import Lengths, measure_lengths
from lib.data.selection import count_lost, mask_labelled, select_usable, select_videos
from lib.model import checkpoint, infer
from lib.model.heads import HeadOutput
from lib.scoring.baselines import is_video_in_training
from lib.scoring.outliers import find_outliers

Predictions = dict[str, dict[str, HeadOutput]]
"""Arrays (N, K) by name of the table (a split or a corpus) and target group, in the table's units."""


@dataclass(frozen=True)
class Evaluation:
    """A trained model and the clips on which it is evaluated.

    verified: all clips that passed `download`. usable: the verified clips with all streams that the model reads. tables: the
    usable clips of each split; for the training split, only the clips that the model was trained on. scored_split: the split
    whose scores are reported.
    """

    trained: checkpoint.TrainedModel
    verified: pd.DataFrame
    usable: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    scored_split: str
    batch_size: int

    @cached_property
    def clips(self) -> dict[str, ClipDataset]:
        """The data set of each split that has clips."""
        settings_by_encoder, streams = self.trained.network.settings_by_encoder, self.trained.streams
        return {
            split: ClipDataset(rows, DATA, settings_by_encoder, streams, {})
            for split, rows in self.tables.items()
            if len(rows)
        }

    @property
    def scored_clips(self) -> pd.DataFrame:
        """The clips of the split that is scored."""
        return self.tables[self.scored_split]

    @property
    def tuning_clips(self) -> pd.DataFrame:
        """The validation clips, which choose a baseline's strength; empty if the validation split itself is scored."""
        table = self.tables["validation"]
        return table[:0] if self.scored_split == "validation" else table

    @property
    def provenance(self) -> dict[str, Any]:
        """The provenance of the model, with the number of its weights."""
        weights = sum(values.numel() for values in self.trained.network.parameters())
        return self.trained.provenance | {"weights": weights}

    def find_outliers(self, vectors: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """Return the labels and features that lie far from the training mean; `vectors` as for the baselines."""
        return find_outliers(self.tables["training"], self.usable, self.trained.targets, vectors)

    def predict(self) -> Predictions:
        """Return the predictions of the clips of every split; without test clips if the validation split is scored.

        Settings are chosen by validation scores, and a choice must not see test scores.
        """
        is_choice = self.scored_split == "validation"
        return self._predict({split: data for split, data in self.clips.items() if not (is_choice and split == "test")})

    def predict_clips(self, tables: Mapping[str, pd.DataFrame]) -> Predictions:
        """Return the predictions of other tables of clips, by their names."""
        settings_by_encoder, streams = self.trained.network.settings_by_encoder, self.trained.streams
        return self._predict(
            {name: ClipDataset(rows, DATA, settings_by_encoder, streams, {}) for name, rows in tables.items()}
        )

    def _predict(self, clips: Mapping[str, ClipDataset]) -> Predictions:
        from lightning_fabric import Fabric

        fabric, network, targets = Fabric(devices=1), self.trained.network, self.trained.targets
        predicted = {
            name: infer.predict_outputs(fabric, network, data, self.batch_size, 0, bar=f"predict {name}")
            for name, data in clips.items()
        }
        return {
            table: {name: prediction.from_unit(targets[name]) for name, prediction in by_group.items()}
            for table, by_group in predicted.items()
        }

    def measure_lengths(self) -> Lengths:
        """Return the numbers of steps of the model's streams in the clips of each split."""
        return measure_lengths(self.tables, DATA, self.trained.streams)

    def count_lost(self) -> pd.DataFrame:
        """Return the number of verified clips that each stream has lost, by reason and split."""
        return count_lost(self.verified, self.usable["clip"], DATA, self.trained.network.settings_by_encoder)


def load_evaluation(scored_split: str, batch_size: int, model: Path = MODEL) -> Evaluation:
    """Load a model, by default data/model.pt, and the clips that it can predict.

    Raises InputError if no clip of the scored split is usable, or none has a label for a target group.
    """
    trained = checkpoint.load(model, best_device())
    verified = read_clip_table(CLIPS)
    available = select_usable(verified, DATA, trained.network.settings_by_encoder, trained.settings.missing)
    table = available[available["corpus"].isin(trained.training.corpora) | (available["split"] != "training")]
    tables = {split: table[table["split"] == split].reset_index(drop=True) for split in SPLITS}
    if trained.training.clips is not None:
        training = tables["training"]
        training = training[mask_labelled(training, trained.targets)].reset_index(drop=True)
        tables["training"] = select_videos(training, trained.training.clips, trained.training.seed)
    scored = tables[scored_split]
    if scored.empty:
        raise SettingError(
            f"evaluate.split = {scored_split!r}, but no clip of that split is usable; metrics/ has the"
            " numbers of rejected clips. Choose another split"
        )
    for name, target_group in trained.targets.items():
        if not np.isfinite(select_labels(scored, target_group)).any():
            raise SettingError(
                f"model.targets has {name}, but no {scored_split} clip has labels for"
                f" {', '.join(target_group.columns)}; add labels, or remove {name}"
            )
    return Evaluation(trained, verified, available, tables, scored_split, batch_size)


def select_labels(table: pd.DataFrame, target_group: TargetGroup) -> np.ndarray:
    """Return the clips' labels (N, K) with the precision that the network is trained with; NaN where unknown."""
    return table[list(target_group.columns)].to_numpy(np.float32).astype(float)


def tabulate_predictions(evaluation: Evaluation, predicted: Predictions) -> pd.DataFrame:
    """Return a row for each clip and target: clip, video, corpus, split, video_in_training, targets, target, actual,
    predicted, scale.

    video_in_training: whether the training split has clips of the same video. targets: the target group. scale: the
    predicted standard deviation of the label; empty for heads without one.
    """
    tables = []
    for name, target_group in evaluation.trained.targets.items():
        for split, by_group in predicted.items():
            mean, scale, _ = by_group[name]
            table = evaluation.tables[split]
            repeated = table.index.repeat(len(target_group.columns))
            rows = table.loc[repeated, ["clip", "video", "corpus", "split"]]
            is_in_training = np.repeat(
                is_video_in_training(evaluation.tables["training"], table), len(target_group.columns)
            )
            rows = rows.assign(video_in_training=is_in_training, targets=name, target=target_group.columns * len(table))
            actual = select_labels(table, target_group)
            scales = np.full_like(mean, np.nan) if scale is None else scale
            tables.append(rows.assign(actual=actual.ravel(), predicted=mean.ravel(), scale=scales.ravel()))
    return pd.concat(tables, ignore_index=True)


def sort_clips_by_error(predictions: pd.DataFrame) -> pd.Index:
    """Return the clips with a known target, from the lowest to the highest mean absolute error."""
    errors = (predictions["predicted"] - predictions["actual"]).abs()
    return errors.groupby(predictions["clip"]).mean().dropna().sort_values(kind="stable").index
