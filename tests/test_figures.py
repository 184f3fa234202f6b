"""Figures as files: overlays have the same colours in PDF as in PNG."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pypdfium2
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lib.report import figures
from lib.report.figures import Results, _read
from lib.report.figures._base import draw_overlay
from lib.report.page import SECTIONS


def rendered(figure: Figure, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The figure as PNG and as PDF, both at 72 dots per inch: (H, W, 3)."""
    with mpl.rc_context({"savefig.bbox": None}):  # not cropped
        figure.savefig(folder / "figure.png", dpi=72)
        figure.savefig(folder / "figure.pdf")
    pdf = pypdfium2.PdfDocument(folder / "figure.pdf")[0].render(scale=1).to_numpy()[..., 2::-1]
    return np.asarray(Image.open(folder / "figure.png").convert("RGB")).astype(int), pdf.astype(int)


@pytest.mark.parametrize("value", [0.0, 1.0, 2.0])
def test_overlay_has_equal_colours_in_png_and_pdf(value: float, tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    draw_overlay(axes, np.full((32, 32, 3), 200, np.uint8), np.full((2, 2), value))
    png, pdf = rendered(figure, tmp_path)
    assert png.shape == pdf.shape
    assert png[36, 36].tolist() != [200, 200, 200]  # a cell's centre is tinted
    assert pdf[36, 36] == pytest.approx(png[36, 36], abs=3)


def test_text_of_mean_attention_is_not_below_the_colour_bar(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    looked = _read.Looked(rng.uniform(0, 2, (4, 4, 4)), np.ones((4, 4, 4)), rng.uniform(-1, 1, 30), None)
    figure = figures.mean_attention.draw(
        Results(mean_attention=_read.MeanAttention(30, {"faces": looked, "flow": looked}))
    )
    figures.for_paper(figure)
    figure.savefig(tmp_path / "figure.pdf")  # lays the figure out
    renderer = figure._get_renderer()
    bar = figure.axes[-1].get_tightbbox(renderer)
    texts = [axes.xaxis.label for axes in figure.axes[:-1]] + [figure._supxlabel]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    assert boxes
    assert not any(box.overlaps(bar) for box in boxes)


def test_every_figure_has_a_section_and_a_place_of_its_own() -> None:
    modules = figures.FIGURES.values()
    assert {module.SECTION for module in modules} <= {"headline", *SECTIONS}
    assert len({module.ORDER for module in modules}) == len(figures.FIGURES)
    assert all(module.CAPTION.endswith(".") for module in modules)
