"""What is not there: clips that lack a stream, targets that nobody has rated."""

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
from lib.model.heads import Prediction
from lib.model.network import Network
from lib.training.losses import LOSSES, count_known
from tests.conftest import ROOT
from tests.test_training import ANY_ENCODERS, InMemory, Tiny, fitted, network, rates, sample

USE = ["faces", "flow", "audio"]
EVERY_WAY_OF_LACKING = [{"audio"}, set(), {"flow"}, {"faces", "audio"}]


def clips(*lacking: set[str]) -> list[Sample]:
    """Clips of different lengths, each of which lacks these encoders' streams."""
    generator = np.random.default_rng(0)
    found = []
    for index, names in enumerate(lacking):
        one = sample(3 + 2 * index, 32, generator, index, USE)
        for name in names:
            one.inputs[name] = {
                of: type(steps)(*(part[:0] for part in steps)) for of, steps in one.inputs[name].items()
            }
        found.append(one)
    return found


def keeping(fusion: str = "cross_attention") -> Network:
    torch.manual_seed(0)
    net = network(USE, fusion, missing="keep")
    for parameter in net.absent.values():
        torch.nn.init.normal_(parameter)
    return net


@pytest.mark.parametrize("fusion", ANY_ENCODERS)
@torch.no_grad()
def test_a_clip_that_lacks_a_stream_is_the_same_alone_and_in_company(fusion: str) -> None:
    net, members = keeping(fusion).eval(), clips(*EVERY_WAY_OF_LACKING)
    together = net(collate(members).inputs).predicted["traits"]
    alone = torch.cat([net(collate([one]).inputs).predicted["traits"] for one in members])
    assert together.isfinite().all()
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    net.absent["audio"].mul_(-1)  # what stands in for sound is seen where there is none, and only there
    changed = (net(collate(members).inputs).predicted["traits"] - together).abs().amax(1) > 1e-4
    assert changed.tolist() == [True, False, False, True]


@pytest.mark.parametrize("lacking", [[set(), set()], [{"audio"}, set()], [{"flow"}, {"flow"}], [{"audio"}, {"faces"}]])
def test_every_parameter_gets_a_gradient_whoever_lacks_what(lacking: list[set[str]]) -> None:
    net = keeping().train()
    net(collate(clips(*lacking)).inputs).predicted["traits"].sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    absent = {name for name, parameter in net.absent.items() if parameter.grad.any()}
    assert absent == set().union(*lacking)


def statistics(net: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.named_buffers() if "running" in name}


def test_batch_norm_never_sees_a_clip_that_is_not_there() -> None:
    whole = clips(set(), set(), set())
    with_a_gap = [*clips(set(), set()), clips(set(), set(), {"flow"})[2]]
    found = []
    for members in (whole[:2], with_a_gap):
        net = keeping().train()
        before = statistics(net)
        net(collate(members).inputs)
        found.append({name: value for name, value in statistics(net).items() if ".flow." in name})
        assert all(not torch.equal(value, before[name]) for name, value in found[-1].items())
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        torch.testing.assert_close(found[1][name], found[0][name], atol=1e-6, rtol=1e-5)
    net = keeping().train()
    before = statistics(net)
    net(collate(clips({"flow"}, {"flow"})).inputs)
    assert all(torch.equal(value, before[name]) for name, value in statistics(net).items() if ".flow." in name)


def test_a_model_of_clips_that_lack_streams_learns(tmp_path: Path) -> None:
    members = InMemory(8, use=tuple(USE))
    for index, lacking in enumerate(EVERY_WAY_OF_LACKING * 2):
        for name in lacking:
            inputs = members.samples[index].inputs
            inputs[name] = {of: type(steps)(*(part[:0] for part in steps)) for of, steps in inputs[name].items()}
    _, history = fitted(tmp_path, keeping(), clips=members, epochs=8, learning_rate=rates(3e-3))
    assert history[-1]["training_loss"] < 0.7 * history[0]["training_loss"]


def test_an_encoder_says_which_streams_it_can_read() -> None:
    with pytest.raises(InputError, match=r"encoders\.faces\.reads = \['faces', 'flow'\]; allowed for images: one"):
        network(["faces"], faces={"reads": ["faces", "flow"]})
    with pytest.raises(InputError, match=r"encoders\.faces\.reads has 'audio', whose steps are \[8\]; .* \[3, height"):
        network(["faces"], faces={"reads": ["audio"]})
    with pytest.raises(InputError, match=r"encoders\.flow\.reads has 'faces', whose steps are \[3, 32, 32\]; .* \[2, "):
        network(["flow"], flow={"reads": ["faces"]})


def test_shares_count_by_whole_clips() -> None:
    predicted = torch.full((3, 2), 0.5, requires_grad=True)
    actual = torch.tensor([[0.9, 0.1], [torch.nan, 0.1], [torch.nan, torch.nan]])
    LOSSES["kl"](Prediction(predicted), actual, torch.ones(3, 2)).backward()
    assert predicted.grad is not None
    assert predicted.grad[0] == pytest.approx(torch.tensor([-1.8, -0.2]))
    assert (predicted.grad[1:] == 0).all()
    assert count_known("kl", actual.numpy()).tolist() == [1, 0, 0]
    assert count_known("mse", actual.numpy()).tolist() == [2, 1, 0]


def test_a_mix_that_leaves_no_clip_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.mix = \{'demo': 0\.01\} leaves no clip of 8; raise it"):
        fitted(tmp_path, Tiny(), mix={"demo": 0.01})


GROUPS: Targets = {
    "near": TargetGroup(columns=["a", "b"], range=[0, 1], head="sigmoid", loss="mse", weight=1.0),
    "far": TargetGroup(columns=["c"], range=[1, 7], head="sigmoid", loss="mae", weight=0.5),
    "shares": TargetGroup(columns=["d", "e"], range=[0, 1], head="softmax", loss="kl", weight=0.3),
}


def partly_rated(count: int) -> InMemory:
    """Clips of which many targets are unknown, most of them unevenly over the batches' parts."""
    members, rng = InMemory(count), np.random.default_rng(3)
    level = members.targets["traits"][:, 0]
    labels = {"near": np.stack([level, 1 - level], 1), "far": level[:, None], "shares": np.stack([level, 1 - level], 1)}
    for name, of in labels.items():
        labels[name] = np.where(rng.uniform(size=of.shape) < 0.4, np.nan, of)
    labels["far"][: count // 2] = np.nan
    members.targets = labels
    return members


def test_parts_of_a_batch_weigh_by_their_known_targets(tmp_path: Path) -> None:
    start, found = Tiny(GROUPS).state_dict(), []
    members = partly_rated(9)
    assert count_known("kl", members.targets["shares"]).sum() < np.isfinite(members.targets["shares"]).sum() / 2
    for accumulate in (1, 2, 4):
        net = Tiny(GROUPS)
        net.load_state_dict(start)
        folder = tmp_path / str(accumulate)
        found.append(fitted(folder, net, clips=members, targets=GROUPS, accumulate=accumulate, batch_size=8)[0])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=2e-5, rtol=0)
    assert all(not torch.equal(found[0][name], start[name]) for name in start)


def test_two_processes_learn_as_one_from_partly_rated_clips_that_lack_streams(tmp_path: Path) -> None:
    script = f"""
        import torch
        from pathlib import Path
        from lightning_fabric import Fabric
        from tests.test_missing_data import GROUPS, clips, partly_rated
        from tests.test_training import ANY_ENCODERS, InMemory, Tiny, cpu, fitted, network

        fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
        fabric.launch()
        torch.manual_seed(0)
        fitted(Path({str(tmp_path / "two")!r}), Tiny(GROUPS), fabric, partly_rated(9), GROUPS, epochs=3)
        # in the second epoch a parameter without a gradient would be refused
        use = ("faces", "flow", "audio")
        lacking = InMemory(8, use=use)
        lacking.samples[3].inputs["audio"] = clips({{"audio"}})[0].inputs["audio"]
        fitted(Path({str(tmp_path / "lacking")!r}), network(list(use), missing="keep"), fabric, lacking)
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, tmp_path / "script.py"], cwd=ROOT, env=environment, check=True, timeout=300)
    torch.manual_seed(0)
    weights, history = fitted(tmp_path / "one", Tiny(GROUPS), clips=partly_rated(9), targets=GROUPS, epochs=3)
    two = torch.load(tmp_path / "two/last.pt", weights_only=True)
    torch.testing.assert_close(two["best"], weights, atol=2e-5, rtol=0)
    for name in (key for key in history[0] if key.startswith("validation")):
        assert [row[name] for row in two["history"]] == pytest.approx([row[name] for row in history], abs=1e-5)
    assert len(torch.load(tmp_path / "lacking/last.pt", weights_only=True)["history"]) == 2
