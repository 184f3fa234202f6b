"""A training clip before and after each random change that the training uses."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.report.figures._base import FigureInputs, hide_axes, make_empty_figure
from lib.report.figures._read import Sample, SampleArray

SECTION, ORDER = "samples", 145
CAPTION = (
    "A training clip unchanged, and after each random change of the training alone (augmentation), with the key and value of"
    " train.augment. Columns are the model's encoders. Check that faces remain recognisable: labels stay as they are, except"
    " in mixup and CutMix."
)


def applies(results: FigureInputs) -> bool:
    """Return whether a change of images or audio is on."""
    return len(results.augmented) > 1


def draw(results: FigureInputs) -> Figure:
    rows = results.augmented
    if len(rows) < 2:
        return make_empty_figure("no augmentation changes images or audio")
    original = next(iter(rows.values()))
    pictures, sound = list(original.pictures), list(original.sound)
    figure = Figure(figsize=(1 + 2.2 * len(pictures) + 2.6 * len(sound), 0.5 + 0.95 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(pictures) + len(sound), squeeze=False)
    for index, (row, (name, sample)) in enumerate(zip(grid, rows.items(), strict=True)):
        for axes, column in zip(row, [*pictures, *sound], strict=True):
            if column in pictures:
                _draw_images(axes, sample.pictures.get(column))
            else:
                _draw_vectors(axes, sample, column, original.sound)
            axes.set_title(column if index == 0 else "")
        row[0].set_ylabel(name.replace("_", " ").replace(" ", "\n", 1), rotation=0, ha="right", va="center")
    return figure


def describe(results: FigureInputs) -> str:
    """Return the number of changes."""
    return f"Here {len(results.augmented) - 1} changes are shown." if len(results.augmented) > 1 else ""


def _draw_images(axes: Axes, images: SampleArray | None) -> None:
    """Draw a clip's images side by side; of coloured flow not the colour wheel, its last image."""
    hide_axes(axes, "")
    if images is not None:
        values = images.values if images.full is None else images.values[:-1]
        axes.imshow(np.concatenate(list(values), axis=1))


def _draw_vectors(axes: Axes, sample: Sample, name: str, originals: Mapping[str, SampleArray]) -> None:
    """Draw a clip's vectors over time, with the colours of the original."""
    hide_axes(axes, "")
    reference = originals[name].values
    low, high = np.percentile(reference, [1, 99])
    if name in sample.sound:
        axes.imshow(sample.sound[name].values.T, "magma", aspect="auto", origin="lower", vmin=low, vmax=high)
        axes.set_xlim(-0.5, len(reference) - 0.5)
