"""Users' images in place of videos: how they are found and read, what is rejected, and S2D trained on them."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from lib.analysis._regions import Region, mean_steps, remove_regions
from lib.core.errors import InputError
from lib.core.shards import Record
from lib.data.augment import AugmentationDraws, augment
from lib.data.batch import Sample, collate
from lib.data.dataset import make_inputs
from lib.data.inputs import find_kind
from lib.model import encoders
from lib.model.settings import check_settings
from lib.sources._archives import annotation_place
from lib.streams import pictures
from lib.streams.base import Raw, StreamInfo, load, load_stream_info
from tests.conftest import ROOT
from tests.project_copy import ANALYSES, WITHOUT_VIDEO
from tests.stage_runs import StageRuns
from tools.parameters import merge_parameters, plain

CLIP = "anna.000.mp4"


def make_image(value: int, height: int = 20, width: int = 20) -> np.ndarray:
    """An image with red `value`, green 0 and blue 255."""
    return np.dstack([np.full((height, width), level, np.uint8) for level in (255, 0, value)])


def write_images(folder: Path, kind: str, clip: str, names: dict[str, np.ndarray]) -> None:
    clip_folder = folder / "pictures" / kind / clip
    clip_folder.mkdir(parents=True, exist_ok=True)
    for name, value in names.items():
        cv2.imwrite(str(clip_folder / name), value)


def load_images(
    folder: Path, clip: str = CLIP, drawings: str | None = None, side: int = 20, points: str | None = None
) -> Record:
    pictures._by_clip.cache_clear()
    settings = pictures.Settings(enabled=True, faces="faces", drawings=drawings, points=points, fps=4.0, side=side)
    return pictures.load_pictures(Raw(clip, None, folder), settings)


@pytest.mark.parametrize("named", [CLIP, "anna.000"])
def test_images_are_read_in_numeric_order_as_rgb(tmp_path: Path, named: str) -> None:
    write_images(tmp_path, "faces", named, {f"frame{number}.png": make_image(number) for number in (10, 9, 100)})
    record = load_images(tmp_path)
    assert record.arrays["faces"][:, 0, 0].tolist() == [[9, 0, 255], [10, 0, 255], [100, 0, 255]]
    assert record.arrays["times"].tolist() == [0, 0.25, 0.5]
    assert pictures.read_steps(record, np.array([2]), "faces").shape == (1, 3, 20, 20)
    assert "drawings" not in record.arrays


def test_images_of_any_size_are_scaled(tmp_path: Path) -> None:
    write_images(
        tmp_path, "faces", CLIP, {"a.png": make_image(1, 40, 60), "b.png": make_image(2, 10, 8), "c.png": make_image(3)}
    )
    assert load_images(tmp_path).arrays["faces"].shape == (3, 20, 20, 3)


def test_drawings_are_read_with_the_faces(tmp_path: Path) -> None:
    for kind, value in (("faces", 7), ("drawn", 200)):
        write_images(tmp_path, kind, CLIP, {"1.png": make_image(value), "2.png": make_image(value + 1)})
    record = load_images(tmp_path, drawings="drawn")
    assert record.arrays["faces"][:, 0, 0, 0].tolist() == [7, 8]
    assert record.arrays["drawings"][:, 0, 0, 0].tolist() == [200, 201]
    settings = pictures.Settings(enabled=True, faces="faces", drawings="drawn", points=None, fps=4.0, side=20)
    assert len(pictures.annotation_files(settings, tmp_path)) == 4
    assert (
        pictures.annotation_files(settings.model_copy(update={"drawings": None}), tmp_path)[0].parent.parent.name
        == "faces"
    )


def test_clip_with_missing_images_is_rejected(tmp_path: Path) -> None:
    write_images(tmp_path, "faces", CLIP, {"1.png": make_image(1), "2.png": make_image(1)})
    write_images(tmp_path, "drawn", CLIP, {"1.png": make_image(1)})
    write_images(tmp_path, "faces", "damaged.mp4", {"1.png": make_image(1)})
    (tmp_path / "pictures/faces/damaged.mp4/2.png").write_bytes(b"no picture")
    assert load_images(tmp_path, "ben.mp4").rejected == "pictures: none in faces"
    assert load_images(tmp_path, drawings="drawn").rejected == "pictures: 2 faces and 1 drawings"
    assert load_images(tmp_path, "damaged.mp4").rejected == "pictures: 2.png in faces can't be read"
    assert pictures.load_pictures(Raw(CLIP, None, None), None).rejected  # type: ignore[arg-type]


def test_missing_image_folder_is_named_with_its_key(tmp_path: Path) -> None:
    write_images(tmp_path, "faces", CLIP, {"1.png": make_image(1)})
    with pytest.raises(InputError, match=r"pictures\.drawings = 'drawn'; allowed: a folder below data/archives/ with"):
        load_images(tmp_path, drawings="drawn")


def test_landmark_files_are_read_and_scaled_with_images(tmp_path: Path) -> None:
    write_images(tmp_path, "faces", CLIP, {"9.png": make_image(1, 40, 60), "10.png": make_image(2, 20, 20)})
    clip_folder = tmp_path / "pictures/marks" / CLIP
    clip_folder.mkdir(parents=True)
    for number, lines in (("9", "30 20\n60.0 40.0\n0 1e1"), ("10", "5 6\n7 8\n9 10")):
        (clip_folder / f"{number}.pts").write_text(f"version: 1\nn_points: 3\n{{\n{lines}\n}}\n")
    record = load_images(tmp_path, points="marks", side=20)
    assert record.arrays["points"].tolist() == [[[10, 10], [20, 20], [0, 5]], [[5, 6], [7, 8], [9, 10]]]
    assert pictures.read_steps(record, np.array([1]), "points").shape == (1, 3, 2)
    assert find_kind("pictures.points") == "points"
    assert find_kind("pictures.faces") == find_kind("pictures.drawings") == "pictures"
    assert annotation_place(Path("marks/x.mp4/1.PTS")) == Path("annotations/pictures/marks/x.mp4/1.PTS")
    for text, reason in (
        ("{\n1 2\n}", "images in marks have 1 and 3 points"),
        ("{\n1 2 3\n}", "10.pts in marks can't be read"),
        ("1 2", "10.pts in marks can't be read"),
        ("{\nnan 2\n}", "10.pts in marks can't be read"),
    ):
        (clip_folder / "10.pts").write_text(text)
        assert load_images(tmp_path, points="marks").rejected == f"pictures: {reason}"
    (clip_folder / "10.pts").unlink()
    assert load_images(tmp_path, points="marks").rejected == "pictures: 2 faces and 1 points"


def test_annotation_place_keeps_paths_of_images() -> None:
    assert annotation_place(Path("a/faces/x.mp4/1.JPG")) == Path("annotations/pictures/a/faces/x.mp4/1.JPG")
    assert annotation_place(Path("a/labels.csv")) == Path("annotations/labels.csv")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> StageRuns:
    """Twelve clips with four faces each (in folders) and four drawings (in a zip). `warm` is the redness of the faces."""
    project = StageRuns(tmp_path_factory.mktemp("pictures"))
    archives = project.folder / "data/archives"
    rows = []
    with zipfile.ZipFile(archives / "drawn.zip", "w") as file:
        for number in range(12):
            clip = f"person{number}.000.mp4"
            for number_of_image in range(4):
                path = archives / "faces" / clip / f"{number_of_image}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), make_image(20 * number, 32, 32))
                data = cv2.imencode(".png", make_image(number_of_image, 32, 32))[1]
                file.writestr(f"{clip}/{number_of_image}.png", data.tobytes())
            split = ("training", "training", "validation", "test")[number % 4]
            rows.append({"clip": clip, "split": split, "warm": number / 11})
    project.use_table(
        pd.DataFrame(rows), *WITHOUT_VIDEO, "download.table.targets={warm: [0, 1]}", "targets.own.columns=[warm]",
        "targets.own.range=[0, 1]", "pictures.enabled=true", "pictures.drawings=drawn", "pictures.side=32",
        "model.use=[s2d]", "model.fusion=plain_concat", "train.epochs=2",
        "model.encoders.s2d.reads=[pictures.faces, pictures.drawings]", "model.encoders.s2d.landmarks=drawing",
        "model.encoders.s2d.frames=4", "analyse.attention_clips=0", "analyse.control_repeats=1",
        "evaluate.resamples=100",
    )  # fmt: skip
    project.run_stages(last="analyse")
    return project


def test_s2d_trains_on_images_without_videos(project: StageRuns) -> None:
    metrics = (project.folder / "metrics/pictures.json").read_text()
    assert '"clips": 12' in metrics
    assert '"faces": 48' in metrics
    predictions = pd.read_csv(project.folder / "data/predictions.csv").query("split == 'test'")
    assert predictions["clip"].tolist() == [f"person{number}.000.mp4" for number in (11, 3, 7)]
    weights = torch.load(project.folder / "data/model.pt", weights_only=True)
    shapes = {"faces": [3, 32, 32], "drawings": [3, 32, 32], "points": [0]}
    assert weights["streams"]["pictures"]["shapes"] == shapes


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> StageRuns:
    """params/pictures.yaml on 40 persons with one to three noisy images each. `warm` is the redness of the faces."""
    project = StageRuns(tmp_path_factory.mktemp("frozen"))
    archives, rng, rows = project.folder / "data/archives", np.random.default_rng(0), []
    for number in range(40):
        red = rng.uniform(40, 200)
        for number_of_image in range(1 + number % 3):
            path = archives / "faces" / f"p{number}" / f"{number_of_image}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = rng.normal(0, 20, (24, 20, 3))
            cv2.imwrite(str(path), np.clip(make_image(0, 24, 20) + noise + [0, 0, red], 0, 255).astype(np.uint8))
        split = ("training", "training", "validation", "test")[number % 4]
        rows.append({"clip": f"p{number}", "split": split, "warm": red / 255})
    pd.DataFrame(rows).to_csv(archives / "clips.csv", index=False)
    project.list_archives()
    project.run_module(
        "tools.parameters", "pictures", "download.split=official", "download.table.targets={warm: [0, 1]}",
        "targets.own.columns=[warm]", "targets.own.range=[0, 1]", f"embeddings.weights={ROOT}/tests/data/face_cells.onnx",
        "train.epochs=2", "evaluate.resamples=100", *(f"analyse.{key}=0" for key in ANALYSES),
    )  # fmt: skip
    project.run_stages()
    return project


def test_images_alone_have_a_model_ridge_and_stack(frozen: StageRuns) -> None:
    scores = pd.read_csv(frozen.folder / "data/scores.csv").query("subset == 'all' and target == 'warm'")
    r2 = scores[scores["score"] == "r2"].set_index("predictor")["value"]
    assert min(r2["ridge_descriptors"], r2["ridge_embeddings"], r2["stacked_ridge"]) > 0.8
    predictions = pd.read_csv(frozen.folder / "data/predictions.csv").query("split == 'test'")
    assert sorted(predictions["clip"]) == sorted(f"p{number}" for number in range(3, 40, 4))
    report = (frozen.folder / "plots/report.html").read_text()
    assert "ridge on descriptors" in report
    assert "a cosine similarity of 0.744 or more (SFace)" in report


def test_frozen_networks_read_images_of_the_stream_pictures(frozen: StageRuns) -> None:
    for stream, size in (("embeddings", 48), ("descriptors", 3 * 8**2)):
        info = load_stream_info(frozen.folder / "data", [stream])
        assert list(info) == ["pictures", stream]
        assert info[stream].shapes == {"": [size]}


def test_descriptor_of_images_is_their_mean(tmp_path: Path) -> None:
    write_images(tmp_path, "faces", CLIP, {"1.png": make_image(10), "2.png": make_image(40)})
    stream = load("descriptors")
    settings = stream.settings(enabled=True, source="pictures", face_cells=2, flow_cells=4)
    assert stream.inputs_of(settings.model_dump()) == ("pictures",)
    assert stream.inputs_of(settings.model_dump() | {"source": "faces"}) == ("faces", "flow")
    record = stream.make_extractor(settings)(load_images(tmp_path))
    assert stream.read_steps(record, np.array([0]))[0] == pytest.approx([25 / 255, 0, 1] * 4)


def test_encoder_reads_faces_and_drawings(tmp_path: Path) -> None:
    write_images(tmp_path, "faces", CLIP, {"1.png": make_image(90, 32, 32)})
    write_images(tmp_path, "drawn", CLIP, {"1.png": make_image(250, 32, 32)})
    record = load_images(tmp_path, drawings="drawn", side=32)
    settings = plain(merge_parameters("demo", []))["model"]["encoders"]["s2d"]
    settings |= {"reads": ["pictures.faces", "pictures.drawings"], "landmarks": "drawing", "init": "reference"}
    encoder_settings = check_settings({"s2d": settings})["s2d"]
    shapes = {"faces": [3, 32, 32], "drawings": [3, 32, 32]}
    inputs = make_inputs({"pictures": record}, {"s2d": encoder_settings}, {"pictures": StreamInfo({}, shapes)}, None)[
        "s2d"
    ]
    assert inputs["pictures.faces"].values[0, 0, 0, 0] == 90
    assert inputs["pictures.drawings"].values[0, 0, 0, 0] == 250


def test_encoder_reads_faces_and_landmarks(tmp_path: Path) -> None:
    write_images(tmp_path, "faces", CLIP, {"1.png": make_image(90, 64, 64)})
    (tmp_path / "pictures/marks" / CLIP).mkdir(parents=True)
    (tmp_path / "pictures/marks" / CLIP / "1.pts").write_text("{\n" + "16 48\n" * 5 + "}")
    record = load_images(tmp_path, side=32, points="marks")
    settings = plain(merge_parameters("demo", []))["model"]["encoders"]["s2d"]
    settings |= {"reads": ["pictures.faces", "pictures.points"], "landmarks": "points", "init": "reference"}
    encoder_settings = check_settings({"s2d": settings})["s2d"]
    shapes = {"faces": [3, 32, 32], "points": [5, 2]}
    inputs = make_inputs({"pictures": record}, {"s2d": encoder_settings}, {"pictures": StreamInfo({}, shapes)}, None)
    assert inputs["s2d"]["pictures.points"].values.tolist() == [[[8, 24]] * 5]
    removed = remove_regions(inputs, [Region("pictures", (0, 0))], mean_steps([Sample(inputs, {}, 0)]))
    assert removed["s2d"]["pictures.points"].values.tolist() == [[[8, 24]] * 5]  # removing a cell changes only images
    kinds = {reference: find_kind(reference) for reference in encoder_settings.reads}
    mirror = AugmentationDraws(
        torch.tensor([True]), torch.zeros(1, 2, dtype=torch.int64), torch.ones(1), torch.zeros(1), 0
    )
    mirrored = augment(collate([Sample(inputs, {}, 0)]), mirror, kinds).inputs["s2d"]
    assert mirrored["pictures.points"].values.tolist() == [[[[24, 24]] * 5]]
    assert encoders.build("s2d", encoder_settings, list(shapes.values()))(mirrored).values.shape[:2] == (1, 1)
