"""Reports without faces and names of clips, checked with the project's own detector."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import skimage.data

import tools.predict
from lib.report import privacy
from lib.report.figures import ClipAttention, FigureInputs
from lib.report.figures._read import EncoderAttention, ImportanceMaps, MeanAttention, Sample, SampleArray
from lib.report.privacy import Privacy, Pseudonyms, hide_face, place_template
from lib.report.settings import FacesMode
from lib.streams.faces import align
from tests.published_files import FaceSearch

FACE = np.ascontiguousarray(skimage.data.astronaut()[0:240, 100:340])
STEPS = SampleArray(FACE[None], np.zeros(1), True)
FLOW = STEPS._replace(full=1.0)
ENCODERS = {"look": {"reads": ["faces"]}, "scene": {"reads": ["frames"]}}


def make_results() -> FigureInputs:
    mean = EncoderAttention(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), np.zeros(1), FACE)
    clips = pd.DataFrame({"clip": ["b.mp4", "a.mp4", "c.mp4"]})
    return FigureInputs(
        clips=clips,
        predictions=clips.assign(predicted=0.5),
        map=clips.assign(x=1.0),
        data={"left_out": {"clips": 5, "first": ["c.mp4"]}, "hours": 2},
        samples={"a.mp4": Sample({"faces": STEPS, "frames": STEPS, "flow": FLOW}, {}, np.zeros(0))},
        attention={"b.mp4": ClipAttention({}, {}, {}, {"look": FACE[None], "scene": FACE[None]})},
        mean_attention=MeanAttention(3, {"look": mean, "sound": mean._replace(picture=None)}),
        importance=ImportanceMaps({}, {}, {"faces": FACE}, {}),
    )


def list_images(results: FigureInputs) -> list[np.ndarray]:
    sample, attention = (next(iter(part.values())) for part in (results.samples, results.attention))
    images = [image for name, steps in sample.pictures.items() if name != "flow" for image in steps.values]
    images += [image for pictures in attention.pictures.values() for image in pictures]
    means = [encoder.picture for encoder in results.mean_attention.encoders.values()]
    return [*images, *(mean for mean in means if mean is not None), *results.importance.pictures.values()]


@pytest.mark.parametrize("mode", ["blur", "landmarks", "none"])
def test_hidden_results_contain_no_face(mode: FacesMode) -> None:
    search, shown = FaceSearch(), Privacy.from_settings(mode, "clip", ENCODERS)
    images = list_images(make_results())
    assert len(images) == 6
    assert all(search.count(iter([image])) for image in images)
    hidden = shown.hide(make_results())
    assert search.count(iter(list_images(hidden))) == 0
    assert [image.shape for image in list_images(hidden)] == [image.shape for image in images]
    np.testing.assert_array_equal(hidden.samples["a.mp4"].pictures["flow"].values, FLOW.values)


def test_default_settings_change_nothing() -> None:
    results = make_results()
    assert Privacy.from_settings("show", "clip", ENCODERS).hide(results) is results


def test_landmarks_of_aligned_faces_are_drawn() -> None:
    np.testing.assert_array_equal(privacy.TEMPLATE, align.TEMPLATE)
    hidden = hide_face(FACE, "landmarks", place_template(FACE))
    drawn = (hidden != privacy._GREY).any(-1)
    for x, y in place_template(FACE).round().astype(int):
        assert drawn[y, x]
    assert drawn.mean() < 0.01
    pictures = Privacy.from_settings("landmarks", "clip", ENCODERS).hide(make_results()).samples["a.mp4"].pictures
    assert (pictures["faces"].values != privacy._GREY).any()
    assert (pictures["frames"].values == privacy._GREY).all()  # where a face lies in a frame is not stored


def test_blur_removes_details() -> None:
    blurred = hide_face(FACE, "blur")
    assert cv2.Laplacian(blurred, cv2.CV_64F).var() < 0.01 * cv2.Laplacian(FACE, cv2.CV_64F).var()


def test_explain_takes_its_defaults_from_the_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tools.predict, "explaining", lambda clips, folder, *shown: shown)

    def choose(*options: str) -> object:
        arguments = tools.predict.make_parser().parse_args(["a.mp4", "--explain", "shown", *options])
        return tools.predict.make_explainer([], arguments)

    assert choose() == ("show", "clip")
    (tmp_path / "params.yaml").write_text("figures: {dpi: 150, faces: none, names: pseudonym}\n")
    assert choose() == ("none", "pseudonym")
    assert choose("--faces", "blur", "--names", "clip") == ("blur", "clip")


def test_pseudonyms_replace_all_names_of_clips() -> None:
    hidden = Privacy.from_settings("show", "pseudonym", ENCODERS).hide(make_results())
    names = hidden.clips["clip"].tolist()
    assert sorted(names) == ["clip 1", "clip 2", "clip 3"]
    assert hidden.predictions["clip"].tolist() == hidden.map["clip"].tolist() == names
    assert (*hidden.samples, *hidden.attention) == (names[1], names[0])
    assert hidden.data == {"left_out": {"clips": 5, "first": [names[2]]}, "hours": 2}
    again = Pseudonyms(["c.mp4", "a.mp4", "b.mp4", "a.mp4"])
    assert [again("b.mp4"), again("a.mp4"), again("c.mp4"), again("new.mp4")] == [*names, "clip 4"]
