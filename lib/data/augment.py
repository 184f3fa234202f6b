"""Augmentation of a batch on its device, with the same geometry for images, flow and points."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.data.batch import Sample
from lib.data.changes import ClipChanges
from lib.data.geometry import make_turns, mirror_clips, mirror_points, shift_clips, turn_clips, turn_points
from lib.data.inputs import find_vectors
from lib.data.masking import add_noise, drop_words, erase_boxes, mask_bands, mask_times
from lib.data.settings import Augment
from lib.streams.base import Kind, Steps


@dataclass(frozen=True)
class AugmentationDraws:
    """The random draws for B clips.

    flipped: (B,) bool, whether to mirror the clip. steps: (B, 2), position of the crop in pixels, down and right from the
    upper left corner of the image with a replicated border of `shift` pixels. gain, offset: (B,), contrast and brightness.
    changes: the draws of all changes that are off by default; None if they are off.
    """

    flipped: Tensor
    steps: Tensor
    gain: Tensor
    offset: Tensor
    shift: int
    changes: ClipChanges | None = None

    def select(self, members: slice) -> "AugmentationDraws":
        """Return the draws for a slice of the clips."""
        changes = None if self.changes is None else self.changes.select(members)
        flipped, steps, gain, offset = (part[members] for part in (self.flipped, self.steps, self.gain, self.offset))
        return AugmentationDraws(flipped, steps, gain, offset, self.shift, changes)


def draw(
    count: int, settings: Augment, generator: torch.Generator, changes: ClipChanges | None = None
) -> AugmentationDraws:
    """Return the draws for `count` clips: mirrored with probability 0.5, shifted, light changed. `changes` are added."""
    even = torch.rand(count, 3, generator=generator)
    steps = torch.randint(0, 2 * settings.shift + 1, (count, 2), generator=generator)
    gain, offset = 1 + settings.contrast * (2 * even[:, 1] - 1), settings.brightness * (2 * even[:, 2] - 1)
    return AugmentationDraws((even[:, 0] < 0.5) & settings.mirror, steps, gain, offset, settings.shift, changes)


def augment(batch: Sample, draws: AugmentationDraws, kinds: Mapping[str, Kind]) -> Sample:
    """Return the batch with augmented images (B, T, 3, H, W), flow (B, T, 2, H, W), audio and words.

    Points (B, T, P, 2) are transformed like the images or flow that the same encoder reads. Other vectors, and points
    without images, only lose masked times. kinds: the kind of each reference to a stream. Raises InputError if the mirror
    image of the points is unknown.
    """
    inputs = {}
    for encoder, streams in batch.inputs.items():
        changes, read = draws.changes, dict(streams)
        if changes and changes.word_dropout and "words" in map(find_vectors, read):
            read = drop_words(read, changes.seed, changes.word_dropout)
        size = find_image_size(read, kinds)
        inputs[encoder] = {name: _augment_stream(steps, draws, name, kinds[name], size) for name, steps in read.items()}
    return batch._replace(inputs=inputs)


def find_image_size(read: Mapping[str, Steps], kinds: Mapping[str, Kind]) -> tuple[int, int] | None:
    """Return height and width of the first images or flow among an encoder's inputs, None if there are none."""
    shapes = (steps.values.shape for name, steps in read.items() if kinds[name] in ("pictures", "flow"))
    return next(((shape[-2], shape[-1]) for shape in shapes), None)


def _augment_stream(
    steps: Steps, draws: AugmentationDraws, name: str, kind: Kind, size: tuple[int, int] | None
) -> Steps:
    if kind in ("pictures", "flow"):
        steps = steps._replace(values=_augment_images(steps.values, draws, kind))
    elif kind == "points" and size is not None:
        steps = steps._replace(values=_augment_points(steps.values, draws, size))
    changes = draws.changes
    if changes is None:
        return steps
    if kind == "waveform" or find_vectors(name) == "bands":
        steps = _augment_audio(steps, changes, kind)
    return mask_times(steps, changes.span.to(steps.times.device)) if (changes.span[:, 1] > 0).any() else steps


def _augment_images(values: Tensor, draws: AugmentationDraws, kind: Kind) -> Tensor:
    changes, device = draws.changes, values.device
    values = mirror_clips(values, draws.flipped.to(device), kind)
    if changes is not None and _turns(changes):
        values = turn_clips(values, make_turns(changes.angle, changes.zoom).to(values), kind)
    if draws.shift:
        values = shift_clips(values, draws.shift, draws.steps)
    if kind == "pictures":
        gain, offset = (drawn.to(device).view(-1, 1, 1, 1, 1) for drawn in (draws.gain, draws.offset))
        values = ((values - 0.5) * gain + 0.5 + offset).clamp(0, 1)
    if changes is not None:
        values = _change_colours(values, changes) if kind == "pictures" else values
        values = erase_boxes(values, changes.box, changes.seed, kind) if changes.box[:, 2].any() else values
    return values


def _augment_points(points: Tensor, draws: AugmentationDraws, size: tuple[int, int]) -> Tensor:
    points = mirror_points(points, draws.flipped.to(points.device), size[1])
    if draws.changes is not None and _turns(draws.changes):
        turns = make_turns(draws.changes.angle, draws.changes.zoom)
        points = turn_points(points, turns.to(points), size)
    moved = draws.shift - draws.steps.flip(1).to(points)  # right, down
    return points + moved[:, None, None]


def _turns(changes: ClipChanges) -> bool:
    return bool(changes.angle.any() or (changes.zoom != 1).any())


def _change_colours(images: Tensor, changes: ClipChanges) -> Tensor:
    """Return images (B, T, 3, H, W) in [0, 1] with another saturation and hue, the same for all images of a clip."""
    from torchvision.transforms.v2 import functional as colour  # it loads PyTorch's compiler, which takes a second

    clips = []
    for clip, factor, turn in zip(images, changes.saturation.tolist(), changes.hue.tolist(), strict=True):
        clip = clip if factor == 1 else colour.adjust_saturation(clip, factor)
        clips.append(clip if turn == 0 else colour.adjust_hue(clip, turn))
    return torch.stack(clips)


def _augment_audio(steps: Steps, changes: ClipChanges, kind: Kind) -> Steps:
    if changes.noise:
        steps = add_noise(steps, changes.seed, changes.noise, kind)
    if kind != "waveform" and (changes.band[:, 1] > 0).any():
        steps = mask_bands(steps, changes.band.to(steps.values))
    return steps
