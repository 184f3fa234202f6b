"""Predictions as data: texts, tables, figures and HTML; the examples in docstrings run."""

import doctest
import importlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from lib.core.errors import InputError
from lib.serving import output
from lib.serving.results import COLUMNS, Prediction, to_frame
from lib.serving.scores import Estimate, Labels, Window
from tests.conftest import ROOT

MODULES = [path for path in sorted((ROOT / "lib").rglob("*.py")) if "\n    >>> " in path.read_text()]
LABELS = {"traits": Labels((0.0, 1.0), {"openness": [0.1, 0.3, 0.5, 0.7, 0.9]})}


def predict(name: str, score: float = 0.4, **changes: object) -> Prediction:
    targets = {
        "traits": {"openness": Estimate(score, 0.2, 0.6, 40.0), "calm": Estimate(0.5, None, None, None)},
        "mood": {"calm": Estimate(3.0, None, None, None, 0.7)},
    }
    values = {
        "targets": targets,
        "rejected": "",
        "warnings": ("2 cuts", "<dark>"),
        "usable_fraction": 0.9,
        "labels": LABELS,
    }
    return Prediction(Path(name), **(values | changes))  # type: ignore[arg-type]


REJECTED = predict("b<.mp4", targets={}, rejected="faces: found in 0% of the frames", warnings=(), usable_fraction=0.0)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_docstring_examples_run(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_prediction_is_readable_as_text() -> None:
    assert repr(predict("a.mp4")) == "Prediction(a.mp4: openness 0.400, calm 0.500, calm 3.000; 2 warnings)"
    assert repr(REJECTED) == "Prediction(b<.mp4: rejected: faces: found in 0% of the frames)"
    lines = str(predict("a.mp4")).splitlines()
    assert lines[2] == "  calm (traits)  0.500"
    assert str(REJECTED) == "b<.mp4\n  rejected: faces: found in 0% of the frames"


def test_predictions_become_one_table() -> None:
    table = to_frame([predict("a.mp4"), REJECTED, predict("c.mp4", 0.6)])
    assert list(table) == list(COLUMNS)
    assert table["clip"].tolist() == ["a.mp4"] * 3 + ["b<.mp4"] + ["c.mp4"] * 3
    assert table["target"].tolist() == ["openness", "calm", "calm", "", "openness", "calm", "calm"]
    assert table["targets"].tolist()[:3] == ["traits", "traits", "mood"]
    np.testing.assert_array_equal(table["score"], [0.4, 0.5, 3.0, np.nan, 0.6, 0.5, 3.0])
    np.testing.assert_array_equal(table["scale"], [np.nan, np.nan, 0.7, np.nan, np.nan, np.nan, 0.7])
    assert table["rejected"].tolist() == ["", "", "", REJECTED.rejected, "", "", ""]
    assert list(to_frame([])) == list(COLUMNS)
    assert predict("a.mp4").to_frame().equals(table[:3])


def test_figure_shows_scores_on_the_training_labels() -> None:
    traits, mood = predict("a.mp4").plot().axes
    assert traits.get_xlim() == (0, 1)
    bars = sorted((bar.get_x(), bar.get_width()) for bar in traits.patches)
    assert bars == [(0.1, pytest.approx(0.8)), (0.3, pytest.approx(0.4))]  # 90 % and 50 % of the labels
    assert [label.get_text() for label in traits.get_yticklabels()] == ["openness", "calm"]
    assert {0.4, 0.5} <= {float(line.get_xdata()[0]) for line in traits.lines if line.get_marker() == "o"}
    assert not mood.patches
    with pytest.raises(InputError, match=r"is rejected: faces: found .*; plot a clip with scores"):
        REJECTED.plot()


def test_notebook_shows_the_figure_and_escapes_texts() -> None:
    for prediction, images in ((predict("a.mp4"), 1), (REJECTED, 0)):
        tree = ElementTree.fromstring(prediction._repr_html_().replace("xlink:", ""))
        assert len(tree.findall(".//{http://www.w3.org/2000/svg}svg")) == images
        assert tree.findtext("strong") == str(prediction.clip)
    assert "warning: &lt;dark&gt;" in predict("a.mp4")._repr_html_()


def test_json_contains_no_training_labels() -> None:
    windows = (Window(0.0, 2.0, {}, 0.0, "no face"),)
    assert list(output.to_json(predict("a.mp4", windows=windows))) == [
        "clip", "targets", "rejected", "warnings", "windows", "usable_fraction",
    ]  # fmt: skip


def test_types_are_exported() -> None:
    assert (ROOT / "lib/py.typed").is_file()
