"""Embeddings of faces, EmoNeXt, transformers over the sequence, the fusion of two tasks; and what was published of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from facenet_pytorch import InceptionResnetV1

from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.shards import Record
from lib.core.targets import TargetGroup
from lib.data.batch import Sample, collate
from lib.model.encoders import emonext as end
from lib.model.encoders import sequence_transformer
from lib.model.network import Network, Settings
from lib.streams import base, embeddings
from lib.streams.base import Steps, StreamInfo
from lib.streams.embeddings import emonext, networks
from lib.streams.embeddings.emonext import EmoNeXt
from tests.conftest import ROOT
from tests.test_model import steps
from tests.test_training import TRAITS_GROUP, settings
from tools import parameters as written
from tools.parity.__main__ import TOLERANCE, compare

SMALL = ([1, 1, 1, 1], [16, 16, 32, 32])
STREAM = {
    "enabled": True, "steps": 4, "side": 64, "network": "resnet18", "weights": None, "colour": "rgb", "stn": False,
    "se": "none", "seed": 0,
}  # fmt: skip
SEQUENCE = {
    "kind": "sequence_transformer", "reads": ["embeddings"], "take": "all", "steps": 1, "positions": 6, "width": 16,
    "heads": 4, "feed_forward": 32, "depth": 2, "dropout": 0.2, "norm": "after", "mask": True, "weights": None,
    "frozen": False,
}  # fmt: skip


@pytest.mark.parametrize("name", ["fusion_small", "fiv2_transformer_small"])
def test_published_networks_are_equalled(name: str) -> None:
    _, deviations = compare(ROOT / f"tests/data/parity/{name}.npz")
    assert deviations
    assert all(deviation <= TOLERANCE for deviation in deviations.values())


# ---- EmoNeXt ----


EMONEXT: dict[str, Any] = {
    "kind": "emonext", "reads": ["faces"], "take": "all", "steps": 1, "network": "emonext_tiny", "weights": None,
    "stn": True, "se": "identity", "drop_path": 0.0, "attention_loss": 0.0,
}  # fmt: skip


def end_to_end(side: int = 48, **changes: Any) -> end.Encoder:
    torch.manual_seed(0)
    return end.Encoder(check(EMONEXT | changes, end.Settings), [[3, side, side]])


def test_end_to_end_its_tokens_are_the_embeddings_of_single_pictures() -> None:
    made, pictures = end_to_end().eval(), torch.rand(2, 3, 3, 48, 48)
    tokens = made({"faces": steps(pictures)})
    assert (tokens.values.shape, tokens.grid) == ((2, 3, 768), (1, 1))
    alone = made.network((pictures[1, 2][None] - made.mean) / made.std)[0]
    torch.testing.assert_close(tokens.values[1, 2], alone, rtol=1e-4, atol=1e-4)
    tokens.values.square().sum().backward()
    assert all(one.grad is not None and bool(one.grad.any()) for one in made.network.stages[0][0].parameters())
    with pytest.raises(InputError, match=r"^reads = \['faces'\], images of 31 x 31 pixels; allowed .* from 32 on"):
        end_to_end(31)


def test_attention_over_a_batch_is_evened_out_in_training_alone() -> None:
    made, present = end_to_end(attention_loss=2.0), torch.tensor([[True, True], [True, False]])
    given = {"faces": steps(torch.rand(2, 2, 3, 32, 32), present)}
    made({"faces": steps(torch.rand(1, 1, 3, 32, 32))})
    assert made.penalty is not None
    assert made.penalty.item() == 0  # of one picture
    values = made(given).values
    weights = made.attention.weights(values[present])
    assert weights.shape == (3, 3)
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    torch.testing.assert_close(made.penalty, 2 * weights.var(correction=0))
    assert made.penalty.item() > 0
    made.penalty.backward()
    assert all(one.grad is not None for one in made.attention.parameters())
    assert end_to_end().attention is None


def test_what_was_asked_for_of_one_batch_is_not_asked_for_of_the_next() -> None:
    penalised = {**EMONEXT, "attention_loss": 1.0}
    model = settings(["faces"], missing="keep")
    model = model.model_copy(update={"encoders": model.encoders | {"faces": penalised}})
    net = Network.from_settings(model, TRAITS_GROUP, {"faces": StreamInfo({}, {"": [3, 32, 32]})}).train()
    pictures = torch.rand(2, 2, 3, 32, 32)
    seen, unseen = (steps(pictures, torch.full((2, 2), there)) for there in (True, False))
    asked = [net({"faces": {"faces": one}}).penalty.item() for one in (seen, unseen)]
    assert asked[0] > 0
    assert asked[1] == 0


def test_blocks_are_left_out_by_chance_in_training_alone() -> None:
    made = end_to_end(drop_path=0.9)
    assert [stage[0].drop.p for stage in made.network.stages] == pytest.approx(
        [0.0, 0.9 * 3 / 17, 0.9 * 6 / 17, 0.9 * 15 / 17]
    )
    for stage in made.network.stages:
        for block in stage:
            block.gamma.data.fill_(1.0)
    given = {"faces": steps(torch.rand(1, 2, 3, 32, 32))}
    with torch.no_grad():
        assert not torch.equal(made(given).values, made(given).values)
        made.eval()
        assert torch.equal(made(given).values, made(given).values)


@torch.no_grad()
def test_without_additions_emonext_is_torchvisions_convnext() -> None:
    torch.manual_seed(0)
    whole = torchvision.models.convnext_tiny(weights=None).eval()
    for name, parameter in whole.named_parameters():
        if name.endswith("layer_scale"):
            parameter.fill_(0.5)
    own = EmoNeXt(*emonext.SIZES["emonext_tiny"], stn=False, se="none").eval()
    assert emonext.load_published_weights(own, dict(whole.state_dict()), "torchvision's") == []
    pictures = torch.rand(2, 3, 64, 64)
    expected = whole.classifier[0](whole.avgpool(whole.features(pictures))).flatten(1)
    torch.testing.assert_close(own(pictures), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_additions_start_as_nothing_and_published_gates_do_not() -> None:
    torch.manual_seed(0)
    plain = EmoNeXt(*SMALL, stn=False, se="none").eval()
    pictures = torch.rand(2, 3, 224, 224)
    for se, stn, same in (("identity", True, True), ("identity", False, True), ("reference", False, False)):
        added = EmoNeXt(*SMALL, stn=stn, se=se).eval()  # type: ignore[arg-type]
        messages = emonext.load_published_weights(added, dict(plain.state_dict()), "plain weights")
        parts = [*(["the spatial transformer"] if stn else []), "squeeze-and-excitation"]
        assert [line.split(",")[0] for line in messages] == [f"the file has no weights of {part}" for part in parts]
        assert torch.allclose(added(pictures), plain(pictures), atol=1e-4) == same
        assert added(torch.rand(1, 3, 96, 96)).isfinite().all()


def test_weights_of_another_emonext_are_named() -> None:
    state = EmoNeXt([1, 1, 1, 1], [16, 16, 32, 48], stn=False, se="none").state_dict()
    with pytest.raises(InputError, match=r"^weights = 'x' do not fit: .*norm\.bias is \[48\], not \[32\]"):
        emonext.load_published_weights(EmoNeXt(*SMALL, stn=False, se="none"), dict(state), "weights = 'x'")


# ---- the stream ----


def faces(frames: int, absent: tuple[int, ...] = ()) -> Record:
    rng = np.random.default_rng(frames)
    found = np.ones(frames, np.uint8)
    found[list(absent)] = 0
    pictures = rng.integers(0, 255, (frames, 40, 40, 3), np.uint8)
    return Record("a", {"faces": pictures, "times": np.arange(frames) / 5, "found": found})


def test_faces_are_taken_evenly_and_those_that_are_there() -> None:
    assert base.choose_evenly(np.arange(77), 30).tolist() == np.linspace(0, 76, 30).astype(int).tolist()
    assert base.choose_evenly(np.array([2, 5]), 30).tolist() == [2, 5]
    embed = embeddings.make_extractor(check(STREAM, embeddings.Settings, "embeddings"))
    record = embed(faces(9, absent=(0, 4)))
    assert record.arrays["times"].tolist() == [0.2, 0.6, 1.2, 1.6]
    assert record.arrays["values"].shape == (4, 512)
    assert embeddings.read_steps(record, np.array([1])).shape == (1, 512)
    assert len(embed(faces(2)).arrays["times"]) == 2


def test_an_embedding_is_the_networks_of_the_scaled_standardised_picture() -> None:
    record = faces(3)
    network = networks.build_network("resnet18", None, False, "none", 0).eval()
    torch.manual_seed(5)  # the draw is the seed's alone
    for colour in ("rgb", "bgr"):
        made = embeddings.make_extractor(check(STREAM | {"colour": colour}, embeddings.Settings))(record)
        pictures = torch.from_numpy(record.arrays["faces"]).permute(0, 3, 1, 2).float() / 255
        pictures = pictures if colour == "rgb" else pictures[:, [2, 1, 0]]
        scaled = torch.nn.functional.interpolate(pictures, (64, 64), mode="bilinear", antialias=True)
        mean, std = (torch.tensor(of).view(3, 1, 1) for of in networks.get_normalisation("resnet18"))
        with torch.no_grad():
            expected = network((scaled - mean) / std).numpy()
        assert made.arrays["values"] == pytest.approx(expected, abs=1e-5)
    other = embeddings.make_extractor(check(STREAM | {"seed": 1}, embeddings.Settings))(record)
    assert not np.allclose(other.arrays["values"], expected, atol=1e-2)


def test_a_network_that_there_is_not_is_named() -> None:
    with pytest.raises(
        InputError, match=r"embeddings\.network = 'resnet19'; allowed: emonext_tiny, .*inception_resnet"
    ):
        networks.build_network("resnet19", None, False, "none", 0)
    with pytest.raises(InputError, match=r"embeddings\.weights = 'nowhere' is not a file; allowed: null, imagenet"):
        networks.build_network("emonext_tiny", "nowhere", False, "none", 0)


def test_facenets_weights_are_loaded_up_to_the_embedding(tmp_path: Path) -> None:
    torch.manual_seed(3)
    published = InceptionResnetV1(classify=True, num_classes=7).eval()
    torch.save(published.state_dict(), tmp_path / "facenet.pt")
    network = networks.build_network("inception_resnet_v1", str(tmp_path / "facenet.pt"), False, "none", 0).eval()
    pictures, published.classify = torch.rand(2, 3, 96, 96), False
    with torch.no_grad():
        torch.testing.assert_close(network(pictures), published(pictures))
    with pytest.raises(InputError, match=r"embeddings\.weights = 'imagenet'; torchvision has none"):
        networks.build_network("inception_resnet_v1", "imagenet", False, "none", 0)


def test_frozen_faces_are_embedded_and_read_as_shipped() -> None:
    given = written.plain(written.merged("traits_frozen", ["embeddings.side=96", "embeddings.steps=3"]))
    assert given["embeddings"]["weights"] is None
    record = embeddings.make_extractor(check(given["embeddings"], embeddings.Settings, "embeddings"))(faces(9))
    values = record.arrays["values"]
    assert values.shape == (3, 512)
    assert np.linalg.norm(values, axis=1) == pytest.approx(1, abs=1e-4)
    assert base.pool_steps(base.load("embeddings"), record).shape == (1024,)  # what ridge reads
    streams = {"embeddings": StreamInfo(given["embeddings"], {"": [512]})}
    targets = {"traits": check(given["targets"]["traits"], TargetGroup)}
    network = Network.from_settings(check(given["model"], Settings, "model"), targets, streams)
    read = Steps(
        torch.from_numpy(values)[None], torch.from_numpy(base.step_times(record))[None], torch.ones(1, 3, dtype=bool)
    )
    predicted = network({"embeddings": {"embeddings": read}}).predicted["traits"]
    assert predicted.shape == (1, 5)
    predicted.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


# ---- over the sequence ----


def sequence(**changes: Any) -> sequence_transformer.Encoder:
    torch.manual_seed(0)
    given = check(SEQUENCE | changes, sequence_transformer.Settings, "model.encoders.one")
    return sequence_transformer.Encoder(given, [[8]])


@pytest.mark.parametrize("mask", [True, False])
@torch.no_grad()
def test_steps_that_are_not_there_are_not_looked_at_unless_as_published(mask: bool) -> None:
    encoder, values = sequence(mask=mask).eval(), torch.randn(2, 6, 8)
    present = torch.arange(6) < torch.tensor([[6], [3]])
    padded = encoder({"embeddings": steps(values, present)}).values[1, :3]
    alone = encoder({"embeddings": steps(values[1:, :3])}).values[0]
    assert torch.allclose(padded, alone, atol=1e-5) == mask


def test_a_frozen_sequence_stays_as_loaded(tmp_path: Path) -> None:
    state = sequence().state_dict() | {"fc.weight": torch.zeros(5, 16), "fc.bias": torch.zeros(5)}
    torch.save({"model_state_dict": state, "optimizer_state_dict": {}}, tmp_path / "published.pth")
    torch.manual_seed(9)
    encoder = sequence(weights=str(tmp_path / "published.pth"), frozen=True).train()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    read = {"embeddings": steps(torch.randn(2, 4, 8))}
    assert torch.equal(encoder(read).values, encoder(read).values)  # nothing is dropped
    with pytest.raises(InputError, match=r"^weights = .* do not fit sequence_transformer: .*norm1"):
        sequence(weights=str(tmp_path / "published.pth"), width=24)


@pytest.mark.parametrize(
    ("shapes", "changes", "said"),
    [
        ([[8]], {"heads": 3}, r"^heads = 3; allowed: what divides width = 16"),
        ([[3, 8, 8]], {}, r"^reads = .*; allowed for sequence_transformer: one stream of vectors"),
    ],
)
def test_what_a_sequence_cannot_be_is_named(shapes: list[list[int]], changes: dict[str, Any], said: str) -> None:
    given = check(SEQUENCE | changes, sequence_transformer.Settings)
    with pytest.raises(InputError, match=said):
        sequence_transformer.Encoder(given, shapes)


def test_more_steps_than_positions_are_named() -> None:
    with pytest.raises(InputError, match=r"^positions = 6, but a clip has 7 steps of embeddings; raise it"):
        sequence()({"embeddings": steps(torch.randn(1, 7, 8))})


# ---- two tasks ----

TWO = {
    "traits": TargetGroup(columns=["warm", "cold"], range=[0, 1], head="sigmoid", loss="mse", weight=1.0),
    "emotions": TargetGroup(columns=["joy", "rage"], range=[0, 1], head="softmax", loss="kl", weight=1.0),
}


def two(fusion: str, **changes: Any) -> Network:
    torch.manual_seed(0)
    given = settings(
        ["traits", "emotions"], fusion, hidden=12, targets=list(TWO), encoders=dict.fromkeys(TWO, SEQUENCE), **changes
    )
    return Network.from_settings(given, TWO, {"embeddings": StreamInfo({}, {"": [8]})})


def clips(*lengths: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    found = []
    for length in lengths:
        values = rng.normal(size=(length, 8)).astype(np.float32)
        read = {"embeddings": Steps(values, np.arange(length, dtype=np.float32), np.ones(length, bool))}
        found.append(Sample(dict.fromkeys(TWO, read), {}, 0))
    return found


@pytest.mark.parametrize("fusion", ["multitask", "multitask_pooled"])
@torch.no_grad()
def test_two_tasks_are_the_same_alone_and_padded(fusion: str) -> None:
    net, members = two(fusion).eval(), clips(2, 6, 4)
    together = net(collate(members).inputs, attend=True)
    assert set(together.predicted) == set(TWO)
    for name, values in together.predicted.items():
        alone = torch.cat([net(collate([one]).inputs).predicted[name] for one in members])
        torch.testing.assert_close(values, alone, atol=1e-5, rtol=0)
    looks = {key: weights.shape for key, weights in together.attention.items()}
    whole = {("traits", "emotions"): (3, 4, 6, 6), ("emotions", "traits"): (3, 4, 6, 6)}
    assert looks == (whole if fusion == "multitask" else {})  # one token can look nowhere else


def test_over_one_token_queries_and_keys_learn_nothing() -> None:
    for fusion, learns in (("multitask", True), ("multitask_pooled", False)):
        net = two(fusion).train()
        output = net(collate(clips(6, 6)).inputs).predicted
        (output["traits"].square().sum() + output["emotions"].square().sum()).backward()
        gradient = net.fusion.cross["traits"].in_proj_weight.grad
        assert bool(gradient[: 2 * 16].abs().max() > 1e-6) == learns
        assert gradient[2 * 16 :].abs().max() > 1e-6


def test_multitask_takes_two_encoders_of_one_width() -> None:
    with pytest.raises(InputError, match=r"model\.fusion = multitask .*; allowed: two encoders of one width"):
        two("multitask", heads=3, width=24)
    given = settings(["traits"], "multitask", encoders={"traits": SEQUENCE})
    with pytest.raises(InputError, match="allowed: two encoders of one width that heads divide"):
        Network.from_settings(
            check(given.model_dump(), Settings), {"traits": TWO["traits"]}, {"embeddings": StreamInfo({}, {"": [8]})}
        )
