"""Weights of S2D: published files, other vision transformers, and files that do not fit."""

import argparse
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.weights import load_published
from lib.model import s2d, s2d_weights
from lib.model.encoders.s2d import Encoder, Settings
from lib.model.mobilefacenet import MobileFaceNet
from tests.test_s2d import (
    FIXTURES,
    FULL_SETTINGS,
    encode,
    make_clips,
    make_encoder,
    make_sensitive_encoder,
)


def published_state_dict(name: str) -> dict[str, Tensor]:
    """A state dict of zeros with the names and shapes of a published network. Each tensor shares one number."""
    names = json.loads((FIXTURES / "state_dicts.json").read_text())
    (shapes_by_name,) = (shapes for title, shapes in names.items() if title.startswith(name))
    return {key: torch.zeros(()).expand(shape) for key, shape in shapes_by_name.items()}


def make_full_network(side: int = 224, **changes: Any) -> s2d.S2D:
    with torch.device("meta"):
        return Encoder(check(FULL_SETTINGS | changes, Settings), [[3, side, side]]).network


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize(
    ("name", "wrapped", "changes", "messages"),
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
def test_s2d_loads_published_weights_and_lists_missing_parts(
    tmp_path: Path, name: str, wrapped: str | None, changes: Mapping[str, Any], messages: list[str]
) -> None:
    state = published_state_dict("s2d_base" if name == "affectnet" else name)
    if name == "affectnet":
        state = {key: value for key, value in state.items() if "TMA" not in key and key != "temporal_embedding"}
        state |= {"norm.weight": state.pop("ln_post.weight"), "norm.bias": state.pop("ln_post.bias")}
        state |= {"weak_head.weight": torch.zeros(()).expand(7, 768), "landmark_net.a": torch.zeros(2)}
        state |= {"weak_head.bias": torch.zeros(7)}
    path, options = tmp_path / "published.pth", argparse.Namespace(lr=1e-3, model="s2d")
    torch.save(state if wrapped is None else {wrapped: state, "args": options, "epoch": 3, "optimizer": None}, path)
    lines = s2d_weights.load(make_full_network(**changes), load_published(str(path), "here", ""), "here")
    assert len(lines) == len(messages)
    for line, expected in zip(lines, messages, strict=True):
        assert re.search(expected, line), line


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_s2d_loads_the_thesis_weights() -> None:
    network = make_full_network(112, frames=6, prompts="shallow", adapter_ratio=1.0, adapter_heads=4)
    (heads, projection) = s2d_weights.load(network, published_state_dict("thesis"), "here")
    assert heads.startswith("2 weights of classifiers")
    assert projection == "its projection is of landmarks of 3 channels, that of 128 is left as at the start"


def test_s2d_equals_torchvisions_vit_with_its_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(1)
    vit = VisionTransformer(32, 8, num_layers=3, num_heads=2, hidden_dim=24, mlp_dim=96).eval()
    class_tokens: list[Tensor] = []
    vit.heads.register_forward_hook(lambda _, inputs, __: class_tokens.append(inputs[0]))
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.3)
    state = vit.state_dict()
    old_names = {
        re.sub(r"mlp\.(0|3)", lambda match: f"mlp.linear_{1 + int(match[1]) // 3}", name): value
        for name, value in state.items()
    }
    (clip,) = make_clips(4)
    for weights in (state, old_names):  # torchvision's downloads have the second form
        torch.save(weights, tmp_path / "vit.pth")
        with caplog.at_level(logging.INFO):
            encoder = make_encoder(weights=str(tmp_path / "vit.pth"))
        vit((clip - encoder.mean) / encoder.std)
        torch.testing.assert_close(encode(encoder, [clip])[0], class_tokens.pop().mean(0), atol=1e-5, rtol=1e-5)
    assert "s2d: weights: it lacks the adapters, left as at the start: 39 weights, first prompts.0" in caplog.text
    larger = make_encoder([[3, 48, 48]], weights=str(tmp_path / "vit.pth")).network
    assert larger.pos_embed.shape == (1, 37, 24)
    assert torch.equal(larger.pos_embed[:, 0], state["encoder.pos_embedding"][:, 0])


@pytest.mark.parametrize("kind", ["timm", "layer_scale", "positions_without_class"])
@torch.no_grad()
def test_s2d_equals_timms_vit_with_its_weights(kind: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 7}
    rest = {"timm": {}, "layer_scale": {"init_values": 1.0}}.get(kind, {"init_values": 1.0, "no_embed_class": True})
    vit = timm.models.vision_transformer.VisionTransformer(**sizes, **rest).eval()
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.3)
    torch.save({"model": vit.state_dict()}, tmp_path / "vit.pth")
    (clip,) = make_clips(4)
    encoder = make_encoder(weights=str(tmp_path / "vit.pth"), standardise="half")
    expected = vit.forward_features((clip - 0.5) / 0.5)[:, 0].mean(0)
    torch.testing.assert_close(encode(encoder, [clip])[0], expected, atol=1e-5, rtol=1e-5)


def test_s2d_leaves_out_the_distillation_token_of_deit() -> None:
    encoder = make_encoder()
    own = {name: torch.randn_like(value) for name, value in encoder.network.state_dict().items()}
    additions = re.compile("prompt|landmark|temporal")
    state = {name: value for name, value in own.items() if not additions.search(name)}
    first, others = state["pos_embed"][:, :1], state["pos_embed"][:, 1:]
    state |= {
        "dist_token": torch.ones(1, 1, 24), "pos_embed": torch.cat([first, torch.ones(1, 1, 24), others], 1),
        "head.weight": torch.ones(7, 24), "head_dist.weight": torch.ones(7, 24),
    }  # fmt: skip
    notes = s2d_weights.load(encoder.network, state, "here")
    assert "its distillation token is left out" in notes
    assert "2 weights of classifiers and landmark nets are left out, first head.weight" in notes
    assert torch.equal(encoder.network.pos_embed, own["pos_embed"])


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize(
    ("source", "name", "sizes"),
    [
        ("torchvision", "vit_l_16", {"width": 1024, "depth": 24, "heads": 16}),
        ("torchvision", "vit_b_32", {"patch": 32}),
        ("timm", "vit_small_patch16_224", {"width": 384, "heads": 6}),
        ("timm", "vit_large_patch16_224", {"width": 1024, "depth": 24, "heads": 16}),
        ("timm", "deit_tiny_patch16_224", {"width": 192, "heads": 3}),
        ("timm", "deit_base_distilled_patch16_224", {}),
        ("timm", "deit3_small_patch16_224", {"width": 384, "heads": 6}),
        ("timm", "vit_small_patch14_dinov2", {"width": 384, "heads": 6, "patch": 14}),
    ],
)
def test_s2d_loads_weights_of_other_vits(source: str, name: str, sizes: Mapping[str, int]) -> None:
    create = torchvision.models.get_model if source == "torchvision" else pytest.importorskip("timm").create_model
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in create(name).state_dict().items()}
    state = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    notes = s2d_weights.load(make_full_network(**sizes), state, name)
    assert sum("it lacks" in note for note in notes) == 3  # adapters, temporal embedding and prompts
    assert all(re.search("it lacks|classifiers|distillation|interpolated", note) for note in notes)


@pytest.mark.parametrize(
    ("sizes", "name"),
    [({}, "vit_b_16"), ({"patch": 32}, "vit_b_32"), ({"width": 1024, "depth": 24, "heads": 16}, "vit_l_16")],
)
def test_imagenet_weights_follow_the_sizes_of_the_vit(
    sizes: Mapping[str, int], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloaded: list[str] = []

    def download(backbone: str) -> dict[str, Tensor]:
        downloaded.append(backbone)
        with torch.device("meta"):
            return torchvision.models.get_model(backbone).state_dict()

    monkeypatch.setattr("lib.model.encoders.s2d.load_imagenet", download)
    with torch.device("meta"):
        Encoder(check(FULL_SETTINGS | dict(sizes) | {"weights": "imagenet"}, Settings), [[3, 224, 224]])
    assert downloaded == [name]


def test_imagenet_weights_of_unknown_sizes_are_rejected() -> None:
    with pytest.raises(
        InputError, match=r"^weights = 'imagenet' with .* = \[8, 24, 3, 2\] .*allowed: \[16, 768, 12, 12\]"
    ):
        make_encoder(weights="imagenet")


def test_unusual_number_of_heads_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(make_encoder(width=128, adapter_heads=4).network.state_dict(), tmp_path / "own.pth")
    path = str(tmp_path / "own.pth")
    with caplog.at_level(logging.INFO):
        make_encoder(width=128, adapter_heads=4, heads=2, weights=path)
        assert "check heads" not in caplog.text
        make_encoder(width=128, adapter_heads=4, heads=4, weights=path)
    assert (
        "width = 128 has heads = 4; ViT-S, ViT-B, ViT-L and DeiT have 64 channels per head: check heads" in caplog.text
    )


def test_shared_norms_load_into_separate_norms() -> None:
    shared, separate = make_sensitive_encoder(norms="shared"), make_encoder(norms="own")
    for parameter in shared.network.prompt_norms.parameters():
        nn.init.normal_(parameter)
    assert s2d_weights.load(separate.network, shared.network.state_dict(), "here") == []
    (clip,) = make_clips(4)
    assert torch.equal(encode(separate, [clip]), encode(shared, [clip]))


def test_landmark_net_loads_its_published_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = MobileFaceNet()
    path = str(tmp_path / "mobilefacenet_model_best.pth.tar")
    torch.save({"state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}, "epoch": 3}, path)
    encoder = make_encoder(landmarks="mobilefacenet", landmark_weights=path)
    assert torch.equal(encoder.landmarks.conv_4.model[5].conv.conv.weight, net.conv_4.model[5].conv.conv.weight)
    names = {name: list(value.shape) for name, value in net.state_dict().items()}
    assert names == {name: list(value.shape) for name, value in published_state_dict("MobileFaceNet").items()}


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"layer1.weight": torch.zeros(3)}, r"weights = '.*' do not fit s2d: .*blocks\.0\..* is missing; .*; and \d+ more$"),
        ({"model": {"epoch": 3}}, "contains no state dict; allowed: a state dict, alone or under the key"),
        ([1, 2], "contains no state dict"),
        (b"no weights", "is not a file of weights, or contains code, which was not run"),
        ("an own class", "is not a file of weights, or contains code, which was not run"),
    ],
)  # fmt: skip
def test_s2d_rejects_files_without_weights(tmp_path: Path, saved: Any, message: str) -> None:
    path = tmp_path / "other.pth"
    if isinstance(saved, bytes):
        path.write_bytes(saved)
    else:
        torch.save({"model": Path("anything")} if isinstance(saved, str) else saved, path)
    with pytest.raises(InputError, match=message) as error:
        make_encoder(weights=str(path))
    assert str(error.value).startswith("weights = ")
    assert "\n" not in str(error.value)


def test_s2d_rejects_incomplete_or_extra_weights() -> None:
    state = make_encoder().network.state_dict()
    for changed, message in (
        (
            {name: value for name, value in state.items() if name != "prompts.1.mcp.out.bias"},
            "prompts.1.mcp.out.bias is mis",
        ),
        (state | {"blocks.3.norm1.weight": torch.zeros(24)}, "blocks.3.norm1.weight is not expected"),
        (
            state | {"temporal_embedding": torch.zeros(1, 6, 24)},
            r"temporal_embedding is \[1, 6, 24\], not \[1, 4, 24\]",
        ),
    ):
        with pytest.raises(InputError, match=f"^here do not fit s2d: {message}"):
            s2d_weights.load(make_encoder().network, changed, "here")
