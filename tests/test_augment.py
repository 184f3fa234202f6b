"""Augmentation: geometry of images, flow and points together, colours, masks, noise, words, and mixed clips."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.analysis import augmentation
from lib.core.errors import InputError, SettingError
from lib.core.targets import LOSSES_OF_HEADS
from lib.data.augment import AugmentationDraws, augment, draw
from lib.data.batch import Sample, collate
from lib.data.changes import Mixture, draw_changes, draw_mixture
from lib.data.geometry import make_turns, mirror_points, turn_clips, turn_points
from lib.data.masking import drop_words, mask_bands, mask_times
from lib.data.mixing import find_partners, mix_clips
from lib.data.settings import Augment
from lib.model.heads import HEADS, HeadOutput
from lib.report import figures
from lib.report.figures import FigureInputs, _read
from lib.report.privacy import Privacy
from lib.streams.base import Steps
from lib.training.losses import LOSSES
from lib.training.settings import Train
from tests.small_network import (
    FULL,
    LIGHT,
    TRAIN_SETTINGS,
    InMemoryClips,
    TinyNetwork,
    make_augment,
    make_steps,
    same_weights,
    train_network,
)

KINDS: Any = {
    "faces": "pictures", "flow": "flow", "audio.log_mel": "vectors", "landmarks": "points", "text.words": "vectors",
    "waveform": "waveform",
}  # fmt: skip

ALL = {"faces": "faces", "flow": "flow", "audio": "audio.log_mel"}


def draw_all(count: int, settings: Augment, seed: int = 0) -> AugmentationDraws:
    """The draws of a batch, as in training."""
    changes = draw_changes(count, settings, np.random.default_rng(seed))
    return draw(count, settings, torch.Generator().manual_seed(seed), changes)


def changed(inputs: dict[str, Tensor], settings: Augment, seed: int = 0) -> dict[str, Steps]:
    """The augmented inputs of an encoder."""
    steps = {name: make_steps(values) for name, values in inputs.items()}
    draws = draw_all(len(next(iter(inputs.values()))), settings, seed)
    return augment(Sample({"one": steps}, {}, 0), draws, KINDS).inputs["one"]


@pytest.mark.parametrize("settings", [LIGHT, FULL], ids=["light", "full"])
def test_augmentation_of_a_part_equals_that_of_the_batch(settings: Augment) -> None:
    draws, clips = draw_all(5, settings), InMemoryClips(5, use=tuple(ALL))
    batch, part = collate([clips[index] for index in range(5)]), collate([clips[index] for index in (1, 3)])
    together, alone = augment(batch, draws, KINDS), augment(part, draws.select(slice(1, None, 2)), KINDS)
    for name, reference in ALL.items():
        values = together.inputs[name][reference].values
        longest = alone.inputs[name][reference].values.shape[1]
        torch.testing.assert_close(alone.inputs[name][reference].values, values[1::2, :longest], atol=1e-5, rtol=0)
        is_equal = torch.equal(values, batch.inputs[name][reference].values)
        assert is_equal == (name == "audio" and settings is LIGHT)


@pytest.mark.parametrize("count", [5, 68])
def test_augmented_landmarks_stay_on_their_pixels(count: int) -> None:
    """Draw each landmark as a bright pixel; augmentation moves both, and mirroring swaps left and right."""
    rng, side, shift = np.random.default_rng(0), 40, 3
    cells = rng.permutation((side - 4 * shift) ** 2)[: 3 * count].reshape(1, 3, count)
    pixels = np.stack([cells % (side - 4 * shift), cells // (side - 4 * shift)], -1) + 2 * shift  # x and y
    pixels = np.repeat(pixels, 8, 0)
    images = np.zeros((8, 3, 3, side, side), np.float32)
    for clip, moment, point in np.ndindex(8, 3, count):
        x, y = pixels[clip, moment, point]
        images[clip, moment, :, y, x] = (point + 1) / count
    points = torch.from_numpy(pixels + 0.5).float()
    points[:, 0, 1] = torch.nan
    values = {"faces": torch.from_numpy(images), "landmarks": points}
    inputs = {
        name: Steps(value, torch.zeros(8, 3), torch.ones(8, 3, dtype=torch.bool)) for name, value in values.items()
    }
    draws = draw(8, make_augment(shift=shift), torch.Generator().manual_seed(1))
    assert draws.flipped.any()
    assert not draws.flipped.all()
    kinds = {"faces": "pictures", "landmarks": "points"}
    augmented = augment(
        Sample({"s2d": inputs, "alone": {"landmarks": inputs["landmarks"]}}, {}, 0), draws, kinds
    ).inputs
    assert torch.equal(augmented["alone"]["landmarks"].values[:, 1:], points[:, 1:])
    moved_points, moved_images = augmented["s2d"]["landmarks"].values, augmented["s2d"]["faces"].values
    for clip, flipped in enumerate(draws.flipped.tolist()):
        partners = MIRRORED_POINTS[count] if flipped else list(range(count))
        for point, partner in enumerate(partners):
            assert bool(moved_points[clip, 0, point].isnan().all()) == (partner == 1)
            x, y = moved_points[clip, 1, point].tolist()
            level = moved_images[clip, 1, 0, int(y), int(x)].item()
            assert (x % 1, y % 1) == (0.5, 0.5)
            assert round(level * count) == partner + 1


MIRRORED_POINTS = {5: [1, 0, 2, 4, 3], 68: [0] * 68}
for left, right in (
    *((at, 16 - at) for at in range(17)),  # jaw
    *((at, 43 - at) for at in range(17, 27)),  # brows
    *((at, at) for at in range(27, 31)),  # bridge of the nose
    *((at, 66 - at) for at in range(31, 36)),  # nostrils
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),  # eyes
    *((48, 54), (49, 53), (50, 52), (51, 51), (59, 55), (58, 56), (57, 57)),  # outer lips
    *((60, 64), (61, 63), (62, 62), (67, 65), (66, 66)),  # inner lips
):
    MIRRORED_POINTS[68][left], MIRRORED_POINTS[68][right] = right, left


def test_mirror_points_rejects_unknown_landmark_counts() -> None:
    points, flipped = torch.zeros(1, 1, 7, 2), torch.tensor([True])
    with pytest.raises(InputError, match=r"train\.augment\.mirror = true with 7 points; allowed: 5 or 68 points"):
        mirror_points(points, flipped, 32)
    assert torch.equal(mirror_points(points, ~flipped, 32), points)


def smooth_images(x: Tensor, y: Tensor) -> Tensor:
    """A smooth image (3, H, W) in [0, 1], given positions in pixels from the centre."""
    waves = torch.stack([(0.19 * x + 0.11 * y).sin(), (0.13 * x - 0.17 * y).cos(), (0.21 * y).sin()])
    return 0.5 + 0.4 * waves


def centred_grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return x - width / 2, y - height / 2


@pytest.mark.parametrize(("degrees", "zoom"), [(25.0, 1.0), (-40.0, 1.2), (0.0, 0.8), (90.0, 1.0)])
def test_turned_flow_equals_the_flow_of_turned_frames(degrees: float, zoom: float) -> None:
    height, width = 48, 64
    x, y = centred_grid(height, width)
    turns = make_turns(torch.tensor([np.deg2rad(degrees)]).float(), torch.tensor([zoom]))
    (a, b), (c, d) = torch.linalg.inv(turns[0].double()).float().tolist()
    source_x, source_y = a * x + b * y, c * x + d * y  # where the turned image comes from
    inside = (source_x.abs() < width / 2 - 2) & (source_y.abs() < height / 2 - 2)

    def flow_at(x: Tensor, y: Tensor) -> Tensor:  # motion from the analytic images at time 0 to those at time 1
        return torch.stack([2 + 0.03 * x, -1 - 0.02 * y + 0.01 * x])

    turned_flow = turn_clips(flow_at(x, y)[None, None], turns, "flow")[0, 0]
    expected = torch.einsum("ij,jhw->ihw", turns[0], flow_at(source_x, source_y))
    assert (turned_flow - expected)[:, inside].abs().max() < 0.01
    # follow the turned flow from a turned pixel: the turned second image there has the first image's brightness
    first = turn_clips(smooth_images(x, y)[None, None], turns, "pictures")[0, 0]
    assert (first - smooth_images(source_x, source_y))[:, inside].abs().max() < 0.01
    target_x, target_y = x + turned_flow[0], y + turned_flow[1]
    back_x, back_y = a * target_x + b * target_y, c * target_x + d * target_y  # in the second image before turning

    def first_position(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:  # the inverse of flow_at
        start_x = (x - 2) / 1.03
        return start_x, (y + 1 - 0.01 * start_x) / 0.98

    second = smooth_images(*first_position(back_x, back_y))
    assert (second - first)[:, inside].abs().max() < 0.01


def test_turned_landmarks_stay_on_their_pixels() -> None:
    x, y = centred_grid(40, 56)
    points = torch.tensor([[12.5, 9.5], [28.0, 20.0], [40.5, 30.5]])
    spots = [torch.exp(-((x + 28 - px) ** 2 + (y + 20 - py) ** 2) / 8) for px, py in points.tolist()]
    turns = make_turns(torch.tensor([0.4]), torch.tensor([0.9]))
    turned = turn_clips(torch.stack(spots)[None, None], turns, "pictures")[0, 0]
    moved = turn_points(points[None, None], turns, (40, 56))[0, 0]
    for spot, point in zip(turned, moved, strict=True):
        centre = torch.stack([((x + 28) * spot).sum(), ((y + 20) * spot).sum()]) / spot.sum()
        assert (centre - point).abs().max() < 0.05


def test_rotation_within_training_moves_faces_flow_and_points() -> None:
    x, y = centred_grid(32, 32)
    faces = smooth_images(x, y).expand(6, 2, 3, 32, 32)
    inputs = {"faces": faces, "flow": torch.ones(6, 2, 2, 32, 32), "landmarks": torch.full((6, 2, 5, 2), 20.0)}
    settings = make_augment(mirror=False, rotation=30.0, scale=0.2)
    steps = changed(inputs, settings)
    flow = steps["flow"].values[:, 0, :, 16, 16]
    angle = torch.atan2(flow[:, 1], flow[:, 0]) - np.pi / 4
    assert angle.abs().max() <= np.deg2rad(30)
    assert angle.abs().min() > 0
    zoom = flow.norm(dim=1) / np.sqrt(2)
    assert ((zoom > 0.8) & (zoom < 1.2)).all()
    from_centre = steps["landmarks"].values[:, 0, 0] - 16
    torch.testing.assert_close(from_centre, 4 * flow, atol=1e-4, rtol=0)  # (4, 4) is four times (1, 1)
    assert not torch.equal(steps["faces"].values, faces)


def test_disabled_changes_draw_nothing() -> None:
    assert draw_changes(4, LIGHT, np.random.default_rng(0)) is None
    assert draw_mixture(LIGHT, np.random.default_rng(0)) is None
    assert LIGHT.active == ["mirror", "shift", "brightness", "contrast"]
    assert LIGHT.select("shift").active == ["shift"]


def test_switching_one_change_on_leaves_the_others() -> None:
    one, two = make_augment(rotation=10.0), make_augment(rotation=10.0, hue=0.2, erasing=1.0)
    first, second = (draw_changes(4, settings, np.random.default_rng(3)) for settings in (one, two))
    assert first is not None
    assert second is not None
    assert torch.equal(first.angle, second.angle)
    assert torch.equal(first.seed, second.seed)
    assert not first.hue.any()
    assert second.hue.all()


def test_saturation_blends_with_grey_and_hue_keeps_grey() -> None:
    torch.manual_seed(0)
    images = torch.rand(8, 2, 3, 6, 6) * 0.4 + 0.3
    settings = make_augment(mirror=False, saturation=0.5)
    factor = draw_all(8, settings).changes.saturation.view(-1, 1, 1, 1, 1)
    assert ((factor > 0.5) & (factor < 1.5)).all()
    grey = (images * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(2, keepdim=True)
    saturated = changed({"faces": images}, settings)["faces"].values
    torch.testing.assert_close(saturated, grey + factor * (images - grey), atol=2e-3, rtol=0)
    hued = changed({"faces": images}, make_augment(mirror=False, hue=0.3))["faces"].values
    torch.testing.assert_close(hued.amax(2), images.amax(2))  # value and chroma of HSV
    torch.testing.assert_close(hued.amin(2), images.amin(2))
    assert (hued - images).abs().max() > 0.05
    of_grey = changed({"faces": images[:, :, :1].expand(images.shape)}, make_augment(mirror=False, hue=0.3))
    torch.testing.assert_close(of_grey["faces"].values, images[:, :, :1].expand(images.shape))


def test_erasing_replaces_the_same_box_of_faces_and_flow() -> None:
    inputs = {"faces": torch.full((64, 3, 3, 30, 30), -1.0), "flow": torch.ones(64, 3, 2, 60, 60)}
    settings = make_augment(mirror=False, erasing=0.5)
    boxes = draw_all(64, settings).changes
    steps = changed(inputs, settings)
    erased = steps["flow"].values == 0
    fraction = erased.float().mean((1, 2, 3, 4))
    assert 20 <= (fraction > 0).sum() <= 44  # about half of the clips
    assert ((fraction == 0) | ((fraction > 0.015) & (fraction < 0.35))).all()
    assert (erased == erased[:, :1, :1]).all()
    for clip, (top, left, height, width) in enumerate(boxes.box.tolist()):
        rows, columns = erased[clip, 0, 0].nonzero(as_tuple=True)
        if height:
            assert abs(rows.min().item() / 60 - top) < 0.02
            assert abs((columns.max().item() + 1) / 60 - left - width) < 0.02
    pixels = steps["faces"].values  # black before: clamped to 0
    assert (pixels[fraction == 0] == 0).all()
    assert ((pixels > 0).float().mean((1, 2, 3, 4))[fraction > 0] > 0.01).all()
    again = changed(inputs, settings)["faces"].values
    assert torch.equal(again, pixels)


def test_masked_time_becomes_the_mean_of_the_other_steps() -> None:
    present = torch.ones(2, 10, dtype=torch.bool)
    present[1, 8:] = False
    steps = make_steps(torch.arange(20.0).view(2, 10, 1), present)
    masked = mask_times(steps, torch.tensor([[0.2, 0.5], [0.5, 1.0]]))
    assert masked.values[0, :, 0].tolist() == pytest.approx([0, 1, 36 / 7, 36 / 7, 36 / 7, 5, 6, 7, 8, 9])
    assert masked.values[1, :, 0].tolist() == [10, 11, 12, 13, 11.5, 11.5, 11.5, 11.5, 18, 19]  # of eight steps
    assert torch.equal(mask_times(steps, torch.tensor([[0.0, 1.0], [0.0, 1.0]])).values, steps.values)
    assert torch.equal(masked.present, present)


def test_time_masks_hide_the_same_time_of_all_streams() -> None:
    times = torch.arange(20.0).view(1, 20, 1, 1, 1) / 20
    inputs = {"flow": times.expand(8, 20, 2, 4, 4), "audio.log_mel": times[..., 0, 0].expand(8, 20, 6)}
    steps = changed(inputs, make_augment(mirror=False, time_mask=0.5))
    of_flow, of_audio = (steps[name].values.flatten(2)[..., 0] != times.view(1, 20) for name in inputs)
    assert torch.equal(of_flow, of_audio)
    assert of_flow.sum(1).max() <= 11
    assert of_flow.any()


def test_masked_bands_become_their_mean_over_time() -> None:
    torch.manual_seed(0)
    steps = make_steps(torch.randn(2, 30, 10))
    masked = mask_bands(steps, torch.tensor([[0.3, 0.6], [0.0, 0.0]])).values
    assert torch.equal(masked[1], steps.values[1])
    hidden = (masked[0] != steps.values[0]).any(0)
    assert hidden.nonzero()[:, 0].tolist() == [3, 4, 5]
    torch.testing.assert_close(masked[0, 7, 3:6], steps.values[0].mean(0)[3:6])


@pytest.mark.parametrize("name", ["audio.log_mel", "waveform"])
def test_noise_has_the_stated_level_and_spares_other_streams(name: str) -> None:
    torch.manual_seed(0)
    values = 3 * torch.randn(2, 2000, 4)
    steps = changed({name: values, "text.words": values}, make_augment(mirror=False, noise=0.5))
    assert (steps[name].values - values).std().item() == pytest.approx(1.5, rel=0.05)
    assert torch.equal(steps["text.words"].values, values)


def test_dropped_words_leave_the_others_in_order() -> None:
    present = torch.ones(3, 200, dtype=torch.bool)
    present[1, 1:], present[2, 100:] = False, False
    values = torch.arange(600.0).view(3, 200, 1)
    read = {"text.words": make_steps(values, present), "text.hashing": make_steps(2 * values, present)}
    dropped = drop_words(read, torch.tensor([5, 6, 7]), 0.3)
    words, others = dropped["text.words"], dropped["text.hashing"]
    assert words.present.sum(1).tolist()[1] == 1  # the only word stays
    assert 110 <= words.present.sum(1)[0] <= 170
    for row in range(3):
        kept = words.values[row, words.present[row], 0]
        assert words.present[row].tolist() == [True] * len(kept) + [False] * (200 - len(kept))
        assert (kept.diff() > 0).all()
        assert torch.equal(words.times[row, : len(kept)], kept - 200 * row)
        assert torch.equal(others.values[row, : len(kept), 0], 2 * kept)
    assert drop_words(read, torch.tensor([5, 6, 7]), 0.99)["text.words"].present.any(1).all()


def constant_batch(levels: list[float], lengths: list[int], present: bool = True) -> Sample:
    """Clips whose images, audio and label have the same level, with different numbers of steps."""
    samples = []
    for index, (level, length) in enumerate(zip(levels, lengths, strict=True)):
        times = np.arange(length, dtype=np.float32)
        images = np.full((length, 3, 32, 32), round(255 * level), np.uint8)
        audio = np.full((3 * length, 4), level, np.float32)
        inputs = {
            "look": {"faces": Steps(images, times, np.ones(length, bool))},
            "hear": {"audio.log_mel": Steps(audio, np.arange(3 * length) / 3, np.ones(3 * length, bool))},
        }
        samples.append(Sample(inputs, {"traits": np.full(5, level, np.float32)}, index))
    return collate(samples)


def mean_level(batch: Sample, encoder: str) -> Tensor:
    """The mean (B,) of an encoder's inputs over present steps."""
    steps = next(iter(batch.inputs[encoder].values()))
    return torch.stack([values[present].mean() for values, present in zip(steps.values, steps.present, strict=True)])


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("seed", range(3))
def test_mixed_targets_equal_the_fraction_of_mixed_inputs(kind: str, seed: int) -> None:
    """Images, audio and label of a clip have one level, so mixed labels must equal the mean level of the mixed inputs."""
    batch = constant_batch([0.0, 0.2, 0.6, 1.0], [3, 5, 4, 6])
    mixture = draw_mixture(make_augment(**{kind: 1.0}), np.random.default_rng(seed))
    assert mixture is not None
    assert mixture.kind == kind
    weights = {"traits": batch.targets["traits"] + 1}
    mixed, mixed_weights = mix_clips(batch, weights, mixture, KINDS)
    level = (mean_level(mixed, "look") + mean_level(mixed, "hear")) / 2
    torch.testing.assert_close(mixed.targets["traits"], level[:, None].expand(4, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed_weights["traits"], level[:, None].expand(4, 5) + 1, atol=1e-5, rtol=0)
    assert not torch.equal(mixed.targets["traits"], batch.targets["traits"])
    if kind == "mixup":
        expected = mixture.own * torch.tensor([0.0, 0.2, 0.6, 1.0]) + (1 - mixture.own) * torch.tensor(
            [1.0, 0.6, 0.2, 0.0]
        )
        torch.testing.assert_close(mixed.targets["traits"][:, 0], expected, atol=1e-5, rtol=0)
    assert all(
        torch.equal(new.present, old.present)
        for name in batch.inputs
        for new, old in zip(mixed.inputs[name].values(), batch.inputs[name].values(), strict=True)
    )


def test_cutmix_pastes_one_box_and_one_span() -> None:
    batch = constant_batch([0.0, 1.0], [4, 4])
    mixture = Mixture("cutmix", 0.75, (0.25, 0.5, 0.75, 1.0), (0.5, 0.75))
    mixed, _ = mix_clips(batch, {}, mixture, KINDS)
    image = mixed.inputs["look"]["faces"].values[0]
    assert image.sum() == 4 * 3 * 16 * 16
    assert (image[:, :, 8:24, 16:] == 1).all()
    assert mixed.inputs["hear"]["audio.log_mel"].values[0, :, 0].tolist() == [0] * 6 + [1] * 3 + [0] * 3
    assert mixed.targets["traits"][:, 0].tolist() == [0.25, 0.75]  # a quarter of both


def test_partners_know_the_same_targets_and_streams() -> None:
    batch = constant_batch([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], [2] * 6)
    batch.targets["traits"][[1, 4], 0] = torch.nan
    batch.inputs["hear"]["audio.log_mel"].present[2] = False
    assert find_partners(batch).tolist() == [5, 4, 2, 3, 1, 0]
    mixed, _ = mix_clips(batch, {}, Mixture("mixup", 0.5, (0, 0, 0, 0), (0, 0)), KINDS)
    assert torch.equal(mixed.targets["traits"].isnan(), batch.targets["traits"].isnan())
    for clip in (2, 3):  # without a partner
        assert torch.equal(mixed.targets["traits"][clip], batch.targets["traits"][clip])
        assert torch.equal(mixed.inputs["look"]["faces"].values[clip], batch.inputs["look"]["faces"].values[clip])
    torch.testing.assert_close(mixed.targets["traits"][1, 1:], torch.full((4,), 0.25))


def test_cutmix_of_landmarks_follows_the_pasted_box() -> None:
    points = torch.tensor([[[[4.0, 4.0], [20.0, 20.0]]], [[[28.0, 4.0], [22.0, 22.0]]]])
    read = {"faces": make_steps(torch.rand(2, 1, 3, 32, 32)), "landmarks": make_steps(points)}
    mixture = Mixture("cutmix", 0.75, (0.5, 0.5, 1.0, 1.0), (0.0, 0.0))
    mixed, _ = mix_clips(Sample({"s2d": read}, {}, 0), {}, mixture, KINDS)
    landmarks = mixed.inputs["s2d"]["landmarks"].values
    assert landmarks[0, 0].tolist() == [[4, 4], [22, 22]]
    assert landmarks[1, 0].tolist() == [[28, 4], [20, 20]]


def test_single_vectors_are_added_in_cutmix() -> None:
    batch = Sample(
        {"text": {"text.hashing": make_steps(torch.tensor([[[0.0]], [[1.0]]]))}}, {"traits": torch.eye(2)}, 0
    )
    mixed, _ = mix_clips(
        batch, {}, Mixture("cutmix", 0.75, (0, 0, 0.5, 0.5), (0.4, 0.6)), KINDS | {"text.hashing": "vectors"}
    )
    assert mixed.inputs["text"]["text.hashing"].values.flatten().tolist() == [0.25, 0.75]
    assert mixed.targets["traits"].tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_mixtures_have_the_chosen_fractions() -> None:
    rng = np.random.default_rng(0)
    settings = make_augment(mixup=0.8, cutmix=1.0, mixed_batches=0.5, cutmix_batches=0.25)
    mixtures = [draw_mixture(settings, rng) for _ in range(2000)]
    drawn = [mixture for mixture in mixtures if mixture is not None]
    assert len(drawn) / 2000 == pytest.approx(0.5, abs=0.04)
    assert np.mean([mixture.kind == "cutmix" for mixture in drawn]) == pytest.approx(0.25, abs=0.05)
    own = [mixture.own for mixture in drawn if mixture.kind == "mixup"]
    assert np.mean(own) == pytest.approx(0.5, abs=0.04)
    assert np.var(own) == pytest.approx(0.25 / 2.6, rel=0.15)  # of Beta(0.8, 0.8)


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_of_mixed_targets_is_finite_and_falls(loss: str) -> None:
    torch.manual_seed(0)
    actual = torch.rand(8, 3).softmax(-1) if loss == "kl" else torch.rand(8, 3)
    actual[::4] = torch.nan
    batch = Sample({"one": {"faces": make_steps(torch.rand(8, 2, 3, 8, 8))}}, {"traits": actual}, 0)
    mixture = draw_mixture(make_augment(cutmix=1.0), np.random.default_rng(0))
    assert mixture is not None
    mixed, weights = mix_clips(batch, {"traits": torch.rand(8, 3) + 0.5}, mixture, KINDS)
    head = next(HEADS[name] for name, losses in LOSSES_OF_HEADS.items() if loss in losses)(4, 3)
    vectors, values = torch.randn(8, 4), []
    optimizer = torch.optim.Adam(head.parameters(), 0.02)
    for _ in range(40):
        prediction: HeadOutput = head([vectors])
        value = LOSSES[loss](prediction, mixed.targets["traits"], weights["traits"])
        optimizer.zero_grad()
        value.backward()
        assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]


MIXED = FULL.model_copy(update={"mixup": 0.8, "cutmix": 1.0})


def test_interrupted_training_with_all_changes_ends_equally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(folder: str) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
        torch.manual_seed(0)
        return train_network(tmp_path / folder, TinyNetwork(), epochs=3, augment=MIXED.model_dump())

    uninterrupted, history = run("whole")
    with monkeypatch.context() as patch:
        from lib.training import loop

        patch.setattr(loop, "validate", stop_in_epoch(loop.validate, 2))
        with pytest.raises(KeyboardInterrupt):
            run("cut")
    resumed, resumed_history = run("cut")
    assert same_weights(uninterrupted, resumed)
    assert [row["training_loss"] for row in history] == [row["training_loss"] for row in resumed_history]
    plain, _ = train_network(tmp_path / "plain", TinyNetwork(), epochs=3)
    assert not same_weights(plain, resumed)


def stop_in_epoch(validate: Any, number: int) -> Any:
    calls: list[int] = []

    def stop(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return validate(*arguments)

    return stop


def test_mixing_needs_two_clips_in_a_part() -> None:
    settings = Train(**(TRAIN_SETTINGS | {"accumulate": 4, "augment": MIXED.model_dump()}))
    with pytest.raises(SettingError, match=r"train\.augment\.mixup = 0\.8 with parts of 1 clip; allowed"):
        settings.check_mixing()
    Train(**(TRAIN_SETTINGS | {"accumulate": 2, "augment": MIXED.model_dump()})).check_mixing()


@pytest.mark.slow
def test_figure_shows_each_change_next_to_the_original(tmp_path: Path) -> None:
    clips = InMemoryClips(2, use=tuple(ALL))
    batch = collate([clips[0], clips[1]])
    settings = MIXED.model_copy(update={"word_dropout": 0.0})
    changes = dict(augmentation.list_changes(batch, batch, settings, seed=0))
    assert [name.split()[0] for name in changes] == [augmentation.ORIGINAL, *settings.active]
    assert "rotation 20" in changes
    assert "mirror" in changes
    original = changes[augmentation.ORIGINAL]
    images = clips[0].inputs["faces"]["faces"].values.transpose(0, 2, 3, 1)
    assert np.array_equal(original["pictures/faces"][0], images)
    assert np.array_equal(original["sound/audio"][0], clips[0].inputs["audio"]["audio.log_mel"].values)
    assert np.array_equal(changes["mirror"]["pictures/faces"][0], images[:, :, ::-1])
    changed_streams = {
        name: {key for key, (values, *_) in arrays.items() if not np.array_equal(values, original[key][0])}
        for name, arrays in changes.items()
    }
    assert changed_streams["rotation 20"] == {"pictures/faces", "pictures/flow"}
    assert changed_streams["hue 0.1"] == {"pictures/faces"}
    assert changed_streams["frequency_mask 0.4"] == {"sound/audio"}
    assert changed_streams["mixup 0.8"] == set(original)
    samples = {
        name: _read.Sample(
            *(
                {key[len(part) + 1 :]: _read.SampleArray(values, times, True, None, full)
                 for key, (values, times, full) in arrays.items() if key.startswith(part)}
                for part in ("pictures", "sound")
            ),
            np.array([]),
        )
        for name, arrays in changes.items()
    }  # fmt: skip
    results = FigureInputs(augmented=samples)
    figure = figures.augmentation.draw(results)
    assert len(figure.axes) == 3 * len(changes)
    shown = figure.axes[0].images[0].get_array()
    assert np.array_equal(shown, np.concatenate(list(images), axis=1))
    assert [axes.get_ylabel() for axes in figure.axes[:6:3]] == ["original", "mirror"]
    figure.savefig(tmp_path / "figure.png")
    caption = figures.make_caption(figures.augmentation, results, None)
    assert caption.endswith(f"in mixup and CutMix. Here {len(settings.active)} changes are shown.")
    assert figures.is_empty(figures.augmentation.draw(FigureInputs()))
    hidden = Privacy("none", "clip").hide(results).augmented["rotation 20"].pictures["faces"].values
    assert len(np.unique(hidden)) == 1


def test_unchanged_training_has_no_figure_of_augmentation() -> None:
    batch = collate([InMemoryClips(2)[0], InMemoryClips(2)[1]])
    changes = dict(augmentation.list_changes(batch, batch, make_augment(mirror=False, noise=0.5), seed=0))
    assert list(changes) == [augmentation.ORIGINAL]  # no audio is read
