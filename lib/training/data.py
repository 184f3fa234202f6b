"""The clips of a training, and an epoch's steps over them."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.core.errors import SettingError, prefix_errors
from lib.core.targets import RELIABILITY, Targets
from lib.data.augment import AugmentationDraws, augment, draw
from lib.data.batch import Sample
from lib.data.changes import Mixture, draw_changes, draw_mixture
from lib.data.dataset import ClipDataset
from lib.data.inputs import EncoderSettings, find_kind
from lib.data.loading import make_loader
from lib.data.mixing import mix_clips
from lib.scoring.reliability import find_reliability, read_error_variance, weigh_by_reliability
from lib.training.fairness import BALANCED, UNKNOWN, balance_groups
from lib.training.losses import count_known, weigh_columns
from lib.training.order import draw_batches, mix_corpora, split_batches
from lib.training.settings import Train
from lib.training.weightings import WEIGHTINGS, Density

if TYPE_CHECKING:  # it takes a second to load; checks of parameters and predictions do not need it
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class TrainData:
    """The training and validation clips, and the target groups that are learnt.

    groups: the group of persons of each training clip whose group is known, by name of the clip; empty without fairness.
    """

    training: ClipDataset
    validation: ClipDataset
    targets: Targets
    settings: Train
    settings_by_encoder: Mapping[str, EncoderSettings]
    groups: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def group_codes(self) -> np.ndarray:
        """The group of each training clip as a number (N,) from 0 in the order of the names; UNKNOWN if it is unknown."""
        codes = {name: code for code, name in enumerate(sorted(set(self.groups.values())))}
        clips = self.training.table["clip"] if self.groups else [""] * len(self.training)
        return np.array([codes.get(self.groups.get(clip, ""), UNKNOWN) for clip in clips], dtype=np.int64)

    @property
    def group_counts(self) -> Tensor | None:
        """The number (G,) of training clips of each group; None without groups."""
        codes = self.group_codes
        return torch.from_numpy(np.bincount(codes[codes != UNKNOWN])) if self.groups else None

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """Weight (N, K) of each training clip and target in the loss, by target group."""
        weights = {}
        for name, labels in self.training.targets.items():
            with prefix_errors(f"targets.{name}."):
                of_columns = weigh_columns(self.targets[name], labels)
            of_clips = self._weigh_labels(name, labels)
            if self.settings.fairness == BALANCED:
                of_clips = of_clips * balance_groups(labels, self.group_codes)
            weights[name] = torch.from_numpy(of_clips * of_columns).float()
        return weights

    def _weigh_labels(self, name: str, labels: np.ndarray) -> np.ndarray:
        """Return the weights (N, K) of a target group's labels. Raises SettingError if no reliability is known."""
        if self.settings.label_weighting != RELIABILITY:
            weighting = WEIGHTINGS[self.settings.label_weighting]
            return weighting(labels, Density(**self.settings.label_density.model_dump()))
        group = self.targets[name]
        errors = read_error_variance(self.training.table, group.columns) / group.span**2
        reliability = find_reliability(labels, errors, group)
        if not np.isfinite(reliability).any():
            raise SettingError(
                f"train.label_weighting = {RELIABILITY}, but the reliability of {', '.join(group.columns)} is unknown;"
                f" allowed: columns NAME_n and NAME_sd of data/clips.csv, or targets.{name}.reliability. Add one of them"
            )
        return weigh_by_reliability(labels, errors, reliability)

    @cached_property
    def label_counts(self) -> dict[str, np.ndarray]:
        """Number (N,) of the labels of each training clip that enter the loss, by target group."""
        return {name: count_known(self.targets[name].loss, labels) for name, labels in self.training.targets.items()}

    @cached_property
    def kinds(self) -> dict[str, Any]:
        """Kind of each array that the encoders read, by reference."""
        references = [reference for settings in self.settings_by_encoder.values() for reference in settings.reads]
        return {reference: find_kind(reference) for reference in references}

    def names(self, index: Tensor) -> list[str]:
        """Return the names of training clips."""
        return self.training.table["clip"].iloc[index.tolist()].tolist()


class Part(NamedTuple):
    """The part of a batch that one device computes at a time.

    weights: (B, K) of each target group. shares: by target group, the fraction of the step's loss that this part
    contributes, times the number of devices, because gradients are averaged over devices. fraction: of the step's clips.
    last: whether this is the last part of the step. waited: seconds until it was read. groups: code (B,) of each clip's
    group of persons. group_share: as `shares`, for the clips of known group.
    """

    sample: Sample
    weights: dict[str, Tensor]
    shares: dict[str, float]
    fraction: float
    last: bool
    waited: float
    groups: Tensor
    group_share: float


class Epoch:
    """An epoch's batches; seed and number of the epoch determine them. Raises InputError if the mix leaves no clip."""

    def __init__(self, fabric: "Fabric", data: TrainData, number: int) -> None:
        settings = data.settings
        self._fabric, self._data, self._number = fabric, data, number
        data.training.epoch = number
        torch.manual_seed(settings.seed * 100_003 + number * 1009 + fabric.global_rank)  # dropout
        self._rng = torch.Generator().manual_seed(settings.seed * 100_003 + number)  # the same in all processes
        corpora = data.training.table["corpus"].to_numpy(str)
        self.batches = draw_batches(mix_corpora(corpora, settings.mix, self._rng), settings.batch_size, self._rng)
        if not self.batches:
            raise SettingError(f"train.mix = {settings.mix} leaves no clip of {len(data.training)}; raise it")

    def steps(self) -> Iterator[Iterator[Part]]:
        """Yield the parts of each step. Iterate over all parts of a step before the next step."""
        rank, world, settings = self._fabric.global_rank, self._fabric.world_size, self._data.settings
        mine = [part[rank::world] for part in split_batches(self.batches, settings.accumulate)]
        samples = time_waiting(make_loader(self._fabric, self._data.training, mine, settings.workers))
        for step, members in enumerate(self.batches):
            rngs = (np.random.default_rng([settings.seed, self._number, step, part]) for part in range(2))
            changes = draw_changes(len(members), settings.augment, next(rngs))
            draws = draw(len(members), settings.augment, self._rng, changes)
            yield self._parts(members, samples, draws, draw_mixture(settings.augment, next(rngs)))

    def _parts(
        self,
        members: list[int],
        samples: Iterator[tuple[Sample, float]],
        draws: AugmentationDraws,
        mixture: Mixture | None,
    ) -> Iterator[Part]:
        data, rank, world, start = self._data, self._fabric.global_rank, self._fabric.world_size, 0
        for part in split_batches([members], data.settings.accumulate):
            sample, waited = next(samples)
            end = start + len(part)
            changed = augment(sample, draws.select(slice(start + rank, end, world)), data.kinds)
            weights = {
                name: weights_of_group[sample.index.cpu()].to(self._fabric.device)
                for name, weights_of_group in data.weights.items()
            }
            if mixture is not None:
                changed, weights = mix_clips(changed, weights, mixture, data.kinds)
            shares = {
                name: world * counts[part[rank::world]].sum() / max(counts[members].sum(), 1)
                for name, counts in data.label_counts.items()
            }
            has_group = data.group_codes != UNKNOWN
            yield Part(
                changed,
                weights,
                shares,
                fraction=len(part) / len(members),
                last=end == len(members),
                waited=waited,
                groups=torch.from_numpy(data.group_codes[sample.index.cpu().numpy()]).to(self._fabric.device),
                group_share=world * has_group[part[rank::world]].sum() / max(has_group[members].sum(), 1),
            )
            start = end


def time_waiting(batches: Any) -> Iterator[tuple[Sample, float]]:
    """Yield each batch with the seconds until it was read."""
    iterator = iter(batches)
    while True:
        started = time.perf_counter()
        try:
            batch = next(iterator)
        except StopIteration:
            return
        yield batch, time.perf_counter() - started
