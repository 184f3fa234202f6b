"""S2D, a vision transformer prompted with landmarks, its landmark network, and the variant of the thesis."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.core import weights
from lib.data.samplers import SAMPLERS
from lib.model import s2d_weights
from lib.model.encoders.s2d import windows
from lib.model.mobilefacenet import MobileFaceNet, scaled
from lib.model.s2d import S2D, Options
from lib.training import schedules
from lib.training.schedules import Progress
from tools.parity._fixture import Arrays, Layout, find_parameters


def _tensors(arrays: Arrays, kind: str) -> dict[str, Tensor]:
    """Return the fixture's arrays of a kind, `param/` or `in/`, without this prefix."""
    return {name.removeprefix(kind): torch.from_numpy(value) for name, value in arrays.items() if name.startswith(kind)}


def _small(arrays: Arrays, folder: Path) -> Mapping[str, Any]:
    meta = {name.removeprefix("meta/"): value.item() for name, value in arrays.items() if name.startswith("meta/")}
    grid, width = meta["img_size"] // meta["patch_size"], meta["embed_dim"]
    options = Options(
        patch=meta["patch_size"],
        width=width,
        depth=meta["depth"],
        heads=meta["num_heads"],
        frames=meta["num_frames"],
        prompts=meta["prompt_type"],
        prompt_width=meta["hidden_dim"],
        adapter_width=int(width * meta["adapter_scale"]),
        adapter_heads=meta["adapter_heads"],
        norms="shared",
    )
    network = S2D((grid, grid), meta["in_chans_l"], options).eval()
    published, inputs = _tensors(arrays, "param/"), _tensors(arrays, "in/")
    s2d_weights.load(network, published, "the fixture's weights")
    first: Any = network.prompts[0]
    recorded = _Recorder(network.blocks[0], network.blocks[-1], *network.prompts, first.mcp.fovea, first.tma.temporal)
    pictures = inputs["x"].transpose(1, 2)  # (B, T, 3, H, W)
    frames = network(pictures, inputs["a"].unflatten(0, pictures.shape[:2]))
    feature = frames.mean(1)
    score = functional.linear(feature, published["head.fc_cls.weight"], published["head.fc_cls.bias"])

    def as_maps(values: Tensor) -> Tensor:
        return values[:2].transpose(1, 2).unflatten(2, (grid, grid))

    outputs = {
        "score": score,
        "feature": feature,
        "at/blocks.0.input": recorded.inputs[network.blocks[0]][:2],
        f"at/blocks.{meta['depth'] - 1}": recorded.outputs[network.blocks[-1]][:2],
        "at/prompt_blocks.0.fovea": as_maps(recorded.outputs[first.mcp.fovea]),
        "at/prompt_blocks.0.TMA.T_Adapter": recorded.outputs[first.tma.temporal][:32],
    }
    for layer, prompt in enumerate(network.prompts):
        by_prompt, over_time = recorded.outputs[prompt]
        outputs |= {f"at/prompt_blocks.{layer}.0": as_maps(by_prompt), f"at/prompt_blocks.{layer}.1": over_time[:2]}
    return outputs


class _Recorder:
    """The first input and the output of each module's latest call."""

    def __init__(self, *modules: nn.Module) -> None:
        self.inputs: dict[nn.Module, Tensor] = {}
        self.outputs: dict[nn.Module, Any] = {}
        for module in modules:
            module.register_forward_hook(self._record)

    def _record(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.inputs[module], self.outputs[module] = inputs[0], output


def _thesis(arrays: Arrays, folder: Path) -> Mapping[str, Any]:
    """Return the scores of single clips, and those of a batch as in the thesis, whose code gives frame k of a batch of B
    clips the landmarks of clip k mod B."""
    published, inputs = _tensors(arrays, "param/"), _tensors(arrays, "in/")
    frames, heads = arrays["meta/frames"].item(), arrays["meta/adapter_heads"].item()
    width = published["cls_token"].shape[-1]
    options = Options(
        width=width,
        depth=2,
        heads=4,
        frames=frames,
        prompts="shallow",
        prompt_width=published["prompt_blocks.0.conv0_0.bias"].numel(),
        adapter_width=width,
        adapter_heads=heads,
    )
    network = S2D((7, 7), 3, options).eval()
    s2d_weights.load(network, published, "the fixture's weights")
    # the thesis resizes the maps of landmarks after their norm, S2D before it
    network.landmark_norms[0] = nn.Sequential(network.landmark_norms[0], _Halved())
    pictures = (inputs["x_times_100_uint8"] / 100)[:, None].expand(-1, frames, -1, -1, -1)
    maps = functional.interpolate(inputs["a_uint8"].float(), (14, 14), mode="bilinear", align_corners=False)

    def score(pictures: Tensor, maps: Tensor) -> Tensor:
        return functional.linear(network(pictures, maps).mean(1), published["head.weight"], published["head.bias"])

    state = maps[:, None].expand(-1, frames, -1, -1, -1)
    scrambled = maps.repeat(frames, 1, 1, 1).unflatten(0, pictures.shape[:2])
    one_by_one = torch.cat([score(pictures[[clip]], state[[clip]]) for clip in range(len(pictures))])
    return {"score_one_by_one": one_by_one, "score_batch_of_three": score(pictures, scrambled)}


class _Halved(nn.Module):
    """Resizes tokens (S, 14 x 14, D) to a grid of 7 x 7 by bilinear interpolation."""

    def forward(self, tokens: Tensor) -> Tensor:
        maps = tokens.transpose(1, 2).unflatten(2, (14, 14))
        return functional.interpolate(maps, (7, 7), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)


def _landmark_net(folder: Path) -> MobileFaceNet:
    network = MobileFaceNet().eval()
    state = network.state_dict()
    published = find_parameters(folder, state)
    network.load_state_dict(
        {name: torch.from_numpy(value).reshape(state[name].shape) for name, value in published.items()}
    )
    return network


def _landmarks(arrays: Arrays, folder: Path) -> Mapping[str, Any]:
    network = _landmark_net(folder)
    mean, std = (torch.tensor(channels).view(3, 1, 1) for channels in (weights.IMAGENET_MEAN, weights.IMAGENET_STD))
    parts = ("conv1", "conv2_dw", "conv_23", "conv_3", "conv_34", "conv_4", "conv_5", "conv_6_sep")
    recorded = _Recorder(*(getattr(network, part) for part in parts))
    feature = network.features((_tensors(arrays, "in/")["x_uint8"] / 255 - mean) / std)
    outputs = {"feature": feature, "landmarks": network.landmarks(feature)}
    return outputs | {f"at/{part}": recorded.outputs[getattr(network, part)][:1, :4] for part in parts}


def _wrapper(arrays: Arrays, folder: Path) -> Mapping[str, Any]:
    network, pictures = _landmark_net(folder), _tensors(arrays, "in/")["x"].transpose(1, 2).flatten(0, 1)
    feature = network.features(pictures)
    return {
        "resized_every_8th": scaled(pictures)[..., ::8, ::8],
        "landmarks": network.landmarks(feature),
        "feature_first_8": feature[:, :8],
    }


def _schedules(arrays: Arrays, folder: Path) -> Mapping[str, Any]:
    """Return the learning rates of S2D and EmoNeXt.

    S2D's published rates end at 3e-5 of the highest rate instead of 0. EmoNeXt's change at each step instead of each epoch.
    """
    s2d_rates = [2e-5 * schedules.cosine_by_step(Progress(step / 7, 10, 2, steps=7)) for step in range(70)]
    emonext_rates = [1e-3 * schedules.cosine(Progress(step % 1024, 1023, 127, offset=1)) for step in range(2101)]
    return {"s2d_lr": np.array(s2d_rates), "emonext_lr": np.array(emonext_rates)}


class _PublishedGenerator:
    """Draws the first frame of a window as the published code does: with numpy's legacy generator, and never the last
    possible frame."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.RandomState(seed)

    def integers(self, count: int) -> int:
        return self._generator.randint(count - 1)


def _frames(arrays: Arrays, folder: Path) -> Mapping[str, Any]:
    """Return the frames of a training window, and the frames of a test clip before it is cut into windows."""
    length, seed = arrays["meta/clip_len"].item(), arrays["meta/numpy_seed_before_each_train_call"].item()
    outputs = {}
    for name in (name.removeprefix("out/") for name in arrays if name.startswith("out/")):
        subset, count = name.split("_")
        take: Any = {"train": "window", "test": "all"}[subset]
        rng: Any = _PublishedGenerator(seed)
        sampled = SAMPLERS[take].choose(np.arange(int(count)), length, rng)
        _, steps, _ = windows(torch.ones(1, len(sampled), dtype=torch.bool), max(length, len(sampled)), repeat=True)
        outputs[name] = sampled[steps[0].numpy()]
    return outputs


_NO_QUEUES = "its soft targets need a queue of features for each class, and this project's targets are not classes"
LAYOUTS = (
    Layout("s2d_small", ("meta/prompt_type", "param/cls_token"), _small),
    Layout("s2d_thesis", ("in/x_times_100_uint8",), _thesis),
    Layout("mobilefacenet", ("meta/embedding_size", "in/x_uint8"), _landmarks),
    Layout("landmark_wrapper", ("out/resized_every_8th",), _wrapper),
    Layout("schedules", ("out/s2d_lr", "out/emonext_lr"), _schedules),
    Layout("s2d_frames", ("meta/clip_len",), _frames),
    Layout("s2d_sdl", ("out/soft_targets",), left_out=_NO_QUEUES),
)
