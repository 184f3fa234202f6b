"""Face embeddings, EmoNeXt, sequence transformers and multitask fusion, compared with published networks."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from facenet_pytorch import InceptionResnetV1

from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.shards import Record
from lib.core.targets import TargetGroup
from lib.core.weight_files import find_file
from lib.data.batch import Sample, collate
from lib.model.encoders import emonext as end
from lib.model.encoders import sequence_transformer
from lib.model.network import Network
from lib.model.settings import Settings
from lib.scoring.same_person import find_same_persons
from lib.streams import base, embeddings
from lib.streams.base import Steps, StreamInfo
from lib.streams.embeddings import emonext, networks
from lib.streams.embeddings.emonext import EmoNeXt
from lib.streams.faces import align
from lib.streams.faces.frame import Frame
from tests.conftest import REAL, ROOT, needs_real_clips
from tests.small_network import TRAITS_GROUP, make_settings, make_steps
from tools import parameters as written
from tools.parity.__main__ import TOLERANCE, compare

SMALL_SIZES = ([1, 1, 1, 1], [16, 16, 32, 32])
STREAM = {
    "enabled": True, "steps": 4, "side": 64, "network": "resnet18", "weights": None, "colour": "rgb", "stn": False,
    "se": "none", "seed": 0, "source": "faces", "revision": None, "download": False, "allow_code": False, "layers": "last",
}  # fmt: skip
SEQUENCE = {
    "kind": "sequence_transformer", "reads": ["embeddings"], "take": "all", "steps": 1, "positions": 6, "width": 16,
    "heads": 4, "feed_forward": 32, "depth": 2, "dropout": 0.2, "norm": "after", "mask": True, "weights": None,
    "frozen": False,
}  # fmt: skip


@pytest.mark.parametrize("name", ["fusion_small", "fiv2_transformer_small"])
def test_embeddings_and_fusion_equal_published_networks(name: str) -> None:
    _, deviations = compare(ROOT / f"tests/data/parity/{name}.npz")
    assert deviations
    assert all(deviation <= TOLERANCE for deviation in deviations.values())


# ---- EmoNeXt ----


EMONEXT: dict[str, Any] = {
    "kind": "emonext", "reads": ["faces"], "take": "all", "steps": 1, "network": "emonext_tiny", "weights": None,
    "stn": True, "se": "identity", "drop_path": 0.0, "attention_loss": 0.0,
}  # fmt: skip


def make_emonext(side: int = 48, **changes: Any) -> end.Encoder:
    torch.manual_seed(0)
    return end.Encoder(check(EMONEXT | changes, end.Settings), [[3, side, side]])


def test_emonext_tokens_equal_embeddings_of_single_images() -> None:
    encoder, images = make_emonext().eval(), torch.rand(2, 3, 3, 48, 48)
    tokens = encoder({"faces": make_steps(images)})
    assert (tokens.values.shape, tokens.grid) == ((2, 3, 768), (1, 1))
    alone = encoder.network((images[1, 2][None] - encoder.mean) / encoder.std)[0]
    torch.testing.assert_close(tokens.values[1, 2], alone, rtol=1e-4, atol=1e-4)
    tokens.values.square().sum().backward()
    assert all(
        parameter.grad is not None and bool(parameter.grad.any())
        for parameter in encoder.network.stages[0][0].parameters()
    )
    with pytest.raises(InputError, match=r"^reads = \['faces'\], images of 31 x 31 pixels; allowed .* from 32 on"):
        make_emonext(31)


def test_attention_penalty_exists_only_in_training() -> None:
    encoder, present = make_emonext(attention_loss=2.0), torch.tensor([[True, True], [True, False]])
    inputs = {"faces": make_steps(torch.rand(2, 2, 3, 32, 32), present)}
    encoder({"faces": make_steps(torch.rand(1, 1, 3, 32, 32))})
    assert encoder.penalty is not None
    assert encoder.penalty.item() == 0  # one image has nothing to compare
    values = encoder(inputs).values
    weights = encoder.attention.weights(values[present])
    assert weights.shape == (3, 3)
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    torch.testing.assert_close(encoder.penalty, 2 * weights.var(correction=0))
    assert encoder.penalty.item() > 0
    encoder.penalty.backward()
    assert all(parameter.grad is not None for parameter in encoder.attention.parameters())
    assert make_emonext().attention is None


def test_penalty_is_zero_for_a_batch_without_faces() -> None:
    penalised = {**EMONEXT, "attention_loss": 1.0}
    model = make_settings(["faces"], missing="keep")
    model = model.model_copy(update={"encoders": model.encoders | {"faces": penalised}})
    net = Network.from_settings(model, TRAITS_GROUP, {"faces": StreamInfo({}, {"": [3, 32, 32]})}).train()
    images = torch.rand(2, 2, 3, 32, 32)
    present, absent = (make_steps(images, torch.full((2, 2), is_present)) for is_present in (True, False))
    penalties = [net({"faces": {"faces": steps}}).penalty.item() for steps in (present, absent)]
    assert penalties[0] > 0
    assert penalties[1] == 0


def test_drop_path_is_active_only_in_training() -> None:
    encoder = make_emonext(drop_path=0.9)
    assert [stage[0].drop.p for stage in encoder.network.stages] == pytest.approx(
        [0.0, 0.9 * 3 / 17, 0.9 * 6 / 17, 0.9 * 15 / 17]
    )
    for stage in encoder.network.stages:
        for block in stage:
            block.gamma.data.fill_(1.0)
    inputs = {"faces": make_steps(torch.rand(1, 2, 3, 32, 32))}
    with torch.no_grad():
        assert not torch.equal(encoder(inputs).values, encoder(inputs).values)
        encoder.eval()
        assert torch.equal(encoder(inputs).values, encoder(inputs).values)


@torch.no_grad()
def test_plain_emonext_equals_torchvisions_convnext() -> None:
    torch.manual_seed(0)
    convnext = torchvision.models.convnext_tiny(weights=None).eval()
    for name, parameter in convnext.named_parameters():
        if name.endswith("layer_scale"):
            parameter.fill_(0.5)
    emonext_network = EmoNeXt(*emonext.SIZES["emonext_tiny"], stn=False, se="none").eval()
    assert emonext.load_published_weights(emonext_network, dict(convnext.state_dict()), "torchvision's") == []
    images = torch.rand(2, 3, 64, 64)
    expected = convnext.classifier[0](convnext.avgpool(convnext.features(images))).flatten(1)
    torch.testing.assert_close(emonext_network(images), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_identity_gates_start_neutral_and_reference_gates_not() -> None:
    torch.manual_seed(0)
    plain = EmoNeXt(*SMALL_SIZES, stn=False, se="none").eval()
    images = torch.rand(2, 3, 224, 224)
    for se, stn, same in (("identity", True, True), ("identity", False, True), ("reference", False, False)):
        added = EmoNeXt(*SMALL_SIZES, stn=stn, se=se).eval()  # type: ignore[arg-type]
        messages = emonext.load_published_weights(added, dict(plain.state_dict()), "plain weights")
        parts = [*(["the spatial transformer"] if stn else []), "squeeze-and-excitation"]
        assert [line.split(",")[0] for line in messages] == [f"the file has no weights of {part}" for part in parts]
        assert torch.allclose(added(images), plain(images), atol=1e-4) == same
        assert added(torch.rand(1, 3, 96, 96)).isfinite().all()


def test_reduction_sets_the_units_of_squeeze_and_excitation() -> None:
    for reduction, units in ((16, [12, 24, 48]), (32, [6, 12, 24])):
        network = make_emonext(se="reference", reduction=reduction).network
        assert [stage[2].fc[0].out_features for stage in network.downsample_layers[1:]] == units


def test_emonext_rejects_weights_of_another_size() -> None:
    state = EmoNeXt([1, 1, 1, 1], [16, 16, 32, 48], stn=False, se="none").state_dict()
    with pytest.raises(InputError, match=r"^weights = 'x' do not fit: .*norm\.bias is \[48\], not \[32\]"):
        emonext.load_published_weights(EmoNeXt(*SMALL_SIZES, stn=False, se="none"), dict(state), "weights = 'x'")


# ---- the stream ----


def face_record(frames: int, absent: tuple[int, ...] = ()) -> Record:
    rng = np.random.default_rng(frames)
    is_found = np.ones(frames, np.uint8)
    is_found[list(absent)] = 0
    images = rng.integers(0, 255, (frames, 40, 40, 3), np.uint8)
    return Record("a", {"faces": images, "times": np.arange(frames) / 5, "found": is_found})


def test_embeddings_use_present_faces_evenly_spaced() -> None:
    assert base.choose_evenly(np.arange(77), 30).tolist() == np.linspace(0, 76, 30).astype(int).tolist()
    assert base.choose_evenly(np.array([2, 5]), 30).tolist() == [2, 5]
    embed = embeddings.make_extractor(check(STREAM, embeddings.Settings, "embeddings"))
    record = embed(face_record(9, absent=(0, 4)))
    assert record.arrays["times"].tolist() == [0.2, 0.6, 1.2, 1.6]
    assert record.arrays["values"].shape == (4, 512)
    assert embeddings.read_steps(record, np.array([1])).shape == (1, 512)
    assert len(embed(face_record(2)).arrays["times"]) == 2


def test_embedding_equals_network_on_the_normalised_image() -> None:
    record = face_record(3)
    network = networks.build_network("resnet18", None, False, "none", 0).eval()
    torch.manual_seed(5)  # only the stream's seed determines the weights
    for colour in ("rgb", "bgr"):
        extracted = embeddings.make_extractor(check(STREAM | {"colour": colour}, embeddings.Settings))(record)
        images = torch.from_numpy(record.arrays["faces"]).permute(0, 3, 1, 2).float() / 255
        images = images if colour == "rgb" else images[:, [2, 1, 0]]
        scaled = torch.nn.functional.interpolate(images, (64, 64), mode="bilinear", antialias=True)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in networks.get_normalisation("resnet18"))
        with torch.no_grad():
            expected = network((scaled - mean) / std).numpy()
        assert extracted.arrays["values"] == pytest.approx(expected, abs=1e-5)
    other = embeddings.make_extractor(check(STREAM | {"seed": 1}, embeddings.Settings))(record)
    assert not np.allclose(other.arrays["values"], expected, atol=1e-2)


def test_build_network_rejects_unknown_networks_and_weights() -> None:
    with pytest.raises(
        InputError,
        match=r"^network = 'resnet19'; allowed: the folder .*, emonext_tiny, .*inception_resnet.*; correct the name$",
    ):
        networks.build_network("resnet19", None, False, "none", 0)
    with pytest.raises(InputError, match=r"^weights = 'nowhere' is not a file; allowed: null, imagenet"):
        networks.build_network("emonext_tiny", "nowhere", False, "none", 0)


def test_facenet_loads_weights_up_to_the_embedding(tmp_path: Path) -> None:
    torch.manual_seed(3)
    published = InceptionResnetV1(classify=True, num_classes=7).eval()
    torch.save(published.state_dict(), tmp_path / "facenet.pt")
    network = networks.build_network("inception_resnet_v1", str(tmp_path / "facenet.pt"), False, "none", 0).eval()
    images, published.classify = torch.rand(2, 3, 96, 96), False
    with torch.no_grad():
        torch.testing.assert_close(network(images), published(images))
    with pytest.raises(InputError, match=r"^weights = 'imagenet'; torchvision has none"):
        networks.build_network("inception_resnet_v1", "imagenet", False, "none", 0)


# ---- networks whose weights tools.weights fetches ----

CELLS = str(ROOT / "tests/data/face_cells.onnx")
"""A network in place of SFace: the mean of red, green and blue in 4 x 4 cells of an image of 112 pixels."""


def needs_weights(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not find_file(name).is_file(), reason=f"run python -m tools.weights {name}")


@pytest.mark.parametrize("side", [112, 224])
def test_sface_gets_the_aligned_face_in_its_colours(side: int) -> None:
    faces = np.zeros((2, side, side, 3), np.uint8)
    faces[0, : side // 4, : side // 4], faces[1] = (200, 20, 30), (0, 0, 255)
    network = networks.build_network("sface", CELLS, False, "none", 0)
    values = network(torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255).view(2, 3, 16)
    assert values[0, :, 0].tolist() == [200, 20, 30]  # OpenCV's networks return red first for images in BGR
    assert values[0, :, 1:].count_nonzero() == 0
    assert values[1, :, 0].tolist() == [0, 0, 255]


def test_sface_and_the_faces_stream_align_to_the_same_points() -> None:
    landmarks, rng = np.array([[40.0, 60], [78, 52], [61, 80], [50, 99], [80, 96]]) * 1.5 + 90, np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 255, (400, 400, 3), np.uint8), (0, 0), 3)
    row = np.array([[0, 0, 0, 0, *landmarks.ravel(), 1]], np.float32)
    expected = cv2.FaceRecognizerSF.create(CELLS, "").alignCrop(image, row)
    difference = cv2.absdiff(align.warp(Frame(image), landmarks, 112), expected)
    assert difference.max() <= 2


@pytest.mark.parametrize("name", ["sface", "efficientnet_lite0", "pyemotion"])
def test_missing_weights_of_a_network_name_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "efficientnet_lite0":
        pytest.importorskip("timm", reason="requirements-transformers.txt is not installed")
    monkeypatch.chdir(tmp_path)
    expected = rf"^network = {name}, but .*are missing; allowed: .*; run python -m tools\.weights {name}$"
    with pytest.raises(InputError, match=expected):
        networks.build_network(name, None, False, "none", 0)
    assert networks.files(name, None) == [find_file(name)]
    (tmp_path / "other").write_bytes(b"not a network")
    with pytest.raises(InputError, match=r"other.* can't be read|'other' is not a file of weights"):
        networks.build_network(name, "other", False, "none", 0)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param("sface", 128, marks=needs_weights("sface")),
        pytest.param("efficientnet_lite0", 1280, marks=needs_weights("efficientnet_lite0")),
        pytest.param("pyemotion", 256, marks=needs_weights("pyemotion")),
    ],
)
def test_fetched_weights_embed_faces(name: str, size: int) -> None:
    settings = check(STREAM | {"network": name, "side": 112}, embeddings.Settings)
    first, second = (embeddings.make_extractor(settings)(face_record(5)).arrays["values"] for _ in (0, 1))
    assert first.shape == (4, size)
    assert np.isfinite(first).all()
    assert first.std() > 0
    assert np.array_equal(first, second)


@needs_weights("pyemotion")
@torch.no_grad()
def test_pyemotion_equals_its_published_layers() -> None:
    network: Any = networks.build_network("pyemotion", None, False, "none", 0).eval()
    grey = torch.rand(2, 1, 48, 48)
    maps = (grey - 0.5) / 0.5
    state = torch.load(find_file("pyemotion"), "cpu", weights_only=True)["network"]
    for index, stride in enumerate((1, 2, 2, 2), 1):
        convolution, norm = f"conv_{index}.1", f"conv_{index}.2"
        maps = torch.nn.functional.pad(maps, (1, 1, 1, 1), "reflect")
        maps = torch.nn.functional.conv2d(
            maps, state[f"{convolution}.weight"], state[f"{convolution}.bias"], stride=stride
        )
        statistics = (state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        maps = torch.nn.functional.batch_norm(maps, *statistics).relu()
    expected = (maps.flatten(1) @ state["linear.0.weight"].T + state["linear.0.bias"]).relu()
    torch.testing.assert_close(network(grey.expand(-1, 3, -1, -1)), expected, atol=1e-4, rtol=1e-4)


@needs_weights("sface")
@needs_real_clips
def test_sface_separates_two_persons() -> None:
    parameters = written.plain(written.merge_parameters("traits_frozen", ["frames.fps=1"]))
    extract = {
        stream: base.load(stream).make_extractor(check(parameters[stream], base.load(stream).settings, stream))
        for stream in ("frames", "faces", "embeddings")
    }
    units = []
    for path in sorted(REAL.glob("*.mp4")):
        record = extract["embeddings"](extract["faces"](extract["frames"](base.Raw(path.name, path, None))))
        values = record.arrays["values"]
        units.append(values / np.linalg.norm(values, axis=1, keepdims=True))
    halves = [values[half].mean(0) for values in units for half in (slice(0, 6), slice(6, None))]
    clips = pd.DataFrame({"clip": ["a", "b", "c", "d"], "split": ["test", "training"] * 2}).assign(video=range(4))
    pairs = find_same_persons(pd.DataFrame(halves, index=clips["clip"]), clips)
    assert pairs[["clip", "other_clip"]].to_numpy().tolist() in ([["a", "b"], ["c", "d"]], [["c", "d"], ["a", "b"]])
    first, second = units
    assert min((first @ first.T).min(), (second @ second.T).min()) > 0.6
    assert (first @ second.T).max() < 0.5


def test_traits_frozen_parameters_embed_and_predict() -> None:
    parameters = written.plain(written.merge_parameters("traits_frozen", ["embeddings.steps=3"]))
    assert (parameters["embeddings"]["network"], parameters["embeddings"]["weights"]) == ("sface", None)
    assert parameters["faces"]["side"] == parameters["embeddings"]["side"] == 112
    parameters["embeddings"]["weights"] = CELLS
    record = embeddings.make_extractor(check(parameters["embeddings"], embeddings.Settings, "embeddings"))(
        face_record(9)
    )
    values = record.arrays["values"]
    assert values.shape == (3, 48)
    assert base.pool_steps(base.load("embeddings"), record, True).shape == (
        96,
    )  # mean and deviation, for ridge regression
    streams = {"embeddings": StreamInfo(parameters["embeddings"], {"": [48]})}
    targets = {"traits": check(parameters["targets"]["traits"], TargetGroup)}
    network = Network.from_settings(check(parameters["model"], Settings, "model"), targets, streams)
    steps = Steps(
        torch.from_numpy(values)[None], torch.from_numpy(base.step_times(record))[None], torch.ones(1, 3, dtype=bool)
    )
    predicted = network({"embeddings": {"embeddings": steps}}).predicted["traits"]
    assert predicted.shape == (1, 5)
    predicted.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


# ---- over the sequence ----


def make_sequence(**changes: Any) -> sequence_transformer.Encoder:
    torch.manual_seed(0)
    settings = check(SEQUENCE | changes, sequence_transformer.Settings, "model.encoders.one")
    return sequence_transformer.Encoder(settings, [[8]])


@pytest.mark.parametrize("mask", [True, False])
@torch.no_grad()
def test_sequence_ignores_padding_only_with_mask(mask: bool) -> None:
    encoder, values = make_sequence(mask=mask).eval(), torch.randn(2, 6, 8)
    present = torch.arange(6) < torch.tensor([[6], [3]])
    padded = encoder({"embeddings": make_steps(values, present)}).values[1, :3]
    alone = encoder({"embeddings": make_steps(values[1:, :3])}).values[0]
    assert torch.allclose(padded, alone, atol=1e-5) == mask


def test_frozen_sequence_keeps_loaded_weights(tmp_path: Path) -> None:
    state = make_sequence().state_dict() | {"fc.weight": torch.zeros(5, 16), "fc.bias": torch.zeros(5)}
    torch.save({"model_state_dict": state, "optimizer_state_dict": {}}, tmp_path / "published.pth")
    torch.manual_seed(9)
    encoder = make_sequence(weights=str(tmp_path / "published.pth"), frozen=True).train()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    inputs = {"embeddings": make_steps(torch.randn(2, 4, 8))}
    assert torch.equal(encoder(inputs).values, encoder(inputs).values)  # no dropout
    with pytest.raises(InputError, match=r"^weights = .* do not fit sequence_transformer: .*norm1"):
        make_sequence(weights=str(tmp_path / "published.pth"), width=24)


@pytest.mark.parametrize(
    ("shapes", "changes", "message"),
    [
        ([[8]], {"heads": 3}, r"^heads = 3; allowed: a divisor of width = 16"),
        ([[3, 8, 8]], {}, r"^reads = .*; allowed for sequence_transformer: one stream of vectors"),
    ],
)
def test_sequence_rejects_invalid_heads_and_streams(
    shapes: list[list[int]], changes: dict[str, Any], message: str
) -> None:
    settings = check(SEQUENCE | changes, sequence_transformer.Settings)
    with pytest.raises(InputError, match=message):
        sequence_transformer.Encoder(settings, shapes)


def test_sequence_rejects_more_steps_than_positions() -> None:
    with pytest.raises(InputError, match=r"^positions = 6, but a clip has 7 steps of embeddings; raise it"):
        make_sequence()({"embeddings": make_steps(torch.randn(1, 7, 8))})


# ---- two tasks ----

TWO_GROUPS = {
    "traits": TargetGroup(columns=["warm", "cold"], range=[0, 1], head="sigmoid", loss="mse", weight=1.0),
    "emotions": TargetGroup(columns=["joy", "rage"], range=[0, 1], head="softmax", loss="kl", weight=1.0),
}


def make_multitask(fusion: str, **changes: Any) -> Network:
    torch.manual_seed(0)
    settings = make_settings(
        ["traits", "emotions"],
        fusion,
        hidden=12,
        targets=list(TWO_GROUPS),
        encoders=dict.fromkeys(TWO_GROUPS, SEQUENCE),
        **changes,
    )
    return Network.from_settings(settings, TWO_GROUPS, {"embeddings": StreamInfo({}, {"": [8]})})


def make_clips(*lengths: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    samples = []
    for length in lengths:
        values = rng.normal(size=(length, 8)).astype(np.float32)
        inputs = {"embeddings": Steps(values, np.arange(length, dtype=np.float32), np.ones(length, bool))}
        samples.append(Sample(dict.fromkeys(TWO_GROUPS, inputs), {}, 0))
    return samples


@pytest.mark.parametrize("fusion", ["multitask", "multitask_pooled"])
@torch.no_grad()
def test_multitask_output_does_not_depend_on_padding(fusion: str) -> None:
    net, members = make_multitask(fusion).eval(), make_clips(2, 6, 4)
    together = net(collate(members).inputs, attend=True)
    assert set(together.predicted) == set(TWO_GROUPS)
    for name, values in together.predicted.items():
        alone = torch.cat([net(collate([member]).inputs).predicted[name] for member in members])
        torch.testing.assert_close(values, alone, atol=1e-5, rtol=0)
    shapes = {key: weights.shape for key, weights in together.attention.items()}
    expected = {("traits", "emotions"): (3, 4, 6, 6), ("emotions", "traits"): (3, 4, 6, 6)}
    assert shapes == (expected if fusion == "multitask" else {})  # attention needs two tokens


def test_pooled_multitask_does_not_train_queries_and_keys() -> None:
    for fusion, learns in (("multitask", True), ("multitask_pooled", False)):
        net = make_multitask(fusion).train()
        output = net(collate(make_clips(6, 6)).inputs).predicted
        (output["traits"].square().sum() + output["emotions"].square().sum()).backward()
        gradient = net.fusion.cross["traits"].in_proj_weight.grad
        assert bool(gradient[: 2 * 16].abs().max() > 1e-6) == learns
        assert gradient[2 * 16 :].abs().max() > 1e-6


def test_multitask_requires_two_encoders_of_one_width() -> None:
    with pytest.raises(InputError, match=r"model\.fusion = multitask .*; allowed: two encoders of one width"):
        make_multitask("multitask", heads=3, width=24)
    settings = make_settings(["traits"], "multitask", encoders={"traits": SEQUENCE})
    with pytest.raises(InputError, match="allowed: two encoders of one width that heads divide"):
        Network.from_settings(
            check(settings.model_dump(), Settings),
            {"traits": TWO_GROUPS["traits"]},
            {"embeddings": StreamInfo({}, {"": [8]})},
        )
