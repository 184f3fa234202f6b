"""Missing data: clips without some streams, and targets without labels."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.core.errors import InputError
from lib.core.targets import TargetGroup, Targets
from lib.data.batch import Sample, collate
from lib.model.heads import HeadOutput
from lib.model.network import Network
from lib.training.losses import LOSSES, count_known
from tests.conftest import ROOT
from tests.small_network import (
    GENERAL_FUSIONS,
    InMemoryClips,
    TinyNetwork,
    default_rate,
    make_network,
    random_clip,
    train_network,
)

USE = ["faces", "flow", "audio"]
MISSING_STREAMS = [{"audio"}, set(), {"flow"}, {"faces", "audio"}]


def clips_without(*missing: set[str]) -> list[Sample]:
    """Clips of different lengths; for each clip, the streams of the given encoders are missing."""
    generator = np.random.default_rng(0)
    members = []
    for index, names in enumerate(missing):
        member = random_clip(3 + 2 * index, 32, generator, index, USE)
        for name in names:
            member.inputs[name] = {
                reference: type(steps)(*(part[:0] for part in steps))
                for reference, steps in member.inputs[name].items()
            }
        members.append(member)
    return members


def keeping_network(fusion: str = "cross_attention") -> Network:
    torch.manual_seed(0)
    net = make_network(USE, fusion, missing="keep")
    for parameter in net.absent.values():
        torch.nn.init.normal_(parameter)
    return net


@pytest.mark.parametrize("fusion", GENERAL_FUSIONS)
@torch.no_grad()
def test_prediction_without_a_stream_does_not_depend_on_batch(fusion: str) -> None:
    net, members = keeping_network(fusion).eval(), clips_without(*MISSING_STREAMS)
    together = net(collate(members).inputs).predicted["traits"]
    alone = torch.cat([net(collate([member]).inputs).predicted["traits"] for member in members])
    assert together.isfinite().all()
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    net.absent["audio"].mul_(-1)  # it replaces missing audio, so only such clips change
    changed = (net(collate(members).inputs).predicted["traits"] - together).abs().amax(1) > 1e-4
    assert changed.tolist() == [True, False, False, True]


@pytest.mark.parametrize("missing", [[set(), set()], [{"audio"}, set()], [{"flow"}, {"flow"}], [{"audio"}, {"faces"}]])
def test_each_parameter_gets_a_gradient_if_streams_are_missing(missing: list[set[str]]) -> None:
    net = keeping_network().train()
    net(collate(clips_without(*missing)).inputs).predicted["traits"].sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    replaced = {name for name, parameter in net.absent.items() if parameter.grad.any()}
    assert replaced == set().union(*missing)


def statistics(net: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.named_buffers() if "running" in name}


def test_batch_norm_ignores_missing_clips() -> None:
    complete = clips_without(set(), set(), set())
    incomplete = [*clips_without(set(), set()), clips_without(set(), set(), {"flow"})[2]]
    running = []
    for members in (complete[:2], incomplete):
        net = keeping_network().train()
        before = statistics(net)
        net(collate(members).inputs)
        running.append({name: value for name, value in statistics(net).items() if ".flow." in name})
        assert all(not torch.equal(value, before[name]) for name, value in running[-1].items())
    assert running[0].keys() == running[1].keys()
    for name in running[0]:
        torch.testing.assert_close(running[1][name], running[0][name], atol=1e-6, rtol=1e-5)
    net = keeping_network().train()
    before = statistics(net)
    net(collate(clips_without({"flow"}, {"flow"})).inputs)
    assert all(torch.equal(value, before[name]) for name, value in statistics(net).items() if ".flow." in name)


@pytest.mark.slow
def test_network_learns_from_clips_without_some_streams(tmp_path: Path) -> None:
    members = InMemoryClips(8, use=tuple(USE))
    for index, missing in enumerate(MISSING_STREAMS * 2):
        for name in missing:
            inputs = members.samples[index].inputs
            inputs[name] = {
                reference: type(steps)(*(part[:0] for part in steps)) for reference, steps in inputs[name].items()
            }
    _, history = train_network(tmp_path, keeping_network(), clips=members, epochs=8, learning_rate=default_rate(3e-3))
    assert history[-1]["training_loss"] < 0.7 * history[0]["training_loss"]


def test_encoder_rejects_streams_that_it_cannot_read() -> None:
    with pytest.raises(InputError, match=r"encoders\.faces\.reads = \['faces', 'flow'\]; allowed for images: one"):
        make_network(["faces"], faces={"reads": ["faces", "flow"]})
    with pytest.raises(InputError, match=r"encoders\.faces\.reads has 'audio', whose steps are \[8\]; .* \[3, height"):
        make_network(["faces"], faces={"reads": ["audio"]})
    with pytest.raises(InputError, match=r"encoders\.flow\.reads has 'audio', whose steps are \[8\]; .* \[2, "):
        make_network(["flow"], flow={"reads": ["audio"]})


def test_kl_loss_counts_complete_clips() -> None:
    predicted = torch.full((3, 2), 0.5, requires_grad=True)
    actual = torch.tensor([[0.9, 0.1], [torch.nan, 0.1], [torch.nan, torch.nan]])
    LOSSES["kl"](HeadOutput(predicted), actual, torch.ones(3, 2)).backward()
    assert predicted.grad is not None
    assert predicted.grad[0] == pytest.approx(torch.tensor([-1.8, -0.2]))
    assert (predicted.grad[1:] == 0).all()
    assert count_known("kl", actual.numpy()).tolist() == [1, 0, 0]
    assert count_known("mse", actual.numpy()).tolist() == [2, 1, 0]


def test_mix_without_any_clip_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.mix = \{'demo': 0\.01\} leaves no clip of 8; raise it"):
        train_network(tmp_path, TinyNetwork(), mix={"demo": 0.01})


GROUPS: Targets = {
    "near": TargetGroup(columns=["a", "b"], range=[0, 1], head="sigmoid", loss="mse", weight=1.0),
    "far": TargetGroup(columns=["c"], range=[1, 7], head="sigmoid", loss="mae", weight=0.5),
    "shares": TargetGroup(columns=["d", "e"], range=[0, 1], head="softmax", loss="kl", weight=0.3),
}


def partly_rated_clips(count: int) -> InMemoryClips:
    """Clips with many missing labels, spread unevenly over the parts of a batch."""
    members, rng = InMemoryClips(count), np.random.default_rng(3)
    level = members.targets["traits"][:, 0]
    labels = {"near": np.stack([level, 1 - level], 1), "far": level[:, None], "shares": np.stack([level, 1 - level], 1)}
    for name, values in labels.items():
        labels[name] = np.where(rng.uniform(size=values.shape) < 0.4, np.nan, values)
    labels["far"][: count // 2] = np.nan
    members.targets = labels
    return members


def test_parts_of_a_batch_are_weighted_by_their_labels(tmp_path: Path) -> None:
    initial, weights = TinyNetwork(GROUPS).state_dict(), []
    members = partly_rated_clips(9)
    assert count_known("kl", members.targets["shares"]).sum() < np.isfinite(members.targets["shares"]).sum() / 2
    for accumulate in (1, 2, 4):
        net = TinyNetwork(GROUPS)
        net.load_state_dict(initial)
        folder = tmp_path / str(accumulate)
        weights.append(
            train_network(folder, net, clips=members, targets=GROUPS, accumulate=accumulate, batch_size=8)[0]
        )
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], atol=2e-5, rtol=0)
    assert all(not torch.equal(weights[0][name], initial[name]) for name in initial)


@pytest.mark.slow
def test_two_processes_train_like_one_on_missing_data(tmp_path: Path) -> None:
    script = f"""
        import torch
        from pathlib import Path
        from lightning_fabric import Fabric
        from tests.test_missing_data import GROUPS, clips_without, partly_rated_clips
        from tests.small_network import InMemoryClips, TinyNetwork, make_network, train_network

        fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
        fabric.launch()
        torch.manual_seed(0)
        train_network(Path({str(tmp_path / "two")!r}), TinyNetwork(GROUPS), fabric, partly_rated_clips(9), GROUPS, epochs=3)
        # DDP rejects a parameter without a gradient in the second epoch
        use = ("faces", "flow", "audio")
        lacking = InMemoryClips(8, use=use)
        lacking.samples[3].inputs["audio"] = clips_without({{"audio"}})[0].inputs["audio"]
        train_network(Path({str(tmp_path / "lacking")!r}), make_network(list(use), missing="keep"), fabric, lacking)
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, tmp_path / "script.py"], cwd=ROOT, env=environment, check=True, timeout=300)
    torch.manual_seed(0)
    weights, history = train_network(
        tmp_path / "one", TinyNetwork(GROUPS), clips=partly_rated_clips(9), targets=GROUPS, epochs=3
    )
    distributed = torch.load(tmp_path / "two/last.pt", weights_only=True)
    torch.testing.assert_close(distributed["best"], weights, atol=2e-5, rtol=0)
    for name in (key for key in history[0] if key.startswith("validation")):
        assert [row[name] for row in distributed["history"]] == pytest.approx([row[name] for row in history], abs=1e-5)
    assert len(torch.load(tmp_path / "lacking/last.pt", weights_only=True)["history"]) == 2
