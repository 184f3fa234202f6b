"""The training loop: losses, schedules, interruption, several processes, loggers."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric

from lib.core import parameters
from lib.core.errors import InputError
from lib.core.targets import TRAITS, TargetGroup, Targets
from lib.data.augment import augment, draw, mirror_points
from lib.data.batch import Sample, collate
from lib.data.dataset import EncoderInputs
from lib.model import checkpoint
from lib.model.checkpoint import TrainingSummary
from lib.model.fusions import FUSIONS
from lib.model.heads import HEADS, find_head
from lib.model.infer import predict
from lib.model.network import Network, Output, Settings
from lib.streams.base import Steps, StreamInfo
from lib.training.data import TrainData
from lib.training.hooks import Loggers
from lib.training.loggers import LOGGERS
from lib.training.losses import LOSSES
from lib.training.optim import OPTIMIZERS, build_optimizer, group_parameters
from lib.training.order import mix_corpora
from lib.training.prepare import shuffle_labels
from lib.training.run import refuse_bfloat16, train
from lib.training.schedules import SCHEDULES, Progress
from lib.training.settings import Parameters, Train
from tests.conftest import ROOT
from tools import parameters as written

TRAITS_GROUP: Targets = {
    "traits": TargetGroup(columns=list(TRAITS), range=[0, 1], head="sigmoid", loss="mse", weight=1.0)
}
ANY_ENCODERS = [name for name in FUSIONS if not name.startswith("multitask")]
"""Fusions of any number of encoders of any width."""
PICTURES: dict[str, Any] = {
    "kind": "images", "shorter_side": None, "crop": None, "backbone": "resnet10", "filters": [[8], [8, 8]], "weights": None,
    "frozen": 0, "place": "keep", "time": "keep", "units": 8,
}  # fmt: skip
KINDS = {"faces": "pictures", "flow": "flow", "audio.log_mel": "vectors"}


def settings(use: list[str] | None = None, fusion: str = "cross_attention", **changes: Any) -> Settings:
    """A small network; `faces` and `flow` among the changes are those of these encoders."""
    faces = {"reads": ["faces"], "take": "parts", "steps": 2} | PICTURES
    flow = {"kind": "volumes", "reads": ["flow"], "take": "all", "steps": 1, "backbone": "conv3d", "weights": None}
    audio = {"kind": "vectors", "reads": ["audio.log_mel"], "take": "all", "steps": 1, "net": "mlp", "width": 24}
    encoders = {
        "faces": faces | changes.pop("faces", {}),
        "flow": flow | changes.pop("flow", {}),
        "audio": audio | {"depth": 1, "dropout": 0.1, "pool": 2},
    }
    small = {
        "queries": [],
        "targets": ["traits"],
        "missing": "drop",
        "width": 24,
        "heads": 4,
        "depth": 1,
        "dropout": 0.1,
        "hidden": 0,
    }
    return Settings(**(small | {"use": use or ["faces", "flow"], "fusion": fusion, "encoders": encoders} | changes))


def network(*arguments: Any, targets: Targets = TRAITS_GROUP, side: int = 32, **changes: Any) -> Network:
    shapes = {"faces": {"": [3, side, side]}, "flow": {"": [2, side, side]}, "audio": {"log_mel": [8], "mfcc": [4]}}
    streams = {name: StreamInfo({}, shape) for name, shape in shapes.items()}
    return Network.from_settings(settings(*arguments, **changes), targets, streams)


def sample(length: int, side: int, generator: np.random.Generator, index: int, use: list[str]) -> Sample:
    """A clip with two faces, `length` flows and three times as many windows of sound, all of chance."""
    steps = {
        "faces": ("faces", generator.integers(0, 255, (2, 3, side, side), np.uint8), np.array([0.2, 0.6])),
        "flow": ("flow", generator.normal(size=(length, 2, side, side)).astype(np.float32), np.arange(length) / 5),
        "audio": (
            "audio.log_mel",
            generator.normal(size=(3 * length, 8)).astype(np.float32),
            np.arange(3 * length) / 15,
        ),
    }
    inputs = {
        name: {reference: Steps(values, times.astype(np.float32), np.ones(len(times), bool))}
        for name, (reference, values, times) in steps.items()
        if name in use
    }
    return Sample(inputs, {"traits": generator.uniform(size=5).astype(np.float32)}, index)


class InMemory(torch.utils.data.Dataset):
    """Clips of 4 to 6 flows whose targets can be learnt from their faces' brightness and their sound's level."""

    def __init__(self, count: int, side: int = 32, use: tuple[str, ...] = ("faces", "flow")) -> None:
        generator = np.random.default_rng(0)
        self.samples, self.epoch, levels = [], 0, []
        for index in range(count):
            one, level = sample(4 + index % 3, side, generator, index, list(use)), (index * 37 % 100) / 100
            for name, read in one.inputs.items():
                for reference, steps in read.items():
                    if name == "faces":
                        values = (steps.values * 0.2 + 200 * level).astype(np.uint8)
                    else:
                        values = steps.values * 0.2 + np.float32(level)
                    read[reference] = steps._replace(values=values)
            self.samples.append(one)
            levels.append(level)
        self.targets = {"traits": np.tile(np.array(levels)[:, None], (1, 5))}
        self.table = pd.DataFrame({"clip": [f"{index}.mp4" for index in range(count)], "corpus": "demo"})

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        targets = {name: values[index].astype(np.float32) for name, values in self.targets.items()}
        return self.samples[index]._replace(targets=targets)


class Tiny(torch.nn.Module):
    """No batch norm and no dropout: the same whatever the batch is divided into."""

    def __init__(self, targets: Targets = TRAITS_GROUP) -> None:
        super().__init__()
        self.encoder_inputs = {
            name: EncoderInputs(kind="", reads=[name], take="all", steps=1) for name in ("faces", "flow")
        }
        self.heads = torch.nn.ModuleDict({name: find_head(of)(3, len(of.columns)) for name, of in targets.items()})

    def forward(self, inputs: dict[str, Any]) -> Output:
        flow, faces = inputs["flow"]["flow"], inputs["faces"]["faces"].values
        moved = (flow.values[:, :, 0].mean((2, 3)).sum(1) / flow.present.sum(1))[:, None]
        bright = faces[..., : faces.shape[-1] // 2].mean((1, 2, 3, 4))[:, None]
        joined = torch.cat([bright, moved, bright * moved], 1)
        return Output({name: head([joined]) for name, head in self.heads.items()}, {}, {}, torch.zeros(()))

    def parameter_groups(self) -> Any:
        return (("head", parameter) for parameter in self.parameters())


SETTINGS: dict[str, Any] = {
    "seed": 1, "epochs": 2, "batch_size": 4, "accumulate": 1, "mix": {}, "label_weighting": "none",
    "optimizer": "adamw", "betas": [0.9, 0.999], "momentum": 0.9, "learning_rate": {"default": 1e-3},
    "weight_decay": 0.01, "decay_all": True, "ema": None,
    "schedule": "cosine", "warmup": 1, "patience": 5, "clip_norm": 1.0, "workers": 0,
    "shuffle_labels": False, "clips": None, "init": None, "devices": 1, "loggers": [], "precision": "32-true",
    "augment": {"mirror": True, "shift": 2, "brightness": 0.1, "contrast": 0.1},
}  # fmt: skip
Fitted = tuple[dict[str, torch.Tensor], list[dict[str, float]]]


def rates(rate: float) -> dict[str, Any]:
    return {"default": rate}


def cpu() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def fitted(
    folder: Path,
    net: torch.nn.Module | None = None,
    fabric: Fabric | None = None,
    clips: int | InMemory = 8,
    targets: Targets = TRAITS_GROUP,
    **changes: Any,
) -> Fitted:
    folder.mkdir(exist_ok=True)
    given = SETTINGS | changes
    torch.manual_seed(given["seed"])
    net = net or network()
    use = tuple(net.encoder_inputs)
    training = InMemory(clips, use=use) if isinstance(clips, int) else clips
    validation = InMemory(5, use=use) if isinstance(clips, int) else clips
    data: Any = TrainData(training, validation, targets, Train(**given), net.encoder_inputs)  # type: ignore[arg-type]
    return train(fabric or cpu(), net, data, folder, [Loggers()])  # type: ignore[arg-type]


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
        from lib.training import data
        from tests.test_training import fitted

        step, steps = data.augment, []
        def last_step(*arguments):
            steps.append(1)
            if len(steps) == 4:  # the second of the second epoch
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments)
        data.augment = last_step
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


@pytest.mark.parametrize("fusion", ["cross_attention", "concat", "late_average"])
@pytest.mark.parametrize("use", [["faces"], ["flow"], ["faces", "flow"], ["faces", "flow", "audio"]], ids="+".join)
def test_every_fusion_of_any_encoders_learns(fusion: str, use: list[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    linear = {"traits": TRAITS_GROUP["traits"].model_copy(update={"head": "linear"})}
    net = network(use, fusion, targets=linear)
    _, history = fitted(tmp_path, net, targets=linear, epochs=8, patience=8, learning_rate=rates(3e-3), clips=16)
    assert history[-1]["training_loss"] < 0.7 * history[0]["training_loss"]


@pytest.mark.parametrize(
    ("backbone", "frozen", "of_flow"),
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
def test_every_backbone_trains_an_epoch(backbone: str, frozen: int, of_flow: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = network(side=80, faces={"backbone": backbone, "frozen": frozen}, flow={"backbone": of_flow})
    before = {name: value.clone() for name, value in net.state_dict().items()}
    clips = InMemory(4, side=80)  # pixels; inception_resnet_v1 takes no smaller faces
    after, history = fitted(tmp_path, net, cpu(), clips, epochs=1)
    assert np.isfinite(history[0]["validation_loss"])
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    for name in before:
        kept = name.startswith("encoders.faces.parts.") and int(name.split(".")[3]) < frozen
        assert (name in moved) != kept or name.endswith(("k_proj.bias", "num_batches_tracked")), name


def test_bfloat16_learns_too_but_not_3d_convolutions_on_a_cpu(tmp_path: Path) -> None:
    weights = {}
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
        weights[precision], history = fitted(tmp_path / precision, network(["faces"], "concat"), fabric, epochs=1)
        assert np.isfinite(history[0]["validation_loss"])
    assert not same(*weights.values())
    both = network(["faces", "flow"], "concat")
    refuse_bfloat16(both, "cuda", "bf16-mixed")
    refuse_bfloat16(both, "cpu", "32-true")
    refuse_bfloat16(network(["faces"], "concat"), "cpu", "bf16-mixed")
    with pytest.raises(InputError, match=r"^precision = bf16-mixed; allowed for 3D convolutions on a CPU: 32-true"):
        refuse_bfloat16(both, "cpu", "bf16-mixed")


def test_planted_labels_are_found_and_shuffled_ones_are_not_beaten(tmp_path: Path) -> None:
    skill = {}
    for name in ("planted", "shuffled"):
        clips, unseen = InMemory(32, use=("faces",)), InMemory(64, use=("faces",))
        unseen.samples, actual = unseen.samples[32:], unseen.targets["traits"][32:]
        unseen.targets, unseen.table = {"traits": actual}, unseen.table[32:]
        if name == "shuffled":
            labels = pd.DataFrame(clips.targets["traits"], columns=list(TRAITS))
            clips.targets = {"traits": shuffle_labels(labels, list(TRAITS), 0).to_numpy()}
        torch.manual_seed(0)
        net = network(["faces"], "concat")
        weights, _ = fitted(tmp_path / name, net, clips=clips, epochs=8, learning_rate=rates(3e-3))
        net.load_state_dict(weights)
        predicted = predict(cpu(), net, Renumbered(unseen), 8, 0)["traits"]
        skill[name] = 1 - ((predicted - actual) ** 2).mean() / ((actual - clips.targets["traits"].mean()) ** 2).mean()
    assert skill["planted"] > 0.7
    assert skill["shuffled"] < 0.1


class Renumbered(torch.utils.data.Dataset):
    """Samples with indices from 0 on."""

    def __init__(self, clips: InMemory) -> None:
        self._clips = clips

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Sample:
        return self._clips[index]._replace(index=index)


def test_shuffled_clips_keep_their_scores_together() -> None:
    columns = [*TRAITS, "interview"]
    table = pd.DataFrame({"clip": [f"{index}.mp4" for index in range(50)], **dict.fromkeys(columns, range(50))})
    mixed = shuffle_labels(table, columns, 0)
    assert (mixed["clip"] == table["clip"]).all()
    assert (mixed["openness"] == mixed["interview"]).all()
    assert sorted(mixed["openness"]) == list(range(50))
    assert (mixed["openness"] != table["openness"]).mean() > 0.9
    assert not shuffle_labels(table, columns, 1).equals(mixed)


@pytest.mark.parametrize("weighting", ["none", "label_distribution_smoothing"])
@pytest.mark.parametrize("loss", sorted(LOSSES.keys() - {"kl"}))
def test_every_loss_learns(loss: str, weighting: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = next(name for name, head in HEADS.items() if loss in head.losses)
    targets = {"traits": TRAITS_GROUP["traits"].model_copy(update={"loss": loss, "head": head})}
    _, history = fitted(
        tmp_path, Tiny(targets), targets=targets, epochs=20, label_weighting=weighting, learning_rate=rates(0.1), clips=16,
        schedule="plateau",
    )  # fmt: skip
    first, last = history[0]["training_loss"], history[-1]["training_loss"]
    assert last < first - 0.1 * abs(first)  # a likelihood's loss can be negative


def some_unknown(count: int) -> InMemory:
    """Clips of which each third knows two targets less."""
    clips = InMemory(count)
    clips.targets["traits"][::3, :2] = np.nan
    return clips


def test_an_epochs_accuracy_is_that_of_what_was_predicted_in_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, clips = Tiny(), some_unknown(8)
    still = {"mirror": False, "shift": 0, "brightness": 0.0, "contrast": 0.0}
    predicted = predict(cpu(), net, clips, 8, 0)["traits"]
    errors = np.abs(predicted - clips.targets["traits"])
    assert np.isnan(errors).any()
    given = {"clips": clips, "learning_rate": rates(1e-12), "augment": still}
    expected = 1 - np.nanmean(errors, 0).mean()  # a target is scored on the clips that know it
    for accumulate in (1, 2):
        _, history = fitted(tmp_path / str(accumulate), net, accumulate=accumulate, **given)
        for row in history:
            assert row["training_accuracy_traits"] == pytest.approx(expected, abs=2e-6)
            assert row["validation_accuracy_traits"] == pytest.approx(expected, abs=2e-6)
    unknown = InMemory(8)
    unknown.targets["traits"][:, 0] = np.nan
    _, history = fitted(tmp_path / "unknown", Tiny(), clips=unknown, epochs=1)
    assert np.isnan(history[0]["training_accuracy_traits"])  # as any mean over targets of which one is not defined


def test_a_batch_in_parts_steps_as_the_whole(tmp_path: Path) -> None:
    start = Tiny().state_dict()
    for name, clips in (("known", InMemory(9)), ("unknown", some_unknown(9))):
        results = []
        for accumulate in (1, 2, 4):
            net = Tiny()
            net.load_state_dict(start)
            results.append(fitted(tmp_path / f"{name}{accumulate}", net, accumulate=accumulate, clips=clips)[0])
        for other in results[1:]:  # of steps of 1e-3: AdamW magnifies rounding
            torch.testing.assert_close(other, results[0], atol=2e-5, rtol=0)
    with pytest.raises(InputError, match=r"train\.batch_size = 4 must be a multiple of .* = 3"):
        fitted(tmp_path / "3", Tiny(), accumulate=3)


def test_two_processes_learn_as_one(tmp_path: Path) -> None:
    script = f"""
        import json, torch
        from pathlib import Path
        from lightning_fabric import Fabric
        from lib.model.infer import predict
        from tests.test_training import InMemory, Tiny, fitted, some_unknown

        fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
        fabric.launch()
        torch.manual_seed(0)
        net = Tiny()
        _, history = fitted(Path({str(tmp_path / "two")!r}), net, fabric, epochs=3, clips=some_unknown(9))
        predicted = predict(fabric, net, InMemory(5), 2, 0)["traits"]
        if fabric.global_rank == 0:
            found = {{"history": history, "predicted": predicted.tolist()}}
            Path({str(tmp_path / "two.json")!r}).write_text(json.dumps(found))
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, tmp_path / "script.py"], cwd=ROOT, env=environment, check=True, timeout=300)
    two = json.loads((tmp_path / "two.json").read_text())
    torch.manual_seed(0)
    net = Tiny()
    _, history = fitted(tmp_path / "one", net, epochs=3, clips=some_unknown(9))
    for name in ("training_accuracy_traits", "validation_loss", "validation_ccc_traits"):
        assert [row[name] for row in two["history"]] == pytest.approx([row[name] for row in history], abs=1e-6)
    assert np.array(two["predicted"]) == pytest.approx(predict(cpu(), net, InMemory(5), 2, 0)["traits"], abs=1e-6)


def test_encoders_learn_at_their_own_rates(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = network(["faces", "flow"], "concat")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    slow = {"default": 1e-3, "faces": 1e-12}
    after, _ = fitted(tmp_path, net, learning_rate=slow, epochs=1)
    moved = {"faces": 0.0, "flow": 0.0, "head": 0.0}
    for name, _ in net.named_parameters():
        of = name.split(".")[1] if name.startswith("encoders.") else "head"
        moved[of] = max(moved[of], float((after[name] - before[name]).abs().max()))
    assert moved["faces"] < 1e-9 < 1e-4 < min(moved["head"], moved["flow"])


def test_the_moving_average_of_the_weights_is_validated_and_kept(tmp_path: Path) -> None:
    def state() -> dict[str, Any]:
        return torch.load(tmp_path / "last.pt", weights_only=True)

    clips = InMemory(4, use=("faces", "flow"))  # a step an epoch
    given = {"clips": clips, "ema": 0.75, "schedule": "plateau", "warmup": 0, "learning_rate": rates(1e-2)}
    fitted(tmp_path, Tiny(), epochs=1, **given)
    first = state()["network"]
    weights, history = fitted(tmp_path, Tiny(), epochs=2, **given)  # goes on
    second = state()["network"]
    assert not same(first, second)
    for name, value in weights.items():
        torch.testing.assert_close(value, 0.75 * first[name] + 0.25 * second[name])
    net = Tiny()
    net.load_state_dict(weights)
    found = predict(cpu(), net, clips, 4, 0)["traits"]
    assert history[-1]["validation_loss"] == pytest.approx(np.square(found - clips.targets["traits"]).mean(), rel=1e-5)


def test_what_an_encoder_asks_for_itself_is_added_to_the_loss_whatever_a_batch_is_divided_into(tmp_path: Path) -> None:
    class Penalised(Tiny):
        def forward(self, inputs: dict[str, Any]) -> Output:
            return super().forward(inputs)._replace(penalty=self.heads["traits"].layers[0][1].weight.square().mean())

    found = []
    for kind, accumulate in ((Tiny, 1), (Penalised, 1), (Penalised, 2)):
        torch.manual_seed(0)
        found.append(
            fitted(tmp_path / f"{len(found)}", kind(), accumulate=accumulate)[0]["heads.traits.layers.0.1.weight"]
        )
    without, whole, parts = found
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-6)
    assert whole.abs().sum() < without.abs().sum() - 1e-3


def test_norms_biases_and_embeddings_decay_only_where_all_does(tmp_path: Path) -> None:
    class Embedded(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.positions = torch.nn.Parameter(torch.ones(1, 3, 4))  # unused, but with a gradient: it decays or not
            self.scale = torch.nn.Parameter(torch.ones(3))

        def forward(self, inputs: dict[str, Any]) -> Output:
            found = super().forward(inputs)
            unused = 0 * (self.positions.sum() + self.scale.sum())
            return found._replace(
                predictions={name: of._replace(mean=of.mean + unused) for name, of in found.predictions.items()}
            )

    for decay_all in (True, False):
        after, _ = fitted(tmp_path / str(decay_all), Embedded(), weight_decay=0.5, decay_all=decay_all)
        for name in ("positions", "scale"):
            assert bool((after[name] == 1).all()) == (not decay_all)
    net = Embedded()
    decaying, kept = group_parameters(net, Train(**SETTINGS | {"decay_all": False}))
    assert [one.dim() for one in decaying["params"]] == [2]
    assert sorted(one.dim() for one in kept["params"]) == [1, 1, 3]
    assert kept["weight_decay"] == 0


def test_two_corpora_of_other_targets_and_ranges_learn_together(tmp_path: Path) -> None:
    warmth = TargetGroup(columns=["warm"], range=[1, 7], head="sigmoid", loss="mae", weight=0.5)
    targets = TRAITS_GROUP | {"own": warmth}
    clips = InMemory(16, use=("faces",))
    clips.table["corpus"] = ["a", "b"] * 8
    clips.targets["own"] = 1 - clips.targets["traits"][:, :1]
    clips.targets["traits"][1::2], clips.targets["own"][::2] = np.nan, np.nan
    torch.manual_seed(0)
    net = network(["faces"], "concat", targets=targets)
    weights, history = fitted(
        tmp_path / "both", net, clips=clips, targets=targets, epochs=12, patience=12, learning_rate=rates(3e-3)
    )
    net.load_state_dict(weights)
    found = predict(cpu(), net, clips, 8, 0)
    for name in targets:
        known = np.isfinite(clips.targets[name][:, 0])
        assert np.corrcoef(found[name][known, 0], clips.targets[name][known, 0])[0, 1] > 0.8, name
    assert warmth.from_unit(found["own"]).mean() > 2
    assert {"validation_accuracy_own", "validation_r2_traits", "validation_spread_own"} <= set(history[0])


def test_an_epoch_has_as_much_of_a_corpus_as_the_mix_says() -> None:
    corpora, chance = np.array(["a"] * 6 + ["b"] * 4), torch.Generator().manual_seed(0)
    assert mix_corpora(corpora, {}, chance) == list(range(10))
    assert mix_corpora(corpora, {"a": 0}, chance) == [6, 7, 8, 9]
    half = mix_corpora(corpora, {"a": 0.5, "b": 2}, chance)
    assert sorted(half)[-8:] == [6, 6, 7, 7, 8, 8, 9, 9]
    assert len(half) == 3 + 8
    assert len({tuple(mix_corpora(corpora, {"a": 0.5}, chance)) for _ in range(20)}) > 5


def test_the_rate_rises_and_falls() -> None:
    def factors(schedule: str, losses: list[float]) -> list[float]:
        return [SCHEDULES[schedule](Progress(epoch, 10, 2, losses[:epoch])) for epoch in range(10)]

    cosine = factors("cosine", [1.0] * 10)
    assert cosine[0] < cosine[1] < cosine[2] == 1
    assert cosine[6] == pytest.approx(0.5)
    assert factors("plateau", [1, 0.9, 0.8, 0.9, 0.9, 0.9, 0.7, 0.8, 0.8, 0.8])[2:] == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]


ALL = {"faces": "faces", "flow": "flow", "audio": "audio.log_mel"}


def test_the_draws_of_a_share_are_those_of_the_whole() -> None:
    whole, clips = draw(5, True, 2, 0.1, 0.1, torch.Generator().manual_seed(0)), InMemory(5, use=tuple(ALL))
    batch, half = collate([clips[index] for index in range(5)]), collate([clips[index] for index in (1, 3)])
    together, alone = augment(batch, whole, KINDS), augment(half, whole.of(slice(1, None, 2)), KINDS)
    for name, reference in ALL.items():
        values = together.inputs[name][reference].values
        longest = alone.inputs[name][reference].values.shape[1]
        assert torch.equal(alone.inputs[name][reference].values, values[1::2, :longest])
        assert torch.equal(values, batch.inputs[name][reference].values) == (name == "audio")


@pytest.mark.parametrize("count", [5, 68])
def test_points_stay_on_what_they_mark(count: int) -> None:
    """Each point is drawn as a bright pixel, and is found there again after augmentation; left and right change names."""
    rng, side, shift = np.random.default_rng(0), 40, 3
    cells = rng.permutation((side - 4 * shift) ** 2)[: 3 * count].reshape(1, 3, count)
    places = np.stack([cells % (side - 4 * shift), cells // (side - 4 * shift)], -1) + 2 * shift  # of pixels, x and y
    places = np.repeat(places, 8, 0)
    pictures = np.zeros((8, 3, 3, side, side), np.float32)
    for clip, moment, point in np.ndindex(8, 3, count):
        x, y = places[clip, moment, point]
        pictures[clip, moment, :, y, x] = (point + 1) / count
    points = torch.from_numpy(places + 0.5).float()
    points[:, 0, 1] = torch.nan
    values = {"faces": torch.from_numpy(pictures), "landmarks": points}
    read = {name: Steps(of, torch.zeros(8, 3), torch.ones(8, 3, dtype=torch.bool)) for name, of in values.items()}
    draws = draw(8, True, shift, 0.0, 0.0, torch.Generator().manual_seed(1))
    assert draws.flipped.any()
    assert not draws.flipped.all()
    kinds = {"faces": "pictures", "landmarks": "points"}
    found = augment(Sample({"s2d": read, "alone": {"landmarks": read["landmarks"]}}, {}, 0), draws, kinds).inputs
    assert torch.equal(found["alone"]["landmarks"].values[:, 1:], points[:, 1:])
    moved, seen = found["s2d"]["landmarks"].values, found["s2d"]["faces"].values
    for clip, flipped in enumerate(draws.flipped.tolist()):
        partners = IN_MIRROR[count] if flipped else list(range(count))
        for point, partner in enumerate(partners):
            assert bool(moved[clip, 0, point].isnan().all()) == (partner == 1)
            x, y = moved[clip, 1, point].tolist()
            level = seen[clip, 1, 0, int(y), int(x)].item()
            assert (x % 1, y % 1) == (0.5, 0.5)
            assert round(level * count) == partner + 1


IN_MIRROR = {5: [1, 0, 2, 4, 3], 68: [0] * 68}
for one, other in (
    *((at, 16 - at) for at in range(17)),  # jaw
    *((at, 43 - at) for at in range(17, 27)),  # brows
    *((at, at) for at in range(27, 31)),  # bridge of the nose
    *((at, 66 - at) for at in range(31, 36)),  # nostrils
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),  # eyes
    *((48, 54), (49, 53), (50, 52), (51, 51), (59, 55), (58, 56), (57, 57)),  # outer lips
    *((60, 64), (61, 63), (62, 62), (67, 65), (66, 66)),  # inner lips
):
    IN_MIRROR[68][one], IN_MIRROR[68][other] = other, one


def test_points_whose_mirror_image_is_not_known_are_refused() -> None:
    points, yes = torch.zeros(1, 1, 7, 2), torch.tensor([True])
    with pytest.raises(InputError, match=r"train\.augment\.mirror = true; allowed with 5 or 68 points, not with 7"):
        mirror_points(points, yes, 32)
    assert torch.equal(mirror_points(points, ~yes, 32), points)


def test_a_loss_that_is_not_finite_stops_and_names_the_clips(tmp_path: Path) -> None:
    net = Tiny()
    with torch.no_grad():
        next(net.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match=r"the loss is nan .* \d\.mp4.* epochs before are kept"):
        fitted(tmp_path, net, epochs=5)


def test_memory_that_runs_out_is_one_clear_error(tmp_path: Path) -> None:
    class Large(Tiny):
        def forward(self, inputs: dict[str, Any]) -> Output:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    with pytest.raises(InputError, match=r"memory does not suffice \(CUDA out of memory\); lower the steps of"):
        fitted(tmp_path, Large())


def test_a_warm_start_beats_starting_over_at_equal_epochs(tmp_path: Path) -> None:
    def saved(weights: dict[str, torch.Tensor]) -> Path:
        how, shapes = written.plain(written.merged("demo", [])), {"faces": [3, 32, 32], "flow": [2, 32, 32]}
        streams = {name: StreamInfo(how[name], {"": shape}) for name, shape in shapes.items()}
        checkpoint.save(
            tmp_path / "old.pt", weights, settings(None, "concat"), TRAITS_GROUP, streams, TrainingSummary(["demo"])
        )
        return tmp_path / "old.pt"

    torch.manual_seed(0)
    old, _ = fitted(tmp_path / "old", network(None, "concat"), epochs=15, learning_rate=rates(3e-3), clips=16)
    losses = {}
    for name in ("cold", "warm"):
        torch.manual_seed(7)
        net = network(None, "concat")
        if name == "warm":
            checkpoint.warm_start(net, saved(old))
        _, history = fitted(tmp_path / name, net, epochs=2, learning_rate=rates(3e-3), clips=24)
        losses[name] = history[-1]["validation_loss"]
    assert losses["warm"] < 0.7 * losses["cold"]
    served = checkpoint.load(tmp_path / "old.pt", torch.device("cpu"))
    assert same(served.network.state_dict(), old)
    assert (served.targets, served.training.corpora) == (TRAITS_GROUP, ["demo"])
    with pytest.raises(InputError, match=r"is a model of another shape \(\d+ weights differ, first"):
        checkpoint.warm_start(network(["faces"]), tmp_path / "old.pt")
    with pytest.raises(InputError, match=r"^init = 'nowhere' is not a file"):
        checkpoint.warm_start(network(["faces"]), Path("nowhere"))


def test_a_model_of_the_first_format_is_refused_with_the_reason(tmp_path: Path) -> None:
    torch.save({"weights": {}, "parameters": {"model": {"fusion": "static"}}}, tmp_path / "model.pt")
    with pytest.raises(
        InputError, match=r"model\.pt has format 1, but this version reads format 3; train the model again"
    ):
        checkpoint.load(tmp_path / "model.pt", torch.device("cpu"))


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
    until = time.monotonic() + 60  # its own process writes, and is done some time after the run
    while b"validation_loss" not in run.read_bytes() and time.monotonic() < until:
        time.sleep(0.2)
    assert b"validation_loss" in run.read_bytes()


def test_history_says_what_to_watch(tmp_path: Path) -> None:
    _, history = fitted(tmp_path, Tiny())
    assert {"validation_spread_traits", "learning_rate", "clips_per_second", "waiting"} <= set(history[0])
    assert 0 <= history[0]["waiting"] <= 1
    of_targets = {f"validation_{score}_traits.{trait}" for score in ("accuracy", "r2", "ccc") for trait in TRAITS}
    assert of_targets <= set(history[0])
    mean = np.mean([history[0][f"validation_accuracy_traits.{trait}"] for trait in TRAITS])
    assert history[0]["validation_accuracy_traits"] == pytest.approx(mean, abs=2e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns(optimizer: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    rate = {"sgd": 1.0, "adafactor": 0.3}.get(optimizer, 0.1)
    _, history = fitted(tmp_path, Tiny(), optimizer=optimizer, epochs=15, learning_rate=rates(rate), clips=16)
    assert history[-1]["training_loss"] < 0.9 * history[0]["training_loss"]


def test_optimizer_gets_betas_and_momentum() -> None:
    given = SETTINGS | {"betas": [0.8, 0.95], "momentum": 0.7}
    built = {name: build_optimizer(Tiny(), Train(**given | {"optimizer": name})) for name in OPTIMIZERS}  # type: ignore[arg-type]
    assert built["adamw"].defaults["betas"] == built["nadam"].defaults["betas"] == (0.8, 0.95)
    assert built["sgd"].defaults["momentum"] == 0.7
    assert {one.defaults["weight_decay"] for one in built.values()} == {0.01}


def test_old_learning_rates_name_the_new_form() -> None:
    values = {name: written.plain(written.merged("demo", []))[name] for name in Parameters.model_fields}
    values["train"] |= {"learning_rate": {"head": 1e-3, "encoders": {"faces": 1e-3}}}
    with pytest.raises(InputError, match=r"train\.learning_rate\.encoders no longer exists; write .*\{default: 0\.001"):
        parameters.check(values, Parameters)
    values["train"] |= {"learning_rate": {"head": 1e-3}}
    with pytest.raises(InputError, match=r"train\.learning_rate = \{'head': 0\.001\}; allowed: a default"):
        parameters.check(values, Parameters)
