"""The settings of a model: the section `model` of params.yaml, and a module for each kind of encoders.

Nothing here imports PyTorch, so that commands check params.yaml before they load it, and soon if they do not need it.
"""

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from lib.core.errors import InputError, SettingError, prefix_errors
from lib.core.parameters import Section, check
from lib.core.registry import list_members
from lib.core.targets import Targets, check_heads
from lib.data.inputs import EncoderSettings, split_reference

STACKED = "stacked"
"""The fusion whose predictions are stacked with regressions (lib/model/committee.py)."""

FUSIONS = (
    "cross_attention",
    "concat",
    "plain_concat",
    "late_average",
    "multitask",
    "multitask_pooled",
    STACKED,
)
"""The names of the fusions in lib/model/fusions.py."""

REGRESSED = "vectors"
"""The kind of encoders whose streams regressions read."""

_NAME = re.compile(r"\w+")


class Stacking(Section):
    """The section model.stack. network: encoders that the network reads, [] for all. trees: whether boosted trees are a
    part."""

    network: list[str]
    trees: bool


class FusionOptions(Section):
    """Options of a fusion: keys of the section `model` of params.yaml. A fusion may ignore any."""

    queries: list[str]
    heads: Annotated[int, Field(ge=1, le=64)]
    depth: Annotated[int, Field(ge=1, le=64)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    feed_forward: Annotated[int, Field(ge=1, le=64)] | None = None
    time_slope: Annotated[float, Field(gt=0, le=1000)] | None = None

    @classmethod
    def with_defaults(cls, **options: Any) -> "FusionOptions":
        """Return options without params.yaml: these, and for the others [], 4 heads, depth 1 and no dropout."""
        defaults: dict[str, Any] = {"queries": [], "heads": 4, "depth": 1, "dropout": 0.0}
        return cls(**defaults | options)


class Settings(FusionOptions):
    """The section `model` of params.yaml."""

    use: Annotated[list[str], Field(min_length=1)]
    fusion: str
    targets: Annotated[list[str], Field(min_length=1)]
    missing: Literal["drop", "keep"]
    width: Annotated[int, Field(ge=6, le=4096)]
    hidden: Annotated[int, Field(ge=0, le=65_536)]
    linear_path: bool = False
    members: Annotated[int, Field(ge=1, le=100)] = 1
    stack: Stacking = Stacking(network=[], trees=True)
    encoders: dict[str, dict[str, Any]]

    def settings_by_encoder(self) -> dict[str, EncoderSettings]:
        """Return the checked settings of the encoders in use. Raises InputError for invalid settings and contradictions."""
        available = check_settings(self.encoders)
        for key, chosen, among in (("use", self.use, available), ("queries", self.queries, self.use)):
            if unknown := [name for name in chosen if name not in among]:
                raise SettingError(f"model.{key} has {unknown[0]!r}; allowed: {', '.join(among)}")
            if len(set(chosen)) < len(chosen):
                raise SettingError(f"model.{key} = {chosen}; allowed: each once")
        if self.fusion not in FUSIONS:
            raise SettingError(f"model.fusion = {self.fusion!r}; allowed: {', '.join(FUSIONS)}")
        if self.width % self.heads or self.width % 6:
            raise SettingError(
                f"model.width = {self.width}; allowed: a multiple of 6 and of model.heads = {self.heads}"
            )
        if unknown := [name for name in self.stack.network if name not in self.use]:
            raise SettingError(f"model.stack.network has {unknown[0]!r}; allowed: {', '.join(self.use)}")
        inputs = {name: available[name] for name in self.use}
        regressed = list_regressed(inputs)
        for key, is_set in (("linear_path = true", self.linear_path), ("fusion = stacked", self.fusion == STACKED)):
            if is_set and not regressed:
                raise SettingError(
                    f"model.{key}, but no encoder of model.use = {self.use} is of kind vectors; allowed: with one or"
                    " several of them; add one, or choose another value"
                )
        return inputs

    @property
    def fusion_options(self) -> FusionOptions:
        """The options of the fusion."""
        return FusionOptions(**{name: getattr(self, name) for name in FusionOptions.model_fields})

    @property
    def is_committee(self) -> bool:
        """Whether the model has several parts (lib/model/committee.py)."""
        return self.members > 1 or self.fusion == STACKED

    def make_member_settings(self) -> Self:
        """Return the settings of one network of a committee."""
        use = (self.stack.network or self.use) if self.fusion == STACKED else self.use
        return self.model_copy(update={"use": use, "members": 1, "queries": [q for q in self.queries if q in use]})

    def select_targets(self, targets: Targets) -> Targets:
        """Return the target groups that are predicted.

        Raises InputError if one is not under `targets`, or if head, loss and columns of any group don't fit.
        """
        check_heads(targets)
        if unknown := [name for name in self.targets if name not in targets]:
            raise SettingError(f"model.targets has {unknown[0]!r}; allowed: {', '.join(targets)}")
        return {name: targets[name] for name in self.targets}

    def fill_from_clips(self, lengths: Callable[[str], Sequence[int]]) -> Self:
        """Return the settings, with the values that the encoders in use derive from the training clips filled in.

        lengths: takes an encoder's name and returns the number of steps of each training clip.
        """
        filled = {}
        for name, settings in self.settings_by_encoder().items():
            with prefix_errors(f"model.encoders.{name}."):
                filled[name] = settings.fill_from_clips(partial(lengths, name)).model_dump()
        return self.model_copy(update={"encoders": self.encoders | filled})


def list_kinds() -> list[str]:
    """Return the names of all kinds of encoders."""
    return list_members(Path(__file__).parents[1] / "encoders")


def find_module_name(kind: str) -> str:
    """Return the name of the module of a kind."""
    return f"lib.model.encoders.{kind}"


def find_settings(kind: str) -> type[EncoderSettings]:
    """Return the class Settings of a kind of encoders, from its module of this folder or else from the encoder's module."""
    module = f"{__name__}.{kind}" if kind in list_members(Path(__file__).parent) else find_module_name(kind)
    settings: type[EncoderSettings] = importlib.import_module(module).Settings
    return settings


def check_settings(encoders: Mapping[str, Mapping[str, Any]]) -> dict[str, EncoderSettings]:
    """Return the checked settings of the encoders under model.encoders. Raises InputError for invalid settings."""
    settings: dict[str, EncoderSettings] = {}
    for name, values in encoders.items():
        key, kind = f"model.encoders.{name}", values.get("kind")
        if not _NAME.fullmatch(name) or name == "head":
            raise SettingError(f"{key}; allowed: names of letters, digits and _, but not head")
        if kind not in list_kinds():
            raise SettingError(f"{key}.kind = {kind!r}; allowed: {', '.join(list_kinds())}")
        settings[name] = check(dict(values), find_settings(str(kind)), key)
        if not settings[name].reads:
            raise SettingError(f"{key}.reads = []; allowed: one or several streams")
        for reference in settings[name].reads:
            try:
                split_reference(reference)
            except InputError as error:
                raise SettingError(f"{key}.reads has {reference!r}: {error}") from None
    return settings


def list_regressed(settings_by_encoder: Mapping[str, EncoderSettings]) -> list[str]:
    """Return the names of the encoders whose streams regressions read: those of kind `vectors`."""
    return [name for name, settings in settings_by_encoder.items() if settings.kind == REGRESSED]
