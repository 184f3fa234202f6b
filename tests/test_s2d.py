"""S2D: the network beside published outputs and a plain ViT, its windows, landmarks and weights."""

import argparse
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.weights import load_published
from lib.data.batch import Sample, collate
from lib.model import checkpoint, s2d, s2d_weights
from lib.model.checkpoint import TrainingSummary
from lib.model.encoders.s2d import Encoder, Settings, drawn, windows
from lib.model.mobilefacenet import MobileFaceNet
from lib.model.network import Network
from lib.streams.base import Steps, StreamInfo
from lib.training import schedules
from lib.training.schedules import Progress
from tests.conftest import ROOT
from tests.rounding import assert_same, rounding
from tests.test_training import TRAITS_GROUP
from tests.test_training import settings as model_settings
from tools.parameters import merged, plain
from tools.parity.__main__ import compare

FIXTURES = ROOT / "tests" / "data" / "parity"
SHARED = ROOT.parent / "shared" / "parity"

WHOLE: dict[str, Any] = {
    "kind": "s2d", "reads": ["faces"], "take": "window", "steps": 16, "frames": 16, "short": "mask", "weights": None,
    "frozen": True, "patch": 16, "width": 768, "depth": 12, "heads": 12, "dropout": 0.0, "prompts": "deep",
    "prompt_width": 8, "norms": "own", "init": "zero", "tma": True, "temporal_embedding": True, "adapter_ratio": 0.25,
    "adapter_heads": 8, "landmarks": "none", "landmark_weights": None, "landmark_input": "bgr", "checkpointing": False,
}  # fmt: skip
SMALL = WHOLE | {
    "frames": 4, "patch": 8, "width": 24, "depth": 3, "heads": 2, "prompt_width": 4, "adapter_ratio": 0.5,
    "adapter_heads": 3,
}  # fmt: skip

ADDITIONS = 3 * 8**2 + 3 * (6 * 24 + 4 * 24 + 4 * 12 + 2 * 17)
"""Behind a value of SMALL: the embedding of a patch, and in each block projections, the MLP, adapters and attention."""


def encoder(shapes: Sequence[Sequence[int]] = ([3, 32, 32],), **changes: Any) -> Encoder:
    torch.manual_seed(0)
    return Encoder(check(SMALL | changes, Settings), shapes).eval()


def lively(**changes: Any) -> Encoder:
    """One whose additions and trunk all matter."""
    made = encoder(init="reference", **changes)
    for name, parameter in made.network.named_parameters():
        if "landmark_embed" not in name and parameter.dim() > 1:
            parameter.data.mul_(6)
    return made


def clips(*lengths: int, side: int = 32) -> list[Tensor]:
    chance = torch.Generator().manual_seed(0)
    return [torch.rand(length, 3, side, side, generator=chance) for length in lengths]


def together(given: Sequence[Tensor], beyond: float = 0.7) -> Steps:
    """Clips (T, ...) as a batch, padded with something."""
    longest = max(map(len, given))
    values = torch.full((len(given), longest, *given[0].shape[1:]), beyond)
    present = torch.zeros(len(given), longest, dtype=torch.bool)
    for row, clip in enumerate(given):
        values[row, : len(clip)], present[row, : len(clip)] = clip, True
    return Steps(values, torch.arange(longest).float().expand(len(given), -1), present)


def of(made: Encoder, given: Sequence[Tensor]) -> Tensor:
    return made({"faces": together(given)}).values[:, 0]


# ---- beside what was published ----


@pytest.mark.parametrize("name", ["s2d_thesis_small", "s2d_frames", "schedules"])
def test_outputs_are_those_of_the_published_network(name: str) -> None:
    _, deviations = compare(FIXTURES / f"{name}.npz")
    assert deviations
    assert all(deviation < (1e-8 if name == "schedules" else 1e-5) for deviation in deviations.values())


@pytest.mark.skipif(not SHARED.is_dir(), reason="the larger fixtures are not here")
@pytest.mark.parametrize("name", ["s2d_small_deep", "s2d_small_shallow", "mobilefacenet", "landmark_wrapper"])
def test_outputs_are_those_of_the_larger_published_networks(name: str) -> None:
    _, deviations = compare(SHARED / f"{name}.npz")
    assert deviations
    assert all(deviation < 1e-5 for deviation in deviations.values())


def test_the_whole_network_has_as_many_parameters_as_published_and_trains_as_many() -> None:
    with torch.device("meta"):
        made = Encoder(check(WHOLE | {"norms": "shared"}, Settings), [[3, 224, 224]])
        head = nn.Linear(768, 5)
    both = [*made.parameters(), *head.parameters()]
    assert sum(one.numel() for one in both) == 95_054_033
    assert sum(one.numel() for one in both if one.requires_grad) == 9_256_913
    frozen = {name.split(".")[1] for name, one in made.named_parameters() if not one.requires_grad}
    assert frozen == {"cls_token", "pos_embed", "patch_embed", "blocks"}
    assert sum(one.numel() for one in MobileFaceNet().parameters()) == 1_007_248


@pytest.mark.parametrize(("name", "side", "trained"), [("s2d", 224, 9.2e6), ("s2d_thesis", 112, 4.7e6)])
def test_shipped_parameters_build_the_whole_network(name: str, side: int, trained: float) -> None:
    given = plain(merged(name, []))
    own = given["model"]["encoders"]["s2d"] | {"weights": None}
    with torch.device("meta"):
        made = Encoder(check(own, Settings), [[3, side, side], [5, 2]])
    assert given["faces"]["side"] == side
    assert own["steps"] == own["frames"]
    assert sum(one.numel() for one in made.parameters() if one.requires_grad) == pytest.approx(trained, rel=0.02)


def of_vit(made: Encoder, given: Sequence[Tensor]) -> Tensor:
    """The ViT alone, frame by frame: the mean of the class tokens."""
    net: Any = made.network
    found = []
    for clip in given:
        patches = net.patch_embed((clip - made.mean) / made.std).flatten(2).transpose(1, 2)
        tokens = torch.cat([net.cls_token.expand(len(clip), -1, -1), patches], 1) + net.pos_embed
        for block in net.blocks:
            tokens = block(tokens)
        found.append(net.ln_post(tokens[:, 0]).mean(0))
    return torch.stack(found)


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
def test_at_first_it_is_the_frozen_vit_and_every_addition_then_moves(prompts: str, tma: bool, norms: str) -> None:
    made, given = encoder(prompts=prompts, tma=tma, norms=norms), clips(4, 4)
    found = of(made, given)
    assert torch.equal(found, of_vit(made, given))
    assert not torch.allclose(found[0], found[1])
    found.square().sum().backward()
    trained = [one for one in made.parameters() if one.requires_grad]
    assert all(one.grad is not None for one in trained)  # what several devices need
    torch.optim.SGD(trained, 1e-2).step()
    assert not torch.allclose(of(made, given), of_vit(made, given), atol=1e-6)


def test_as_published_it_does_not_begin_as_the_vit() -> None:
    made, given = encoder(init="reference"), clips(4)
    assert (of(made, given) - of_vit(made, given)).norm() > 0.01 * of_vit(made, given).norm()


# ---- time ----


@torch.no_grad()
def test_a_clip_is_the_same_alone_and_in_company() -> None:
    made, given = lively(), clips(1, 3, 4, 6, 9)
    alone = torch.cat([of(made, [clip]) for clip in given])
    assert (alone.std(0) > 1e-3).all()
    assert_same(of(made, given), alone, ADDITIONS)
    assert_same(made({"faces": together(given, beyond=0.0)}).values[:, 0], alone, ADDITIONS)
    tokens = made({"faces": together(given)})
    assert tokens.times.tolist() == [[0], [1], [1.5], [2.5], [4]]
    assert tokens.present.tolist() == [[True]] * 5


def test_windows_cover_a_clip_evenly() -> None:
    present = together(clips(2, 4, 6, 9)).present
    many, of_clip, steps, there = windows(present, 4, repeat=False)
    assert many == [1, 1, 2, 3]
    assert of_clip.tolist() == [0, 1, 2, 2, 3, 3, 3]
    assert steps[there].tolist() == [0, 1, *range(4), *range(4), *range(2, 6), *range(4), *range(2, 6), *range(5, 9)]
    assert there.sum(1).tolist() == [2, 4, 4, 4, 4, 4, 4]
    assert windows(present[:1], 4, repeat=True)[2].tolist() == [[0, 1, 1, 1]]
    assert windows(torch.tensor([[False, True, False, True]]), 4, repeat=False)[2].tolist() == [[1, 3]]


@torch.no_grad()
def test_a_long_clip_is_the_mean_of_its_windows_and_a_short_one_may_be_drawn_out() -> None:
    made, (clip,) = lively(), clips(6)
    assert_same(of(made, [clip])[0], of(made, [clip[:4], clip[2:]]).mean(0), ADDITIONS)
    repeating = lively(short="repeat")
    torch.testing.assert_close(of(repeating, [clip[:1]]), of(made, [clip[:1].expand(4, -1, -1, -1)]))
    assert not torch.allclose(of(repeating, [clip[:1]]), of(made, [clip[:1]]), atol=1e-3)


@torch.no_grad()
def test_order_in_time_is_seen_by_the_temporal_embedding_and_frames_see_each_other_by_tma() -> None:
    for tma, temporal in ((True, True), (True, False), (False, True), (False, False)):
        made, (clip,) = lively(tma=tma, temporal_embedding=temporal), clips(4)
        forward = of(made, [clip])
        same = torch.allclose(forward, of(made, [clip.flip(0)]), atol=rounding(forward, ADDITIONS), rtol=0)
        assert same != temporal
        apart = torch.stack([made.network.eval()(*one)[0, 0] for one in frames(made, [clip, clip[:1]])])
        assert torch.allclose(apart[0], apart[1], atol=rounding(apart[0], ADDITIONS), rtol=0) != tma


def frames(made: Encoder, given: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return [(clip[None], torch.zeros(1, len(clip), 128, 4, 4)) for clip in given]


# ---- landmarks ----


class Spy(nn.Module):
    """Stands for the network, keeps what it is given."""

    grid = (4, 4)

    def forward(self, pictures: Tensor, maps: Tensor, present: Tensor) -> Tensor:
        self.pictures, self.maps = pictures, maps
        return pictures.flatten(2)[..., :24]


@pytest.mark.parametrize("given", ["bgr", "imagenet"])
def test_the_landmark_net_is_frozen_and_sees_what_it_was_trained_on(given: str) -> None:
    made, spy = encoder(landmarks="mobilefacenet", landmark_weights="random", landmark_input=given), Spy()
    made.train()
    assert not any(module.training for module in made.landmarks.modules())
    assert not any(one.requires_grad for one in made.landmarks.parameters())
    assert [name for name, one in made.named_parameters() if one.requires_grad and name.startswith("landmarks")] == []
    made.network = spy
    (clip,) = clips(2)
    of(made, [clip])
    torch.testing.assert_close(spy.pictures[0], (clip - made.mean) / made.std)
    pictures = clip[:, [2, 1, 0]] if given == "bgr" else (clip - made.mean) / made.std
    features = made.landmarks.features(pictures)
    assert features.shape == (2, 128, 14, 14)
    torch.testing.assert_close(spy.maps[0], nn.functional.adaptive_avg_pool2d(features, (4, 4)))
    assert not spy.maps.requires_grad


def test_features_of_a_picture_of_112_pixels_are_averaged_over_its_patches() -> None:
    made, spy = encoder([[3, 112, 112]], landmarks="mobilefacenet", landmark_weights="random", patch=16), Spy()
    made.network, spy.grid = spy, (7, 7)
    (clip,) = clips(1, side=112)
    of(made, [clip])
    torch.testing.assert_close(spy.maps[0], nn.functional.avg_pool2d(made.landmarks.features(clip.flip(1)), 2))


def test_points_are_drawn_where_they_are() -> None:
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
def test_a_second_stream_of_landmarks_is_seen_with_its_own_clip_and_frame(landmarks: str, shape: list[int]) -> None:
    made = lively(shapes=[[3, 32, 32], shape], landmarks=landmarks, reads=["faces", "marks"])
    given, chance = clips(2, 3, 6), torch.Generator().manual_seed(0)
    marks = [32 * torch.rand(len(clip), *shape, generator=chance) for clip in given]
    both = made({"faces": together(given), "marks": together(marks)}).values
    for row, (clip, mark) in enumerate(zip(given, marks, strict=True)):
        alone = made({"faces": together([clip]), "marks": together([mark])}).values[0]
        assert_same(both[row], alone, ADDITIONS)
        other = made({"faces": together([clip]), "marks": together([mark.flip(1)])}).values[0]
        assert not torch.allclose(other, alone, atol=1e-4)


# ---- weights ----


def stated(name: str) -> dict[str, Tensor]:
    """Zeros of the names and shapes of a published network; each shares one number."""
    names = json.loads((FIXTURES / "state_dicts.json").read_text())
    (found,) = (shapes for title, shapes in names.items() if title.startswith(name))
    return {key: torch.zeros(()).expand(shape) for key, shape in found.items()}


def whole(side: int = 224, **changes: Any) -> s2d.S2D:
    with torch.device("meta"):
        return Encoder(check(WHOLE | changes, Settings), [[3, side, side]]).network


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize(
    ("name", "wrapped", "changes", "said"),
    [
        ("s2d_base", "model", {"norms": "shared"}, ["2 weights of classifiers"]),
        ("s2d_base", "model", {}, [r"2 weights of classifiers .* first head\.fc_cls\.bias"]),
        ("s2d_base", "model", {"side": 112}, ["2 weights", "positions are interpolated from 196 patches to 7 x 7"]),
        ("s2d_base", "model", {"tma": False}, ["2 weights", r"156 weights of the adapters are not used"]),
        ("s2d_base", "model", {"prompts": "shallow"}, ["2 w", "143 weights of the adapters", "121 weights of the pro"]),
        ("timm", None, {}, ["2 weights", "lacks the adapters", "lacks the temporal emb", "lacks the prompts"]),
        ("torchvision", None, {}, ["2 weights", "lacks the adapters", "lacks the temporal emb", "lacks the prompts"]),
        ("affectnet", "model_state_dict", {}, ["5 weights", "lacks the adapters", "lacks the temporal embedding"]),
    ],
)
def test_published_files_load_and_what_they_lack_is_said(
    tmp_path: Path, name: str, wrapped: str | None, changes: Mapping[str, Any], said: list[str]
) -> None:
    state = stated("s2d_base" if name == "affectnet" else name)
    if name == "affectnet":
        state = {key: value for key, value in state.items() if "TMA" not in key and key != "temporal_embedding"}
        state |= {"norm.weight": state.pop("ln_post.weight"), "norm.bias": state.pop("ln_post.bias")}
        state |= {"weak_head.weight": torch.zeros(()).expand(7, 768), "landmark_net.a": torch.zeros(2)}
        state |= {"weak_head.bias": torch.zeros(7)}
    path, options = tmp_path / "published.pth", argparse.Namespace(lr=1e-3, model="s2d")
    torch.save(state if wrapped is None else {wrapped: state, "args": options, "epoch": 3, "optimizer": None}, path)
    lines = s2d_weights.load(whole(**changes), load_published(str(path), "here", ""), "here")
    assert len(lines) == len(said)
    for line, expected in zip(lines, said, strict=True):
        assert re.search(expected, line), line


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_the_thesis_weights_fit_its_variant() -> None:
    made = whole(112, frames=6, prompts="shallow", adapter_ratio=1.0, adapter_heads=4)
    (heads, anew) = s2d_weights.load(made, stated("thesis"), "here")
    assert heads.startswith("2 weights of classifiers")
    assert anew == "its projection is of landmarks of 3 channels, that of 128 is left as at the start"


def test_a_vit_of_torchvision_is_the_same_here(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(1)
    vit = VisionTransformer(32, 8, num_layers=3, num_heads=2, hidden_dim=24, mlp_dim=96).eval()
    seen: list[Tensor] = []
    vit.heads.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.3)
    state = vit.state_dict()
    old = {
        re.sub(r"mlp\.(0|3)", lambda at: f"mlp.linear_{1 + int(at[1]) // 3}", name): of for name, of in state.items()
    }
    (clip,) = clips(4)
    for weights in (state, old):  # the second as torchvision's downloads have it
        torch.save(weights, tmp_path / "vit.pth")
        with caplog.at_level(logging.INFO):
            made = encoder(weights=str(tmp_path / "vit.pth"))
        vit((clip - made.mean) / made.std)
        torch.testing.assert_close(of(made, [clip])[0], seen.pop().mean(0), atol=1e-5, rtol=1e-5)
    assert "s2d: weights: it lacks the adapters, left as at the start: 39 weights, first prompts.0" in caplog.text
    larger = encoder([[3, 48, 48]], weights=str(tmp_path / "vit.pth")).network
    assert larger.pos_embed.shape == (1, 37, 24)
    assert torch.equal(larger.pos_embed[:, 0], state["encoder.pos_embedding"][:, 0])


def test_weights_reach_their_places_with_norms_of_ones_own_too() -> None:
    shared, own = lively(norms="shared"), encoder(norms="own")
    for parameter in shared.network.prompt_norms.parameters():
        nn.init.normal_(parameter)
    assert s2d_weights.load(own.network, shared.network.state_dict(), "here") == []
    (clip,) = clips(4)
    assert torch.equal(of(own, [clip]), of(shared, [clip]))


def test_the_landmark_nets_file_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = MobileFaceNet()
    path = str(tmp_path / "mobilefacenet_model_best.pth.tar")
    torch.save({"state_dict": {f"module.{name}": of for name, of in net.state_dict().items()}, "epoch": 3}, path)
    made = encoder(landmarks="mobilefacenet", landmark_weights=path)
    assert torch.equal(made.landmarks.conv_4.model[5].conv.conv.weight, net.conv_4.model[5].conv.conv.weight)
    names = {name: list(of.shape) for name, of in net.state_dict().items()}
    assert names == {name: list(of.shape) for name, of in stated("MobileFaceNet").items()}


@pytest.mark.parametrize(
    ("changes", "shapes", "said"),
    [
        ({}, [[3, 36, 36]], r"^patch = 8; allowed for faces of 36 x 36 pixels: what"),
        ({"heads": 5}, [[3, 32, 32]], r"^heads = 5; allowed for a width of 24: what divides it$"),
        ({"adapter_heads": 5}, [[3, 32, 32]], r"^adapter_heads = 5; allowed for a width of 12: what divides it$"),
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
def test_what_does_not_fit_is_named(changes: Mapping[str, Any], shapes: list[list[int]], said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        encoder(shapes, **changes, reads=["faces", "marks"][: len(shapes)])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ({"layer1.weight": torch.zeros(3)}, r"weights = '.*' do not fit s2d: .*blocks\.0\..* is missing; .*; and \d+ more$"),
        ({"model": {"epoch": 3}}, "contains no state dict, nor one under model or state_dict$"),
        ([1, 2], "contains no state dict"),
        (b"no weights", "can't be read as weights: "),
        ("an own class", "can't be read as weights: "),
    ],
)  # fmt: skip
def test_a_file_of_something_else_is_named(tmp_path: Path, saved: Any, said: str) -> None:
    path = tmp_path / "other.pth"
    if isinstance(saved, bytes):
        path.write_bytes(saved)
    else:
        torch.save({"model": Path("anything")} if isinstance(saved, str) else saved, path)
    with pytest.raises(InputError, match=said) as error:
        encoder(weights=str(path))
    assert str(error.value).startswith("weights = ")
    assert "\n" not in str(error.value)


def test_a_landmark_nets_file_of_another_network_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.fc.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(
        InputError, match=r"landmark_weights = '.*' do not fit mobilefacenet: .* is missing; and \d+ more$"
    ):
        encoder(landmarks="mobilefacenet", landmark_weights=str(tmp_path / "other.pth"))


def test_what_is_partly_there_or_too_many_is_an_error() -> None:
    state = encoder().network.state_dict()
    for changed, said in (
        ({name: of for name, of in state.items() if name != "prompts.1.mcp.out.bias"}, "prompts.1.mcp.out.bias is mis"),
        (state | {"blocks.3.norm1.weight": torch.zeros(24)}, "blocks.3.norm1.weight is too many"),
        (
            state | {"temporal_embedding": torch.zeros(1, 6, 24)},
            r"temporal_embedding is \[1, 6, 24\], not \[1, 4, 24\]",
        ),
    ):
        with pytest.raises(InputError, match=f"^here do not fit s2d: {said}"):
            s2d_weights.load(encoder().network, changed, "here")


# ---- in training ----


def test_checkpointing_changes_no_gradient() -> None:
    found = []
    for checkpointing in (False, True):
        made = lively(checkpointing=checkpointing, dropout=0.2).train()
        torch.manual_seed(2)
        of(made, clips(3, 6)).square().sum().backward()
        found.append({name: one.grad for name, one in made.named_parameters() if one.requires_grad})
    assert all(of.abs().sum() > 0 for name, of in found[0].items() if not name.startswith("network.landmark"))
    assert all(torch.equal(of, found[1][name]) for name, of in found[0].items())


def test_the_whole_of_it_is_trained_where_it_is_not_frozen() -> None:
    assert all(one.requires_grad for one in encoder(frozen=False).parameters())


def test_the_rate_by_step_rises_from_zero() -> None:
    rates = [schedules.cosine_by_step(Progress(step / 4, 3, 1, steps=4)) for step in range(12)]
    assert rates[:5] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert rates == sorted(rates[:5]) + sorted(rates[5:], reverse=True)
    assert rates[8] == pytest.approx(0.5)


@torch.no_grad()
def test_a_network_with_it_predicts_the_same_from_its_file(tmp_path: Path) -> None:
    weights = tmp_path / "mobilefacenet.pth"
    torch.save(MobileFaceNet().state_dict(), weights)
    own = SMALL | {"init": "reference", "landmarks": "mobilefacenet", "landmark_weights": str(weights)}
    given = model_settings(["faces"]).model_copy(update={"encoders": {"faces": own}})
    how = {"enabled": True, "side": 32, "min_face": 40, "min_found": 0.5, "max_gap": 1.0, "key_seconds": 1.0}
    how |= {"detector": "mtcnn", "weights": None}
    streams = {"faces": StreamInfo(how, {"": [3, 32, 32]})}
    net = Network.from_settings(given, TRAITS_GROUP, streams).eval()
    pictures = [(255 * clip).byte().numpy() for clip in clips(2, 5)]
    at = [(np.arange(len(clip), dtype=np.float32), np.ones(len(clip), bool)) for clip in pictures]
    read = [{"faces": {"faces": Steps(clip, *when)}} for clip, when in zip(pictures, at, strict=True)]
    inputs = collate([Sample(one, {}, 0) for one in read]).inputs
    checkpoint.save(tmp_path / "model.pt", net.state_dict(), given, TRAITS_GROUP, streams, TrainingSummary(["demo"]))
    weights.unlink()
    served = checkpoint.load(tmp_path / "model.pt", torch.device("cpu")).network
    assert torch.equal(served(inputs).predicted["traits"], net(inputs).predicted["traits"])


@pytest.mark.parametrize(("width", "deviation"), [(768, 0.02), (48, 0.08)])
def test_a_narrower_network_begins_with_larger_weights(width: int, deviation: float) -> None:
    weights = (
        s2d.S2D((2, 2), 5, s2d.Options(width=width, depth=1, heads=4, adapter_width=12, adapter_heads=4))
        .blocks[0]
        .attn["qkv"]
        .weight
    )
    assert weights.std().item() == pytest.approx(deviation, rel=0.05)
