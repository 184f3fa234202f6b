"""Load published weights of S2D, or of a ViT, into the network of lib/model/s2d.py."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from lib.core.errors import InputError
from lib.core.weights import find_mismatches, summarise_mismatches
from lib.model.s2d import S2D

_HEADS = re.compile(r"(head|heads|head_dist|weak_head)\.|landmark(?!_embed\.|_norms\.)")
"""Published weights that are not loaded: classifiers, and landmark nets that were saved with the network."""

_LAYER_SCALE = re.compile(r"blocks\.\d+\.ls[12]\.gamma$")

_NAMES = [
    (re.compile(pattern), name)
    for pattern, name in (
        # torchvision's ViT; linear_1 and linear_2 in the files that it downloads
        (r"^class_token$", "cls_token"),
        (r"^encoder\.pos_embedding$", "pos_embed"),
        (r"^conv_proj\.", "patch_embed."),
        (r"^encoder\.ln\.", "ln_post."),
        (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
        (r"^(blocks\.\d+)\.ln_([12])\.", r"\1.norm\2."),
        (r"\.self_attention\.in_proj_", ".attn.qkv."),
        (r"\.self_attention\.out_proj\.", ".attn.proj."),
        (r"\.mlp\.(0|linear_1)\.", ".mlp.fc1."),
        (r"\.mlp\.(3|linear_2)\.", ".mlp.fc2."),
        # timm's ViT
        (r"^norm\.", "ln_post."),
        (r"^patch_embed\.proj\.", "patch_embed."),
        # S2D
        (r"^patch_embed_prompt\.proj\.", "landmark_embed."),
        (r"^prompt_blocks\.(\d+)\.TMA\.", r"prompts.\1.tma."),
        (r"^prompt_blocks\.(\d+)\.", r"prompts.\1.mcp."),
        (r"\.mcp\.conv0_0\.", ".mcp.patches."),
        (r"\.mcp\.conv0_1\.", ".mcp.landmarks."),
        (r"\.mcp\.conv1x1\.", ".mcp.out."),
        (r"\.fovea\.smooth(_param)?$", ".fovea.sharpness"),
        (r"\.T_Adapter\.D_fc1\.", ".temporal.down."),
        (r"\.T_Adapter\.D_fc2\.", ".temporal.up."),
        (r"\.T_Adapter\.attn\.", ".temporal."),
        (r"\.S_Adapter\.D_fc1\.", ".spatial.0."),
        (r"\.S_Adapter\.D_fc2\.", ".spatial.2."),
    )
]


def load(network: S2D, state: Mapping[str, Tensor], source: str) -> list[str]:
    """Load published weights of S2D, or of a ViT as timm or torchvision name them; return notes about them for the log.

    The ViT may be a DeiT (Touvron et al. 2021): its distillation token is left out. Layer scale, as in DeiT III and
    DINOv2, becomes part of the weights that it scales. Positions are interpolated to the network's grid. S2D's own parts may
    be missing, all along time or all of the prompts.
    Raises InputError, which begins with `source`, if anything else is missing, too many or of another shape.
    """
    expected, notes = network.state_dict(), []
    named = rename_weights(state)
    if heads := sorted(state.keys() - {name for name in state if not _HEADS.match(name)}):
        notes.append(f"{len(heads)} weights of classifiers and landmark nets are left out, first {heads[0]}")
    if len(network.landmark_norms):
        named = _untie_norms(named)
    if named.pop("dist_token", None) is not None:
        notes.append("its distillation token is left out")
        named["pos_embed"] = torch.cat([named["pos_embed"][:, :1], named["pos_embed"][:, 2:]], 1)
    named = _merge_layer_scale(named)
    if "pos_embed" in named and named["pos_embed"].dim() == 3:
        if named["pos_embed"].shape != expected["pos_embed"].shape:
            named["pos_embed"] = _add_class_position(named["pos_embed"])
        before, named["pos_embed"] = (
            named["pos_embed"].shape[1],
            interpolate_positions(named["pos_embed"], network.grid),
        )
        if before != named["pos_embed"].shape[1]:
            notes.append(
                f"positions are interpolated from {before - 1} patches to {network.grid[0]} x {network.grid[1]}"
            )
    channels = [
        state["landmark_embed.weight"].shape[-1] for state in (named, expected) if "landmark_embed.weight" in state
    ]
    if len(set(channels)) > 1:
        named = {name: value for name, value in named.items() if not name.startswith("landmark_embed.")}
        notes.append(
            f"its projection is of landmarks of {channels[0]} channels, that of {channels[1]} is left as at the start"
        )
        expected = {name: value for name, value in expected.items() if not name.startswith("landmark_embed.")}
    for part, of_part in _PARTS.items():
        if unused := sorted(name for name in named.keys() - expected.keys() if of_part.search(name)):
            named = {name: value for name, value in named.items() if name not in unused}
            notes.append(f"{len(unused)} weights of {part} are not used, first {unused[0]}")
        unmatched = sorted(name for name in expected if of_part.search(name))
        if unmatched and not named.keys() & set(unmatched):
            expected = {name: value for name, value in expected.items() if name not in unmatched}
            notes.append(f"it lacks {part}, left as at the start: {len(unmatched)} weights, first {unmatched[0]}")
    if wrong := find_mismatches(expected, named):
        raise InputError(f"{source} do not fit s2d: {summarise_mismatches(wrong)}")
    network.load_state_dict(named, strict=False)
    return notes


_PARTS = {
    "the adapters": re.compile(r"\.tma\."),
    "the temporal embedding": re.compile(r"^temporal_embedding$"),
    "the prompts": re.compile(r"\.mcp\.|^(prompt|landmark)_norms\.|^landmark_embed\."),
}
"""Parts of S2D that may be missing in a network or in a file."""


def rename_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return published weights under this project's names, without classifiers; 1 x 1 convolutions become linear layers."""
    weights = {}
    for name, value in state.items():
        if _HEADS.match(name):
            continue
        for pattern, new_name in _NAMES:
            name = pattern.sub(new_name, name)
        if name.endswith(".sharpness"):
            value = value.reshape(())
        elif value.shape[2:] == (1, 1) and (".mcp." in name or name.startswith("landmark_embed.")):
            value = value[..., 0, 0]
        weights[name] = value
    return weights


def interpolate_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return position embeddings (1, 1 + n n, D), interpolated to another grid; that of the class token stays."""
    side = round((positions.shape[1] - 1) ** 0.5)
    if (side, side) == grid or 1 + side * side != positions.shape[1]:
        return positions
    places = positions[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    places = functional.interpolate(places.float(), grid, mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], places.flatten(2).transpose(1, 2).to(positions.dtype)], 1)


def _add_class_position(positions: Tensor) -> Tensor:
    """Return positions (1, 1 + n n, D): in a file with n n positions, as of DeiT III, that of the class token is 0."""
    is_square = round(positions.shape[1] ** 0.5) ** 2 == positions.shape[1]
    return functional.pad(positions, (0, 0, 1, 0)) if is_square and positions.shape[1] > 1 else positions


def _merge_layer_scale(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Multiply the last layers of attention and feed-forward network by their layer scale, which is then left out."""
    weights = {name: value for name, value in state.items() if not _LAYER_SCALE.match(name)}
    for name in state.keys() - weights.keys():
        block, which, _ = name.rsplit(".", 2)
        layer = f"{block}.attn.proj" if which == "ls1" else f"{block}.mlp.fc2"
        for kind in {f"{layer}.weight", f"{layer}.bias"} & weights.keys():
            weights[kind] = state[name].view(-1, *[1] * (weights[kind].dim() - 1)) * weights[kind]
    return weights


def _untie_norms(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give each layer its own copy of the norms that layers share in the published weights."""
    weights = {name: value for name, value in state.items() if not name.startswith("prompt_norms.")}
    for name in state.keys() - weights.keys():
        layer, kind = int(name.split(".")[1]), name.split(".")[2]
        weights[f"prompt_norms.{layer}.{kind}"] = state[f"prompt_norms.{max(layer - 1, 0)}.{kind}"]
        weights[f"landmark_norms.{layer}.{kind}"] = state[f"prompt_norms.0.{kind}"]
    return weights
