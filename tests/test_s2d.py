"""S2D: its network compared with published outputs and with a plain ViT, its windows, landmarks and weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.core.parameters import check
from lib.data.batch import Sample, collate
from lib.model import checkpoint, s2d
from lib.model.checkpoint import TrainingSummary
from lib.model.encoders.s2d import Encoder, Settings, drawn, windows
from lib.model.mobilefacenet import MobileFaceNet
from lib.model.network import Network
from lib.streams.base import Steps, StreamInfo
from lib.training import schedules
from lib.training.schedules import Progress
from tests.conftest import ROOT
from tests.rounding import assert_same, rounding
from tests.small_network import TRAITS_GROUP, make_settings
from tools.parameters import merge_parameters, plain
from tools.parity.__main__ import compare

FIXTURES = ROOT / "tests" / "data" / "parity"
SHARED = ROOT.parent / "shared" / "parity"

FULL_SETTINGS: dict[str, Any] = {
    "kind": "s2d", "reads": ["faces"], "take": "window", "steps": 16, "frames": 16, "short": "mask", "weights": None,
    "frozen": True, "patch": 16, "width": 768, "depth": 12, "heads": 12, "dropout": 0.0, "prompts": "deep",
    "prompt_width": 8, "norms": "own", "init": "zero", "tma": True, "temporal_embedding": True, "adapter_ratio": 0.25,
    "adapter_heads": 8, "landmarks": "none", "landmark_weights": None, "landmark_input": "bgr", "checkpointing": False,
}  # fmt: skip
SMALL_SETTINGS = FULL_SETTINGS | {
    "frames": 4, "patch": 8, "width": 24, "depth": 3, "heads": 2, "prompt_width": 4, "adapter_ratio": 0.5,
    "adapter_heads": 3,
}  # fmt: skip

ADDITIONS = 3 * 8**2 + 3 * (6 * 24 + 4 * 24 + 4 * 12 + 2 * 17)
"""Additions per output with SMALL_SETTINGS: patch embedding, then projections, MLP, adapters and attention per block."""


def make_encoder(shapes: Sequence[Sequence[int]] = ([3, 32, 32],), **changes: Any) -> Encoder:
    torch.manual_seed(0)
    return Encoder(check(SMALL_SETTINGS | changes, Settings), shapes).eval()


def make_sensitive_encoder(**changes: Any) -> Encoder:
    """An encoder with large random weights, so that all its parts affect the output."""
    encoder = make_encoder(init="reference", **changes)
    for name, parameter in encoder.network.named_parameters():
        if "landmark_embed" not in name and parameter.dim() > 1:
            parameter.data.mul_(6)
    return encoder


def make_clips(*lengths: int, side: int = 32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(length, 3, side, side, generator=generator) for length in lengths]


def batch_of(clips: Sequence[Tensor], padding: float = 0.7) -> Steps:
    """Join clips (T, ...) to a batch, padded with a constant."""
    longest = max(map(len, clips))
    values = torch.full((len(clips), longest, *clips[0].shape[1:]), padding)
    present = torch.zeros(len(clips), longest, dtype=torch.bool)
    for row, clip in enumerate(clips):
        values[row, : len(clip)], present[row, : len(clip)] = clip, True
    return Steps(values, torch.arange(longest).float().expand(len(clips), -1), present)


def encode(encoder: Encoder, clips: Sequence[Tensor]) -> Tensor:
    return encoder({"faces": batch_of(clips)}).values[:, 0]


# ---- compared with published outputs ----


@pytest.mark.parametrize("name", ["s2d_thesis_small", "s2d_frames", "schedules"])
def test_s2d_equals_published_outputs(name: str) -> None:
    _, deviations = compare(FIXTURES / f"{name}.npz")
    assert deviations
    assert all(deviation < (1e-8 if name == "schedules" else 1e-5) for deviation in deviations.values())


@pytest.mark.skipif(not SHARED.is_dir(), reason="the larger fixtures are not here")
@pytest.mark.parametrize("name", ["s2d_small_deep", "s2d_small_shallow", "mobilefacenet", "landmark_wrapper"])
def test_s2d_equals_outputs_of_larger_published_networks(name: str) -> None:
    _, deviations = compare(SHARED / f"{name}.npz")
    assert deviations
    assert all(deviation < 1e-5 for deviation in deviations.values())


def test_s2d_has_the_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        encoder = Encoder(check(FULL_SETTINGS | {"norms": "shared"}, Settings), [[3, 224, 224]])
        head = nn.Linear(768, 5)
    parameters = [*encoder.parameters(), *head.parameters()]
    assert sum(parameter.numel() for parameter in parameters) == 95_054_033
    assert sum(parameter.numel() for parameter in parameters if parameter.requires_grad) == 9_256_913
    frozen = {name.split(".")[1] for name, parameter in encoder.named_parameters() if not parameter.requires_grad}
    assert frozen == {"cls_token", "pos_embed", "patch_embed", "blocks"}
    assert sum(parameter.numel() for parameter in MobileFaceNet().parameters()) == 1_007_248


@pytest.mark.parametrize(
    ("name", "side", "trained"), [("s2d", 224, 9.2e6), ("s2d_thesis", 112, 4.7e6), ("s2d_audio_text", 224, 9.2e6)]
)
def test_parameter_files_build_the_full_s2d(name: str, side: int, trained: float) -> None:
    parameters = plain(merge_parameters(name, []))
    settings = parameters["model"]["encoders"]["s2d"] | {"weights": None}
    with torch.device("meta"):
        encoder = Encoder(check(settings, Settings), [[3, side, side], [5, 2]])
    assert parameters["faces"]["side"] == side
    assert settings["steps"] == settings["frames"]
    assert sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad) == pytest.approx(
        trained, rel=0.02
    )


def encode_by_vit(encoder: Encoder, clips: Sequence[Tensor]) -> Tensor:
    """Run the ViT alone on each frame and average the class tokens."""
    net: Any = encoder.network
    means = []
    for clip in clips:
        patches = net.patch_embed((clip - encoder.mean) / encoder.std).flatten(2).transpose(1, 2)
        tokens = torch.cat([net.cls_token.expand(len(clip), -1, -1), patches], 1) + net.pos_embed
        for block in net.blocks:
            tokens = block(tokens)
        means.append(net.ln_post(tokens[:, 0]).mean(0))
    return torch.stack(means)


@pytest.mark.parametrize(
    ("prompts", "tma", "norms"),
    [
        ("deep", True, "own"),
        ("deep", True, "shared"),
        ("deep", False, "own"),
        ("shallow", True, "own"),
        ("none", True, "own"),
    ],
)
def test_s2d_starts_as_the_vit_and_all_additions_train(prompts: str, tma: bool, norms: str) -> None:
    encoder, clips = make_encoder(prompts=prompts, tma=tma, norms=norms), make_clips(4, 4)
    encoded = encode(encoder, clips)
    assert torch.equal(encoded, encode_by_vit(encoder, clips))
    assert not torch.allclose(encoded[0], encoded[1])
    encoded.square().sum().backward()
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    assert all(
        parameter.grad is not None for parameter in trained
    )  # training on several devices requires a gradient for each
    torch.optim.SGD(trained, 1e-2).step()
    assert not torch.allclose(encode(encoder, clips), encode_by_vit(encoder, clips), atol=1e-6)


def test_s2d_with_reference_init_differs_from_the_vit() -> None:
    encoder, clips = make_encoder(init="reference"), make_clips(4)
    assert (encode(encoder, clips) - encode_by_vit(encoder, clips)).norm() > 0.01 * encode_by_vit(encoder, clips).norm()


# ---- time ----


@torch.no_grad()
def test_s2d_output_does_not_depend_on_the_batch() -> None:
    encoder, clips = make_sensitive_encoder(), make_clips(1, 3, 4, 6, 9)
    alone = torch.cat([encode(encoder, [clip]) for clip in clips])
    assert (alone.std(0) > 1e-3).all()
    assert_same(encode(encoder, clips), alone, ADDITIONS)
    assert_same(encoder({"faces": batch_of(clips, padding=0.0)}).values[:, 0], alone, ADDITIONS)
    tokens = encoder({"faces": batch_of(clips)})
    assert tokens.times.tolist() == [[0], [1], [1.5], [2.5], [4]]
    assert tokens.present.tolist() == [[True]] * 5


def test_windows_cover_a_clip_evenly() -> None:
    present = batch_of(make_clips(2, 4, 6, 9)).present
    clip_of_window, steps, present_steps = windows(present, 4, repeat=False)
    assert clip_of_window.tolist() == [0, 1, 2, 2, 3, 3, 3]
    assert steps[present_steps].tolist() == [
        0,
        1,
        *range(4),
        *range(4),
        *range(2, 6),
        *range(4),
        *range(2, 6),
        *range(5, 9),
    ]
    assert present_steps.sum(1).tolist() == [2, 4, 4, 4, 4, 4, 4]
    assert windows(present[:1], 4, repeat=True)[1].tolist() == [[0, 1, 1, 1]]
    assert windows(torch.tensor([[False, True, False, True]]), 4, repeat=False)[1].tolist() == [[1, 3]]


@torch.no_grad()
def test_s2d_averages_windows_and_repeats_short_clips() -> None:
    encoder, (clip,) = make_sensitive_encoder(), make_clips(6)
    assert_same(encode(encoder, [clip])[0], encode(encoder, [clip[:4], clip[2:]]).mean(0), ADDITIONS)
    repeating = make_sensitive_encoder(short="repeat")
    torch.testing.assert_close(encode(repeating, [clip[:1]]), encode(encoder, [clip[:1].expand(4, -1, -1, -1)]))
    assert not torch.allclose(encode(repeating, [clip[:1]]), encode(encoder, [clip[:1]]), atol=1e-3)


@torch.no_grad()
def test_s2d_sees_order_by_embedding_and_other_frames_by_tma() -> None:
    for tma, temporal in ((True, True), (True, False), (False, True), (False, False)):
        encoder, (clip,) = make_sensitive_encoder(tma=tma, temporal_embedding=temporal), make_clips(4)
        forward = encode(encoder, [clip])
        same = torch.allclose(forward, encode(encoder, [clip.flip(0)]), atol=rounding(forward, ADDITIONS), rtol=0)
        assert same != temporal
        first_tokens = torch.stack(
            [encoder.network.eval()(*inputs)[0, 0] for inputs in make_vit_inputs(encoder, [clip, clip[:1]])]
        )
        assert (
            torch.allclose(first_tokens[0], first_tokens[1], atol=rounding(first_tokens[0], ADDITIONS), rtol=0) != tma
        )


def make_vit_inputs(encoder: Encoder, clips: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return [(clip[None], torch.zeros(1, len(clip), 128, 4, 4)) for clip in clips]


# ---- landmarks ----


class SpyNetwork(nn.Module):
    """Replaces the network and keeps its inputs."""

    grid = (4, 4)

    def forward(self, images: Tensor, maps: Tensor, present: Tensor) -> Tensor:
        self.images, self.maps = images, maps
        return images.flatten(2)[..., :24]


@pytest.mark.parametrize("landmark_input", ["bgr", "imagenet"])
def test_landmark_net_is_frozen_and_gets_its_input_format(landmark_input: str) -> None:
    encoder, spy = (
        make_encoder(landmarks="mobilefacenet", landmark_weights="random", landmark_input=landmark_input),
        SpyNetwork(),
    )
    encoder.train()
    assert not any(module.training for module in encoder.landmarks.modules())
    assert not any(parameter.requires_grad for parameter in encoder.landmarks.parameters())
    assert [
        name
        for name, parameter in encoder.named_parameters()
        if parameter.requires_grad and name.startswith("landmarks")
    ] == []
    encoder.network = spy
    (clip,) = make_clips(2)
    encode(encoder, [clip])
    torch.testing.assert_close(spy.images[0], (clip - encoder.mean) / encoder.std)
    images = clip[:, [2, 1, 0]] if landmark_input == "bgr" else (clip - encoder.mean) / encoder.std
    features = encoder.landmarks.features(images)
    assert features.shape == (2, 128, 14, 14)
    torch.testing.assert_close(spy.maps[0], nn.functional.adaptive_avg_pool2d(features, (4, 4)))
    assert not spy.maps.requires_grad


def test_landmark_features_are_averaged_over_patches() -> None:
    encoder, spy = (
        make_encoder([[3, 112, 112]], landmarks="mobilefacenet", landmark_weights="random", patch=16),
        SpyNetwork(),
    )
    encoder.network, spy.grid = spy, (7, 7)
    (clip,) = make_clips(1, side=112)
    encode(encoder, [clip])
    torch.testing.assert_close(spy.maps[0], nn.functional.avg_pool2d(encoder.landmarks.features(clip.flip(1)), 2))


def test_drawn_landmarks_peak_at_their_patches() -> None:
    points = torch.tensor([[4.0, 4.0], [20.0, 28.0], [torch.nan, torch.nan]])
    maps = drawn(points, (4, 3), 8)
    assert maps.shape == (3, 4, 3)
    assert maps[0].argmax() == 0
    assert maps[0, 0, 0] == 1
    assert divmod(int(maps[1].argmax()), 3) == (3, 2)  # row, column
    assert maps[0, 0, 1] == pytest.approx(np.exp(-0.5))
    assert (maps[2] == 0).all()
    assert drawn(points.expand(2, 5, -1, -1), (4, 3), 8).shape == (2, 5, 3, 4, 3)


@torch.no_grad()
@pytest.mark.parametrize(("landmarks", "shape"), [("points", [5, 2]), ("drawing", [3, 20, 20])])
def test_landmarks_affect_their_own_clip_and_frame(landmarks: str, shape: list[int]) -> None:
    encoder = make_sensitive_encoder(shapes=[[3, 32, 32], shape], landmarks=landmarks, reads=["faces", "marks"])
    clips, generator = make_clips(2, 3, 6), torch.Generator().manual_seed(0)
    marks = [32 * torch.rand(len(clip), *shape, generator=generator) for clip in clips]
    batched = encoder({"faces": batch_of(clips), "marks": batch_of(marks)}).values
    for row, (clip, mark) in enumerate(zip(clips, marks, strict=True)):
        alone = encoder({"faces": batch_of([clip]), "marks": batch_of([mark])}).values[0]
        assert_same(batched[row], alone, ADDITIONS)
        other = encoder({"faces": batch_of([clip]), "marks": batch_of([mark.flip(1)])}).values[0]
        assert not torch.allclose(other, alone, atol=1e-4)


# ---- weights ----


def test_audio_and_words_join_s2d_in_one_network() -> None:
    model = plain(merge_parameters("s2d_audio_text", []))["model"]
    small = {"weights": None, "patch": 8, "width": 24, "depth": 2, "heads": 2, "adapter_heads": 3, "frames": 4}
    chosen = {name: model["encoders"][name] | (small if name == "s2d" else {}) for name in model["use"]}
    settings = make_settings(use=model["use"], fusion=model["fusion"], width=model["width"], encoders=chosen)
    shapes = {"faces": [3, 32, 32], "landmarks": [5, 2], "audio.mfcc": [24], "text.words": [16]}
    streams: dict[str, StreamInfo] = {}
    for reference, shape in shapes.items():
        stream, _, kind = reference.partition(".")
        streams[stream] = StreamInfo({}, {kind: shape})
    network = Network.from_settings(settings, TRAITS_GROUP, streams)
    inputs = {
        name: {stream: Steps(torch.rand(2, 6, *shapes[stream]), torch.arange(6.0).expand(2, -1), torch.ones(2, 6) > 0)
               for stream in chosen[name]["reads"]}
        for name in chosen
    }  # fmt: skip
    predicted = network(inputs).predicted["traits"]
    assert predicted.shape == (2, 5)
    predicted.sum().backward()
    for name in chosen:
        parameters = [p for p in network.encoders[name].parameters() if p.requires_grad]
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters), name


@pytest.mark.parametrize(
    ("changes", "shapes", "message"),
    [
        ({}, [[3, 36, 36]], r"^patch = 8; allowed for faces of 36 x 36 pixels: a divisor"),
        ({"heads": 5}, [[3, 32, 32]], r"^heads = 5; allowed for a width of 24: a divisor of 24$"),
        ({"adapter_heads": 5}, [[3, 32, 32]], r"^adapter_heads = 5; allowed for a width of 12: a divisor of 12$"),
        ({"adapter_ratio": 0.01}, [[3, 32, 32]], r"^adapter_heads = 3; allowed for a width of 0"),
        ({}, [[2, 32, 32]], r"^reads = \['faces'\], whose steps are \[2, 32, 32\]; allowed with landmarks = none: p"),
        ({"landmarks": "points"}, [[3, 32, 32]], r"allowed with landmarks = points: pictures, then points$"),
        ({"landmarks": "points"}, [[3, 32, 32], [9]], r"are \[3, 32, 32\], \[9\]; allowed with landmarks = points"),
        ({"landmarks": "drawing"}, [[3, 32, 32], [5, 2]], r"allowed with landmarks = drawing: pictures, then pictures$"),
        ({"landmarks": "mobilefacenet"}, [[3, 32, 32]], r"landmark_weights = null; allowed .*mobilefacenet_model_best"),
        ({"landmarks": "mobilefacenet", "landmark_weights": "a.pth"}, [[3, 32, 32]], r"weights = 'a\.pth' is not a file"),
        ({"weights": "a.pth"}, [[3, 32, 32]], r"^weights = 'a\.pth' is not a file; allowed: null, imagenet, or the path"),
    ],
)  # fmt: skip
def test_s2d_rejects_settings_that_do_not_fit(
    changes: Mapping[str, Any], shapes: list[list[int]], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        make_encoder(shapes, **changes, reads=["faces", "marks"][: len(shapes)])
    assert "\n" not in str(error.value)


def test_landmark_net_rejects_weights_of_another_network(tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.fc.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(
        InputError, match=r"landmark_weights = '.*' do not fit mobilefacenet: .* is missing; and \d+ more$"
    ):
        make_encoder(landmarks="mobilefacenet", landmark_weights=str(tmp_path / "other.pth"))


# ---- in training ----


def test_checkpointing_does_not_change_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        encoder = make_sensitive_encoder(checkpointing=checkpointing, dropout=0.2).train()
        torch.manual_seed(2)
        encode(encoder, make_clips(3, 6)).square().sum().backward()
        gradients.append(
            {name: parameter.grad for name, parameter in encoder.named_parameters() if parameter.requires_grad}
        )
    assert all(
        gradient.abs().sum() > 0 for name, gradient in gradients[0].items() if not name.startswith("network.landmark")
    )
    assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())


def test_unfrozen_s2d_trains_all_parameters() -> None:
    assert all(parameter.requires_grad for parameter in make_encoder(frozen=False).parameters())


def test_cosine_by_step_rises_from_zero() -> None:
    rates = [schedules.cosine_by_step(Progress(step / 4, 3, 1, steps=4)) for step in range(12)]
    assert rates[:5] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert rates == sorted(rates[:5]) + sorted(rates[5:], reverse=True)
    assert rates[8] == pytest.approx(0.5)


@torch.no_grad()
def test_saved_s2d_network_predicts_the_same(tmp_path: Path) -> None:
    weights = tmp_path / "mobilefacenet.pth"
    torch.save(MobileFaceNet().state_dict(), weights)
    encoder_settings = SMALL_SETTINGS | {
        "init": "reference",
        "landmarks": "mobilefacenet",
        "landmark_weights": str(weights),
    }
    settings = make_settings(["faces"]).model_copy(update={"encoders": {"faces": encoder_settings}})
    faces = {"enabled": True, "side": 32, "min_face": 40, "min_found": 0.5, "max_gap": 1.0, "key_seconds": 1.0}
    faces |= {"detector": "mtcnn", "weights": None, "identity": "none"}
    streams = {"faces": StreamInfo(faces, {"": [3, 32, 32]})}
    net = Network.from_settings(settings, TRAITS_GROUP, streams).eval()
    images = [(255 * clip).byte().numpy() for clip in make_clips(2, 5)]
    times_and_presence = [(np.arange(len(clip), dtype=np.float32), np.ones(len(clip), bool)) for clip in images]
    inputs_of_clips = [
        {"faces": {"faces": Steps(clip, *times_and_present)}}
        for clip, times_and_present in zip(images, times_and_presence, strict=True)
    ]
    inputs = collate([Sample(inputs_of_clip, {}, 0) for inputs_of_clip in inputs_of_clips]).inputs
    checkpoint.save(tmp_path / "model.pt", net.state_dict(), settings, TRAITS_GROUP, streams, TrainingSummary(["demo"]))
    weights.unlink()
    loaded = checkpoint.load(tmp_path / "model.pt", torch.device("cpu")).network
    assert torch.equal(loaded(inputs).predicted["traits"], net(inputs).predicted["traits"])


@pytest.mark.parametrize(("width", "deviation"), [(768, 0.02), (48, 0.08)])
def test_narrow_s2d_starts_with_larger_weights(width: int, deviation: float) -> None:
    weights = (
        s2d.S2D((2, 2), 5, s2d.Options(width=width, depth=1, heads=4, adapter_width=12, adapter_heads=4))
        .blocks[0]
        .attn["qkv"]
        .weight
    )
    assert weights.std().item() == pytest.approx(deviation, rel=0.05)
