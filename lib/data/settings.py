"""The settings of augmentation."""

from typing import Annotated, Self

from pydantic import Field

from lib.core.parameters import Section

Fraction = Annotated[float, Field(ge=0, le=1)]
Alpha = Annotated[float, Field(ge=0, le=100)]
"""Both parameters of a beta distribution; 0 disables what is drawn from it."""


class Augment(Section):
    """Random changes of the training clips; params.yaml explains each key. Keys that are off by default correspond to fields
    of `lib.data.changes.ClipChanges` and `Mixture`."""

    mirror: bool
    shift: Annotated[int, Field(ge=0, le=512)]
    brightness: Fraction
    contrast: Fraction
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    saturation: Fraction = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    erasing: Fraction = 0.0
    time_mask: Fraction = 0.0
    jitter: Annotated[int, Field(ge=0, le=1000)] = 0
    frequency_mask: Fraction = 0.0
    noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mixup: Alpha = 0.0
    cutmix: Alpha = 0.0
    mixed_batches: Fraction = 1.0
    cutmix_batches: Fraction = 0.5

    @property
    def active(self) -> list[str]:
        """Return the names of the augmentations that are on."""
        return [name for name in type(self).model_fields if name not in MIXING_RATES and getattr(self, name)]

    def select(self, name: str) -> Self:
        """Return the settings with only one augmentation left on."""
        return self.model_copy(update={other: type(getattr(self, other))(0) for other in self.active if other != name})


MIXING_RATES = ("mixed_batches", "cutmix_batches")
"""Keys of `Augment` that change nothing alone."""
