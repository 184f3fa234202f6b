"""The training loop: losses, schedules, interruption, several processes and loggers."""

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

from lib.core import parameters
from lib.core.errors import InputError
from lib.core.targets import LOSSES_OF_HEADS, TRAITS, TargetGroup
from lib.data.batch import Sample
from lib.model import checkpoint
from lib.model.checkpoint import TrainingSummary
from lib.model.infer import predict
from lib.model.network import Output
from lib.streams.base import StreamInfo
from lib.training.losses import LOSSES
from lib.training.optim import OPTIMIZERS, build_optimizer, group_parameters
from lib.training.order import mix_corpora
from lib.training.prepare import shuffle_labels
from lib.training.run import check_precision
from lib.training.schedules import SCHEDULES, DefaultPlateau, Progress
from lib.training.settings import Parameters, Train
from tests.conftest import ROOT
from tests.small_network import (
    TRAIN_SETTINGS,
    TRAITS_GROUP,
    InMemoryClips,
    TinyNetwork,
    cpu_fabric,
    default_rate,
    make_network,
    make_settings,
    partly_labelled_clips,
    same_weights,
    train_network,
)
from tools import parameters as written


@pytest.mark.slow
def test_train_repeats_weights_with_the_same_seed(tmp_path: Path) -> None:
    first, _ = train_network(tmp_path / "a")
    assert same_weights(first, train_network(tmp_path / "b")[0])
    assert not same_weights(first, train_network(tmp_path / "c", seed=2)[0])


@pytest.mark.slow
def test_killed_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    script = f"""
        import os, signal
        from pathlib import Path
        from lib.training import data
        from tests.small_network import train_network

        step, steps = data.augment, []
        def last_step(*arguments):
            steps.append(1)
            if len(steps) == 4:  # the second step of the second epoch
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments)
        data.augment = last_step
        train_network(Path({str(tmp_path / "cut")!r}), epochs=3)
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, check=False)
    assert result.returncode == -signal.SIGKILL
    assert (tmp_path / "cut/last.pt").exists()
    uninterrupted, history = train_network(tmp_path / "whole", epochs=3)
    resumed, resumed_history = train_network(tmp_path / "cut", epochs=3)
    assert same_weights(uninterrupted, resumed)
    for row, resumed_row in zip(history, resumed_history, strict=True):
        assert {key: row[key] for key in row if "loss" in key} == {
            key: resumed_row[key] for key in row if "loss" in key
        }


@pytest.mark.parametrize("fusion", ["cross_attention", "concat", "late_average"])
@pytest.mark.parametrize("use", [["faces"], ["flow"], ["faces", "flow"], ["faces", "flow", "audio"]], ids="+".join)
@pytest.mark.slow
def test_each_fusion_learns_with_each_set_of_encoders(fusion: str, use: list[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    linear = {"traits": TRAITS_GROUP["traits"].model_copy(update={"head": "linear"})}
    net = make_network(use, fusion, targets=linear)
    _, history = train_network(
        tmp_path, net, targets=linear, epochs=8, patience=8, learning_rate=default_rate(3e-3), clips=16
    )
    assert history[-1]["training_loss"] < 0.7 * history[0]["training_loss"]


@pytest.mark.parametrize(
    ("backbone", "frozen", "flow_backbone"),
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
@pytest.mark.slow
def test_each_backbone_trains_except_frozen_parts(
    backbone: str, frozen: int, flow_backbone: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = make_network(side=80, faces={"backbone": backbone, "frozen": frozen}, flow={"backbone": flow_backbone})
    before = {name: value.clone() for name, value in net.state_dict().items()}
    clips = InMemoryClips(4, side=80)  # pixels; inception_resnet_v1 takes no smaller faces
    after, history = train_network(tmp_path, net, cpu_fabric(), clips, epochs=1)
    assert np.isfinite(history[0]["validation_loss"])
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    for name in before:
        is_frozen = name.startswith("encoders.faces.parts.") and int(name.split(".")[3]) < frozen
        assert (name in changed) != is_frozen or name.endswith(("k_proj.bias", "num_batches_tracked")), name


@pytest.mark.slow
def test_bfloat16_trains_and_rejects_3d_convolutions_on_cpu(tmp_path: Path) -> None:
    weights = {}
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
        weights[precision], history = train_network(
            tmp_path / precision, make_network(["faces"], "concat"), fabric, epochs=1
        )
        assert np.isfinite(history[0]["validation_loss"])
    assert not same_weights(*weights.values())
    with_flow = make_network(["faces", "flow"], "concat")
    check_precision(with_flow, "cuda", "bf16-mixed")
    check_precision(with_flow, "cpu", "32-true")
    check_precision(make_network(["faces"], "concat"), "cpu", "bf16-mixed")
    with pytest.raises(InputError, match=r"^precision = bf16-mixed; allowed for 3D convolutions on a CPU: 32-true"):
        check_precision(with_flow, "cpu", "bf16-mixed")


@pytest.mark.slow
def test_train_learns_planted_labels_but_not_shuffled_ones(tmp_path: Path) -> None:
    skill = {}
    for name in ("planted", "shuffled"):
        clips, unseen = InMemoryClips(32, use=("faces",)), InMemoryClips(64, use=("faces",))
        unseen.samples, actual = unseen.samples[32:], unseen.targets["traits"][32:]
        unseen.targets, unseen.table = {"traits": actual}, unseen.table[32:]
        if name == "shuffled":
            labels = pd.DataFrame(clips.targets["traits"], columns=list(TRAITS))
            clips.targets = {"traits": shuffle_labels(labels, list(TRAITS), 0).to_numpy()}
        torch.manual_seed(0)
        net = make_network(["faces"], "concat")
        weights, _ = train_network(tmp_path / name, net, clips=clips, epochs=8, learning_rate=default_rate(3e-3))
        net.load_state_dict(weights)
        predicted = predict(cpu_fabric(), net, Renumbered(unseen), 8, 0)["traits"]
        skill[name] = 1 - ((predicted - actual) ** 2).mean() / ((actual - clips.targets["traits"].mean()) ** 2).mean()
    assert skill["planted"] > 0.7
    assert skill["shuffled"] < 0.1


class Renumbered(torch.utils.data.Dataset):
    """Samples with their indices renumbered from 0."""

    def __init__(self, clips: InMemoryClips) -> None:
        self._clips = clips

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Sample:
        return self._clips[index]._replace(index=index)


def test_shuffle_labels_keeps_rows_together() -> None:
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
def test_each_loss_decreases_in_training(loss: str, weighting: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = next(name for name, losses in LOSSES_OF_HEADS.items() if loss in losses)
    targets = {"traits": TRAITS_GROUP["traits"].model_copy(update={"loss": loss, "head": head})}
    _, history = train_network(
        tmp_path, TinyNetwork(targets), targets=targets, epochs=20, label_weighting=weighting,
        learning_rate=default_rate(0.1), clips=16, schedule="plateau",
    )  # fmt: skip
    first, last = history[0]["training_loss"], history[-1]["training_loss"]
    assert last < first - 0.1 * abs(first)  # a likelihood's loss can be negative


def test_history_has_accuracy_of_the_epochs_predictions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, clips = TinyNetwork(), partly_labelled_clips(8)
    no_augmentation = {"mirror": False, "shift": 0, "brightness": 0.0, "contrast": 0.0}
    predicted = predict(cpu_fabric(), net, clips, 8, 0)["traits"]
    errors = np.abs(predicted - clips.targets["traits"])
    assert np.isnan(errors).any()
    options = {"clips": clips, "learning_rate": default_rate(1e-12), "augment": no_augmentation}
    expected = 1 - np.nanmean(errors, 0).mean()  # over the clips with a label, for each target
    for accumulate in (1, 2):
        _, history = train_network(tmp_path / str(accumulate), net, accumulate=accumulate, **options)
        for row in history:
            assert row["training_accuracy_traits"] == pytest.approx(expected, abs=2e-6)
            assert row["validation_accuracy_traits"] == pytest.approx(expected, abs=2e-6)
    unlabelled = InMemoryClips(8)
    unlabelled.targets["traits"][:, 0] = np.nan
    _, history = train_network(tmp_path / "unknown", TinyNetwork(), clips=unlabelled, epochs=1)
    assert np.isnan(history[0]["training_accuracy_traits"])  # a mean over targets is NaN if one of them is


def test_accumulated_parts_step_like_the_full_batch(tmp_path: Path) -> None:
    initial = TinyNetwork().state_dict()
    for name, clips in (("known", InMemoryClips(9)), ("unknown", partly_labelled_clips(9))):
        results = []
        for accumulate in (1, 2, 4):
            net = TinyNetwork()
            net.load_state_dict(initial)
            results.append(train_network(tmp_path / f"{name}{accumulate}", net, accumulate=accumulate, clips=clips)[0])
        for other in results[1:]:  # relative to steps of 1e-3: AdamW magnifies rounding
            torch.testing.assert_close(other, results[0], atol=2e-5, rtol=0)
    with pytest.raises(InputError, match=r"train\.batch_size = 4 must be a multiple of .* = 3"):
        train_network(tmp_path / "3", TinyNetwork(), accumulate=3)


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path: Path) -> None:
    script = f"""
        import json, torch
        from pathlib import Path
        from lightning_fabric import Fabric
        from lib.model.infer import predict
        from tests.small_network import InMemoryClips, TinyNetwork, partly_labelled_clips, train_network

        fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
        fabric.launch()
        torch.manual_seed(0)
        net = TinyNetwork()
        _, history = train_network(Path({str(tmp_path / "two")!r}), net, fabric, epochs=3, clips=partly_labelled_clips(9))
        predicted = predict(fabric, net, InMemoryClips(5), 2, 0)["traits"]
        if fabric.global_rank == 0:
            results = {{"history": history, "predicted": predicted.tolist()}}
            Path({str(tmp_path / "two.json")!r}).write_text(json.dumps(results))
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, tmp_path / "script.py"], cwd=ROOT, env=environment, check=True, timeout=300)
    distributed = json.loads((tmp_path / "two.json").read_text())
    torch.manual_seed(0)
    net = TinyNetwork()
    _, history = train_network(tmp_path / "one", net, epochs=3, clips=partly_labelled_clips(9))
    for name in ("training_accuracy_traits", "validation_loss", "validation_ccc_traits"):
        assert [row[name] for row in distributed["history"]] == pytest.approx([row[name] for row in history], abs=1e-6)
    assert np.array(distributed["predicted"]) == pytest.approx(
        predict(cpu_fabric(), net, InMemoryClips(5), 2, 0)["traits"], abs=1e-6
    )


@pytest.mark.slow
def test_killed_training_of_two_processes_resumes_identically(tmp_path: Path) -> None:
    script = """
        import json, os, signal, sys
        from pathlib import Path

        import torch
        from lightning_fabric import Fabric

        from lib.training import data
        from tests.small_network import InMemoryClips, make_network, train_network

        folder, kill = Path(sys.argv[1]), sys.argv[2] == "kill"
        step, parts = data.augment, []
        def augment(*arguments):
            parts.append(1)
            if kill and len(parts) == 7 and os.environ.get("LOCAL_RANK", "0") == "0":  # in the second step of epoch 2
                os.killpg(0, signal.SIGKILL)
            return step(*arguments)
        data.augment = augment
        torch.manual_seed(0)
        network = make_network(["faces"], "concat")
        fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
        fabric.launch()
        options = {"clips": InMemoryClips(16, use=("faces",)), "epochs": 3, "batch_size": 8, "accumulate": 2, "ema": 0.9}
        weights, history = train_network(folder, network, fabric, **options)
        if fabric.global_rank == 0:
            torch.save(weights, folder / "weights.pt")
            (folder / "history.json").write_text(json.dumps(history))
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def run(name: str, action: str) -> int:
        """Train in a process group of its own, so that a kill ends both processes."""
        command = [sys.executable, tmp_path / "script.py", tmp_path / name, action]
        return subprocess.run(command, cwd=ROOT, env=environment, timeout=900, start_new_session=True).returncode

    def results(name: str) -> tuple[dict[str, Any], list[dict[str, float]]]:
        """The weights, and the history without times."""
        history = json.loads((tmp_path / name / "history.json").read_text())
        times = ("seconds", "clips_per_second", "waiting")
        rows = [{key: value for key, value in row.items() if key not in times} for row in history]
        return torch.load(tmp_path / name / "weights.pt", weights_only=True), rows

    assert run("cut", "kill") == -signal.SIGKILL
    saved = torch.load(tmp_path / "cut/last.pt", weights_only=True)
    assert (len(saved["history"]), "average" in saved) == (1, True)
    assert not (tmp_path / "cut/weights.pt").exists()
    assert run("cut", "finish") == run("whole", "finish") == 0
    weights, history = results("whole")
    resumed, resumed_history = results("cut")
    assert same_weights(weights, resumed)
    assert len(history) == 3
    assert resumed_history == history


def test_each_encoder_uses_its_own_learning_rate(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = make_network(["faces", "flow"], "concat")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    slow = {"default": 1e-3, "faces": 1e-12}
    after, _ = train_network(tmp_path, net, learning_rate=slow, epochs=1)
    largest_change = {"faces": 0.0, "flow": 0.0, "head": 0.0}
    for name, _ in net.named_parameters():
        part = name.split(".")[1] if name.startswith("encoders.") else "head"
        largest_change[part] = max(largest_change[part], float((after[name] - before[name]).abs().max()))
    assert largest_change["faces"] < 1e-9 < 1e-4 < min(largest_change["head"], largest_change["flow"])


def test_moving_average_of_weights_is_validated_and_saved(tmp_path: Path) -> None:
    def load_state() -> dict[str, Any]:
        return torch.load(tmp_path / "last.pt", weights_only=True)

    clips = InMemoryClips(4, use=("faces", "flow"))  # one step per epoch
    options = {"clips": clips, "ema": 0.75, "schedule": "plateau", "warmup": 0, "learning_rate": default_rate(1e-2)}
    train_network(tmp_path, TinyNetwork(), epochs=1, **options)
    first = load_state()["network"]
    weights, history = train_network(tmp_path, TinyNetwork(), epochs=2, **options)  # resumes
    second = load_state()["network"]
    assert not same_weights(first, second)
    for name, value in weights.items():
        torch.testing.assert_close(value, 0.75 * first[name] + 0.25 * second[name])
    net = TinyNetwork()
    net.load_state_dict(weights)
    predicted = predict(cpu_fabric(), net, clips, 4, 0)["traits"]
    assert history[-1]["validation_loss"] == pytest.approx(
        np.square(predicted - clips.targets["traits"]).mean(), rel=1e-5
    )


def test_penalty_is_added_to_the_loss_of_divided_batches(tmp_path: Path) -> None:
    class Penalised(TinyNetwork):
        def forward(self, inputs: dict[str, Any]) -> Output:
            return super().forward(inputs)._replace(penalty=self.heads["traits"].layers[0][1].weight.square().mean())

    weights = []
    for kind, accumulate in ((TinyNetwork, 1), (Penalised, 1), (Penalised, 2)):
        torch.manual_seed(0)
        weights.append(
            train_network(tmp_path / f"{len(weights)}", kind(), accumulate=accumulate)[0][
                "heads.traits.layers.0.1.weight"
            ]
        )
    without, undivided, divided = weights
    torch.testing.assert_close(undivided, divided, rtol=0, atol=1e-6)
    assert undivided.abs().sum() < without.abs().sum() - 1e-3


def test_decay_all_false_exempts_norms_biases_embeddings(tmp_path: Path) -> None:
    class Embedded(TinyNetwork):
        def __init__(self) -> None:
            super().__init__()
            self.positions = torch.nn.Parameter(torch.ones(1, 3, 4))  # gradient zero: only weight decay changes it
            self.scale = torch.nn.Parameter(torch.ones(3))

        def forward(self, inputs: dict[str, Any]) -> Output:
            output = super().forward(inputs)
            unused = 0 * (self.positions.sum() + self.scale.sum())
            return output._replace(
                predictions={
                    name: prediction._replace(mean=prediction.mean + unused)
                    for name, prediction in output.predictions.items()
                }
            )

    for decay_all in (True, False):
        after, _ = train_network(tmp_path / str(decay_all), Embedded(), weight_decay=0.5, decay_all=decay_all)
        for name in ("positions", "scale"):
            assert bool((after[name] == 1).all()) == (not decay_all)
    net = Embedded()
    decaying, exempt = group_parameters(net, Train(**TRAIN_SETTINGS | {"decay_all": False}))
    assert [parameter.dim() for parameter in decaying["params"]] == [2]
    assert sorted(parameter.dim() for parameter in exempt["params"]) == [1, 1, 3]
    assert exempt["weight_decay"] == 0


@pytest.mark.slow
def test_two_corpora_with_different_targets_train_together(tmp_path: Path) -> None:
    warmth = TargetGroup(columns=["warm"], range=[1, 7], head="sigmoid", loss="mae", weight=0.5)
    targets = TRAITS_GROUP | {"own": warmth}
    clips = InMemoryClips(16, use=("faces",))
    clips.table["corpus"] = ["a", "b"] * 8
    clips.targets["own"] = 1 - clips.targets["traits"][:, :1]
    clips.targets["traits"][1::2], clips.targets["own"][::2] = np.nan, np.nan
    torch.manual_seed(0)
    net = make_network(["faces"], "concat", targets=targets)
    weights, history = train_network(
        tmp_path / "both", net, clips=clips, targets=targets, epochs=12, patience=12, learning_rate=default_rate(3e-3)
    )
    net.load_state_dict(weights)
    predicted = predict(cpu_fabric(), net, clips, 8, 0)
    for name in targets:
        is_labelled = np.isfinite(clips.targets[name][:, 0])
        assert np.corrcoef(predicted[name][is_labelled, 0], clips.targets[name][is_labelled, 0])[0, 1] > 0.8, name
    assert warmth.from_unit(predicted["own"]).mean() > 2
    assert {"validation_accuracy_own", "validation_r2_traits", "validation_std_ratio_own"} <= set(history[0])


def test_mix_corpora_draws_the_given_fractions() -> None:
    corpora, generator = np.array(["a"] * 6 + ["b"] * 4), torch.Generator().manual_seed(0)
    assert mix_corpora(corpora, {}, generator) == list(range(10))
    assert mix_corpora(corpora, {"a": 0}, generator) == [6, 7, 8, 9]
    half = mix_corpora(corpora, {"a": 0.5, "b": 2}, generator)
    assert sorted(half)[-8:] == [6, 6, 7, 7, 8, 8, 9, 9]
    assert len(half) == 3 + 8
    assert len({tuple(mix_corpora(corpora, {"a": 0.5}, generator)) for _ in range(20)}) > 5


def test_schedules_warm_up_and_decay() -> None:
    def factors(schedule: str, losses: list[float]) -> list[float]:
        return [SCHEDULES[schedule](Progress(epoch, 10, 2, losses[:epoch])) for epoch in range(10)]

    cosine = factors("cosine", [1.0] * 10)
    assert cosine[0] < cosine[1] < cosine[2] == 1
    assert cosine[6] == pytest.approx(0.5)
    assert factors("plateau", [1, 0.9, 0.8, 0.9, 0.9, 0.9, 0.7, 0.8, 0.8, 0.8])[2:] == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]
    quick = DefaultPlateau(patience=1, factor=0.1)
    progress = Progress(6, 10, 0, [1.0, 0.9, 0.9, 0.8, 0.8, 0.7], plateau=quick)
    assert SCHEDULES["plateau"](progress) == pytest.approx(0.01)


def test_nan_loss_stops_training_and_names_clips(tmp_path: Path) -> None:
    net = TinyNetwork()
    with torch.no_grad():
        next(net.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match=r"the loss is nan .* \d\.mp4.* epochs before are kept"):
        train_network(tmp_path, net, epochs=5)


def test_out_of_memory_gives_one_clear_error(tmp_path: Path) -> None:
    class Large(TinyNetwork):
        def forward(self, inputs: dict[str, Any]) -> Output:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    with pytest.raises(InputError, match=r"memory does not suffice \(CUDA out of memory\); lower the steps of"):
        train_network(tmp_path, Large())


@pytest.mark.slow
def test_warm_start_beats_cold_start_at_equal_epochs(tmp_path: Path) -> None:
    def save(weights: dict[str, torch.Tensor]) -> Path:
        parameters_of_streams, shapes = (
            written.plain(written.merge_parameters("demo", [])),
            {"faces": [3, 32, 32], "flow": [2, 32, 32]},
        )
        streams = {name: StreamInfo(parameters_of_streams[name], {"": shape}) for name, shape in shapes.items()}
        checkpoint.save(
            tmp_path / "old.pt",
            weights,
            make_settings(None, "concat"),
            TRAITS_GROUP,
            streams,
            TrainingSummary(["demo"]),
        )
        return tmp_path / "old.pt"

    torch.manual_seed(0)
    old_weights, _ = train_network(
        tmp_path / "old", make_network(None, "concat"), epochs=15, learning_rate=default_rate(3e-3), clips=16
    )
    losses = {}
    for name in ("cold", "warm"):
        torch.manual_seed(7)
        net = make_network(None, "concat")
        if name == "warm":
            checkpoint.warm_start(net, save(old_weights), TRAITS_GROUP)
        _, history = train_network(tmp_path / name, net, epochs=2, learning_rate=default_rate(3e-3), clips=24)
        losses[name] = history[-1]["validation_loss"]
    assert losses["warm"] < 0.7 * losses["cold"]
    trained = checkpoint.load(tmp_path / "old.pt", torch.device("cpu"))
    assert same_weights(trained.network.state_dict(), old_weights)
    assert (trained.targets, trained.training.corpora) == (TRAITS_GROUP, ["demo"])
    with pytest.raises(InputError, match=r"is a model of another shape \(\d+ weights differ, first"):
        checkpoint.warm_start(make_network(["faces"]), tmp_path / "old.pt", TRAITS_GROUP)
    with pytest.raises(InputError, match=r"^init = 'nowhere' is not a file"):
        checkpoint.warm_start(make_network(["faces"]), Path("nowhere"), TRAITS_GROUP)


def test_load_rejects_model_of_format_1(tmp_path: Path) -> None:
    torch.save({"weights": {}, "parameters": {"model": {"fusion": "static"}}}, tmp_path / "model.pt")
    with pytest.raises(
        InputError, match=r"model\.pt has format 1, but this version reads format 3; train the model again"
    ):
        checkpoint.load(tmp_path / "model.pt", torch.device("cpu"))


def test_history_contains_scores_rates_and_speed(tmp_path: Path) -> None:
    _, history = train_network(tmp_path, TinyNetwork())
    assert {"validation_std_ratio_traits", "learning_rate", "clips_per_second", "waiting"} <= set(history[0])
    assert 0 <= history[0]["waiting"] <= 1
    target_columns = {f"validation_{score}_traits.{trait}" for score in ("accuracy", "r2", "ccc") for trait in TRAITS}
    assert target_columns <= set(history[0])
    mean = np.mean([history[0][f"validation_accuracy_traits.{trait}"] for trait in TRAITS])
    assert history[0]["validation_accuracy_traits"] == pytest.approx(mean, abs=2e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer_decreases_the_loss(optimizer: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    rate = {"sgd": 1.0, "adafactor": 0.3}.get(optimizer, 0.1)
    _, history = train_network(
        tmp_path, TinyNetwork(), optimizer=optimizer, epochs=15, learning_rate=default_rate(rate), clips=16
    )
    assert history[-1]["training_loss"] < 0.9 * history[0]["training_loss"]


def test_optimizer_gets_betas_and_momentum() -> None:
    settings = TRAIN_SETTINGS | {"betas": [0.8, 0.95], "momentum": 0.7}
    built = {name: build_optimizer(TinyNetwork(), Train(**settings | {"optimizer": name})) for name in OPTIMIZERS}  # type: ignore[arg-type]
    assert built["adamw"].defaults["betas"] == built["nadam"].defaults["betas"] == (0.8, 0.95)
    assert built["sgd"].defaults["momentum"] == 0.7
    assert {optimizer.defaults["weight_decay"] for optimizer in built.values()} == {0.01}


def test_old_learning_rates_name_the_new_form() -> None:
    values = {name: written.plain(written.merge_parameters("demo", []))[name] for name in Parameters.model_fields}
    values["train"] |= {"learning_rate": {"head": 1e-3, "encoders": {"faces": 1e-3}}}
    with pytest.raises(InputError, match=r"train\.learning_rate\.encoders no longer exists; write .*\{default: 0\.001"):
        parameters.check(values, Parameters)
    values["train"] |= {"learning_rate": {"head": 1e-3}}
    with pytest.raises(InputError, match=r"train\.learning_rate = \{'head': 0\.001\}; allowed: a default"):
        parameters.check(values, Parameters)
