"""The encoder of vectors: standardisation, missing numbers, pooling and order."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.core.errors import InputError
from lib.core.shards import Record
from lib.data.batch import Sample, collate
from lib.data.dataset import make_inputs
from lib.model.encoders import vectors
from lib.streams.base import Steps, StreamInfo
from tests.small_network import (
    make_network,
    make_settings,
    make_steps,
)


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


def test_feed_forward_and_heads_of_vectors_are_settings() -> None:
    layer: Any = vector_encoder("transformer", heads=2, feed_forward=5).layers[0]
    assert (layer.self_attn.num_heads, layer.linear1.out_features) == (2, 5 * layer.linear1.in_features)
    with pytest.raises(InputError, match=r"width = 12; allowed for a transformer with heads = 5: multiples of 30"):
        vector_encoder("transformer", heads=5)
