"""Fairness in training: weights by hand, an adversary and matched representations on a planted group, and errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from lib.core.errors import SettingError
from lib.core.persons import find_groups
from lib.data.batch import collate
from lib.model.network import Network
from lib.sources.settings import find_fairness_group
from lib.training import fairness, fairness_terms, loop
from lib.training.fairness import UNKNOWN, balance_groups
from lib.training.fairness_terms import Adversary, Matching
from lib.training.settings import Train
from tests.small_network import (
    TRAIN_SETTINGS,
    InMemoryClips,
    make_augment,
    make_network,
    make_settings,
    same_weights,
    train_network,
)

PLANTED: dict[str, Any] = {"epochs": 40, "batch_size": 30, "learning_rate": {"default": 5e-3}, "patience": 40}


class PlantedClips(InMemoryClips):
    """Clips whose audio shows the level in four bands and the group of the person in the other four."""

    def __init__(self, count: int) -> None:
        super().__init__(count, use=("audio",))
        self.groups = {f"{index}.mp4": "ab"[index % 3 == 0] for index in range(count)}
        for index, clip in enumerate(self.samples):
            values = clip.inputs["audio"]["audio.log_mel"].values
            values[:, :4] = 2 * self.targets["traits"][index, 0] - 1
            values[:, 4:] = 1.0 if index % 3 == 0 else -1.0
            rng = np.random.default_rng(index)
            values += (rng.normal(0, 0.7, 8) + rng.normal(0, 0.5, values.shape)).astype(np.float32)


def fuse(network: Network, clips: InMemoryClips) -> Tensor:
    """Return the fused vectors (N, D)."""
    with torch.no_grad():
        fused = network.eval()(collate([clips[index] for index in range(len(clips))]).inputs).fused
    return fused.flatten(1)


def recognise_groups(vectors: Tensor, clips: PlantedClips) -> float:
    """Return the mean recall of a ridge probe that learns on one half of the clips and is tested on the other."""
    codes = np.array([1.0 if clips.groups[clip] == "b" else -1.0 for clip in clips.table["clip"]])
    inputs = np.column_stack([vectors.double().numpy(), np.ones(len(codes))])
    half = len(codes) // 2
    balance = np.where(codes > 0, (codes < 0).sum() / (codes > 0).sum(), 1.0)[:half, None]
    learnt, labels = inputs[:half] * balance**0.5, codes[:half] * balance[:, 0] ** 0.5
    solved = np.linalg.solve(learnt.T @ learnt + 1e-3 * np.eye(inputs.shape[1]), learnt.T @ labels)
    right = np.sign(inputs[half:] @ solved) == codes[half:]
    return float(np.mean([right[codes[half:] == code].mean() for code in (1, -1)]))


def train_planted(folder: Path, **changes: Any) -> tuple[Network, PlantedClips, list[dict[str, float]]]:
    torch.manual_seed(0)
    network, clips = make_network(["audio"], "concat", dropout=0.0), PlantedClips(120)
    _, history = train_network(folder, network, clips=clips, groups=clips.groups, **(PLANTED | changes))
    return network, clips, history


@pytest.mark.slow
def test_adversary_and_matching_hide_the_planted_group(tmp_path: Path) -> None:
    recalls, accuracies = {}, {}
    for name in ("none", "adversarial", "matching"):
        network, clips, history = train_planted(tmp_path / name, fairness=name, fairness_weight=1.0)
        recalls[name] = recognise_groups(fuse(network, clips), clips)
        accuracies[name] = max(row["validation_accuracy_traits"] for row in history)
        assert ("training_fairness" in history[-1]) == (name != "none")
        assert network.state_dict().keys() == make_network(["audio"], "concat").state_dict().keys()  # no adversary
    assert recalls["none"] > 0.97
    assert recalls["adversarial"] < 0.93
    assert recalls["matching"] < 0.93
    assert min(accuracies.values()) > 0.82  # the training mean: 0.75


def test_balance_groups_equals_weights_by_hand() -> None:
    # two bins of labels: 5 of a and 15 of b below, 10 of a and 10 of b above; weights n(y) / (2 n(s, y))
    labels = np.repeat([0.2, 0.8], 20)[:, None]
    groups = np.array([0] * 5 + [1] * 15 + [0] * 10 + [1] * 10)
    expected = np.repeat([20 / (2 * 5), 20 / (2 * 15), 1.0, 1.0], [5, 15, 10, 10])
    assert balance_groups(labels, groups)[:, 0] == pytest.approx(expected)
    # a group with 4 clips in a bin: the inverse frequency of the group alone
    groups = np.array([0] * 4 + [1] * 16 + [0] * 11 + [1] * 9)
    assert balance_groups(labels, groups)[:, 0] == pytest.approx(np.where(groups == 0, 40 / (2 * 15), 40 / (2 * 25)))


def test_balance_groups_leaves_out_unknown_groups_and_labels() -> None:
    labels = np.array([[0.1, np.nan], [0.1, 0.1], [0.1, 0.1], [0.1, 0.1]])
    weights = balance_groups(labels, np.array([0, 0, 1, UNKNOWN]))
    assert weights == pytest.approx(np.array([[0.75, 1.0], [0.75, 1.0], [1.5, 1.0], [1.0, 1.0]]))
    assert (balance_groups(labels, np.full(4, UNKNOWN)) == 1).all()


def test_balanced_training_uses_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    step = loop.train_step

    def record(state: Any, parts: Any, *others: Any) -> Any:
        kept = list(parts)
        seen.extend((part.sample.index, part.weights["traits"]) for part in kept)
        return step(state, iter(kept), *others)

    monkeypatch.setattr(loop, "train_step", record)
    _, clips, _ = train_planted(tmp_path, fairness="balanced", epochs=1)
    codes = np.array([clips.groups[clip] == "b" for clip in clips.table["clip"]]).astype(int)
    expected = torch.from_numpy(balance_groups(clips.targets["traits"], codes)).float()
    for index, weights in seen:
        torch.testing.assert_close(weights, expected[index])
    assert float(expected[codes == 1].mean()) > float(expected[codes == 0].mean())  # b has a third of the clips


def test_settings_name_all_terms_of_fairness() -> None:
    assert tuple(fairness_terms.TERMS) == fairness.TERMS


@pytest.mark.parametrize("term", fairness.TERMS)
def test_terms_ignore_clips_of_unknown_group(term: str) -> None:
    torch.manual_seed(0)
    fused, groups = torch.randn(12, 6, requires_grad=True), torch.tensor([0, 1, UNKNOWN] * 4)
    compared, again = (fairness_terms.TERMS[term](6, torch.tensor([4, 4]), 0.5) for _ in range(2))
    again.load_state_dict(compared.state_dict())
    value = compared(fused, groups)
    value.backward()
    assert fused.grad is not None
    is_known = groups != UNKNOWN
    assert fused.grad[is_known].abs().sum(1).min() > 0
    assert fused.grad[~is_known].abs().max() == 0
    other = torch.where(is_known[:, None], fused.detach(), 7.0)
    torch.testing.assert_close(again(other, groups), value.detach())
    assert compared(fused, torch.full((12,), UNKNOWN)).item() == 0


def test_adversary_reverses_its_gradient() -> None:
    torch.manual_seed(0)
    adversary, groups = Adversary(4, torch.tensor([30, 30]), 0.25), torch.arange(60) % 2
    fused = torch.randn(60, 4) + 1.5 * groups[:, None]
    fused.requires_grad_()
    before = adversary(fused, groups).item()
    for _ in range(10):
        learnt = adversary(fused, groups)
    assert learnt.item() < min(before, 0.4)  # it learns; chance is 0.69
    learnt.backward()
    assert fused.grad is not None
    with torch.no_grad():
        moved = fused - 10 * fused.grad  # a step of gradient descent makes the groups harder to recognise
    assert adversary(moved, groups).item() > learnt.item()


def test_matching_is_zero_for_equal_distributions_only() -> None:
    torch.manual_seed(0)
    matching, groups = Matching(3, torch.tensor([200, 200]), 1.0), torch.arange(400) % 2
    same = torch.randn(400, 3)
    assert abs(matching(same, groups).item()) < 0.02
    assert matching(same + 3.0 * groups[:, None], groups).item() > 0.5
    assert matching(same * (1 + 4.0 * groups[:, None]), groups).item() > 0.1  # equal means, other variances
    assert matching(same, torch.zeros(400, dtype=torch.long)).item() == 0


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 3])
def test_interrupted_adversarial_training_resumes_identically(tmp_path: Path, accumulate: int) -> None:
    changes = {"fairness": "adversarial", "accumulate": accumulate}
    full, _, history = train_planted(tmp_path / "full", epochs=4, **changes)
    state = torch.load(tmp_path / "full/last.pt", weights_only=True)
    assert "term" in state
    assert not [key for key in state["best"] if key not in full.state_dict()]
    interrupt_after(tmp_path / "again", 2, **changes)
    resumed, _, resumed_history = train_planted(tmp_path / "again", epochs=4, **changes)
    assert same_weights(full.state_dict(), resumed.state_dict())
    names = ("training_fairness", "validation_loss")
    assert [[row[name] for name in names] for row in resumed_history] == [
        [row[name] for name in names] for row in history
    ]


def interrupt_after(folder: Path, epochs: int, **changes: Any) -> None:
    """Train until an epoch is saved, and then stop."""

    class StoppedError(Exception):
        pass

    calls: list[int] = []
    validate = loop.validate

    def stop(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > epochs:
            raise StoppedError
        return validate(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "validate", stop)
        with pytest.raises(StoppedError):
            train_planted(folder, epochs=4, **changes)


def test_find_groups_rejects_missing_columns_and_single_groups() -> None:
    persons = pd.DataFrame({"gender": ["f", "m", ""], "age": ["old", "", "young"]}, index=["a", "b", "c"])
    assert find_groups(persons, ["b", "a", "c", "d"], "gender") == {"a": "f", "b": "m"}
    with pytest.raises(
        SettingError, match=r"fairness_group = 'race'; allowed: a column of data/groups.csv: gender, age"
    ):
        find_groups(persons, ["a"], "race")
    with pytest.raises(SettingError, match=r"'race'; allowed: .*: none is available; add a groups\*\.csv"):
        find_groups(persons[[]], ["a"], "race")
    with pytest.raises(SettingError, match=r"'age', whose groups of the training clips are \['old'\]; allowed: .* two"):
        find_groups(persons, ["a", "b"], "age")


def test_fairness_contradicting_other_settings_is_rejected() -> None:
    def check(model: dict[str, Any], **changes: Any) -> None:
        Train(**TRAIN_SETTINGS | {"fairness": "adversarial"} | changes).check_fairness(  # type: ignore[arg-type]
            make_settings(["audio"], **{"fusion": "concat"} | model)
        )

    check({})
    check({"linear_path": True}, fairness="none")
    with pytest.raises(
        SettingError, match=r"adversarial with model\.linear_path = true, .*; allowed: a network without"
    ):
        check({"linear_path": True})
    with pytest.raises(SettingError, match=r"balanced with model\.fusion = stacked, "):
        check({"fusion": "stacked"}, fairness="balanced")
    with pytest.raises(SettingError, match=r"matching with train\.augment\.mixup = 0\.8; allowed: 0"):
        check({}, fairness="matching", augment=make_augment(mixup=0.8))


def test_download_checks_the_group_only_if_fairness_needs_it() -> None:
    assert find_fairness_group({"train": {"fairness": "none", "fairness_group": "gender"}}) is None
    assert find_fairness_group({"train": {"fairness": "balanced", "fairness_group": "gender"}}) == "gender"
