"""The training loop: losses, schedules, interruption, several processes, loggers."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric

from lib.core.errors import InputError
from lib.core.targets import SCORES
from lib.data.augment import augment, draw
from lib.data.dataset import collate
from lib.model import checkpoint
from lib.model.fusions import FUSIONS
from lib.model.network import Network
from lib.training import loop
from lib.training.loggers import LOGGERS
from lib.training.losses import LOSSES, label_distribution_smoothing, uniform
from stages.train import shuffled
from tests.conftest import ROOT
from tests.test_model import SMALL, samples


class InMemory(torch.utils.data.Dataset):
    """Clips of 4 to 6 flows whose traits can be learnt from their brightness."""

    def __init__(self, count: int, size: int = 32) -> None:
        self.samples, self.epoch = samples([4 + index % 3 for index in range(count)], size), 0
        for index, sample in enumerate(self.samples):
            level = (index * 37 % 100) / 100
            sample["faces"] = (sample["faces"].float() * 0.2 + 200 * level).to(torch.uint8)
            sample["scores"] = torch.full((6,), level)
        self.table = pd.DataFrame({"clip": [f"{index}.mp4" for index in range(count)]})

    def labels(self) -> np.ndarray:
        return np.stack([sample["scores"].double().numpy() for sample in self.samples])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.samples[index]


class Tiny(torch.nn.Module):
    """No batch norm and no dropout: the same whatever the batch is divided into."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 5)

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
        flow = (batch["flow"][:, 0].mean((2, 3)).sum(1) / batch["flow_length"])[:, None]
        faces = batch["faces"][..., : batch["faces"].shape[-1] // 2].mean((1, 2, 3, 4))[:, None]
        return torch.sigmoid(self.layer(torch.cat([faces, flow, faces * flow], 1))), {}


SETTINGS: dict[str, Any] = {
    "seed": 1, "epochs": 2, "batch_size": 4, "accumulate": 1, "loss": "mse", "label_weighting": "none",
    "learning_rate": {"head": 1e-3, "static": 1e-3, "dynamic": 1e-3}, "weight_decay": 0.01, "schedule": "cosine",
    "warmup": 1, "patience": 5, "clip_norm": 1.0, "workers": 0,
    "augmentation": {"mirror": True, "shift": 2, "brightness": 0.1, "contrast": 0.1},
}  # fmt: skip
Fitted = tuple[dict[str, torch.Tensor], list[dict[str, float]]]


def fitted(
    folder: Path, network: torch.nn.Module | None = None, fabric: Fabric | None = None, clips: int = 8, **changes: Any
) -> Fitted:
    folder.mkdir(exist_ok=True)
    settings = SETTINGS | changes
    torch.manual_seed(settings["seed"])
    network = network or Network("cross_attention", **SMALL)
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    return loop.fit(fabric, network, InMemory(clips), InMemory(5), folder, **settings)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path) -> None:
    first, _ = fitted(tmp_path / "a")
    assert same(first, fitted(tmp_path / "b")[0])
    assert not same(first, fitted(tmp_path / "c", seed=2)[0])


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    script = f"""
        import os, signal
        from pathlib import Path
        from lib.training import loop
        from tests.test_training import fitted

        step, steps = loop.augment, []
        def last_step(*arguments):
            steps.append(1)
            if len(steps) == 4:  # the second of the second epoch
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments)
        loop.augment = last_step
        fitted(Path({str(tmp_path / "cut")!r}), epochs=3)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "cut/last.pt").exists()
    whole, history = fitted(tmp_path / "whole", epochs=3)
    resumed, resumed_history = fitted(tmp_path / "cut", epochs=3)
    assert same(whole, resumed)
    for row, other in zip(history, resumed_history, strict=True):
        assert {key: row[key] for key in row if "loss" in key} == {key: other[key] for key in row if "loss" in key}


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_learns(fusion: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Network(fusion, **(SMALL | {"output": "linear"}))
    rates = dict.fromkeys(("head", "static", "dynamic"), 3e-3)
    _, history = fitted(tmp_path, network, epochs=5, learning_rate=rates, clips=16)
    assert history[-1]["training_loss"] < 0.7 * history[0]["training_loss"]


@pytest.mark.parametrize(
    ("static", "frozen", "dynamic"),
    [
        ("resnet18", 0, "conv3d"),
        ("resnet50", 4, "r3d_18"),
        ("resnext50_32x4d", 2, "mc3_18"),
        ("convnext_tiny", 1, "r2plus1d_18"),
        ("vit_b_16", 4, "conv3d"),
        ("mobilenet_v2", 5, "conv3d"),
        ("inception_resnet_v1", 3, "conv3d"),
    ],
)
def test_every_backbone_trains_an_epoch(static: str, frozen: int, dynamic: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    streams = {
        "static": {"backbone": static, "weights": None, "frozen": frozen},
        "dynamic": {"backbone": dynamic, "weights": None},
    }
    network = Network("cross_attention", **(SMALL | streams))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed" if static == "resnet18" else "32-true")
    clips = InMemory(4, size=80)  # pixels; inception_resnet_v1 takes no smaller faces
    after, history = loop.fit(fabric, network, clips, clips, tmp_path, **(SETTINGS | {"epochs": 1}))
    assert np.isfinite(history[0]["validation_loss"])
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    for name in before:
        kept = name.startswith("streams.static.parts.") and int(name.split(".")[3]) < frozen
        assert (name in moved) != kept or name.endswith(("k_proj.bias", "num_batches_tracked")), name


def test_planted_labels_are_found_and_shuffled_ones_are_not_beaten(tmp_path: Path) -> None:
    rates = dict.fromkeys(("head", "static", "dynamic"), 3e-3)
    skill = {}
    for name in ("planted", "shuffled"):
        clips, unseen = InMemory(32), InMemory(64)
        unseen.samples = unseen.samples[32:]
        if name == "shuffled":
            labels = pd.DataFrame(clips.labels(), columns=list(SCORES))
            for sample, row in zip(clips.samples, shuffled(labels, 0).to_numpy(np.float32), strict=True):
                sample["scores"] = torch.from_numpy(row)
        torch.manual_seed(0)
        network, fabric = Network("static", **SMALL), Fabric(accelerator="cpu", devices=1)
        (tmp_path / name).mkdir()
        settings = SETTINGS | {"epochs": 8, "learning_rate": rates}
        weights, _ = loop.fit(fabric, network, clips, clips, tmp_path / name, **settings)
        network.load_state_dict(weights)
        actual, predicted = loop.predict(fabric, network, unseen, 8, 0)
        skill[name] = 1 - ((predicted - actual) ** 2).mean() / ((actual - clips.labels().mean()) ** 2).mean()
    assert skill["planted"] > 0.7
    assert skill["shuffled"] < 0.1


def test_shuffled_clips_keep_their_scores_together() -> None:
    table = pd.DataFrame({"clip": [f"{index}.mp4" for index in range(50)], **dict.fromkeys(SCORES, range(50))})
    mixed = shuffled(table, 0)
    assert (mixed["clip"] == table["clip"]).all()
    assert (mixed["openness"] == mixed["interview"]).all()
    assert sorted(mixed["openness"]) == list(range(50))
    assert (mixed["openness"] != table["openness"]).mean() > 0.9
    assert not shuffled(table, 1).equals(mixed)


@pytest.mark.parametrize("weighting", ["none", "label_distribution_smoothing"])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns(loss: str, weighting: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    rates = dict.fromkeys(("head", "static", "dynamic"), 0.1)
    _, history = fitted(
        tmp_path, Tiny(), epochs=20, loss=loss, label_weighting=weighting, learning_rate=rates, clips=16,
        schedule="plateau",
    )  # fmt: skip
    assert history[-1]["training_loss"] < 0.9 * history[0]["training_loss"]


def test_the_interview_is_a_sixth_score(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Network("static", **(SMALL | {"interview": True}))
    fitted(tmp_path, network, epochs=1)
    actual, predicted = loop.predict(Fabric(accelerator="cpu", devices=1), network, InMemory(5), 2, 0)
    assert actual.shape == predicted.shape == (5, 6)
    assert network.predicts[-1] == "interview"


def test_losses_by_hand() -> None:
    actual, predicted = torch.tensor([[0.2], [0.4], [0.9]]), torch.tensor([[0.25], [0.3], [0.6]])
    ones = torch.ones(3, 1)
    assert LOSSES["mse"](predicted, actual, ones).item() == pytest.approx((0.05**2 + 0.1**2 + 0.3**2) / 3)
    assert LOSSES["mae"](predicted, actual, ones).item() == pytest.approx(0.15)
    huber = (0.5 * 0.05**2 + 0.5 * 0.1**2 + 0.1 * (0.3 - 0.05)) / 3
    assert LOSSES["huber"](predicted, actual, ones).item() == pytest.approx(huber)
    x, y = predicted[:, 0].double().numpy(), actual[:, 0].double().numpy()
    ccc = 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert LOSSES["ccc"](predicted, actual, ones).item() == pytest.approx(1 - ccc, abs=1e-6)
    twice = torch.tensor([[2.0], [1.0], [0.0]])
    repeated = torch.tensor([0, 0, 1])
    for name in LOSSES:  # a weight of two is a clip seen twice, of zero one not seen
        assert LOSSES[name](predicted, actual, twice).item() == pytest.approx(
            LOSSES[name](predicted[repeated], actual[repeated], ones).item(), abs=1e-6
        )


def test_rare_labels_weigh_more() -> None:
    labels = np.column_stack([np.r_[np.full(90, 0.5), np.full(10, 0.9)], np.linspace(0, 1, 100)])
    weights = label_distribution_smoothing(labels)
    assert weights.mean(0) == pytest.approx(1)
    assert weights[-1, 0] / weights[0, 0] == pytest.approx(3)  # the root of nine
    assert np.ptp(weights[5:-5, 1]) < 0.2
    assert (uniform(labels) == 1).all()


def test_a_batch_in_parts_steps_as_the_whole(tmp_path: Path) -> None:
    start = Tiny().state_dict()
    results = []
    for accumulate in (1, 2, 4):
        network = Tiny()
        network.load_state_dict(start)
        results.append(fitted(tmp_path / str(accumulate), network, accumulate=accumulate, clips=9)[0])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], atol=2e-5, rtol=0)  # of steps of 1e-3: AdamW magnifies rounding
    with pytest.raises(InputError, match=r"train\.batch_size = 4; allowed: a multiple of .* = 1 x 3"):
        fitted(tmp_path / "3", Tiny(), accumulate=3)


def test_two_processes_learn_as_one(tmp_path: Path) -> None:
    script = f"""
        import json, torch
        from pathlib import Path
        from lightning_fabric import Fabric
        from tests.test_training import InMemory, Tiny, fitted
        from lib.training import loop

        fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
        fabric.launch()
        torch.manual_seed(0)
        network = Tiny()
        _, history = fitted(Path({str(tmp_path / "two")!r}), network, fabric, epochs=3, clips=9)
        actual, predicted = loop.predict(fabric, network, InMemory(5), 2, 0)
        if fabric.global_rank == 0:
            found = {{"history": history, "actual": actual.tolist(), "predicted": predicted.tolist()}}
            Path({str(tmp_path / "two.json")!r}).write_text(json.dumps(found))
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, tmp_path / "script.py"], cwd=ROOT, env=environment, check=True, timeout=300)
    two = json.loads((tmp_path / "two.json").read_text())
    torch.manual_seed(0)
    network = Tiny()
    _, history = fitted(tmp_path / "one", network, epochs=3, clips=9)
    for name in ("training_loss", "validation_loss", "validation_ccc"):
        assert [row[name] for row in two["history"]] == pytest.approx([row[name] for row in history], abs=1e-6)
    actual, predicted = loop.predict(Fabric(accelerator="cpu", devices=1), network, InMemory(5), 2, 0)
    assert np.array(two["actual"]) == pytest.approx(actual)
    assert np.array(two["predicted"]) == pytest.approx(predicted, abs=1e-6)


def test_streams_learn_at_their_own_rates(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = Network("concat", **SMALL)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    after, _ = fitted(tmp_path, network, learning_rate={"head": 1e-3, "static": 1e-12, "dynamic": 1e-3}, epochs=1)
    moved = {name.split(".")[1] if name.startswith("streams.") else "head": 0.0 for name in before}
    for name, _ in network.named_parameters():
        of = name.split(".")[1] if name.startswith("streams.") else "head"
        moved[of] = max(moved[of], float((after[name] - before[name]).abs().max()))
    assert moved["static"] < 1e-9 < 1e-4 < min(moved["head"], moved["dynamic"])


def test_the_rate_rises_and_falls() -> None:
    def rates(schedule: str, losses: list[float]) -> list[float]:
        history = [{"validation_loss": loss} for loss in losses]
        return [loop._factor(schedule, epoch, 2, 10, history[:epoch]) for epoch in range(10)]

    cosine = rates("cosine", [1.0] * 10)
    assert cosine[0] < cosine[1] < cosine[2] == 1
    assert cosine[6] == pytest.approx(0.5)
    assert rates("plateau", [1, 0.9, 0.8, 0.9, 0.9, 0.9, 0.7, 0.8, 0.8, 0.8])[2:] == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]


def test_the_draws_of_a_share_are_those_of_the_whole() -> None:
    whole = draw(5, True, 2, 0.1, 0.1, torch.Generator().manual_seed(0))
    batch = collate(samples([4] * 5))
    together = augment(batch, whole)
    half = {key: value[1::2] for key, value in batch.items()}
    alone = augment(half, whole.of(slice(1, None, 2)))
    assert torch.equal(alone["faces"], together["faces"][1::2])
    assert torch.equal(alone["flow"], together["flow"][1::2])
    assert not torch.equal(together["faces"], batch["faces"])


def test_a_loss_that_is_not_finite_stops_and_names_the_clips(tmp_path: Path) -> None:
    rates = dict.fromkeys(("head", "static", "dynamic"), float("inf"))
    with pytest.raises(InputError, match=r"the loss is nan .* \d\.mp4.* epochs before are kept"):
        fitted(tmp_path, epochs=5, learning_rate=rates)


def test_memory_that_runs_out_is_one_clear_error(tmp_path: Path) -> None:
    class Large(Tiny):
        def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    with pytest.raises(
        InputError, match=r"memory does not suffice \(CUDA out of memory\); lower model\.static\.frames"
    ):
        fitted(tmp_path, Large())


def test_a_warm_start_beats_starting_over_at_equal_epochs(tmp_path: Path) -> None:
    rates = dict.fromkeys(("head", "static", "dynamic"), 3e-3)
    torch.manual_seed(0)
    old, _ = fitted(tmp_path / "old", Network("concat", **SMALL), epochs=15, learning_rate=rates, clips=16)
    torch.save({"weights": old, "parameters": {}}, tmp_path / "old.pt")
    losses = {}
    for name in ("cold", "warm"):
        torch.manual_seed(7)
        network = Network("concat", **SMALL)
        if name == "warm":
            checkpoint.warm_start(network, tmp_path / "old.pt")
        losses[name] = fitted(tmp_path / name, network, epochs=2, learning_rate=rates, clips=24)[1][-1][
            "validation_loss"
        ]
    assert losses["warm"] < 0.7 * losses["cold"]
    with pytest.raises(InputError, match=r"is a model of another shape \(\d+ weights differ, first"):
        checkpoint.warm_start(Network("static", **SMALL), tmp_path / "old.pt")
    with pytest.raises(InputError, match=r"train\.init = 'nowhere' is no file"):
        checkpoint.warm_start(Network("static", **SMALL), Path("nowhere"))


def test_loggers_write_what_history_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "logs").mkdir()
    loggers = [make({"seed": 1}) for make in LOGGERS.values()]
    _, history = fitted(tmp_path / "work", Tiny(), Fabric(accelerator="cpu", devices=1, loggers=loggers))
    for logger in loggers:
        logger.finalize("success")
    (events,) = Path("logs/tensorboard").rglob("events*")
    accumulated = EventAccumulator(str(events))
    accumulated.Reload()
    assert [event.value for event in accumulated.Scalars("validation_loss")] == pytest.approx(
        [row["validation_loss"] for row in history]
    )
    (run,) = Path("logs/wandb").glob("offline-run-*/*.wandb")
    assert b"validation_loss" in run.read_bytes()


def test_history_says_what_to_watch(tmp_path: Path) -> None:
    _, history = fitted(tmp_path, Tiny())
    assert {"validation_spread", "learning_rate", "clips_per_second", "waiting"} <= set(history[0])
    assert 0 <= history[0]["waiting"] <= 1
