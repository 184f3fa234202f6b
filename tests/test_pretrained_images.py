"""Embeddings by image networks of `transformers` and `timm`: equal to a direct call of the library, and clear errors."""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from lib.core import parallel, shards
from lib.core.errors import InputError, SettingError
from lib.core.parameters import check
from lib.core.shards import Record
from lib.streams import base, build, embeddings, frames, scenes
from lib.streams.embeddings import embedder
from tests.pretrained_folders import IMAGE_FAMILIES, make_image_folder, make_text_folder
from tests.stage_parameters import small_parameters, use_parameters
from tests.test_embeddings import STREAM, face_record


def make_settings(network: Path | str, **changes: Any) -> embeddings.Settings:
    return check(STREAM | {"network": str(network), "weights": None} | changes, embeddings.Settings, "embeddings")


def embed(network: Path | str, record: Record, **changes: Any) -> np.ndarray:
    return embeddings.make_extractor(make_settings(network, **changes))(record).arrays["values"]


def call_transformers(folder: Path, record: Record, **options: Any) -> Any:
    """Return the output of the library for the faces of a record, one at a time, as PIL images."""
    network = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    images = [Image.fromarray(face) for face in record.arrays["faces"]]
    pixels = torch.cat([processor(image, return_tensors="pt")["pixel_values"] for image in images])
    with torch.no_grad():
        return network(pixels, **options)


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_vectors_equal_a_direct_call_of_transformers(family: str, tmp_path: Path) -> None:
    folder, record = make_image_folder(tmp_path, family), face_record(4)
    values = embed(folder, record)
    assert values.shape == (4, 16)
    assert values.dtype == np.float32
    assert values == pytest.approx(call_transformers(folder, record).pooler_output.numpy(), abs=1e-5)
    assert np.abs(values).max() > 0.1


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_layers_are_class_tokens_or_means_over_patches(family: str, tmp_path: Path) -> None:
    folder, record = make_image_folder(tmp_path, family), face_record(3)
    states = call_transformers(folder, record, output_hidden_states=True).hidden_states
    expected = torch.stack([state.mean(1) if family == "siglip" else state[:, 0] for state in states], 1).numpy()
    assert expected.shape == (3, 3, 16)
    values = embed(folder, record, layers="all")
    assert values.dtype == np.float16
    assert values == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert embed(folder, record, layers=[2, 0]) == pytest.approx(expected[:, [2, 0]], rel=1e-3, abs=1e-3)
    assert embed(folder, record, layers="mean") == pytest.approx(expected.mean(1), abs=1e-5)
    stored = embeddings.make_extractor(make_settings(folder, layers="all"))(record)
    assert embeddings.read_steps(stored, np.array([1])).dtype == np.float32


def test_network_without_pooler_gives_its_class_token(tmp_path: Path) -> None:
    folder, record = make_image_folder(tmp_path, "vit"), face_record(2)
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    expected = call_transformers(folder, record).last_hidden_state[:, 0].numpy()
    assert embed(folder, record) == pytest.approx(expected, abs=1e-5)


def test_convolutional_network_gives_the_mean_over_the_image(tmp_path: Path) -> None:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(tmp_path)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(tmp_path)
    record = face_record(2)
    expected = call_transformers(tmp_path, record).last_hidden_state.mean((2, 3)).numpy()
    assert embed(tmp_path, record) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(SettingError, match=r"^embeddings\.layers = 'all', but .*different shapes; allowed: last, or"):
        embed(tmp_path, record, layers="all")


def test_network_of_images_and_text_uses_its_image_part(tmp_path: Path) -> None:
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    vision, text = small | {"image_size": 32, "patch_size": 16}, small | {"vocab_size": 99, "eos_token_id": 98}
    transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(tmp_path)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path)
    record = face_record(2)
    network = transformers.CLIPModel.from_pretrained(tmp_path).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    pixels = processor([Image.fromarray(face) for face in record.arrays["faces"]], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = network.vision_model(pixels).pooler_output.numpy()
    assert embed(tmp_path, record) == pytest.approx(expected, abs=1e-5)


# ---- timm ----


def call_timm(network: torch.nn.Module, record: Record) -> np.ndarray:
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    pixels = torch.stack([transform(Image.fromarray(face)) for face in record.arrays["faces"]])
    with torch.no_grad():
        return network.eval()(pixels).numpy()


def make_timm(seed: int, **options: Any) -> torch.nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("test_vit", **options)


@pytest.mark.slow
def test_timm_vectors_equal_a_direct_call_of_timm(tmp_path: Path) -> None:
    record = face_record(3)
    expected = call_timm(make_timm(3, num_classes=0), record)
    assert embed("timm/test_vit", record, seed=3) == pytest.approx(expected, abs=1e-5)
    classifier = make_timm(4, num_classes=7)
    torch.save(classifier.state_dict(), tmp_path / "weights.pt")
    save_for_hf(classifier, tmp_path / "folder")
    classifier.reset_classifier(0)
    expected = call_timm(classifier, record)
    assert embed("timm/test_vit", record, weights=str(tmp_path / "weights.pt")) == pytest.approx(expected, abs=1e-5)
    assert embed(tmp_path / "folder", record) == pytest.approx(expected, abs=1e-5)


def test_timm_weights_of_the_hub_are_read_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_timm(4, num_classes=7)
    save_for_hf(network, tmp_path)
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **options: asked.append((name, options)) or tmp_path
    )
    settings = make_settings("timm/test_vit", weights="pretrained", revision="v1")
    values = embeddings.make_extractor(settings)(face_record(2)).arrays["values"]
    network.reset_classifier(0)
    assert values == pytest.approx(call_timm(network, face_record(2)), abs=1e-5)
    assert {path.name for path in embeddings.files(settings)} >= {"config.json"}
    assert {name for name, _ in asked} == {"timm/test_vit.r160_in1k"}
    assert [(options["revision"], options["local_files_only"]) for _, options in asked] == [("v1", True)] * 2


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        (
            "timm/test_vitt",
            {},
            r"network = 'timm/test_vitt' is unknown to timm .*, such as timm/test_vit.*; correct the name",
        ),
        (
            "timm/test_vit",
            {"layers": "all"},
            r"layers = 'all'; allowed for network = 'timm/test_vit': last; set it to last",
        ),
        (
            "timm/test_vit",
            {"weights": "nowhere.pt"},
            r"weights = 'nowhere.pt' is not a file; allowed: null, pretrained, or",
        ),
        (
            "resnet18",
            {"layers": [1]},
            r"layers = \[1\]; allowed for network = 'resnet18': last; set it to last, or name",
        ),
        ("/nowhere/network", {}, r"network = '/nowhere/network' is not a folder; allowed: .*; correct the path"),
        (
            "a/b",
            {},
            r"network = 'a/b' is neither a folder nor in the hub's local cache; allowed: .*, set download to true",
        ),
    ],
)
def test_unusable_networks_are_rejected(network: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=rf"^embeddings\.{message}"):
        embeddings.make_extractor(make_settings(network, **changes))


def test_timm_weights_of_another_network_are_rejected(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_vit2").state_dict(), tmp_path / "weights.pt")
    with pytest.raises(
        SettingError, match=r"^embeddings\.weights = .* do not fit timm/test_vit: .*; name another file$"
    ):
        embed("timm/test_vit", face_record(1), weights=str(tmp_path / "weights.pt"))


# ---- errors of folders ----


def test_folder_errors_name_the_setting(tmp_path: Path) -> None:
    folder = make_image_folder(tmp_path / "images")
    with pytest.raises(
        SettingError, match=r"^embeddings\.weights = 'imagenet'; allowed with the folder of a network: null"
    ):
        embed(folder, face_record(1), weights="imagenet")
    with pytest.raises(
        SettingError, match=r"^embeddings\.layers = \[7\]; allowed for this network: .* numbers from 0 to 2$"
    ):
        embed(folder, face_record(1), layers=[7])
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(
        json.dumps(processor | {"size": {"shortest_edge": 8}, "crop_size": 8})
    )
    with pytest.raises(
        SettingError, match=r"^embeddings\.network = .* can't compute a vector of an image \(.*; check config"
    ):
        embed(folder, face_record(1))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(SettingError, match=r"^embeddings\.network = .* has no image processor that can be loaded"):
        embed(folder, face_record(1))
    with pytest.raises(
        SettingError, match=r"^embeddings\.network = .* reads input_ids; allowed: networks that read images"
    ):
        embed(make_text_folder(tmp_path / "text"), face_record(1))


@pytest.mark.parametrize(("package", "network"), [("transformers", "folder"), ("timm", "timm/test_vit")])
def test_missing_library_is_named(package: str, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_image_folder(tmp_path / "folder")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        SettingError, match=rf"^embeddings\.network = .* needs {package}, .*requirements-transformers\.txt"
    ):
        embed(folder if network == "folder" else network, face_record(1))


def fail_above(size: int, embed: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return `embed` with memory for `size` images."""

    def embed_small(pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > size:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return embed(pixels)

    return embed_small


def test_batches_are_halved_when_memory_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract = embedder.Embedder(make_settings(make_image_folder(tmp_path), steps=9), "embeddings")
    expected, whole = extract(face_record(9)).arrays["values"], extract._network.embed
    monkeypatch.setattr(extract._network, "embed", fail_above(2, whole))
    assert extract(face_record(9)).arrays["values"] == pytest.approx(expected, abs=1e-5)
    monkeypatch.setattr(extract._network, "embed", fail_above(0, whole))
    with pytest.raises(
        InputError, match=r"^embeddings: memory of cpu does not suffice for one image; lower parallel\."
    ):
        extract(face_record(9))


def test_batch_of_clips_equals_single_clips(tmp_path: Path) -> None:
    extract = embedder.Embedder(make_settings(make_image_folder(tmp_path)), "embeddings")
    records = [face_record(3), face_record(9, absent=(0, 4)), face_record(1)]
    together = extract.extract_clips([(record,) for record in records])
    for record, computed in zip(records, together, strict=True):
        alone = extract(record)
        assert computed.arrays["values"] == pytest.approx(alone.arrays["values"], abs=1e-5)
        assert (computed.arrays["times"] == alone.arrays["times"]).all()


# ---- the source of images ----


def frame_record(name: str, count: int) -> Record:
    """Return a record of the stream frames, images of 64 x 48 pixels."""
    rng = np.random.default_rng(count)
    encoded = [
        cv2.imencode(".jpg", np.kron(rng.integers(0, 255, (6, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8)))[1]
        for _ in range(count)
    ]
    offsets = np.cumsum([0, *map(len, encoded)])
    return Record(name, {"jpeg": np.concatenate(encoded), "offsets": offsets, "times": np.arange(count) / 5})


def test_frames_and_pictures_are_embedded_like_faces(tmp_path: Path) -> None:
    folder = make_image_folder(tmp_path)
    record = frame_record("a", 4)
    images = np.stack(frames.decode_frames(record, np.arange(4)))
    expected = embed(folder, Record("a", {"faces": images, "found": np.ones(4), "times": np.arange(4) / 5}))
    assert embed(folder, record, source="frames") == pytest.approx(expected, abs=1e-6)
    pictures = Record("a", {"faces": images, "times": np.arange(4) / 5})
    assert embed(folder, pictures, source="pictures") == pytest.approx(expected, abs=1e-6)


def test_input_of_the_stream_follows_its_source() -> None:
    stream = base.load("embeddings")
    assert [stream.inputs_of({"source": name}) for name in ("faces", "frames", "pictures", "films")] == [
        ("faces",), ("frames",), ("pictures",), ("faces",),
    ]  # fmt: skip
    sections = {"embeddings": {"source": "frames"}, "frames": {}}
    assert base.list_with_inputs("embeddings", sections) == ["frames", "embeddings"]
    parameters = small_parameters(
        embeddings__enabled=True, embeddings__source="pictures", model__use=["embeddings"], pictures__enabled=False
    )
    with pytest.raises(
        SettingError, match=r"^pictures\.enabled = false, .*reads has embeddings, which is made from pict"
    ):
        base.check_enabled(parameters)
    base.check_enabled(parameters | {"embeddings": parameters["embeddings"] | {"source": "faces"}})


def test_scenes_are_embeddings_with_their_own_section(tmp_path: Path) -> None:
    folder, record = make_image_folder(tmp_path), frame_record("a", 3)
    settings = make_settings(folder, source="frames")
    values = scenes.make_extractor(settings)(record).arrays["values"]
    assert (values == embeddings.make_extractor(settings)(record).arrays["values"]).all()
    assert base.load("scenes").files(settings) == base.load("embeddings").files(settings)
    for use in (scenes.make_extractor, scenes.files):
        with pytest.raises(SettingError, match=r"^scenes\.network = '/nowhere' is not a folder; allowed"):
            use(make_settings("/nowhere"))


def write_frames(data: Path, counts: dict[str, int]) -> None:
    (data / "frames").mkdir(parents=True)
    (data / "frames/stream.json").write_text(json.dumps({"settings": {}, "shapes": {"": [3, 48, 64]}}))
    with h5py.File(data / "frames/one.h5", "w") as file:
        for name, count in counts.items():
            shards.write_record(file, frame_record(name, count))


def test_stage_prints_cost_and_follows_the_folder_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parallel, "start_executor", lambda *_: ThreadPoolExecutor(1))
    folder = make_image_folder(tmp_path / "network")
    values = small_parameters(frames__enabled=True)
    values["embeddings"] |= {
        "enabled": True,
        "source": "frames",
        "network": str(folder),
        "weights": None,
        "layers": "all",
    }
    use_parameters(monkeypatch, values)
    write_frames(Path("data"), {"a.mp4": 3, "b.mp4": 2})

    def build_vectors() -> np.ndarray:
        build.build_stream("embeddings")
        return next(shards.read_arrays(Path("data/embeddings"), "values"))

    before = build_vectors()
    assert before.shape == (3, 3, 16)
    assert "embeddings: 2 clips need about < 1 min and 0.1 MB (" in capsys.readouterr().out
    info = base.load_stream_info(Path("data"), ["embeddings"])
    assert list(info) == ["frames", "embeddings"]
    assert info["embeddings"].shapes == {"": [3, 16]}
    assert (build_vectors() == before).all()
    assert "need about" not in capsys.readouterr().out
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value * 2 for name, value in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    assert not np.allclose(build_vectors(), before)
