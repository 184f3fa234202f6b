"""The audio-visual networks over MFCC and frames, published for Keras."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.core.parameters import check
from lib.core.targets import TargetGroup
from lib.data.batch import Inputs
from lib.model.encoders import images, sound
from lib.model.network import Network
from lib.model.recurrent import Last
from lib.model.settings import Settings
from lib.streams import audio
from lib.streams.base import Steps, StreamInfo
from tools.parity._fixture import Arrays, Layout

_CONV2D = "in/x", "out/at/pool1"


def _blstm(arrays: Arrays, folder: Path) -> Arrays:
    units = arrays["param/blstm1/forward_lstm1/lstm_cell/recurrent_kernel"].shape[0]
    encoder, read = _sound(arrays, net="blstm", units=units)
    network: Any = encoder.network
    for number, layer in enumerate((network.first, network.second), 1):
        for direction in ("forward", "backward"):
            _load_lstm(layer, arrays, f"blstm{number}/{direction}_lstm{number}", backward=direction == "backward")
    states = network.first.run(read.values, read.present)[0]
    return {
        "y": _values(encoder, read),
        "at/blstm1": states.numpy(),
        "at/blstm2": network.second(states, read.present).numpy(),
    }


def _conv1d_lstm(arrays: Arrays, folder: Path) -> Arrays:
    filters = [arrays[f"param/conv{number}/bias"].shape[0] for number in (1, 2, 3)]
    units = arrays["param/lstm/lstm_cell/recurrent_kernel"].shape[0]
    encoder, read = _sound(arrays, net="conv1d_lstm", filters=filters, units=units)
    network: Any = encoder.network
    _load_convolutions(network, arrays)
    _load_lstm(network.lstm, arrays, "lstm")
    convolved, present = network._convolve(read.values, read.present)
    return {
        "y": _values(encoder, read),
        "at/conv3_relu": convolved.numpy(),
        "at/lstm": network.lstm(convolved, present).numpy(),
    }


def _conv2d(arrays: Arrays, norm: str) -> Arrays:
    encoder, read = _conv2d_encoder(arrays, norm)
    pooled = {
        f"at/pool{number}": maps.permute(0, 2, 3, 1).numpy() for number, maps in enumerate(_pools(encoder, read), 1)
    }
    return {"y": _values(encoder, read), **pooled}


def _conv2d_encoder(arrays: Arrays, norm: str, name: str = "x") -> tuple[sound.Encoder, Steps]:
    steps = arrays[f"in/{name}"][..., 0].transpose(0, 2, 1)  # (B, T, D)
    filters = [arrays[f"param/conv{number}/bias"].shape[0] for number in (1, 2)]
    encoder, read = _sound(
        arrays, np.ascontiguousarray(steps), net="conv2d", filters=filters, norm=norm, length=steps.shape[1]
    )
    network: Any = encoder.network
    _load_convolutions(network, arrays)
    # Keras flattens maps in the order rows, columns, channels; torch in the order channels, rows, columns
    channels, map_size = filters[-1], _pools(encoder, read)[-1].shape[2:]
    kernel = arrays["param/dense/kernel"].reshape(*map_size, channels, -1).transpose(2, 0, 1, 3)
    _set(encoder.last[0].weight, kernel.reshape(-1, kernel.shape[-1]).T)
    return encoder, read


def _pools(encoder: sound.Encoder, read: Steps) -> list[Tensor]:
    """Return conv2d's maps (B, C, d, t) after each of its max pools."""
    network: Any = encoder.network
    pooled: list[Tensor] = []
    hook = network.pool.register_forward_hook(lambda module, inputs, maps: pooled.append(maps))
    network(read.values, read.present)
    hook.remove()
    return pooled


def _fusion(arrays: Arrays, folder: Path) -> Arrays:
    ears, heard = _conv2d_encoder(arrays, "after", "audio")
    frames = torch.from_numpy(arrays["in/frames"]).permute(0, 1, 4, 2, 3)
    blocks: dict[str, list[int]] = {}
    for name, array in arrays.items():
        if name.startswith("param/block") and name.endswith("bias"):
            blocks.setdefault(name.split("_")[0], []).append(len(array))
    units = arrays["param/lstm/lstm_cell/recurrent_kernel"].shape[0]
    eyes = {
        "kind": "images", "reads": ["frames"], "take": "parts", "steps": frames.shape[1], "shorter_side": None, "crop": None,
        "backbone": "vgg", "filters": list(blocks.values()), "weights": None, "frozen": 0, "place": "max", "time": "lstm",
        "units": units,
    }  # fmt: skip
    hidden, target_count = arrays["param/dense_1/bias"].shape[0], arrays["param/dense_2/bias"].shape[0]
    settings = Settings(
        use=["audio", "frames"], fusion="plain_concat", queries=[], targets=["traits"], missing="drop", width=6, heads=1,
        depth=1, dropout=0, hidden=hidden, encoders={"audio": ears._settings.model_dump(), "frames": eyes},
    )  # fmt: skip
    group = TargetGroup(
        columns=[f"trait{number}" for number in range(target_count)],
        range=[0, 1],
        head="linear",
        loss="mae",
        weight=1,
    )
    coefficients = heard.values.shape[2]
    streams = {
        "audio": StreamInfo({}, {"mfcc": [coefficients]}),
        "frames": StreamInfo({}, {"": list(frames.shape[2:])}),
    }
    network: Any = Network.from_settings(settings, {"traits": group}, streams).eval()
    network.encoders["audio"].load_state_dict(ears.state_dict())
    encoder = network.encoders["frames"]
    convolutions = [layer for layer in encoder.parts.modules() if isinstance(layer, nn.Conv2d)]
    names = [f"{block}_conv{number}" for block, sizes in blocks.items() for number in range(1, len(sizes) + 1)]
    for layer, name in zip(convolutions, names, strict=True):
        _load_convolution(layer, arrays, name.removeprefix("param/"))
    _load_lstm(encoder.over_time, arrays, "lstm")
    _load_dense(network.hidden[0][0], arrays, "dense_1")
    _load_dense(network.heads["traits"].layers[0][1], arrays, "dense_2")

    # the published network reads images in [0, 1] without normalisation, so invert the encoder's normalisation
    frame_steps = _sequence(frames * encoder.std + encoder.mean)
    inputs: Inputs = {"audio": {"audio.mfcc": heard}, "frames": {"frames": frame_steps}}
    output = network(inputs)
    vectors = [output.tokens[name].values[:, 0] for name in ("audio", "frames")]
    flat = encoder.parts((frame_steps.values.flatten(0, 1) - encoder.mean) / encoder.std).amax((2, 3))
    per_frame = flat.unflatten(0, frames.shape[:2])
    over_time: Any = images.Encoder(
        check(eyes | {"time": "max"}, images.Settings, "frames"), [list(frames.shape[2:])]
    ).eval()
    over_time.parts = encoder.parts
    return {
        "y": output.predicted["traits"].numpy(),
        "at/per_frame": per_frame.numpy(),
        "at/lstm": vectors[1].numpy(),
        "at/concat": torch.cat(vectors, 1).numpy(),
        "max_over_time_of_per_frame": over_time({"frames": frame_steps}).values[:, 0].numpy(),
    }


def _mfcc(arrays: Arrays, folder: Path) -> Arrays:
    samples = arrays["in/samples_int16"].astype(np.float32) / 32768
    at_true_rate, published = (
        audio.compute_spectra(samples, rate, length=2048, hop=512, mels=128, mfcc=24, edges="padded", top_db=80)
        for rate in (44_100, 22_050)
    )
    length = arrays["out/standardised_padded_to_200"].shape[1]
    encoder, read = _sound({}, published[1][None], net="conv2d", standardise="clip", filters=[2, 2], length=length)
    network: Any = encoder.network
    padded = network.padded(encoder._standardise(read), read.present)[0].T
    return {
        "mfcc": published[1].T,
        "mfcc_at_the_true_rate": at_true_rate[1].T,
        "log_mel_db": published[0].T,
        "standardised_padded_to_200": padded[..., None].numpy(),
    }


LAYOUTS = (
    Layout("av_audio_blstm", ("out/at/blstm1",), _blstm),
    Layout("av_audio_conv1d_lstm", ("out/at/conv3_relu",), _conv1d_lstm),
    Layout("av_audio_conv2d_notebook", _CONV2D, lambda arrays, folder: _conv2d(arrays, "after")),
    Layout("av_audio_conv2d_course", _CONV2D, lambda arrays, folder: _conv2d(arrays, "before")),
    Layout("av_fusion", ("in/audio", "in/frames"), _fusion),
    Layout("av_mfcc", ("in/samples_int16",), _mfcc),
)


def _sound(arrays: Arrays, steps: np.ndarray | None = None, **options: Any) -> tuple[sound.Encoder, Steps]:
    """Return a sound encoder, with the published last layer if the fixture contains it, and its input steps (B, T, D).

    steps: the input; by default the fixture's `in/x`. options: settings that differ from those below.
    """
    steps = arrays["in/x"] if steps is None else steps
    width = arrays["param/dense/bias"].shape[0] if "param/dense/bias" in arrays else 1
    settings = {
        "kind": "sound", "reads": ["audio.mfcc"], "take": "all", "steps": 1, "standardise": "none", "pool": 1,
        "length": None, "filters": [], "norm": "after", "units": 1, "width": width, "dropout": 0.5, "tokens": "clip",
    }  # fmt: skip
    checked = check(settings | options, sound.Settings, "sound")
    encoder = sound.Encoder(checked, [[steps.shape[2]]]).eval()
    if "param/dense/bias" in arrays:
        kernel = arrays["param/dense/kernel"]
        _set(encoder.last[0].bias, arrays["param/dense/bias"])
        if options["net"] != "conv2d":  # `_conv2d_encoder` sets its weight, whose order depends on the size of the maps
            _set(encoder.last[0].weight, kernel.T)
    return encoder, _sequence(torch.from_numpy(steps))


def _sequence(values: Tensor) -> Steps:
    shape = values.shape[:2]
    return Steps(values, torch.arange(shape[1]).float().expand(shape), torch.ones(shape, dtype=torch.bool))


def _values(encoder: nn.Module, read: Steps) -> np.ndarray:
    return encoder({"audio.mfcc": read}).values[:, 0].numpy()


def _set(parameter: Any, array: np.ndarray) -> None:
    parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def _load_dense(layer: nn.Linear, arrays: Arrays, name: str) -> None:
    _set(layer.weight, arrays[f"param/{name}/kernel"].T)
    _set(layer.bias, arrays[f"param/{name}/bias"])


def _load_convolution(layer: Any, arrays: Arrays, name: str) -> None:
    """Load a Keras kernel, whose last two axes are the input and the output channels."""
    kernel = arrays[f"param/{name}/kernel"]
    _set(layer.weight, kernel.transpose(kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - 2)))
    _set(layer.bias, arrays[f"param/{name}/bias"])


def _load_convolutions(network: Any, arrays: Arrays) -> None:
    for number, (convolution, norm) in enumerate(zip(network.convolutions, network.norms, strict=True), 1):
        _load_convolution(convolution, arrays, f"conv{number}")
        for name, keras_name in {
            "weight": "gamma",
            "bias": "beta",
            "running_mean": "moving_mean",
            "running_var": "moving_variance",
        }.items():
            _set(getattr(norm, name), arrays[f"param/conv{number}_bn/{keras_name}"])


def _load_lstm(layer: Last, arrays: Arrays, name: str, backward: bool = False) -> None:
    """Load one direction of a Keras LSTM. Its gates have torch's order; its only bias becomes torch's first bias."""
    suffix = "_reverse" if backward else ""
    network: Any = layer.network
    _set(getattr(network, f"weight_ih_l0{suffix}"), arrays[f"param/{name}/lstm_cell/kernel"].T)
    _set(getattr(network, f"weight_hh_l0{suffix}"), arrays[f"param/{name}/lstm_cell/recurrent_kernel"].T)
    _set(getattr(network, f"bias_ih_l0{suffix}"), arrays[f"param/{name}/lstm_cell/bias"])
    getattr(network, f"bias_hh_l0{suffix}").zero_()
