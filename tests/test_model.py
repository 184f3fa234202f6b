"""Encoders, fusions, the network and its model file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lib.core.errors import InputError
from lib.core.targets import TargetGroup
from lib.data.batch import Sample, collate
from lib.data.geometry import mirror_clips
from lib.model.encoders import Encoder, images
from lib.model.fusions import FUSIONS
from lib.model.network import Network
from lib.model.settings import FUSIONS as FUSION_NAMES
from lib.model.settings import FusionOptions
from lib.model.tokens import Tokens
from lib.streams.base import Steps, StreamInfo
from tests.small_network import (
    GENERAL_FUSIONS,
    IMAGE_ENCODER,
    TRAITS_GROUP,
    make_network,
    make_settings,
    predict_traits,
    random_clips,
)

USES = [["faces"], ["flow"], ["faces", "flow"], ["faces", "flow", "audio"]]


def test_settings_name_all_fusions() -> None:
    assert tuple(FUSIONS) == FUSION_NAMES


@pytest.mark.parametrize("fusion", GENERAL_FUSIONS)
@pytest.mark.parametrize("use", USES, ids="+".join)
@torch.no_grad()
def test_padding_does_not_change_predictions(fusion: str, use: list[str]) -> None:
    torch.manual_seed(0)
    net, clips = make_network(use, fusion).eval(), random_clips([1, 6, 13], use)
    together = predict_traits(net, clips)
    alone = torch.cat([predict_traits(net, [clip]) for clip in clips])
    assert together.shape == (3, 5)
    assert (together.std(0) > 1e-5).all()
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


@torch.no_grad()
def test_attention_sums_to_one_and_keeps_predictions() -> None:
    torch.manual_seed(0)
    net, use = make_network(USES[3]).eval(), USES[3]
    batch = collate(random_clips([5, 9], use))
    plain, attending = net(batch.inputs), net(batch.inputs, attend=True)
    assert plain.attention == {}
    torch.testing.assert_close(plain.predicted, attending.predicted, atol=1e-6, rtol=0)
    assert set(attending.attention) == {(query, key) for query in use for key in use if query != key}
    for (query, key), weights in attending.attention.items():
        assert weights.shape == (2, 4, *(attending.tokens[name].values.shape[1] for name in (query, key)))
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        padding = ~attending.tokens[key].mask()
        assert (weights.permute(0, 3, 1, 2)[padding] == 0).all()
    tokens = attending.tokens["flow"]
    assert tokens.grid == (2, 2)
    assert tokens.present.tolist() == [[True, True, False], [True, True, True]]  # time is halved twice
    assert tokens.mask().sum(1).tolist() == [8, 12]


@torch.no_grad()
def test_queries_restrict_the_attention_pairs() -> None:
    net, use = make_network(USES[3], queries=["audio"]).eval(), USES[3]
    output = net(collate(random_clips([5, 5], use)).inputs, attend=True)
    assert set(output.attention) == {("audio", "faces"), ("audio", "flow")}
    assert all(name.split(".")[3].startswith("audio_to_") for name, _ in net.fusion.named_parameters("fusion"))


@pytest.mark.parametrize("fusion", ["cross_attention", "concat", "plain_concat", "late_average"])
@torch.no_grad()
def test_fusion_of_one_encoder_is_the_mean_of_its_tokens(fusion: str) -> None:
    net = make_network(["flow"], fusion).eval()
    output = net(collate(random_clips([5, 9], ["flow"])).inputs, attend=True)
    tokens, alone = output.tokens["flow"], []
    for values, mask in zip(tokens.values, tokens.mask(), strict=True):
        alone.append(values[mask].mean(0))
    (head,) = net.heads["traits"].layers
    torch.testing.assert_close(output.predicted["traits"], head(torch.stack(alone)).sigmoid())
    assert output.attention == {}


@torch.no_grad()
def test_late_average_is_the_mean_of_encoder_predictions() -> None:
    torch.manual_seed(0)
    net, clips = make_network(USES[3], "late_average").eval(), random_clips([5, 5], USES[3])
    predictions = []
    for index, name in enumerate(USES[3]):
        alone = make_network([name], "late_average").eval()
        missing = alone.load_state_dict(net.state_dict(), strict=False).missing_keys
        assert not missing
        alone.heads["traits"].layers[0].load_state_dict(net.heads["traits"].layers[index].state_dict())
        predictions.append(predict_traits(alone, [clip._replace(inputs={name: clip.inputs[name]}) for clip in clips]))
    torch.testing.assert_close(predict_traits(net, clips), torch.stack(predictions).mean(0))


@pytest.mark.parametrize("fusion", GENERAL_FUSIONS)
def test_batch_without_a_stream_gives_all_parameters_gradients(fusion: str) -> None:
    torch.manual_seed(0)
    use = ["flow", "audio"]
    net, clips = make_network(use, fusion, missing="keep").train(), random_clips([3, 5], use)
    for clip in clips:
        clip.inputs["flow"]["flow"] = Steps(*(part[:0] for part in clip.inputs["flow"]["flow"]))
    output = net(collate(clips).inputs, attend=True)
    assert output.tokens["flow"].mask().sum(1).tolist() == [1, 1]
    for (_, key), weights in output.attention.items():
        assert weights.isfinite().all()
        assert key != "flow" or weights.shape[-1] == 1
    total = sum(tokens.values.sum() for tokens in output.tokens.values()) + output.predicted["traits"].sum()
    total.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert not name.startswith("encoders.flow") or not parameter.grad.any(), name
    assert net.absent["flow"].grad.abs().sum() > 0


def test_only_the_head_bounds_predictions() -> None:
    torch.manual_seed(0)
    for head, unbounded in (("sigmoid", False), ("softmax", False), ("linear", True)):
        group = TRAITS_GROUP["traits"].model_copy(update={"head": head})
        net = make_network(["faces"], targets={"traits": group}).eval()
        net.heads["traits"].layers[0][1].weight.data *= 100
        predicted = predict_traits(net, random_clips([4, 4], ["faces"]))
        assert bool(((predicted < 0) | (predicted > 1)).any()) == unbounded
        assert bool((predicted.sum(1) - 1).abs().max() < 1e-5) == (head == "softmax")


def test_each_target_group_has_its_own_head() -> None:
    ratings = TargetGroup(columns=["warm", "cold"], range=[1, 7], head="linear", loss="mae", weight=1.0)
    net = make_network(["flow"], "late_average", targets=TRAITS_GROUP | {"own": ratings}).eval()
    assert (net.heads["own"].layers[0][1].bias == 0.5).all()  # the middle of the range
    predicted = net(collate(random_clips([4, 4], ["flow"])).inputs).predicted
    assert {name: values.shape for name, values in predicted.items()} == {"traits": (2, 5), "own": (2, 2)}
    groups = {name: {group for group, parameter in net.parameter_groups() if parameter is named}
              for name, named in net.named_parameters()}  # fmt: skip
    assert all(names == {"flow" if name.startswith("encoders.") else "head"} for name, names in groups.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fusion": "sum"},
            r"model\.fusion = 'sum'; allowed: cross_attention, concat, plain_concat, late_average, multitask",
        ),
        ({"width": 30}, r"model\.width = 30; allowed: a multiple of 6 and of model\.heads = 4"),
        ({"use": ["faces", "voice"]}, r"model\.use has 'voice'; allowed: faces, flow, audio"),
        ({"use": ["faces", "faces"]}, r"model\.use = \['faces', 'faces'\]; allowed: each once"),
        ({"use": ["faces"], "queries": ["flow"]}, r"model\.queries has 'flow'; allowed: faces"),
        (
            {"flow": {"kind": "movies"}},
            r"model\.encoders\.flow\.kind = 'movies'; allowed: emonext, images, pretrained, s2d, sequence_transformer,"
            " sound, vectors, volumes",
        ),
        ({"flow": {"reads": []}}, r"model\.encoders\.flow\.reads = \[\]; allowed: one or several streams"),
        ({"flow": {"reads": ["flows"]}}, r"flow\.reads has 'flows': unknown stream 'flows'; allowed: audio, b"),
        ({"flow": {"reads": ["audio.mel"]}}, r"stream audio has no array 'mel'; allowed: log_mel, mfcc"),
        ({"faces": {"frozen": 6}}, r"model\.encoders\.faces\.frozen = 6; allowed: less than or equal to 5"),
        ({"faces": {"pool": 2}}, r"unknown key model\.encoders\.faces\.pool = 2"),
    ],
)
def test_settings_reject_contradictions(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_settings(**({"use": ["faces"]} | changes)).settings_by_encoder()


def test_settings_reject_unknown_target_groups() -> None:
    with pytest.raises(InputError, match=r"model\.targets has 'mood'; allowed: traits"):
        make_settings(targets=["mood"]).select_targets(TRAITS_GROUP)


def test_mirror_clips_negates_horizontal_flow() -> None:
    faces, flow = torch.arange(4.0).view(1, 1, 1, 1, 4), torch.zeros(1, 1, 2, 1, 4)
    flow[0, 0, 0, 0, 0], flow[0, 0, 1, 0, 0] = 3.0, 5.0
    flipped, unflipped = torch.tensor([True]), torch.tensor([False])
    assert mirror_clips(faces, flipped, "pictures").flatten().tolist() == [3, 2, 1, 0]
    mirrored = mirror_clips(flow, flipped, "flow")
    assert mirrored[0, 0, 0].flatten().tolist() == [0, 0, 0, -3]
    assert mirrored[0, 0, 1].flatten().tolist() == [0, 0, 0, 5]
    assert torch.equal(mirror_clips(faces, unflipped, "pictures"), faces)
    assert torch.equal(mirror_clips(flow, unflipped, "flow"), flow)


@pytest.mark.parametrize(("fusion", "default"), [("cross_attention", 2), ("multitask", 4)])
def test_feed_forward_sets_the_width_of_fusion_layers(fusion: str, default: int) -> None:
    def widths(**options: int) -> set[int]:
        layers = FUSIONS[fusion]({"a": 12, "b": 12}, FusionOptions.with_defaults(heads=2, **options)).modules()
        return {layer.out_features for layer in layers if isinstance(layer, nn.Linear)} - {12}

    assert widths() == {12 * default}
    assert widths(feed_forward=3) == {36}


class ProductEncoder(Encoder):
    """An encoder that multiplies two streams step by step."""

    def __init__(self, settings: Any, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.reads, self.output_dim = settings.reads, shapes[1][0]

    def forward(self, inputs: Mapping[str, Steps]) -> Tokens:
        first, second = (inputs[name] for name in self.reads)
        assert torch.equal(first.times, second.times)
        values = first.values.mean((2, 3, 4)).unsqueeze(-1) * second.values
        return Tokens(values, first.times, first.present, (1, 1))


@torch.no_grad()
def test_network_accepts_an_encoder_of_two_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "Encoder", ProductEncoder)
    both_settings = {
        "reads": ["faces", "audio.mfcc"], "take": "all", "steps": 1,
    } | IMAGE_ENCODER  # fmt: skip
    settings = make_settings().model_copy(update={"use": ["both"], "encoders": {"both": both_settings}})
    streams = {"faces": StreamInfo({}, {"": [3, 8, 8]}), "audio": StreamInfo({}, {"log_mel": [9], "mfcc": [4]})}
    net = Network.from_settings(settings, TRAITS_GROUP, streams).eval()
    rng, clips = np.random.default_rng(0), []
    for length in (2, 5):
        times_and_presence = (np.arange(length, dtype=np.float32), np.ones(length, bool))
        frames = rng.integers(0, 255, (length, 3, 8, 8), np.uint8)
        inputs = {
            "faces": Steps(frames, *times_and_presence),
            "audio.mfcc": Steps(rng.normal(size=(length, 4)).astype(np.float32), *times_and_presence),
        }
        clips.append(Sample({"both": inputs}, {}, 0))
    together = predict_traits(net, clips)
    torch.testing.assert_close(together, torch.cat([predict_traits(net, [clip]) for clip in clips]), atol=2e-6, rtol=0)
