"""The settings of a training: the sections that the stage train reads, checked."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from lib.core.errors import SettingError
from lib.core.loggers import LOGGERS, check_packages
from lib.core.parameters import Section
from lib.core.targets import RELIABILITY, TargetGroup, Targets
from lib.data.inputs import EncoderSettings
from lib.data.settings import Augment
from lib.model.settings import STACKED, Settings
from lib.training.fairness import FAIRNESS, NONE, TERMS
from lib.training.optim import OPTIMIZERS
from lib.training.schedules import SCHEDULES
from lib.training.weightings import WEIGHTINGS


class Plateau(Section):
    """The schedule plateau. patience: number of epochs without a lower validation loss. factor: by which rates fall then."""

    patience: Annotated[int, Field(ge=1, le=100_000)]
    factor: Annotated[float, Field(gt=0, lt=1)]


class LabelDensity(Section):
    """The density of labels for label_distribution_smoothing. The fields are those of `lib.training.weightings.Density`."""

    bins: Annotated[int, Field(ge=2, le=100_000)]
    std: Annotated[float, Field(gt=0, le=100_000)]
    radius: Annotated[int, Field(ge=0, le=100_000)]


_RATES = "{default: 0.001, s2d: 0.0001}"
Rate = Annotated[float, Field(gt=0, le=1000)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Train(Section):
    """The section `train` of params.yaml.

    seed: of initialisation, clip order, augmentation and dropout. shuffle_labels: whether labels are permuted among clips,
    a control. clips: largest number of training clips, None for all. init: path of a model.pt whose weights training begins
    with. devices: number of GPUs, or of processes on a CPU. loggers: names in lib/core/loggers.py. batch_size: number of
    clips in a step, over all devices. accumulate: number of parts in which a step is computed. mix: by corpus, how often an
    epoch has each clip, 1 by default. label_weighting: a name in weightings.py. fairness: a name in fairness.py.
    fairness_group: a column of data/groups.csv. fairness_weight: of the fairness term. learning_rate: `default`, and by name
    those of single encoders, or of all other layers, `head`. decay_all: whether weights of norms, biases and embeddings
    decay, too. optimizer: a name in optim.py; betas are for adamw and nadam, momentum for sgd. ema: decay of the moving
    average of the weights, None for none. schedule: a name in schedules.py. warmup: number of epochs. patience: number of
    epochs without a lower validation loss after which training stops. interval: expected fraction of labels inside the
    prediction intervals. clip_norm: largest norm of the gradient. workers: number of processes that read clips.
    """

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    shuffle_labels: bool
    clips: Annotated[int, Field(ge=1, le=100_000_000)] | None
    init: str | None
    devices: Annotated[int, Field(ge=1, le=1024)]
    loggers: list[Literal[*LOGGERS]]  # type: ignore[valid-type]
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch_size: Annotated[int, Field(ge=2, le=65_536)]
    accumulate: Annotated[int, Field(ge=1, le=65_536)]
    mix: dict[str, Annotated[float, Field(ge=0, le=1000)]]
    label_weighting: Literal[*WEIGHTINGS, RELIABILITY]  # type: ignore[valid-type]
    label_density: LabelDensity
    fairness: Literal[*FAIRNESS]  # type: ignore[valid-type]
    fairness_group: str
    fairness_weight: Annotated[float, Field(gt=0, le=1000)]
    optimizer: Literal[*OPTIMIZERS]  # type: ignore[valid-type]
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)]
    momentum: Beta
    learning_rate: dict[str, Rate]
    weight_decay: Annotated[float, Field(ge=0, le=100)]
    decay_all: bool
    ema: Annotated[float, Field(gt=0, lt=1)] | None
    schedule: Literal[*SCHEDULES]  # type: ignore[valid-type]
    plateau: Plateau
    warmup: Annotated[int, Field(ge=0, le=100_000)]
    patience: Annotated[int, Field(ge=1, le=100_000)]
    interval: Annotated[float, Field(gt=0, lt=1)]
    clip_norm: Annotated[float, Field(gt=0, le=1e6)]
    precision: Literal["32-true", "16-mixed", "bf16-mixed"]
    workers: Annotated[int, Field(ge=0, le=1024)]
    augment: Augment

    @field_validator("learning_rate")
    @classmethod
    def _has_a_default(cls, rates: dict[str, float]) -> dict[str, float]:
        if "default" not in rates:
            raise ValueError(f"a default, and the rates of single encoders, for instance {_RATES}")
        return rates

    @model_validator(mode="before")
    @classmethod
    def _name_new_form_of_rates(cls, values: Any) -> Any:
        if isinstance(values, dict) and "encoders" in (values.get("learning_rate") or ()):
            key = {"key": "learning_rate.encoders", "replacement": f"train.learning_rate: {_RATES}"}
            raise PydanticCustomError("renamed", "{key}", key)
        return values

    def check_batch_size(self, processes: int) -> None:
        """Raise SettingError if a batch can't be divided among `processes` and parts."""
        if self.batch_size % (parts := processes * self.accumulate):
            raise SettingError(
                f"train.batch_size = {self.batch_size} must be a multiple of train.devices x train.accumulate = {parts};"
                f" try {parts * max(1, round(self.batch_size / parts))}"
            )

    def check_mixing(self) -> None:
        """Raise SettingError if clips are to be mixed and a part has no two clips."""
        augment = self.augment
        if (augment.mixup or augment.cutmix) and self.part_size // self.devices < 2:
            name = "mixup" if augment.mixup else "cutmix"
            raise SettingError(
                f"train.augment.{name} = {getattr(augment, name):g} with parts of {self.part_size // self.devices} clip;"
                " allowed: parts of two clips or more, because clips of one part are mixed; lower train.accumulate or"
                " raise train.batch_size"
            )

    def check_fairness(self, model: Settings) -> None:
        """Raise SettingError if the model or the augmentation contradicts `fairness`."""
        if self.fairness == NONE:
            return
        if model.linear_path or model.fusion == STACKED:
            key = "linear_path = true" if model.linear_path else f"fusion = {STACKED}"
            raise SettingError(
                f"train.fairness = {self.fairness} with model.{key}, whose regressions are fitted without it; allowed: a"
                " network without them; set model.linear_path to false and model.fusion to concat, or train.fairness to none"
            )
        if self.fairness in TERMS and (self.augment.mixup or self.augment.cutmix):
            name = "mixup" if self.augment.mixup else "cutmix"
            raise SettingError(
                f"train.fairness = {self.fairness} with train.augment.{name} = {getattr(self.augment, name):g}; allowed: 0,"
                " because a mixed clip may have persons of two groups"
            )

    @property
    def part_size(self) -> int:
        """Number of clips that are computed at a time."""
        return max(1, self.batch_size // self.accumulate)

    def rate(self, name: str) -> float:
        """Return the learning rate of an encoder, or of `head`, all other layers."""
        return self.learning_rate.get(name, self.learning_rate["default"])


class Parameters(Section):
    """The sections of params.yaml that the stage train reads."""

    model: Settings
    targets: dict[str, TargetGroup]
    train: Train

    def resolve(self) -> tuple[dict[str, EncoderSettings], Targets]:
        """Return the inputs of the encoders in use, and the predicted target groups.

        Raises SettingError for contradictions in a section and between sections.
        """
        settings_by_encoder, targets = self.model.settings_by_encoder(), self.model.select_targets(self.targets)
        allowed = ["default", "head", *self.model.encoders]
        if others := [name for name in self.train.learning_rate if name not in allowed]:
            raise SettingError(f"train.learning_rate has {others[0]!r}; allowed: {', '.join(allowed)}")
        self.train.check_batch_size(self.train.devices)
        self.train.check_mixing()
        self.train.check_fairness(self.model)
        check_packages(self.train.loggers)
        return settings_by_encoder, targets
