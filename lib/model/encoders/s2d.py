"""S2D over face pictures and their landmarks: a frozen ViT with trained additions, a token for each clip."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields

import torch
from torch import Tensor
from torch.nn import functional

from lib.core.errors import InputError
from lib.core.weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    find_mismatches,
    load_imagenet,
    load_published,
    summarise_mismatches,
)
from lib.model import encoders, s2d, s2d_weights
from lib.model.mobilefacenet import CHANNELS, MobileFaceNet
from lib.model.settings.s2d import Settings as Settings
from lib.model.tokens import Tokens, make_clip_token
from lib.streams.base import Steps

_SPREAD = 1.0  # standard deviation of a point's Gaussian, in sides of a patch
_WHERE = (
    "allowed with landmarks = mobilefacenet: the path of mobilefacenet_model_best.pth.tar, of"
    " github.com/cunjian/pytorch_face_landmark and github.com/MSA-LMC/S2D, or random; landmarks = points, drawing or none"
    " need no file"
)

IMAGENET_VITS = {
    (16, 768, 12, 12, 4): "vit_b_16",
    (32, 768, 12, 12, 4): "vit_b_32",
    (16, 1024, 24, 16, 4): "vit_l_16",
    (32, 1024, 24, 16, 4): "vit_l_32",
}
"""The ViTs of torchvision with weights of ImageNet, by patch, width, depth, heads and feed_forward."""

_HEAD_WIDTH = 64  # of ViT-S, ViT-B, ViT-L and DeiT; the shapes of weights do not show it


class Encoder(encoders.Encoder):
    """S2D over windows of T frames, evenly spaced over the clip: the mean over frames and windows is the clip's token.

    Reads pictures, and with landmarks "points" or "drawing" a second stream: places (P, 2) in pixels of the picture, or
    pictures of the landmarks. Trained are the additions to the ViT and its last norm, and the rest of it where it is not
    `frozen`.
    Raises InputError if the streams, the pictures' sides, widths or weights don't fit.
    """

    mean: Tensor
    std: Tensor
    imagenet_mean: Tensor
    imagenet_std: Tensor

    def __init__(self, settings: Settings, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self._settings, self.output_dim = settings, settings.width
        (height, width), channels = _checked(settings, shapes)
        named = {option.name for option in fields(s2d.Options)} - {"adapter_width"}
        options = s2d.Options(
            adapter_width=int(settings.width * settings.adapter_ratio), **settings.model_dump(include=named)
        )
        self.network = s2d.S2D((height // settings.patch, width // settings.patch), channels, options)
        if settings.weights is not None:
            _load(self.network, settings)
        for parameter in self.network.frozen():
            parameter.requires_grad_(not settings.frozen)
        self.landmarks: MobileFaceNet | None = None
        if settings.landmarks == "mobilefacenet":
            self.landmarks = _landmark_net(settings.landmark_weights).requires_grad_(False).eval()
        is_half = settings.standardise == "half"
        for name, values, half in (("mean", IMAGENET_MEAN, 0.5), ("std", IMAGENET_STD, 0.5)):
            imagenet = torch.tensor(values).view(3, 1, 1)
            self.register_buffer(f"imagenet_{name}", imagenet, persistent=False)
            self.register_buffer(name, torch.full_like(imagenet, half) if is_half else imagenet, persistent=False)

    def train(self, mode: bool = True) -> "Encoder":
        """The landmark net keeps its batch-norm statistics: it stays in evaluation mode."""
        super().train(mode)
        if self.landmarks is not None:
            self.landmarks.eval()
        return self

    def forward(self, inputs: Mapping[str, Steps]) -> Tokens:
        """From images (B, T, 3, H, W) in [0, 1], and landmarks if a second stream is read, to a token per clip (B, 1, D)."""
        first = inputs[self._settings.reads[0]]
        clips, steps, present = windows(first.present, self._settings.frames, self._settings.short == "repeat")
        pictures, *others = (inputs[name].values[clips[:, None], steps] for name in self._settings.reads)  # (W, F, ...)
        maps = self._maps(pictures, others)
        vectors = self.network((pictures - self.mean) / self.std, maps, present)  # (W, F, D)
        weights = present[..., None].to(vectors.dtype)
        means = (vectors * weights).sum(1) / weights.sum(1)  # of each window
        return make_clip_token(_average(means, clips, first.present.shape[0]), first.times, first.present)

    def _maps(self, pictures: Tensor, others: Sequence[Tensor]) -> Tensor:
        """Landmark maps (W, F, C, h, w) on the grid of the pictures' patches."""
        kind, grid = self._settings.landmarks, self.network.grid
        if kind == "points":
            return drawn(others[0], grid, self._settings.patch)
        if kind == "none":
            return pictures.new_zeros(*pictures.shape[:2], CHANNELS, *grid)
        if kind == "drawing":
            maps = others[0].flatten(0, 1)
        else:
            assert self.landmarks is not None
            with torch.no_grad():
                is_bgr = self._settings.landmark_input == "bgr"
                images = pictures.flip(2) if is_bgr else (pictures - self.imagenet_mean) / self.imagenet_std
                maps = self.landmarks.features(images.flatten(0, 1))
        return functional.adaptive_avg_pool2d(maps, grid).unflatten(0, pictures.shape[:2])


def windows(present: Tensor, frames: int, repeat: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Divide clips with the present steps `present` (B, T) into windows of `frames` steps.

    Return for all W windows the clip (W,), its steps (W, F) and whether these are present (W, F). A clip of up to `frames`
    steps has one window. Its end is not present, or repeats the last step with `repeat`. A longer clip has the smallest
    number of windows that cover it, evenly spaced.
    """
    on_cpu, most = present.cpu(), present.shape[1]
    lengths = on_cpu.sum(1).clamp(min=1)
    counts = (lengths + frames - 1) // frames
    if torch.compiler.is_exporting():  # all steps are present, so the shape determines the number of windows
        count, width = (most + frames - 1) // frames, frames
        clips = torch.arange(present.shape[0])[:, None].expand(-1, count).flatten()
        numbers = torch.arange(count).repeat(present.shape[0])
    else:
        clips, numbers = (torch.arange(int(counts.max())) < counts[:, None]).nonzero(as_tuple=True)
        width = frames if repeat else min(frames, int(lengths.max()))
    last = lengths[clips] - 1
    starts = numbers * (last + 1 - frames).clamp(min=0) / (counts[clips] - 1).clamp(min=1)
    positions = starts.round().long()[:, None] + torch.arange(width)
    steps = positions.minimum(last[:, None])
    if not torch.compiler.is_exporting():
        order = on_cpu.int().argsort(dim=1, descending=True, stable=True)  # present steps first
        steps = order[clips].gather(1, steps)
    is_present = (positions <= last[:, None]) | repeat
    return clips.to(present.device), steps.to(present.device), is_present.to(present.device)


def _average(values: Tensor, clips: Tensor, count: int) -> Tensor:
    """Return the means (B, D) over the windows of each of `count` clips. values: (W, D). clips: of each window (W,)."""
    if torch.compiler.is_exporting():  # all clips have the same number of windows
        return values.unflatten(0, (count, -1)).mean(1)
    return torch.stack([rows.mean(0) for rows in values.split(clips.bincount(minlength=count).tolist())])


def drawn(points: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """Draw points (..., P, 2), x and y in pixels, as Gaussians at the centres of the patches: (..., P, h, w).

    The map of an unknown point (NaN) is 0.
    """
    x, y = ((torch.arange(count, device=points.device) + 0.5) * patch for count in reversed(grid))
    distances = (points[..., 0, None, None] - x).square() + (points[..., 1, None, None] - y[:, None]).square()
    return (distances / (-2 * (_SPREAD * patch) ** 2)).exp().nan_to_num(0)


def _checked(settings: Settings, shapes: Sequence[Sequence[int]]) -> tuple[tuple[int, int], int]:
    """Return the pictures' height and width and the landmark maps' channels. Raises InputError for what does not fit."""
    kinds = ["points" if len(shape) == 2 and shape[1] == 2 else "pictures" for shape in shapes if len(shape) in (2, 3)]
    wanted = ["pictures"] + {"points": ["points"], "drawing": ["pictures"]}.get(settings.landmarks, [])
    if kinds != wanted or any(len(shape) == 3 and shape[0] != 3 for shape in shapes):
        raise InputError(
            f"reads = {settings.reads}, whose steps are {', '.join(map(str, map(list, shapes)))}; allowed"
            f" with landmarks = {settings.landmarks}: {', then '.join(wanted)}"
        )
    height, width = shapes[0][1:]
    if height % settings.patch or width % settings.patch:
        raise InputError(
            f"patch = {settings.patch}; allowed for {settings.reads[0]} of {height} x {width} pixels:"
            " a divisor of both sides"
        )
    inner = int(settings.width * settings.adapter_ratio)
    for name, heads, wide in (
        ("heads", settings.heads, settings.width),
        ("adapter_heads", settings.adapter_heads, inner),
    ):
        if wide % heads or not wide:
            raise InputError(f"{name} = {heads}; allowed for a width of {wide}: a divisor of {wide}")
    channels = {"points": shapes[-1][0], "drawing": 3}.get(settings.landmarks, CHANNELS)
    return (height, width), channels


def _load(network: s2d.S2D, settings: Settings) -> None:
    """Load "imagenet", torchvision's ViT of these sizes, or a published file; what it lacks is logged."""
    weights, log = settings.weights, logging.getLogger("train")
    assert weights is not None
    if weights == "imagenet":
        sizes = (settings.patch, settings.width, settings.depth, settings.heads, settings.feed_forward)
        if sizes not in IMAGENET_VITS:
            allowed = ", ".join(f"{list(vit[:4])} ({name})" for vit, name in IMAGENET_VITS.items())
            raise InputError(
                f"weights = 'imagenet' with [patch, width, depth, heads] = {list(sizes[:4])} and feed_forward = {sizes[4]};"
                f" allowed: {allowed}, with feed_forward = 4; change the sizes, or set weights to a path or null"
            )
        state = load_imagenet(IMAGENET_VITS[sizes])
    else:
        state = load_published(weights, "weights", "allowed: null, imagenet, or the path of weights of S2D or a ViT")
    notes = s2d_weights.load(network, state, f"weights = {weights!r}")
    if settings.width != _HEAD_WIDTH * settings.heads:
        notes.append(
            f"width = {settings.width} has heads = {settings.heads}; ViT-S, ViT-B, ViT-L and DeiT have"
            f" {_HEAD_WIDTH} channels per head: check heads"
        )
    for line in notes:
        log.info("s2d: weights: %s", line)


def _landmark_net(weights: str | None) -> MobileFaceNet:
    """Return the landmark net with its published weights, or for "random" with none."""
    network = MobileFaceNet()
    if weights is None:
        raise InputError(f"landmark_weights = null; {_WHERE}")
    if weights != "random":
        state = load_published(weights, "landmark_weights", _WHERE)
        if wrong := find_mismatches(network.state_dict(), state):
            raise InputError(f"landmark_weights = {weights!r} do not fit mobilefacenet: {summarise_mismatches(wrong)}")
        network.load_state_dict(state)
    return network
