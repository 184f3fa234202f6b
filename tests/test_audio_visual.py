"""The audio-visual model's parts: networks over sound, frames read over time; what published networks made of the same."""

import shutil
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from lib.core import imports
from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.shards import Record
from lib.core.targets import TargetGroup
from lib.data.batch import Sample, collate
from lib.data.dataset import make_inputs
from lib.model.encoders import images, sound
from lib.model.network import Network, Settings
from lib.streams import base
from lib.streams.base import Steps, StreamInfo
from tests.conftest import REAL, ROOT, needs_real_clips
from tests.test_model import maps, of_pictures, steps
from tests.test_training import PICTURES, TRAITS_GROUP, settings
from tools import parameters as written
from tools.parity.__main__ import TOLERANCE, compare, main

FIXTURES = sorted((ROOT / "tests/data/parity").glob("av_*.npz"))
FILTERS = {"conv2d": [4, 6], "conv1d_lstm": [6, 6, 8]}
SOUND = {
    "kind": "sound", "reads": ["audio.mfcc"], "take": "all", "steps": 1, "net": "blstm", "standardise": "none", "pool": 1,
    "length": None, "filters": [], "norm": "after", "units": 5, "width": 7, "dropout": 0.0, "tokens": "clip",
}  # fmt: skip


def ears(net: str, **changes: Any) -> sound.Encoder:
    given = SOUND | {"net": net, "filters": FILTERS.get(net, []), "length": 20 if net == "conv2d" else None} | changes
    torch.manual_seed(0)
    return sound.Encoder(check(given, sound.Settings, "model.encoders.ears"), [[12]])


def heard(encoder: sound.Encoder, values: torch.Tensor, lengths: list[int] | None = None) -> torch.Tensor:
    """Tokens of clips (B, T, 12), of which so many steps are there."""
    count = torch.tensor(lengths or [values.shape[1]] * len(values))
    return encoder({"audio.mfcc": steps(values, torch.arange(values.shape[1]) < count[:, None])}).values


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_published_networks_are_equalled(path: Path) -> None:
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


def test_parity_rejects_unknown_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    np.savez(tmp_path / "av_audio_blstm.npz", **{"out/y": np.zeros(2)})
    monkeypatch.setattr(sys, "argv", ["parity", str(tmp_path / "av_audio_blstm.npz")])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert "av_audio_blstm: not recognised by its arrays; known kinds of fixtures: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("net", "standardise"),
    [
        (net, how)
        for net in ("blstm", "conv1d_lstm", "conv2d", "mlp")
        for how in ("none", "clip", "coefficient", "training")
        if (net, how) != ("mlp", "coefficient")  # means of what has the mean 0
    ],
)
@torch.no_grad()
def test_sound_is_heard_the_same_alone_and_padded(net: str, standardise: str) -> None:
    encoder = ears(net, standardise=standardise, pool=2).eval()
    values = 5 * torch.randn(3, 30, 12) + 2
    lengths = [30, 17, 1]
    values = values * (torch.arange(30) < torch.tensor(lengths)[:, None])[..., None]
    together = heard(encoder, values, lengths)
    alone = torch.cat([heard(encoder, one[None, :length]) for one, length in zip(values, lengths, strict=True)])
    assert together.shape == (3, 1, 7)
    assert together[0].std() > 0
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_batchs_norm_is_that_of_the_steps_that_are_there() -> None:
    values = torch.randn(2, 30, 12)
    values[1, 12:] = 0
    padded, whole = ears("conv1d_lstm").train(), ears("conv1d_lstm").train()
    heard(padded, torch.cat([values, torch.zeros(2, 50, 12)], 1), [30, 12])
    heard(whole, values, [30, 12])
    assert padded.network.norms[0].running_mean.abs().max() > 1e-3
    for one, other in zip(padded.network.norms, whole.network.norms, strict=True):
        torch.testing.assert_close(one.running_mean, other.running_mean, atol=1e-6, rtol=0)


@torch.no_grad()
def test_standardised_by_clip_by_coefficient_or_by_the_training_clips() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.normal(3, 2, (length, 12)).astype(np.float32) for length in (9, 20)]
    clips[0][:, 3] = 1.5  # constant
    read = [Steps(one, np.arange(len(one)), np.ones(len(one), bool)) for one in clips]
    batch = steps(torch.from_numpy(clips[0])[None])
    expected = {
        "none": clips[0],
        "clip": (clips[0] - clips[0].mean()) / clips[0].std(),
        "coefficient": (clips[0] - clips[0].mean(0)) / np.where(clips[0].std(0) > 1e-6, clips[0].std(0), np.inf),
        "training": (clips[0] - np.concatenate(clips).mean(0)) / np.concatenate(clips).std(0),
    }
    for how, values in expected.items():
        encoder = ears("blstm", standardise=how)
        encoder.standardise({"audio.mfcc": one} for one in read)
        assert encoder._standardised(batch)[0].numpy() == pytest.approx(values, abs=2e-5)


@torch.no_grad()
def test_a_fixed_length_is_the_training_clips_mean_and_padded_in_front() -> None:
    given = check(SOUND | {"net": "conv2d", "filters": [2, 2], "pool": 2}, sound.Settings)
    assert given.completed(lambda: [20, 0, 60, 40]).length == 20  # of 40 steps, two to one; nothing of who has none
    fixed = given.model_copy(update={"length": 33})
    assert fixed.completed(list).length == 33
    network: Any = ears("conv2d", length=20).network
    values = torch.randn(1, 25, 12)
    assert torch.equal(network.padded(values, torch.ones(1, 25, dtype=torch.bool)), values[:, 5:])
    short = network.padded(values, torch.arange(25)[None] < 4)
    assert torch.equal(short[:, 16:], values[:, :4])
    assert not short[:, :16].any()


def test_a_completed_length_is_kept_with_the_model() -> None:
    given = settings(["ears"], encoders={"ears": SOUND | {"net": "conv2d", "filters": [2, 2]}})
    with pytest.raises(InputError, match=r"encoders\.ears\.length = null, which training takes from its clips"):
        Network.from_settings(given, TRAITS_GROUP, {"audio": StreamInfo({}, {"mfcc": [12]})})
    given = given.completed({"ears": [30, 50]}.__getitem__)
    assert check(given.model_dump(), Settings).encoders["ears"]["length"] == 40
    Network.from_settings(given, TRAITS_GROUP, {"audio": StreamInfo({}, {"mfcc": [12]})})


@pytest.mark.parametrize("net", ["blstm", "conv1d_lstm"])
@torch.no_grad()
def test_order_in_time_changes_what_recurrent_ears_hear(net: str) -> None:
    encoder, values = ears(net).eval(), torch.randn(1, 30, 12)
    assert not torch.allclose(heard(encoder, values), heard(encoder, values.flip(1)), atol=1e-4)


@pytest.mark.parametrize("net", ["blstm", "conv1d_lstm"])
@torch.no_grad()
def test_a_token_a_step_lies_where_the_step_does(net: str) -> None:
    encoder = ears(net, tokens="steps", pool=2).eval()
    read = steps(torch.randn(2, 30, 12), torch.arange(30) < torch.tensor([30, 12])[:, None])
    tokens = encoder({"audio.mfcc": read})
    lost = 3 if net == "conv1d_lstm" else 0  # at each end
    assert tokens.times[0].tolist() == [2 * at + 0.5 for at in range(lost, 15 - lost)]
    assert tokens.present.sum(1).tolist() == [15 - 2 * lost, max(6 - 2 * lost, 1)]
    assert tokens.values.shape == (2, 15 - 2 * lost, 7)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"net": "lstm"}, r"ears\.net = 'lstm'; allowed: 'blstm', 'conv1d_lstm', 'conv2d' or 'mlp'"),
        ({"net": "conv2d", "filters": [4]}, r"filters = \[4\] with net = conv2d; allowed: 2 numbers"),
        ({"net": "mlp", "standardise": "coefficient"}, "reads means: all are 0; allowed: the others"),
        ({"net": "mlp", "tokens": "steps"}, "tokens = steps with net = mlp; allowed: with blstm or conv1d_lstm"),
        ({"units": 0}, r"ears\.units = 0; allowed: greater than or equal to 1"),
    ],
)
def test_what_ears_cannot_be_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(SOUND | changes, sound.Settings, "model.encoders.ears")


def test_ears_take_one_stream_of_vectors() -> None:
    for reads, shapes in ((["audio.mfcc", "audio.log_mel"], [[12], [9]]), (["faces"], [[3, 8, 8]])):
        given = check(SOUND | {"reads": reads}, sound.Settings)
        with pytest.raises(InputError, match=r"^reads = .*; allowed for sound: one stream of"):
            sound.Encoder(given, shapes)


# ---- frames ----


def looking(**changes: Any) -> images.Settings:
    return check(PICTURES | {"reads": ["frames"], "take": "all", "steps": 1} | changes, images.Settings, "frames")


@pytest.mark.parametrize("shape", [(90, 160), (160, 90), (64, 64), (140, 248)])
def test_pictures_are_scaled_whole_and_cut_square(shape: tuple[int, int]) -> None:
    height, width = shape
    ramp = np.linspace(0, 240, width)[None, None, None].repeat(height, 2).repeat(3, 1).repeat(2, 0).astype(np.uint8)
    settings_ = looking(shorter_side=70, crop=64)
    scaled = looking(shorter_side=70).view(ramp, None)
    assert min(scaled.shape[2:]) == 70
    assert scaled.shape[3] / scaled.shape[2] == pytest.approx(width / height, rel=0.02)  # nothing is squashed
    assert scaled[0, 0, 0, [0, -1]] == pytest.approx([0, 240], abs=6)
    middle = settings_.view(ramp, None)
    assert middle.shape == (2, 3, 64, 64)
    assert middle[..., 31:33].mean() == pytest.approx(120, abs=4)
    draws = [settings_.view(ramp, np.random.default_rng(seed)) for seed in range(40)]
    assert len({one.tobytes() for one in draws}) > 4
    assert all((one[0] == one[1]).all() for one in draws)  # all of a clip at one place
    assert settings_.by_chance
    assert not looking().by_chance


def test_a_crop_larger_than_the_picture_is_named() -> None:
    with pytest.raises(InputError, match=r"^crop = 64 pixels, but frames has images of 100x50; lower it"):
        looking(crop=64).view(np.zeros((1, 3, 50, 100), np.uint8), None)
    with pytest.raises(InputError, match="crop = 64; allowed: up to shorter_side = 50"):
        looking(crop=64, shorter_side=50)
    with pytest.raises(InputError, match="time = gru with place = keep; allowed: with place = mean or max"):
        looking(time="gru")


def test_frames_of_different_shapes_and_none_make_a_batch() -> None:
    given = settings(["eyes"], missing="keep", encoders={"eyes": looking(shorter_side=40, crop=32).model_dump()})
    made = {"frames": StreamInfo({}, {"": [3, 60, 80]})}
    net = Network.from_settings(given, TRAITS_GROUP, made).eval()
    clips = []
    for height, width in ((60, 80), (80, 60)):
        encoded = [images.cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))[1] for _ in range(3)]
        arrays = {
            "jpeg": np.concatenate(encoded),
            "offsets": np.cumsum([0, *map(len, encoded)]),
            "times": np.arange(3.0),
        }
        clips.append(make_inputs({"frames": Record("a", arrays)}, net.encoder_inputs, made, [0]))
    clips.append(make_inputs({"frames": Record("a", refused="frames: no video")}, net.encoder_inputs, made, [0]))
    batch = collate([Sample(one, {}, 0) for one in clips])
    assert batch.inputs["eyes"]["frames"].values.shape == (3, 3, 3, 32, 32)
    assert net(batch.inputs).predicted["traits"].isfinite().all()


@pytest.mark.parametrize("pool", ["mean", "max"])
@torch.no_grad()
def test_a_pooled_picture_is_one_token(pool: str) -> None:
    torch.manual_seed(0)
    whole, pooled = of_pictures("vgg").eval(), of_pictures("vgg", place=pool).eval()
    pooled.load_state_dict(whole.state_dict())
    pictures = torch.rand(2, 3, 3, 32, 32)
    reduce: Callable[[torch.Tensor], torch.Tensor] = {
        "mean": lambda of: of.mean((3, 4)),
        "max": lambda of: of.amax((3, 4)),
    }[pool]
    tokens = pooled({"faces": steps(pictures)})
    assert tokens.grid == (1, 1)
    torch.testing.assert_close(tokens.values, reduce(maps(whole, pictures)).transpose(1, 2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("time", ["max", "gru", "lstm"])
@torch.no_grad()
def test_over_time_a_clip_is_one_token_whatever_the_padding(time: str) -> None:
    torch.manual_seed(0)
    encoder = of_pictures("vgg", place="max", time=time).eval()
    pictures = torch.rand(2, 4, 3, 32, 32)
    present = torch.arange(4) < torch.tensor([[4], [2]])
    tokens = encoder({"faces": steps(pictures, present)})
    assert tokens.values.shape == (2, 1, 8)
    assert tokens.times[:, 0].tolist() == [1.5, 0.5]
    alone = encoder({"faces": steps(pictures[1:, :2])})
    torch.testing.assert_close(tokens.values[1:], alone.values, atol=1e-6, rtol=0)
    reversed_ = encoder({"faces": steps(pictures.flip(1))}).values
    assert torch.allclose(encoder({"faces": steps(pictures)}).values, reversed_, atol=1e-5) == (time == "max")


@pytest.mark.parametrize(("backbone", "channels", "side"), [("vgg11", 512, 64), ("inception_v3", 2048, 96)])
@torch.no_grad()
def test_published_trunks_are_divided_and_loaded_whole(backbone: str, channels: int, side: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    rest = {"init_weights": True} if backbone == "inception_v3" else {}
    whole = images.torchvision.models.get_model(backbone, weights=None, **rest).eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pt")
    encoder = of_pictures(backbone, str(tmp_path / "weights.pt"), frozen=2).eval()
    assert (len(encoder.parts), encoder.output_dim) == (5, channels)
    assert not any(parameter.requires_grad for parameter in encoder.parts[:2].parameters())
    picture = torch.rand(1, 1, 3, side, side)
    own = maps(encoder, picture)[:, :, 0]
    standard = (picture[0] - encoder.mean) / encoder.std
    if backbone == "vgg11":
        torch.testing.assert_close(own, whole.features(standard), atol=1e-5, rtol=0)
    else:
        pooled = whole.fc(own.mean((2, 3)))
        whole.transform_input = False
        torch.testing.assert_close(pooled, whole(standard), atol=1e-4, rtol=1e-4)


def test_a_hidden_layer_lies_between_plain_concatenation_and_heads() -> None:
    eyes = looking(backbone="vgg", place="max", time="lstm", units=6).model_dump()
    encoders = {"ears": SOUND, "eyes": eyes}
    given = settings(["ears", "eyes"], "plain_concat", hidden=9, encoders=encoders)
    own = TargetGroup(columns=["warm", "cold"], range=[1, 7], head="linear", loss="mae", weight=1.0)
    net = Network.from_settings(
        given, {"own": own}, {"audio": StreamInfo({}, {"mfcc": [12]}), "frames": StreamInfo({}, {"": [3, 32, 32]})}
    ).eval()
    assert len(net.project) == 0
    assert net.hidden[0][0].weight.shape == (9, 7 + 6)
    assert net.heads["own"].layers[0][1].weight.shape == (2, 9)
    inputs = {
        "ears": {"audio.mfcc": steps(torch.randn(2, 9, 12))},
        "eyes": {"frames": steps(torch.rand(2, 3, 3, 32, 32))},
    }
    output = net(inputs)
    joined = torch.cat([output.tokens[name].values[:, 0] for name in ("ears", "eyes")], 1)
    torch.testing.assert_close(output.predicted["own"], net.heads["own"].layers[0][1](net.hidden[0](joined)))


# ---- whole size, real clips ----


@needs_real_clips
def test_at_whole_size_real_clips_are_read_and_learnt_from() -> None:
    given = written.plain(written.merged("audio_visual", ["model.encoders.frames.weights=null"]))
    made = {name: StreamInfo(given[name], {}) for name in ("audio", "frames")}
    makers, records = base.make_extractors(made), []
    for path in sorted(REAL.glob("*.mp4")):
        raw = base.Raw(path.name, path, None)
        records.append({name: make(raw) for name, make in makers.items()})
    assert len(records) == 2
    for one in records:
        assert one["frames"].arrays["times"].shape == (77,)  # 15.3 s at 5 a second
        assert one["audio"].arrays["mfcc"].shape == (pytest.approx(1319, abs=2), 24)
    made["audio"] = StreamInfo(given["audio"], {"mfcc": [24], "log_mel": [128]})
    made["frames"] = StreamInfo(given["frames"], {"": [3, 140, 248]})
    model = check(given["model"], Settings, "model")
    torch.manual_seed(0)
    net = Network.from_settings(model, TRAITS_GROUP, made)
    clips = [Sample(make_inputs(one, net.encoder_inputs, made, [0]), {}, index) for index, one in enumerate(records)]
    batch = collate(clips)
    assert batch.inputs["frames"]["frames"].values.shape == (2, 6, 3, 128, 128)
    trained = [parameter for _, parameter in net.parameter_groups()]
    published = {"audio": 160_896, "frames": 14_714_688 + 147_712}
    own = {"audio": 2 * 2 * 4 * 64, "frames": 4 * 64}  # torch's LSTMs have a second bias
    for name, encoder in net.encoders.items():
        assert sum(parameter.numel() for parameter in encoder.parameters()) == published[name] + own[name]
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


# ---- sound that is odd ----


def filmed(path: Path, samples: np.ndarray | None, rate: int = 48_000, layout: str = "mono", late: float = 0.0) -> Path:
    """Write 4 s of film, with sound (channels, N) that begins so many seconds late."""
    with av.open(str(path), "w") as container:
        film = container.add_stream("libx264", rate=10)
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        track: Any = None
        if samples is not None:
            track = container.add_stream("pcm_s16le" if rate == 8000 else "aac", rate=rate, layout=layout)
        for _ in range(40):
            container.mux(film.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")))
        container.mux(film.encode())
        if samples is not None:
            sound_ = (32767 * samples).astype(np.int16).T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound_), format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, round(late * rate), Fraction(1, rate)
            container.mux(track.encode(frame))
            container.mux(track.encode())
    return path


def tone(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    return np.tile(0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate), (channels, 1))


ODD: dict[str, tuple[dict[str, Any], tuple[float, float]]] = {
    "whole": ({"samples": tone(4, 48_000)}, (0, 4)),
    "late": ({"samples": tone(2.5, 48_000), "late": 1.5}, (1.5, 4)),
    "ends early": ({"samples": tone(1, 48_000)}, (0, 1)),
    "8 kHz mono": ({"samples": tone(4, 8000), "rate": 8000}, (0, 4)),
    "48 kHz 5.1": ({"samples": tone(4, 48_000, 6), "layout": "5.1"}, (0, 4)),
}


@pytest.fixture(scope="module")
def listening() -> tuple[Network, dict[str, StreamInfo]]:
    given = written.plain(written.merged("audio_visual", []))
    model = given["model"] | {"use": ["audio"]}
    made = {"audio": StreamInfo(given["audio"], {"mfcc": [24], "log_mel": [128]})}
    torch.manual_seed(0)
    return Network.from_settings(check(model, Settings, "model"), TRAITS_GROUP, made).eval(), made


def scored(record: Record, net: Network, made: dict[str, StreamInfo]) -> torch.Tensor:
    return net(
        collate([Sample(make_inputs({"audio": record}, net.encoder_inputs, made, None), {}, 0)]).inputs
    ).predicted["traits"]


@pytest.mark.parametrize("name", ODD)
@torch.no_grad()
def test_odd_sound_is_heard_when_it_sounds(
    name: str, tmp_path: Path, listening: tuple[Network, dict[str, StreamInfo]]
) -> None:
    net, made = listening
    given, (begins, ends) = ODD[name]
    path = filmed(tmp_path / "a.mkv", **given)
    record = base.make_extractors(made)["audio"](base.Raw("a.mkv", path, None))
    assert not record.refused
    bands, times = record.arrays["log_mel"], record.arrays["times"]
    at_440 = imports.import_librosa().mel_frequencies(130, fmax=22_050)[1:-1]
    band = int(np.abs(at_440 - 440).argmin())
    loud = times[bands[:, band] > bands.max() - 20]
    assert (loud[0], loud[-1]) == pytest.approx((begins, ends), abs=0.08)
    assert abs(bands[len(bands) // 4].argmax() - band) <= 1 or not begins < times[len(bands) // 4] < ends
    assert scored(record, net, made).isfinite().all()


@torch.no_grad()
def test_silence_is_scored_and_no_sound_is_refused(
    tmp_path: Path, listening: tuple[Network, dict[str, StreamInfo]]
) -> None:
    net, made = listening
    make = base.make_extractors(made)["audio"]
    silent = make(base.Raw("a.mkv", filmed(tmp_path / "a.mkv", np.zeros((1, 4 * 48_000))), None))
    assert not silent.refused
    assert scored(silent, net, made).isfinite().all()
    none = make(base.Raw("b.mkv", filmed(tmp_path / "b.mkv", None), None))
    assert none.refused == "audio: has no sound"
