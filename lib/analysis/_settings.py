"""The settings of analyses: the section `analyse` of params.yaml.

They are separate from the analyses, so that params.yaml is checked without PyTorch and pandas.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, create_model

from lib import analysis
from lib.core.parameters import Section

ClipCount = Annotated[int, Field(ge=0, le=1_000_000)]
"""A number of clips in the settings of an analysis; 0 disables it."""
_Repeats = Annotated[int, Field(ge=1, le=1000)]
_Cells = Annotated[int, Field(ge=1, le=64)]


class NoSettings(Section):
    """Of an analysis without settings."""


class Attention(Section):
    attention_clips: ClipCount
    control_clips: ClipCount


class Controls(Section):
    control_clips: ClipCount
    control_repeats: _Repeats


class Cues(Section):
    cue_clips: ClipCount
    importance_grid: _Cells
    importance_moments: _Cells
    control_repeats: _Repeats


class EmbeddingMap(Section):
    map_clips: ClipCount


class FeatureImportance(Section):
    feature_clips: ClipCount
    control_repeats: _Repeats


class Importance(Section):
    importance_clips: ClipCount
    importance_grid: _Cells
    importance_moments: _Cells
    deleted: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(max_length=20)]
    control_repeats: _Repeats


class PartialDependence(Section):
    dependence_clips: ClipCount


class Robustness(Section):
    robustness_clips: ClipCount


SETTINGS: Mapping[str, type[Section]] = {
    "attention": Attention,
    "augmentation": NoSettings,
    "controls": Controls,
    "cues": Cues,
    "embedding_map": EmbeddingMap,
    "feature_importance": FeatureImportance,
    "importance": Importance,
    "layer_weights": NoSettings,
    "lens": NoSettings,
    "partial_dependence": PartialDependence,
    "probes": NoSettings,
    "robustness": Robustness,
    "samples": NoSettings,
}
"""The settings of each analysis. One that is missing here has a class `Settings` in its module."""


def settings_model() -> type[Section]:
    """Return the model of the section `analyse`: the keys of every analysis' settings."""
    bases = dict.fromkeys(SETTINGS.get(name) or analysis.load(name).Settings for name in analysis.list_names())
    return create_model("Analyse", __base__=tuple(bases))
