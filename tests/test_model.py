"""Model, training, scores and baselines."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchmetrics.functional.regression as reference
from sklearn.metrics import r2_score

from lib import baselines, training
from lib.augment import mirror_clips
from lib.dataset import collate
from lib.errors import InputError
from lib.model.network import Network
from lib.scores import scores, skill
from lib.traits import TRAITS

SMALL = {
    "width": 24, "heads": 4, "depth": 1, "dropout": 0.1,
    "static": {"backbone": "resnet10", "weights": None, "frozen": 0}, "dynamic": {"backbone": "conv3d"},
}  # fmt: skip


def samples(lengths: list[int], size: int = 32) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "faces": torch.randint(0, 255, (2, 3, size, size), generator=generator, dtype=torch.uint8),
            "face_times": torch.tensor([0.2, 0.6]),
            "flow": torch.randn(length, 2, size, size, generator=generator),
            "flow_times": torch.arange(length) / 5,
            "traits": torch.rand(5, generator=generator),
            "index": torch.tensor(index),
        }
        for index, length in enumerate(lengths)
    ]


@pytest.mark.parametrize("fusion", ["cross_attention", "concat", "static", "dynamic"])
@pytest.mark.parametrize("backbone", ["conv3d", "r3d_18"])
@torch.no_grad()
def test_padding_changes_nothing(fusion: str, backbone: str) -> None:
    torch.manual_seed(0)
    network = Network(fusion, **(SMALL | {"dynamic": {"backbone": backbone}})).eval()
    clips = samples([1, 6, 13])
    together, _ = network(collate(clips))
    alone = torch.cat([network(collate([clip]))[0] for clip in clips])
    assert together.shape == (3, 5)
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


@torch.no_grad()
def test_attention_sums_to_one_and_does_not_change_the_result() -> None:
    torch.manual_seed(0)
    network = Network("cross_attention", **SMALL).eval()
    batch = collate(samples([5, 9]))
    plain, none = network(batch)
    watched, attention = network(batch, with_attention=True)
    assert none == {}
    torch.testing.assert_close(plain, watched, atol=1e-6, rtol=0)
    assert set(attention) == {"static_to_dynamic", "dynamic_to_static"}
    weights = attention["static_to_dynamic"]
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    tokens = weights.shape[-1] // 3  # 9 flow steps make 3 tokens over time; 5 make 2
    assert (weights[0, :, :, 2 * tokens :] == 0).all()


def test_frozen_parts_stay_as_they_are() -> None:
    network = Network("static", **(SMALL | {"static": {"backbone": "resnet10", "weights": None, "frozen": 2}})).train()
    before = {name: value.clone() for name, value in network.streams["static"].parts[:2].state_dict().items()}
    network(collate(samples([4, 4])))[0].sum().backward()
    after = network.streams["static"].parts
    assert all(parameter.grad is None for parameter in after[:2].parameters())
    assert all(parameter.grad is not None for parameter in after[2:].parameters())
    assert all(torch.equal(before[name], value) for name, value in after[:2].state_dict().items())


def test_weights_are_loaded_and_misfits_named(tmp_path: Path) -> None:
    source = Network("static", **SMALL).streams["static"].parts
    names = ("conv1", "bn1")
    state = {
        f"{name}.{key}": value
        for name, part in zip(names, source[0][:2], strict=True)
        for key, value in part.state_dict().items()
    }
    for index in range(1, 5):
        state |= {f"layer{index}.{key}": value for key, value in source[index].state_dict().items()}
    torch.save(state, tmp_path / "right.pt")
    static = {"backbone": "resnet10", "weights": str(tmp_path / "right.pt"), "frozen": 0}
    loaded = Network("static", **(SMALL | {"static": static})).streams["static"].parts
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in source.state_dict().items())
    with pytest.raises(InputError, match="do not fit resnet18"):
        Network("static", **(SMALL | {"static": static | {"backbone": "resnet18"}}))
    with pytest.raises(InputError, match=r"model\.static\.weights = 'nowhere'"):
        Network("static", **(SMALL | {"static": static | {"weights": "nowhere"}}))


def test_contradictions_are_named() -> None:
    with pytest.raises(InputError, match=r"model\.fusion = 'sum'; allowed: cross_attention, concat"):
        Network("sum", **SMALL)
    with pytest.raises(InputError, match=r"model\.width = 30"):
        Network("concat", **(SMALL | {"width": 30}))


def test_a_mirrored_clip_negates_horizontal_motion() -> None:
    faces, flow = torch.arange(4.0).view(1, 1, 1, 1, 4), torch.zeros(1, 2, 1, 1, 4)
    flow[0, 0, 0, 0, 0], flow[0, 1, 0, 0, 0] = 3.0, 5.0
    mirrored_faces, mirrored = mirror_clips(faces, flow, torch.tensor([True]))
    assert mirrored_faces.flatten().tolist() == [3, 2, 1, 0]
    assert mirrored[0, 0].flatten().tolist() == [0, 0, 0, -3]
    assert mirrored[0, 1].flatten().tolist() == [0, 0, 0, 5]
    same_faces, same = mirror_clips(faces, flow, torch.tensor([False]))
    assert torch.equal(same_faces, faces)
    assert torch.equal(same, flow)


class _InMemory(torch.utils.data.Dataset):
    def __init__(self, count: int) -> None:
        self.samples, self.epoch = samples([4 + index % 3 for index in range(count)]), 0
        self.table = pd.DataFrame({"clip": [f"{index}.mp4" for index in range(count)]})

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.samples[index]


def fitted(folder: Path, seed: int, epochs: int = 2, rate: float = 1e-3) -> dict[str, torch.Tensor]:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    network = Network("cross_attention", **SMALL)
    weights, history = training.fit(
        network, _InMemory(8), _InMemory(4), folder, seed=seed, epochs=epochs, batch_size=4, learning_rate=rate,
        weight_decay=0.01, warmup=1, patience=5, clip_norm=1.0, precision="32-true", workers=0,
        augmentation={"mirror": True, "shift": 2, "brightness": 0.1, "contrast": 0.1},
    )  # fmt: skip
    assert len(history) == epochs
    return weights


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path) -> None:
    first = fitted(tmp_path / "a", seed=1)
    assert same(first, fitted(tmp_path / "b", seed=1))
    assert not same(first, fitted(tmp_path / "c", seed=2))


def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fitted(tmp_path / "whole", seed=1, epochs=3)
    plain, calls = training.scores, []

    def interrupted(*arguments: np.ndarray) -> dict:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(training, "scores", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "cut", seed=1, epochs=3)
    assert same(whole, fitted(tmp_path / "cut", seed=1, epochs=3))


def test_a_loss_that_is_not_finite_stops_and_names_the_clips(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the loss is nan .* \d\.mp4"):
        fitted(tmp_path, seed=1, epochs=5, rate=float("inf"))


def test_scores_agree_with_the_references() -> None:
    rng = np.random.default_rng(0)
    actual = rng.uniform(size=(50, 5))
    predicted = 0.5 * actual + rng.normal(0, 0.1, (50, 5))
    found = scores(actual, predicted)
    a, p = torch.from_numpy(actual), torch.from_numpy(predicted)
    assert list(found["r2"].values())[1:] == pytest.approx(
        r2_score(actual, predicted, multioutput="raw_values"), abs=1e-6
    )
    assert list(found["pearson"].values())[1:] == pytest.approx(reference.pearson_corrcoef(p, a).numpy(), abs=1e-6)
    # torchmetrics takes sample moments for the variances; by hand with population moments, as Lin defines it:
    ccc = [
        2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
        for x, y in zip(actual.T, predicted.T, strict=True)
    ]
    assert list(found["ccc"].values())[1:] == pytest.approx(ccc, abs=1e-6)
    assert found["mse"]["mean"] == pytest.approx(reference.mean_squared_error(p, a).item(), abs=1e-6)
    assert found["accuracy"]["mean"] == pytest.approx(1 - reference.mean_absolute_error(p, a).item(), abs=1e-6)
    assert found["rmse"]["openness"] == pytest.approx(np.sqrt(found["mse"]["openness"]), abs=1e-6)


def test_a_constant_prediction_has_no_correlation() -> None:
    actual = np.linspace(0, 1, 20).reshape(4, 5)
    found = scores(actual, np.full((4, 5), 0.5))
    assert found["pearson"]["mean"] is None
    assert found["ccc"]["openness"] == 0


def test_baselines_by_hand() -> None:
    training_ = pd.DataFrame({"video": ["a", "a", "b"], **dict.fromkeys(TRAITS, [0.2, 0.4, 0.9])})
    test = pd.DataFrame({"video": ["a", "c"], **dict.fromkeys(TRAITS, [0.0, 0.0])})
    assert baselines.mean(training_, test)[:, 0] == pytest.approx([0.5, 0.5])
    assert baselines.video_lookup(training_, test)[:, 0] == pytest.approx([0.3, 0.5])
    assert baselines.is_seen(training_, test).tolist() == [True, False]


def test_skill_and_its_interval_over_videos() -> None:
    rng = np.random.default_rng(0)
    videos = np.repeat(np.arange(40), 5)
    actual = rng.uniform(size=(200, 5))
    mean = np.full((200, 5), 0.5)
    found = skill(actual, actual, mean, videos, 200, 0)
    assert set(found["skill"].values()) == set(found["skill_low"].values()) == {1.0}
    found = skill(actual, mean, mean, videos, 200, 0)
    assert set(found["skill"].values()) == set(found["skill_high"].values()) == {0.0}

    half = (actual + mean) / 2  # halves every error
    assert skill(actual, half, mean, videos, 200, 0)["skill"]["mean"] == 0.75
    # an error that all clips of a video share makes the interval wider than the same errors shuffled over videos
    shared = mean + np.repeat(rng.normal(0, 0.3, (40, 1)), 5, 0)
    shuffled = mean + rng.permutation(shared - mean)
    width = {}
    for name, values in (("shared", shared), ("shuffled", shuffled)):
        of = skill(mean + 0.1, values, mean, videos, 2000, 0)
        low, high = of["skill_low"]["mean"], of["skill_high"]["mean"]
        assert low is not None
        assert high is not None
        assert low < (of["skill"]["mean"] or 0) < high
        width[name] = high - low
    assert width["shared"] > 1.5 * width["shuffled"]
