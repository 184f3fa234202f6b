"""Published models: the folder's files, the same scores elsewhere, and what is rejected."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import tools.predict
import tools.publish
from lib.core.errors import InputError
from lib.core.targets import TRAITS
from lib.model import checkpoint, folder
from lib.model.checkpoint import LabelQuantiles, TrainingSummary
from lib.model.network import Network
from lib.report import licences
from lib.serving import publish
from lib.serving.predictor import Predictor
from lib.sources.demo.head import Performance
from lib.streams.base import StreamInfo
from tests.code_blocks import find_code_blocks
from tests.conftest import ROOT
from tests.published_files import FaceSearch, read_images
from tests.run_tool import call_main
from tests.small_network import TRAITS_GROUP, make_settings
from tests.stage_parameters import small_parameters
from tests.video_files import write_talking_head

CPU = torch.device("cpu")
SHAPES = {"frames": {"": [3, 240, 320]}, "faces": {"": [3, 64, 64]}, "flow": {"": [2, 64, 64]}}
PROVENANCE = {"hardware": "a processor", "clips": {"training": 3}, "seed": 1}


def save_model(path: Path, **streams: dict[str, Any]) -> Path:
    """Save a network with random weights, references and ranges. streams: changed settings of its streams."""
    settings = make_settings()
    values = small_parameters()
    infos = {
        name: StreamInfo(values[name] | streams.get(name, {}), SHAPES[name]) for name in ("frames", "faces", "flow")
    }
    torch.manual_seed(1)
    quantiles = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None].repeat(1, 5)
    quantiles[:, 3] = torch.nan  # no training label is known
    widths = torch.tensor([0.1, 0.2, 1 / 3, torch.inf, 0.4], dtype=torch.float64)
    training = TrainingSummary(
        ["demo"],
        seconds=[1.5, 2.5],
        references={"traits": LabelQuantiles(quantiles, widths)},
        ranges={"faces": {"brightness of the face, of 255": (1 / 3, 250.0)}},
    )
    weights = Network.from_settings(settings, TRAITS_GROUP, infos).state_dict()
    checkpoint.save(path, weights, settings, TRAITS_GROUP, infos, training, PROVENANCE)
    return path


def write_evaluation(at: Path, model: Path) -> None:
    """Write the model card and the provenance of a model, as the stages do."""
    (at / "card.md").write_text("---\nlicense: unknown\n---\n\n# Model card: traits from video clips\n")
    (at / "provenance.json").write_text(json.dumps(checkpoint.load(model, CPU).provenance))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a clip, and the published model."""
    folder = tmp_path_factory.mktemp("publish")
    model = save_model(folder / "model.pt")
    write_evaluation(folder, model)
    write_talking_head(folder / "talk.mp4", 2, Performance(0.0, 1.0, 0.0, 2), 2.0, 15)
    publish.publish(model, folder / "card.md", folder / "provenance.json", folder / "published")
    return folder


@pytest.fixture
def published(workplace: Path, tmp_path: Path) -> Path:
    """A copy of the published folder, without its smoke test."""
    (tmp_path / "published").mkdir()
    for name in folder.FILES:
        (tmp_path / "published" / name).write_bytes((workplace / "published" / name).read_bytes())
    return tmp_path / "published"


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def test_every_file_of_the_folder_is_read_back(workplace: Path) -> None:
    files = {str(path.relative_to(workplace / "published")) for path in (workplace / "published").rglob("*.*")}
    assert files == {*folder.FILES, publish.CARD, publish.LICENCES, publish.CLIP, publish.EXPECTED}
    of_file, of_folder = checkpoint.read(workplace / "model.pt"), checkpoint.read(workplace / "published")
    assert of_folder.keys() == of_file.keys()
    for name, values in of_file["weights"].items():
        assert torch.equal(of_folder["weights"][name], values), name
    assert load_file(workplace / "published" / folder.WEIGHTS).keys() == of_file["weights"].keys()
    for part, tensor in of_file["references"]["traits"].items():
        torch.testing.assert_close(of_folder["references"]["traits"][part], tensor, rtol=0, atol=0, equal_nan=True)
    others = of_file.keys() - {"weights", "references"}
    assert json.dumps({name: of_folder[name] for name in others}, sort_keys=True) == json.dumps(
        {name: of_file[name] for name in others}, sort_keys=True
    )
    _, header, body = (workplace / "published" / publish.CARD).read_text().split("---\n", 2)
    assert yaml.safe_load(header) == {"license": "unknown"}
    assert "# Model card: traits from video clips" in body
    assert "`pnet.pt` | faces | facenet-pytorch |" in body
    page = (workplace / "published" / publish.LICENCES).read_text()
    assert "| the demo | rendered from scikit-image's" in page
    assert "| `pnet.pt` | MIT License (in the package facenet-pytorch) | stream `faces` |" in page
    assert "| torch | BSD-3-Clause |" in page
    expected = json.loads((workplace / "published" / publish.EXPECTED).read_text())
    assert expected["rejected"] == ""
    assert expected["clip"] == publish.CLIP
    assert len(expected["targets"]["traits"]) == 5


def test_moved_folder_gives_the_same_scores_elsewhere(workplace: Path, tmp_path: Path) -> None:
    scores = [
        estimate.score
        for estimate in Predictor(workplace / "model.pt", CPU)(workplace / "talk.mp4").targets["traits"].values()
    ]
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere/model"
    for path in (workplace / "published").rglob("*.*"):
        (moved / path.relative_to(workplace / "published")).parent.mkdir(parents=True, exist_ok=True)
        (moved / path.relative_to(workplace / "published")).write_bytes(path.read_bytes())
    script = (
        "import json, sys\n"
        "from lib.serving.predictor import Predictor\n"
        f"prediction = Predictor.from_pretrained('model')({str(workplace / 'talk.mp4')!r})\n"
        "print(json.dumps([estimate.score for estimate in prediction.targets['traits'].values()]))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert not (tmp_path / "elsewhere/data").exists()
    assert json.loads(run("-c", script)) == pytest.approx(scores, abs=1e-6)
    assert "the largest difference from the expected scores is " in run("-m", "tools.publish", "model", "--check")
    (line,) = run(
        "-m", "tools.predict", "--model", "model", "--format", "jsonl", str(workplace / "talk.mp4")
    ).splitlines()
    predicted = json.loads(line)
    assert [estimate["score"] for estimate in predicted["targets"]["traits"].values()] == pytest.approx(
        scores, abs=1e-6
    )
    assert predicted["model"] == folder.checksum(moved)[:12]


def test_python_page_shows_predictions_as_data(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    scope: dict[str, Any] = {}
    exec(find_code_blocks(ROOT / "docs/python.md", "python")[0], scope)
    assert list(scope["scores"].loc["talk.mp4"].index) == sorted(TRAITS)
    assert "nothing.mp4 is not a file" in scope["table"]["rejected"].tolist()[-1]
    labels = scope["predictions"][0].labels["traits"]
    assert labels.range == (0, 1)
    assert set(labels.quantiles) == {*TRAITS} - {"neuroticism"}  # it has no training labels
    assert (workplace / "talk.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "name", "shows_faces"),
    [([], "talk.mp4", True), (["--faces", "blur", "--names", "pseudonym"], "clip 1", False)],
    ids=["show", "hide"],
)
def test_explain_hides_faces_and_names(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], name: str, shows_faces: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    model, search = workplace / "published", FaceSearch()
    with pytest.raises(SystemExit, match="False"):
        call_main(tools.predict, workplace / "talk.mp4", "--model", model, "--explain", "shown", *options)
    assert {path.name for path in (tmp_path / "shown").iterdir()} == {f"{name}.png", f"{name}.mp4"}
    for path in (tmp_path / "shown").iterdir():
        assert (search.count(read_images(path)) > 0) == shows_faces


def test_loading_a_folder_unpickles_nothing(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("unpickled"))
    assert checkpoint.load(published, CPU).training.references["traits"].half_widths[3] == torch.inf


def test_from_pretrained_reads_a_folder_and_the_hubs_cache(
    workplace: Path, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor.from_pretrained(str(published), device=CPU, person="left")
    assert (predictor.path, predictor.person) == (published, "left")
    with pytest.raises(InputError, match=r"name = '.*model\.pt' is a file; allowed: a folder that .* use Predictor\("):
        Predictor.from_pretrained(workplace / "model.pt")
    with pytest.raises(InputError, match="name = '/nowhere/model' is not a folder; allowed: an existing folder, or"):
        Predictor.from_pretrained("/nowhere/model")
    import huggingface_hub

    asked = []

    def fetch(name: str, **options: Any) -> str:
        asked.append((name, options["revision"], options["local_files_only"]))
        return str(published)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert Predictor.from_pretrained("somebody/traits", revision="v1", device=CPU).path == published
    assert asked == [("somebody/traits", "v1", False)]


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("config.json", lambda value: value.update(format=4), "has format 4, but this version reads format 3"),
        ("config.json", lambda value: value.pop("targets"), r"is not complete \(KeyError: 'targets'\)"),
        (
            "preprocessing.json",
            lambda value: value["packages"].update(torch="9.1.0"),
            "was made with torch 9.1.0, but .* is installed; allowed: version 9; run pip install torch==9.1.0",
        ),
        (
            "preprocessing.json",
            lambda value: value["packages"].update({"no-such-package": "1.2"}),
            "needs no-such-package 1.2, which is not installed; allowed: version 1; run pip install",
        ),
        (
            "preprocessing.json",
            lambda value: value["requires"]["faces"][0].update(sha256="0" * 64),
            r"needs pnet.pt for the stream faces, which is another file .* install the version of facenet-pytorch",
        ),
        (
            "preprocessing.json",
            lambda value: value["streams"]["faces"].update(allow_code=True),
            r"faces\.allow_code = true; allowed in a published model: false",
        ),
    ],
    ids=["format", "missing key", "other package", "missing package", "other file", "code"],
)
def test_incompatible_folder_is_rejected_by_name(
    published: Path, name: str, edit: Callable[[dict[str, Any]], Any], message: str
) -> None:
    change(published / name, edit)
    with pytest.raises(InputError, match=message):
        Predictor.from_pretrained(published, device=CPU)


@pytest.mark.parametrize("name", folder.FILES)
def test_damaged_folder_is_rejected_by_file(published: Path, name: str) -> None:
    (published / name).write_bytes((published / name).read_bytes()[:100])
    with pytest.raises(InputError, match=rf"{name} is (damaged|not valid JSON).*get it again"):
        checkpoint.load(published, CPU)
    (published / name).unlink()
    with pytest.raises(InputError, match=rf"{name} is missing or can't be read"):
        checkpoint.load(published, CPU)


def test_folder_names_the_weights_that_a_stream_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data/weights").mkdir(parents=True)
    weights = tmp_path / "data/weights/face_detection_yunet_2023mar.onnx"
    weights.write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    model = save_model(tmp_path / "model.pt", faces={"detector": "yunet", "weights": None})
    (tmp_path / "published").mkdir()
    folder.write(checkpoint.read(model), tmp_path / "published")
    checkpoint.load(tmp_path / "published", CPU)
    weights.unlink()
    with pytest.raises(
        InputError, match=r"needs face_detection_yunet.* is missing; .*run python -m tools\.weights yunet"
    ):
        checkpoint.load(tmp_path / "published", CPU)


def test_publish_rejects_another_card_or_folder(workplace: Path, tmp_path: Path) -> None:
    def run(card: Path, provenance: Path, to: Path) -> None:
        publish.publish(workplace / "model.pt", card, provenance, to)

    card, provenance = workplace / "card.md", tmp_path / "provenance.json"
    with pytest.raises(InputError, match="published exists; allowed: a new or an empty folder"):
        run(card, provenance, workplace / "published")
    with pytest.raises(InputError, match=r"provenance\.json is missing; .* run `dvc repro`"):
        run(card, provenance, tmp_path / "new")
    provenance.write_text(json.dumps(checkpoint.load(workplace / "model.pt", CPU).provenance | {"seed": 2}))
    with pytest.raises(InputError, match=r"describes another training than the model \(seed differ\)"):
        run(card, provenance, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_check_finds_other_scores(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predicted = json.loads((workplace / "published" / publish.EXPECTED).read_text())
    monkeypatch.setattr(publish, "predict_smoke_test", lambda _: predicted)
    (tmp_path / "smoke_test").mkdir()
    expected = tmp_path / publish.EXPECTED
    expected.write_bytes((workplace / "published" / publish.EXPECTED).read_bytes())
    call_main(tools.publish, tmp_path, "--check")
    change(expected, lambda value: value["targets"]["traits"]["openness"].update(score=0.9))
    with pytest.raises(InputError, match=r"scores differ from the expected ones by .*; allowed: 1e-04"):
        call_main(tools.publish, tmp_path, "--check")
    change(expected, lambda value: value.update(rejected="no face"))
    with pytest.raises(InputError, match=r"clip\.mp4: accepted; expected: no face"):
        call_main(tools.publish, tmp_path, "--check")


def test_licences_agree_with_the_documentation() -> None:
    page = (ROOT / "docs/licences.md").read_text()
    for name, licence in licences.DATA_SETS.values():
        assert f"| {name} | " in page
        assert licence.removeprefix("rendered ") in page.replace("rendered by this project ", "")
    encoders = {"faces": {"weights": "imagenet", "backbone": "resnet18"}}
    text = licences.make_licences(["own"], encoders, {}, {"numpy": "2.4.6"})
    assert "| own | that of its files | corpus `own` |" in text
    assert "| resnet18 (imagenet) | BSD (torchvision); ImageNet" in text
    assert "| numpy | BSD" in text
