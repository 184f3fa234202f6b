"""The audio-visual model: audio networks and frames over time, compared with published networks."""

import logging
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch

from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.shards import Record
from lib.core.targets import TargetGroup
from lib.data.batch import Sample, collate
from lib.data.dataset import make_inputs
from lib.model.encoders import images, sound
from lib.model.network import Network
from lib.model.settings import Settings
from lib.streams import base
from lib.streams._mel import mel_frequencies
from lib.streams.base import Steps, StreamInfo
from lib.training.prepare import log_derived
from lib.training.run import summarise
from lib.training.schedules import SCHEDULES, DefaultPlateau, Progress
from tests.conftest import REAL, ROOT, needs_real_clips
from tests.run_tool import call_main
from tests.small_network import IMAGE_ENCODER, TRAITS_GROUP, feature_maps, image_encoder, make_settings, make_steps
from tools import parameters as written
from tools.parity import __main__ as parity
from tools.parity.__main__ import TOLERANCE, compare

FIXTURES = sorted((ROOT / "tests/data/parity").glob("av_*.npz"))
FILTERS = {"conv2d": [4, 6], "conv1d_lstm": [6, 6, 8]}
AUDIO_SETTINGS = {
    "kind": "sound", "reads": ["audio.mfcc"], "take": "all", "steps": 1, "net": "blstm", "standardise": "none", "pool": 1,
    "length": None, "filters": [], "norm": "after", "units": 5, "width": 7, "dropout": 0.0, "tokens": "clip",
}  # fmt: skip


def make_audio_encoder(net: str, **changes: Any) -> sound.Encoder:
    settings = (
        AUDIO_SETTINGS
        | {"net": net, "filters": FILTERS.get(net, []), "length": 20 if net == "conv2d" else None}
        | changes
    )
    torch.manual_seed(0)
    return sound.Encoder(check(settings, sound.Settings, "model.encoders.ears"), [[12]])


def encode_audio(encoder: sound.Encoder, values: torch.Tensor, lengths: list[int] | None = None) -> torch.Tensor:
    """Tokens of clips (B, T, 12), whose first `lengths` steps are present."""
    count = torch.tensor(lengths or [values.shape[1]] * len(values))
    return encoder({"audio.mfcc": make_steps(values, torch.arange(values.shape[1]) < count[:, None])}).values


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_audio_visual_parts_equal_published_networks(path: Path) -> None:
    _, deviations = compare(path)
    assert deviations
    assert all(deviation <= TOLERANCE for deviation in deviations.values())


def test_parity_detects_changed_parameters(tmp_path: Path) -> None:
    with np.load(FIXTURES[0]) as file:
        arrays = dict(file)
    name = "param/blstm1/forward_lstm1/lstm_cell/kernel"
    np.savez(tmp_path / "a.npz", **(arrays | {name: arrays[name] * np.float32(1.001)}))
    assert max(compare(tmp_path / "a.npz")[1].values()) > TOLERANCE


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_parity_recognises_renamed_fixtures(path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path / "renamed.npz")
    layout, deviations = compare(tmp_path / "renamed.npz")
    assert path.stem.startswith(layout.name)
    assert max(deviations.values()) <= TOLERANCE


def test_parity_rejects_unknown_arrays(tmp_path: Path, capsys: Any) -> None:
    np.savez(tmp_path / "av_audio_blstm.npz", **{"out/y": np.zeros(2)})
    with pytest.raises(SystemExit, match="1"):
        call_main(parity, tmp_path / "av_audio_blstm.npz")
    assert "av_audio_blstm: not recognised by its arrays; known kinds of fixtures: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("net", "standardise"),
    [
        (net, how)
        for net in ("blstm", "conv1d_lstm", "conv2d", "mlp")
        for how in ("none", "clip", "coefficient", "training")
        if (net, how) != ("mlp", "coefficient")  # its input would be zero
    ],
)
@torch.no_grad()
def test_audio_encoders_ignore_padding(net: str, standardise: str) -> None:
    encoder = make_audio_encoder(net, standardise=standardise, pool=2).eval()
    values = 5 * torch.randn(3, 30, 12) + 2
    lengths = [30, 17, 1]
    values = values * (torch.arange(30) < torch.tensor(lengths)[:, None])[..., None]
    together = encode_audio(encoder, values, lengths)
    alone = torch.cat(
        [encode_audio(encoder, clip[None, :length]) for clip, length in zip(values, lengths, strict=True)]
    )
    assert together.shape == (3, 1, 7)
    assert together[0].std() > 0
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_batch_norm_ignores_padded_audio_steps() -> None:
    values = torch.randn(2, 30, 12)
    values[1, 12:] = 0
    padded, complete = make_audio_encoder("conv1d_lstm").train(), make_audio_encoder("conv1d_lstm").train()
    encode_audio(padded, torch.cat([values, torch.zeros(2, 50, 12)], 1), [30, 12])
    encode_audio(complete, values, [30, 12])
    assert padded.network.norms[0].running_mean.abs().max() > 1e-3
    for norm, expected in zip(padded.network.norms, complete.network.norms, strict=True):
        torch.testing.assert_close(norm.running_mean, expected.running_mean, atol=1e-6, rtol=0)


@torch.no_grad()
def test_audio_is_standardised_by_clip_coefficient_or_training() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.normal(3, 2, (length, 12)).astype(np.float32) for length in (9, 20)]
    clips[0][:, 3] = 1.5  # constant
    steps = [Steps(clip, np.arange(len(clip)), np.ones(len(clip), bool)) for clip in clips]
    batch = make_steps(torch.from_numpy(clips[0])[None])
    expected = {
        "none": clips[0],
        "clip": (clips[0] - clips[0].mean()) / clips[0].std(),
        "coefficient": (clips[0] - clips[0].mean(0)) / np.where(clips[0].std(0) > 1e-6, clips[0].std(0), np.inf),
        "training": (clips[0] - np.concatenate(clips).mean(0)) / np.concatenate(clips).std(0),
    }
    for standardise, values in expected.items():
        encoder = make_audio_encoder("blstm", standardise=standardise)
        encoder.standardise({"audio.mfcc": clip} for clip in steps)
        assert encoder._standardise(batch)[0].numpy() == pytest.approx(values, abs=2e-5)


@torch.no_grad()
def test_audio_length_is_the_training_mean_padded_in_front() -> None:
    settings = check(AUDIO_SETTINGS | {"net": "conv2d", "filters": [2, 2], "pool": 2}, sound.Settings)
    assert (
        settings.fill_from_clips(lambda: [20, 0, 60, 40]).length == 20
    )  # mean of 40 steps, halved by pooling; clips without audio do not count
    with_length = settings.model_copy(update={"length": 33})
    assert with_length.fill_from_clips(list).length == 33
    network: Any = make_audio_encoder("conv2d", length=20).network
    values = torch.randn(1, 25, 12)
    assert torch.equal(network.padded(values, torch.ones(1, 25, dtype=torch.bool)), values[:, 5:])
    short = network.padded(values, torch.arange(25)[None] < 4)
    assert torch.equal(short[:, 16:], values[:, :4])
    assert not short[:, :16].any()


def test_audio_length_must_be_set_and_is_saved() -> None:
    settings = make_settings(["ears"], encoders={"ears": AUDIO_SETTINGS | {"net": "conv2d", "filters": [2, 2]}})
    with pytest.raises(InputError, match=r"encoders\.ears\.length = null, which training takes from its clips"):
        Network.from_settings(settings, TRAITS_GROUP, {"audio": StreamInfo({}, {"mfcc": [12]})})
    settings = settings.fill_from_clips({"ears": [30, 50]}.__getitem__)
    assert check(settings.model_dump(), Settings).encoders["ears"]["length"] == 40
    Network.from_settings(settings, TRAITS_GROUP, {"audio": StreamInfo({}, {"mfcc": [12]})})


def test_derived_audio_length_is_logged_and_stored(caplog: pytest.LogCaptureFixture) -> None:
    for change, expected in (({}, {"ears_length": 40}), ({"length": 33}, {})):
        encoder = AUDIO_SETTINGS | {"net": "conv2d", "filters": [2, 2]} | change
        settings = make_settings(["ears"], encoders={"ears": encoder})
        with caplog.at_level(logging.INFO):
            derived = log_derived(settings, settings.fill_from_clips({"ears": [30, 50]}.__getitem__))
        assert derived == expected
    assert caplog.messages == ["model.encoders.ears.length = 40, from the training clips"]
    losses = {"training_loss": 0.5, "validation_loss": 0.4}
    summary = summarise([{"epoch": 1, "seconds": 2.0, "clips_per_second": 3.0, **losses}], {"ears_length": 40})
    assert summary == {
        "epochs": 1,
        "best_epoch": 1,
        **losses,
        "seconds": 2.0,
        "clips_per_second": 3.0,
        "ears_length": 40,
    }


@pytest.mark.parametrize("net", ["blstm", "conv1d_lstm"])
@torch.no_grad()
def test_recurrent_audio_encoders_depend_on_order(net: str) -> None:
    encoder, values = make_audio_encoder(net).eval(), torch.randn(1, 30, 12)
    assert not torch.allclose(encode_audio(encoder, values), encode_audio(encoder, values.flip(1)), atol=1e-4)


@pytest.mark.parametrize("net", ["blstm", "conv1d_lstm"])
@torch.no_grad()
def test_audio_tokens_have_the_times_of_their_steps(net: str) -> None:
    encoder = make_audio_encoder(net, tokens="steps", pool=2).eval()
    steps = make_steps(torch.randn(2, 30, 12), torch.arange(30) < torch.tensor([30, 12])[:, None])
    tokens = encoder({"audio.mfcc": steps})
    lost_steps = 3 if net == "conv1d_lstm" else 0  # at each end
    assert tokens.times[0].tolist() == [2 * step + 0.5 for step in range(lost_steps, 15 - lost_steps)]
    assert tokens.present.sum(1).tolist() == [15 - 2 * lost_steps, max(6 - 2 * lost_steps, 1)]
    assert tokens.values.shape == (2, 15 - 2 * lost_steps, 7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"net": "lstm"}, r"ears\.net = 'lstm'; allowed: 'blstm', 'conv1d_lstm', 'conv2d' or 'mlp'"),
        ({"net": "conv2d", "filters": [4]}, r"filters = \[4\] with net = conv2d; allowed: 2 numbers, or null"),
        (
            {"net": "mlp", "standardise": "coefficient"},
            r"reads means \(all would be 0\); allowed: none, clip, training",
        ),
        ({"net": "mlp", "tokens": "steps"}, "tokens = steps with net = mlp; allowed: with blstm or conv1d_lstm"),
        ({"units": 0}, r"ears\.units = 0; allowed: greater than or equal to 1"),
    ],
)
def test_audio_encoder_rejects_invalid_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(AUDIO_SETTINGS | changes, sound.Settings, "model.encoders.ears")


def test_audio_encoder_reads_one_stream_of_vectors() -> None:
    for reads, shapes in ((["audio.mfcc", "audio.log_mel"], [[12], [9]]), (["faces"], [[3, 8, 8]])):
        settings = check(AUDIO_SETTINGS | {"reads": reads}, sound.Settings)
        with pytest.raises(InputError, match=r"^reads = .*; allowed for sound: one stream of"):
            sound.Encoder(settings, shapes)


PUBLISHED_SIZES = {  # parameters of the course's networks, with what differs between Keras and torch
    "blstm": 160_896 + 2 * 2 * 4 * 64,  # torch's LSTMs have a second bias
    "conv1d_lstm": 53_504 + 4 * 64 - 2 * (32 + 32 + 64),  # and running statistics are buffers
    "conv2d": 5_383_904 - 2 * (32 + 32),
    "mlp": 25 * 128 + 129 * 128,
}


def build_audio_visual(name: str, *changes: str) -> tuple[Network, dict[str, Any]]:
    parameters = written.plain(written.merge_parameters(name, ["model.encoders.frames.weights=null", *changes]))
    written.check(parameters)
    streams = {
        "audio": StreamInfo(parameters["audio"], {"mfcc": [24], "log_mel": [128]}),
        "frames": StreamInfo(parameters["frames"], {"": [3, 140, 248]}),
    }
    settings = check(parameters["model"], Settings, "model").fill_from_clips(lambda _: [1319])
    targets = {"traits": check(parameters["targets"]["traits"], TargetGroup)}
    return Network.from_settings(settings, targets, streams), parameters


@pytest.mark.parametrize("net", PUBLISHED_SIZES)
def test_one_key_selects_each_published_audio_network(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    network, parameters = build_audio_visual("audio_visual", f"model.encoders.audio.net={net}", "model.use=[audio]")
    assert sum(parameter.numel() for parameter in network.encoders["audio"].parameters()) == PUBLISHED_SIZES[net]
    assert parameters["targets"]["traits"]["head"] == "linear"
    inputs = {"audio": {"audio.mfcc": make_steps(torch.randn(2, 1319, 24))}}
    assert network.eval()(inputs).predicted["traits"].shape == (2, 5)


@pytest.mark.slow
def test_notebook_parameters_build_the_published_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    network, parameters = build_audio_visual("audio_visual_notebook")
    trained = sum(parameter.numel() for _, parameter in network.parameter_groups())
    assert trained == 5_582_181 + 4 * 64  # torch's LSTM has a second bias
    group = parameters["targets"]["traits"]
    assert (group["head"], group["loss"]) == ("sigmoid", "mae")
    schedule = parameters["train"]["plateau"]
    progress = Progress(19.9, 20, 0, [1.0] * 19, plateau=DefaultPlateau(**schedule))
    assert SCHEDULES[parameters["train"]["schedule"]](progress) == 1  # a constant rate


# ---- frames ----


def frame_settings(**changes: Any) -> images.Settings:
    return check(IMAGE_ENCODER | {"reads": ["frames"], "take": "all", "steps": 1} | changes, images.Settings, "frames")


@pytest.mark.parametrize("shape", [(90, 160), (160, 90), (64, 64), (140, 248)])
def test_frames_are_scaled_and_cropped_to_a_square(shape: tuple[int, int]) -> None:
    height, width = shape
    ramp = np.linspace(0, 240, width)[None, None, None].repeat(height, 2).repeat(3, 1).repeat(2, 0).astype(np.uint8)
    settings = frame_settings(shorter_side=70, crop=64)
    scaled = frame_settings(shorter_side=70).view(ramp, None)
    assert min(scaled.shape[2:]) == 70
    assert scaled.shape[3] / scaled.shape[2] == pytest.approx(width / height, rel=0.02)  # the aspect ratio is kept
    assert scaled[0, 0, 0, [0, -1]] == pytest.approx([0, 240], abs=6)
    middle = settings.view(ramp, None)
    assert middle.shape == (2, 3, 64, 64)
    assert middle[..., 31:33].mean() == pytest.approx(120, abs=4)
    draws = [settings.view(ramp, np.random.default_rng(seed)) for seed in range(40)]
    assert len({crop.tobytes() for crop in draws}) > 4
    assert all((crop[0] == crop[1]).all() for crop in draws)  # all frames of a clip have the same crop
    assert settings.is_random
    assert not frame_settings().is_random


def test_frame_settings_reject_large_crops_and_bad_pooling() -> None:
    with pytest.raises(InputError, match=r"^crop = 64 pixels, but frames has images of 100x50; lower it"):
        frame_settings(crop=64).view(np.zeros((1, 3, 50, 100), np.uint8), None)
    with pytest.raises(InputError, match="crop = 64; allowed: up to shorter_side = 50"):
        frame_settings(crop=64, shorter_side=50)
    with pytest.raises(InputError, match="time = gru with place = keep; allowed: with place = mean or max"):
        frame_settings(time="gru")


def test_frames_of_different_shapes_form_a_batch() -> None:
    settings = make_settings(
        ["eyes"], missing="keep", encoders={"eyes": frame_settings(shorter_side=40, crop=32).model_dump()}
    )
    streams = {"frames": StreamInfo({}, {"": [3, 60, 80]})}
    net = Network.from_settings(settings, TRAITS_GROUP, streams).eval()
    clips = []
    for height, width in ((60, 80), (80, 60)):
        encoded = [cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))[1] for _ in range(3)]
        arrays = {
            "jpeg": np.concatenate(encoded),
            "offsets": np.cumsum([0, *map(len, encoded)]),
            "times": np.arange(3.0),
        }
        clips.append(make_inputs({"frames": Record("a", arrays)}, net.settings_by_encoder, streams, [0]))
    clips.append(
        make_inputs({"frames": Record("a", rejected="frames: no video")}, net.settings_by_encoder, streams, [0])
    )
    batch = collate([Sample(inputs, {}, 0) for inputs in clips])
    assert batch.inputs["eyes"]["frames"].values.shape == (3, 3, 3, 32, 32)
    assert net(batch.inputs).predicted["traits"].isfinite().all()


@pytest.mark.parametrize("pool", ["mean", "max"])
@torch.no_grad()
def test_pooling_makes_one_token_of_an_image(pool: str) -> None:
    torch.manual_seed(0)
    unpooled, pooled = image_encoder("vgg").eval(), image_encoder("vgg", place=pool).eval()
    pooled.load_state_dict(unpooled.state_dict())
    frames = torch.rand(2, 3, 3, 32, 32)
    reduce: Callable[[torch.Tensor], torch.Tensor] = {
        "mean": lambda maps: maps.mean((3, 4)),
        "max": lambda maps: maps.amax((3, 4)),
    }[pool]
    tokens = pooled({"faces": make_steps(frames)})
    assert tokens.grid == (1, 1)
    torch.testing.assert_close(tokens.values, reduce(feature_maps(unpooled, frames)).transpose(1, 2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("time", ["max", "gru", "lstm"])
@torch.no_grad()
def test_pooling_over_time_ignores_padding(time: str) -> None:
    torch.manual_seed(0)
    encoder = image_encoder("vgg", place="max", time=time).eval()
    frames = torch.rand(2, 4, 3, 32, 32)
    present = torch.arange(4) < torch.tensor([[4], [2]])
    tokens = encoder({"faces": make_steps(frames, present)})
    assert tokens.values.shape == (2, 1, 8)
    assert tokens.times[:, 0].tolist() == [1.5, 0.5]
    alone = encoder({"faces": make_steps(frames[1:, :2])})
    torch.testing.assert_close(tokens.values[1:], alone.values, atol=1e-6, rtol=0)
    backwards = encoder({"faces": make_steps(frames.flip(1))}).values
    assert torch.allclose(encoder({"faces": make_steps(frames)}).values, backwards, atol=1e-5) == (time == "max")


@pytest.mark.parametrize(("backbone", "channels", "side"), [("vgg11", 512, 64), ("inception_v3", 2048, 96)])
@torch.no_grad()
@pytest.mark.slow
def test_published_backbones_load_and_freeze_by_parts(backbone: str, channels: int, side: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"init_weights": True} if backbone == "inception_v3" else {}
    reference = images.torchvision.models.get_model(backbone, weights=None, **options).eval()
    torch.save(reference.state_dict(), tmp_path / "weights.pt")
    encoder = image_encoder(backbone, str(tmp_path / "weights.pt"), frozen=2).eval()
    assert (len(encoder.parts), encoder.output_dim) == (5, channels)
    assert not any(parameter.requires_grad for parameter in encoder.parts[:2].parameters())
    image = torch.rand(1, 1, 3, side, side)
    maps = feature_maps(encoder, image)[:, :, 0]
    normalised = (image[0] - encoder.mean) / encoder.std
    if backbone == "vgg11":
        torch.testing.assert_close(maps, reference.features(normalised), atol=1e-5, rtol=0)
    else:
        pooled = reference.fc(maps.mean((2, 3)))
        reference.transform_input = False
        torch.testing.assert_close(pooled, reference(normalised), atol=1e-4, rtol=1e-4)


def test_hidden_layer_lies_between_plain_concat_and_heads() -> None:
    eyes = frame_settings(backbone="vgg", place="max", time="lstm", units=6).model_dump()
    encoders = {"ears": AUDIO_SETTINGS, "eyes": eyes}
    settings = make_settings(["ears", "eyes"], "plain_concat", hidden=9, encoders=encoders)
    group = TargetGroup(columns=["warm", "cold"], range=[1, 7], head="linear", loss="mae", weight=1.0)
    net = Network.from_settings(
        settings, {"own": group}, {"audio": StreamInfo({}, {"mfcc": [12]}), "frames": StreamInfo({}, {"": [3, 32, 32]})}
    ).eval()
    assert len(net.project) == 0
    assert net.hidden[0][0].weight.shape == (9, 7 + 6)
    assert net.heads["own"].layers[0][1].weight.shape == (2, 9)
    inputs = {
        "ears": {"audio.mfcc": make_steps(torch.randn(2, 9, 12))},
        "eyes": {"frames": make_steps(torch.rand(2, 3, 3, 32, 32))},
    }
    output = net(inputs)
    joined = torch.cat([output.tokens[name].values[:, 0] for name in ("ears", "eyes")], 1)
    torch.testing.assert_close(output.predicted["own"], net.heads["own"].layers[0][1](net.hidden[0](joined)))


# ---- full size, real clips ----


@needs_real_clips
@pytest.mark.slow
def test_full_size_model_reads_and_learns_real_clips() -> None:
    parameters = written.plain(written.merge_parameters("audio_visual", ["model.encoders.frames.weights=null"]))
    streams = {name: StreamInfo(parameters[name], {}) for name in ("audio", "frames")}
    extractors, records = base.make_extractors(streams), []
    for path in sorted(REAL.glob("*.mp4")):
        raw = base.Raw(path.name, path, None)
        records.append({name: make(raw) for name, make in extractors.items()})
    assert len(records) == 2
    for clip in records:
        assert clip["frames"].arrays["times"].shape == (77,)  # 15.3 s at 5 a second
        assert clip["audio"].arrays["mfcc"].shape == (pytest.approx(1319, abs=2), 24)
    streams["audio"] = StreamInfo(parameters["audio"], {"mfcc": [24], "log_mel": [128]})
    streams["frames"] = StreamInfo(parameters["frames"], {"": [3, 140, 248]})
    model = check(parameters["model"], Settings, "model")
    torch.manual_seed(0)
    net = Network.from_settings(model, TRAITS_GROUP, streams)
    clips = [
        Sample(make_inputs(clip, net.settings_by_encoder, streams, [0]), {}, index)
        for index, clip in enumerate(records)
    ]
    batch = collate(clips)
    assert batch.inputs["frames"]["frames"].values.shape == (2, 6, 3, 128, 128)
    trained = [parameter for _, parameter in net.parameter_groups()]
    published = {"audio": 160_896, "frames": 14_714_688 + 147_712}
    added = {"audio": 2 * 2 * 4 * 64, "frames": 4 * 64}  # torch's LSTMs have a second bias
    for name, encoder in net.encoders.items():
        assert sum(parameter.numel() for parameter in encoder.parameters()) == published[name] + added[name]
    frozen = [parameter.numel() for parameter in net.parameters() if not parameter.requires_grad]
    assert sum(frozen) == 14_714_688
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    losses = []
    for _ in range(2):
        loss = (net.train()(batch.inputs).predicted["traits"] - 0.3).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[1] < losses[0]


# ---- unusual audio ----


def write_video_with_audio(
    path: Path, samples: np.ndarray | None, rate: int = 48_000, layout: str = "mono", late: float = 0.0
) -> Path:
    """Write a video of 4 s with audio (channels, N) that starts `late` seconds after it."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        track: Any = None
        if samples is not None:
            track = container.add_stream("pcm_s16le" if rate == 8000 else "aac", rate=rate, layout=layout)
        for _ in range(40):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")))
        container.mux(video.encode())
        if samples is not None:
            interleaved = (32767 * samples).astype(np.int16).T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(interleaved), format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, round(late * rate), Fraction(1, rate)
            container.mux(track.encode(frame))
            container.mux(track.encode())
    return path


def make_tone(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    return np.tile(0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate), (channels, 1))


ODD_AUDIO: dict[str, tuple[dict[str, Any], tuple[float, float]]] = {
    "whole": ({"samples": make_tone(4, 48_000)}, (0, 4)),
    "late": ({"samples": make_tone(2.5, 48_000), "late": 1.5}, (1.5, 4)),
    "ends early": ({"samples": make_tone(1, 48_000)}, (0, 1)),
    "8 kHz mono": ({"samples": make_tone(4, 8000), "rate": 8000}, (0, 4)),
    "48 kHz 5.1": ({"samples": make_tone(4, 48_000, 6), "layout": "5.1"}, (0, 4)),
}


@pytest.fixture(scope="module")
def audio_network() -> tuple[Network, dict[str, StreamInfo]]:
    parameters = written.plain(written.merge_parameters("audio_visual", []))
    model = parameters["model"] | {"use": ["audio"]}
    streams = {"audio": StreamInfo(parameters["audio"], {"mfcc": [24], "log_mel": [128]})}
    torch.manual_seed(0)
    return Network.from_settings(check(model, Settings, "model"), TRAITS_GROUP, streams).eval(), streams


def predict_audio(record: Record, net: Network, streams: dict[str, StreamInfo]) -> torch.Tensor:
    return net(
        collate([Sample(make_inputs({"audio": record}, net.settings_by_encoder, streams, None), {}, 0)]).inputs
    ).predicted["traits"]


@pytest.mark.parametrize("name", ODD_AUDIO)
@torch.no_grad()
def test_unusual_audio_has_features_at_its_times(
    name: str, tmp_path: Path, audio_network: tuple[Network, dict[str, StreamInfo]]
) -> None:
    network, streams = audio_network
    options, (begins, ends) = ODD_AUDIO[name]
    path = write_video_with_audio(tmp_path / "a.mkv", **options)
    record = base.make_extractors(streams)["audio"](base.Raw("a.mkv", path, None))
    assert not record.rejected
    bands, times = record.arrays["log_mel"], record.arrays["times"]
    at_440 = mel_frequencies(130, 22_050)[1:-1]
    band = int(np.abs(at_440 - 440).argmin())
    loud = times[bands[:, band] > bands.max() - 20]
    assert (loud[0], loud[-1]) == pytest.approx((begins, ends), abs=0.08)
    assert abs(bands[len(bands) // 4].argmax() - band) <= 1 or not begins < times[len(bands) // 4] < ends
    assert predict_audio(record, network, streams).isfinite().all()


@torch.no_grad()
def test_silence_is_scored_and_missing_audio_is_rejected(
    tmp_path: Path, audio_network: tuple[Network, dict[str, StreamInfo]]
) -> None:
    network, streams = audio_network
    extract = base.make_extractors(streams)["audio"]
    silent = extract(base.Raw("a.mkv", write_video_with_audio(tmp_path / "a.mkv", np.zeros((1, 4 * 48_000))), None))
    assert not silent.rejected
    assert predict_audio(silent, network, streams).isfinite().all()
    without_audio = extract(base.Raw("b.mkv", write_video_with_audio(tmp_path / "b.mkv", None), None))
    assert without_audio.rejected == "audio: has no sound"
