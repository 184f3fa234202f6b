"""Figures: equal colours in PDF and PNG, layout, contrast, and captions that state results."""

from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pypdfium2
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from skimage.color import rgb2lab

from lib.core.targets import TRAITS, TargetGroup
from lib.report import figures
from lib.report.figures import FigureInputs, _read, importance_on_the_face, learning_curve, reliability, residuals
from lib.report.figures._base import draw_forest, draw_overlay
from lib.report.page import SECTIONS


def render_figure(figure: Figure, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the figure as PNG and as PDF, both at 72 dots per inch (H, W, 3)."""
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
    png, pdf = render_figure(figure, tmp_path)
    assert png.shape == pdf.shape
    assert png[36, 36].tolist() != [200, 200, 200]  # a cell's centre is tinted
    assert pdf[36, 36] == pytest.approx(png[36, 36], abs=3)


def test_text_of_mean_attention_is_not_below_the_colour_bar(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    encoder_attention = _read.EncoderAttention(
        rng.uniform(0, 2, (4, 4, 4)), np.ones((4, 4, 4)), rng.uniform(-1, 1, 30), None
    )
    figure = figures.mean_attention.draw(
        FigureInputs(mean_attention=_read.MeanAttention(30, {"faces": encoder_attention, "flow": encoder_attention}))
    )
    figures.fit_to_paper(figure)
    figure.savefig(tmp_path / "figure.pdf")  # lays the figure out
    renderer = figure._get_renderer()
    bar = figure.axes[-1].get_tightbbox(renderer)
    texts = [axes.xaxis.label for axes in figure.axes[:-1]] + [figure._supxlabel]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    assert boxes
    assert not any(box.overlaps(bar) for box in boxes)


def test_each_figure_has_a_section_and_its_own_position() -> None:
    modules = figures.FIGURES.values()
    assert {module.SECTION for module in modules} <= {"headline", *SECTIONS}
    assert len({module.ORDER for module in modules}) == len(figures.FIGURES)
    assert all(module.CAPTION.endswith(".") for module in modules)


def to_linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("colour", figures.COLOURS)
def test_colours_have_contrast_on_white(colour: str) -> None:
    luminance = to_linear(colour) @ [0.2126, 0.7152, 0.0722]
    assert 1.05 / (luminance + 0.05) >= 3  # WCAG 2, 1.4.11


def test_colours_differ_for_colour_blind_readers() -> None:
    deuteranopia = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    protanopia = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])
    for matrix in (np.eye(3), deuteranopia, protanopia):  # Machado et al. 2009
        perceived = [np.clip(matrix @ to_linear(colour), 0, 1) for colour in figures.COLOURS]
        lab = rgb2lab(
            np.where(
                np.array(perceived) <= 0.0031308,
                12.92 * np.array(perceived),
                1.055 * np.array(perceived) ** (1 / 2.4) - 0.055,
            )
        )
        distances = np.linalg.norm(lab[:, None] - lab, axis=-1)
        assert distances[np.triu_indices(len(perceived), 1)].min() >= 30


def make_predictions(videos: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"clip": [f"c{index}" for index in range(40)], "video": np.arange(40) % videos})
    return rows.assign(
        target="warm", actual=rng.uniform(0, 1, 40), predicted=rng.uniform(0, 1, 40), video_in_training=True
    )


def test_reliability_interval_contains_the_mean_label() -> None:
    group = TargetGroup(columns=["warm"], range=[0, 1], head="sigmoid", loss="mse", weight=1)
    axes = figures.reliability.draw(FigureInputs(predictions=make_predictions(20)), group).axes[0]
    points = axes.lines[0].get_xydata()
    assert len(points) == 10
    for (x, y), segment in zip(points, axes.collections[0].get_segments(), strict=True):
        assert segment[:, 0] == pytest.approx([x, x])
        assert segment[0, 1] <= y <= segment[1, 1]
    few = figures.reliability.draw(FigureInputs(predictions=make_predictions(5)), group).axes[0]
    assert not any(np.isfinite(segment).all() and len(segment) for segment in few.collections[0].get_segments())


def test_scatter_plot_shows_the_scores_of_its_table() -> None:
    group = TargetGroup(columns=["warm"], range=[0, 1], head="sigmoid", loss="mse", weight=1)
    scores = pd.DataFrame({"subset": "all", "predictor": "model", "score": ["r2", "pearson"], "target": "warm"})
    results = FigureInputs(predictions=make_predictions(20), scores=scores.assign(value=[-0.5, 0.25]))
    (text,) = figures.predicted_against_actual.draw(results, group).axes[0].texts
    assert text.get_text() == "R² = −0.50\nr = 0.25"


def test_captions_state_values_of_the_tables() -> None:
    group = TargetGroup(columns=["warm", "cold"], range=[0, 1], head="sigmoid", loss="mse", weight=1)
    losses = pd.DataFrame({"target": "mean", "loss": [0.01, 0.2], "control": ["faces", "no motion"]})
    faces = pd.DataFrame(
        {"target": "mean", "loss": [0.3, 0.2], "corruption": "frames (one of ...)", "strength": [3.0, 5]}
    )
    scores = pd.DataFrame({"subset": "all", "predictor": "model", "score": "pearson", "target": ["warm", "cold"]})
    history = pd.DataFrame({"epoch": [1, 2], "validation_loss": [0.5, 0.25], "training_loss": [0.4, 0.125]})
    splits = pd.DataFrame({"split": ["training", "test"], "score": "r2", "target": "mean", "value": [0.9, -0.1]})
    data = {
        "annotated": 5,
        "usable": 4,
        "rejected": {"too short": 1},
        "clips": {"training": 2, "validation": 1, "test": 1},
    }
    lost = pd.DataFrame(columns=["step", "reason", "split", "clips"]).astype({"clips": int})
    results = FigureInputs(
        controls=losses, robustness=faces, scores=scores.assign(value=[0.5, -0.25]), history=history, split_scores=splits,
        data=data, lost=lost,
    )  # fmt: skip
    endings = {
        "controls": "Here the largest mean loss is 0.200 in 1 − MAE (no motion).",
        "robustness": "Here the largest mean loss is 0.300 in 1 − MAE, when one frame in 3 is kept.",
        "predicted_against_actual": "Here r is highest for warm (0.50) and lowest for cold (−0.25).",
        "learning_curve": "Here epoch 2 of 2 is the best (loss: training 0.125, validation 0.25).",
        "scores_by_split": "Here mean R² is 0.90 on training, −0.10 on test clips.",
        "clips_used": "Here 1 of 5 annotated clips were lost.",
    }
    for name, ending in endings.items():
        module = figures.FIGURES[name]
        caption = figures.make_caption(module, results, group if figures.is_drawn(module, group) else None)
        assert caption == f"{module.CAPTION} {ending}"


def test_caption_without_results_is_unchanged() -> None:
    group = TargetGroup(columns=["warm"], range=[0, 1], head="sigmoid", loss="mse", weight=1)
    for name in ("controls", "robustness", "probes", "features_map", "predicted_against_actual"):
        module = figures.FIGURES[name]
        assert figures.make_caption(module, FigureInputs(), group) == module.CAPTION
    assert figures.is_empty(figures.controls.draw(FigureInputs(), group))


def find_overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Return the pairs of panels' titles, labels and ticks of x axes, and legends that overlap."""
    figure.draw_without_rendering()
    renderer = figure._get_renderer()
    texts = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label) if axes.get_visible()]
    for axes in filter(Axes.get_visible, figure.axes):
        low, high = sorted(axes.get_xlim())
        texts += [text for text in axes.get_xticklabels() if low <= text.get_position()[0] <= high]
    texts += [text for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_text()]
    return [(first, second) for (first, box), (second, other) in combinations(boxes, 2) if box.overlaps(other)]


LONG = [f"{name} of the second rater"[:30] for name in TRAITS]


@pytest.mark.parametrize("columns", [[*TRAITS[:2]], [*TRAITS], [*TRAITS, *LONG]], ids=len)
@pytest.mark.slow
def test_titles_of_panels_do_not_overlap(columns: list[str]) -> None:
    group = TargetGroup(columns=columns, range=[0, 1], head="sigmoid", loss="mse", weight=1)
    rng = np.random.default_rng(0)
    table = pd.concat(make_predictions(20).assign(target=column) for column in columns)
    intervals = [
        {"of": name, "target": column, "value": 0.02, "low": -0.01, "high": 0.08}
        for name in ("faces", "flow in another order")
        for column in ("mean", *columns)
    ]
    ends = ["", *(f".{column}" for column in columns)]
    keys = [f"validation_{score}_own{end}" for score in ("accuracy", "r2", "ccc") for end in ends]
    losses = ["training_loss", "validation_loss", "training_accuracy_own"]
    history = pd.DataFrame(rng.random((3, len(keys) + 3)), columns=[*losses, *keys]).assign(epoch=[1, 2, 3])
    results = FigureInputs(predictions=table, history=history, targets={"own": group})
    drawn = [
        draw_forest(pd.DataFrame(intervals), "of", "value", group, "loss"),
        reliability.draw(results, group),
        residuals.draw(results, group),
        learning_curve.draw(FigureInputs(history=history, targets={"own": group})),
    ]
    assert [find_overlaps(figure) for figure in drawn] == [[]] * 4


@pytest.mark.slow
def test_ticks_of_the_loss_are_numbers() -> None:
    keys = ["training_accuracy_own", "validation_accuracy_own", "validation_r2_own", "validation_ccc_own"]
    history = pd.DataFrame({"epoch": [1, 2], "training_loss": [0.03, 0.004], "validation_loss": [0.04, 0.02]})
    group = TargetGroup.model_construct(columns=[], range=(0.0, 1.0))
    figure = learning_curve.draw(
        FigureInputs(history=history.assign(**dict.fromkeys(keys, 0.5)), targets={"own": group})
    )
    figure.draw_without_rendering()
    axis = figure.axes[0].yaxis
    texts = [text.get_text() for text in (*axis.get_ticklabels(), *axis.get_ticklabels(minor=True))]
    assert {"0.005", "0.01", "0.02"} <= set(texts)
    assert not any("$" in text for text in texts)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [[*TRAITS[:2]], [*TRAITS], [*TRAITS, *LONG]], ids=len)
def test_titles_of_importance_maps_do_not_overlap_on_paper(columns: list[str]) -> None:
    group = TargetGroup(columns=columns, range=[0, 1], head="sigmoid", loss="mse", weight=1)
    maps = {
        ("own", method, stream): np.ones((4, 4, len(columns)))
        for method in importance_on_the_face.TITLES
        for stream in ("faces", "flow")
    }
    figure = importance_on_the_face.draw(FigureInputs(importance=_read.ImportanceMaps(maps, {}, {}, {})), group)
    assert find_overlaps(figure) == []
    figures.fit_to_paper(figure)
    assert find_overlaps(figure) == []
    renderer = figure._get_renderer()
    labels = [axes.yaxis.label.get_window_extent(renderer) for axes in figure.axes if axes.get_ylabel()]
    assert not any(box.overlaps(other) for box, other in combinations(labels, 2))


def test_tick_labels_of_narrow_panels_do_not_overlap_on_paper() -> None:
    group = TargetGroup(columns=list(TRAITS), range=[0, 1], head="sigmoid", loss="mse", weight=1)
    rows = [
        {"control": control, "target": target, "loss": 0.1, "low": 0.0, "high": 0.16, "clips": 40, "repeats": 3}
        for control in ("another clip's faces", "no motion")
        for target in ("mean", *TRAITS)
    ]
    figure = figures.controls.draw(FigureInputs(controls=pd.DataFrame(rows)), group)
    figures.fit_to_paper(figure)
    figure.draw_without_rendering()
    renderer = figure._get_renderer()
    for axes in figure.axes:
        boxes = [label.get_window_extent(renderer) for label in axes.get_xticklabels() if label.get_text()]
        assert len(boxes) >= 2
        assert not any(box.overlaps(other) for box, other in combinations(boxes, 2))


def test_legend_names_only_drawn_kinds_of_videos() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"clip": f"{number}", "target": target, "video_in_training": False, "actual": actual, "predicted": actual}
        for target in TRAITS
        for number, actual in enumerate(rng.uniform(size=10))
    ]
    group = TargetGroup(columns=list(TRAITS), range=[0, 1], head="sigmoid", loss="mse", weight=1)
    for module, text in ((figures.predicted_against_actual, "unseen video (10)"), (residuals, "unseen video")):
        figure = module.draw(FigureInputs(predictions=pd.DataFrame(rows)), group)
        assert [entry.get_text() for entry in figure.legends[0].get_texts()] == [text]
