"""EmoNeXt, and the transformers over its embeddings for emotions, traits, and both (SSL-MEPR)."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lib.core.parameters import check
from lib.core.targets import TargetGroup
from lib.model.encoders.emonext import AttentionPenalty
from lib.model.heads import HeadOutput
from lib.model.network import Network
from lib.model.settings import Settings
from lib.scoring import detection
from lib.sources import mosei
from lib.streams.base import Steps, StreamInfo
from lib.streams.embeddings import emonext
from lib.streams.embeddings.emonext import EmoNeXt
from lib.training.losses import LOSSES
from tools.parity._fixture import Arrays, Layout, find_parameters

Outputs = dict[str, Tensor]


# ---- EmoNeXt ----


def _small(arrays: Arrays, folder: Path) -> Outputs:
    separate = find_parameters(folder, ["fc_loc.0.weight"])
    weights = _tensors(arrays, "param/") | {name: torch.from_numpy(array) for name, array in separate.items()}
    network = EmoNeXt(arrays["meta/depths"].tolist(), arrays["meta/dims"].tolist(), stn=True, se="reference").eval()
    emonext.load_published_weights(network, weights, "the fixture's weights")
    pictures = torch.from_numpy(arrays["in/x_uint8"]).float() / 255
    transformed = network.transformed(pictures)
    maps, after, before, gates = transformed, [], [], []
    excitation = network.get_submodule("downsample_layers.1.2.fc")
    excitation.register_forward_hook(lambda module, inputs, output: gates.append(output))
    for downsample, stage in zip(network.downsample_layers, network.stages, strict=True):
        before.append(downsample(maps))
        maps = stage(before[-1])
        after.append(maps)
    outputs = _trained_by(network(pictures), weights)
    logits, attention = outputs["logits"], outputs["attention_weights"]
    entropy = functional.cross_entropy(logits, torch.from_numpy(arrays["in/labels"]), label_smoothing=0.2)
    spread = (attention - attention.mean()).square().mean()
    return outputs | {
        "prediction": logits.argmax(1),
        "cross_entropy": entropy,
        "attention_loss": spread,
        "loss": entropy + spread,
        "theta": network.theta(pictures),
        "stn_every_4th": transformed[..., ::4, ::4],
        "at/localization_every_4th": network.localization(pictures)[..., ::4, ::4],
        "at/downsample_layers.1": before[1][:1],
        "at/downsample_layers.1.2.fc": gates[0],
        "at/stages.0_every_4th": after[0][:1, :, ::4, ::4],
        "at/stages.1": after[1][:1],
        "at/stages.3": after[3],
    }


def _base(arrays: Arrays, folder: Path) -> Outputs:
    depths, channels = arrays["meta/depths"].tolist(), arrays["meta/dims"].tolist()
    network, width = EmoNeXt(depths, channels, stn=True, se="reference").eval(), channels[-1]
    shapes: dict[str, tuple[int, ...]] = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    shapes |= {f"attention.{part}.weight": (width, width) for part in ("query", "key")}
    shapes |= {f"attention.{part}.bias": (width,) for part in ("query", "key", "norm")} | {
        "attention.norm.weight": (width,)
    }
    shapes |= {"head.weight": (7, width), "head.bias": (7,)}
    prefix, weights = arrays["meta/recipe_prefix"].item(), {}
    for name, shape in shapes.items():
        weights[name] = torch.zeros(shape, dtype=torch.int64)
        if not name.endswith("num_batches_tracked"):
            weights[name] = torch.from_numpy(_recipe(prefix + name, shape)) * (0.1 if name.endswith("gamma") else 1)
    weights["fc_loc.2.weight"] = torch.zeros(6, 32)
    weights["fc_loc.2.bias"] = torch.tensor([1.0, 0, 0, 0, 1, 0])
    emonext.load_published_weights(network, weights, "the recipe's weights")
    return _trained_by(network(torch.from_numpy(arrays["in/x_uint8"]).float() / 255), weights)


def _trained_by(embedding: Tensor, weights: dict[str, Tensor]) -> Outputs:
    """Return the embedding, the published head's logits, and the weights of the attention that is used only in training."""
    attention = AttentionPenalty(embedding.shape[1])
    published = _below(weights, "attention.")
    attention.load_state_dict({name: published[name] for name in attention.state_dict()})
    return {
        "embedding": embedding,
        "logits": functional.linear(embedding, weights["head.weight"], weights["head.bias"]),
        "attention_weights": attention.weights(embedding),
    }


def _recipe(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a random parameter, drawn like the fixture's parameters: it depends only on its name and shape."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        return np.abs(values) * np.float32(0.25) + np.float32(0.75)
    if leaf == "running_mean":
        return values * np.float32(0.1)
    if len(shape) <= 1:
        return values * np.float32(0.1) + np.float32(leaf in ("weight", "gamma"))
    return values / np.float32(np.sqrt(np.prod(shape[1:])))


# ---- transformers over embeddings ----


def _transformer(arrays: Arrays, folder: Path) -> Outputs:
    weights = _tensors(arrays, "param/")
    network, tokens = _network(arrays, weights["fc.bias"].shape[0]), _read(arrays)
    encoder: Any = network.encoders["one"]
    encoder.load_state_dict({name: value for name, value in weights.items() if not name.startswith("fc.")})
    _head(network, "one", weights, "fc")
    layer_outputs: Outputs = {}
    for index, layer in enumerate(encoder.encoder.layers):
        layer.register_forward_hook(
            lambda module, inputs, output, index=index: layer_outputs.update({f"at/encoder.layers.{index}": output})
        )
    return {"logits": network({"one": {"embeddings": tokens}}).predicted["one"], **layer_outputs}


def _fusion(arrays: Arrays, folder: Path) -> Outputs:
    weights = _tensors(arrays, "param/")
    network: Any = _network(arrays, 5, 7)
    prefixes = {"traits": "trait", "emotions": "emo"}
    for name, prefix in prefixes.items():
        network.encoders[name].load_state_dict(_below(weights, f"{prefix}_model.model."))
        network.fusion.encoders[name].load_state_dict(_below(weights, f"{prefix}_encoder."))
    for name, cross in zip(prefixes, ("cross1", "cross2"), strict=True):
        network.fusion.cross[name].load_state_dict(_below(weights, f"{cross}.attn."))
        network.fusion.norms[name].load_state_dict(_below(weights, f"{cross}.norm."))
    network.hidden[0][0].load_state_dict(_below(weights, "shared_mlp.0."))
    outputs: dict[Any, Tensor] = {}
    parts = [*network.fusion.encoders.values(), *network.fusion.norms.values(), network.hidden[0]]
    for part in parts:
        part.register_forward_hook(lambda module, inputs, output: outputs.update({module: output}))
    for name, prefix in prefixes.items():
        _head(network, name, weights, f"{prefix}_head")
    steps = _read(arrays)
    output = network({name: {"embeddings": steps} for name in prefixes})
    pooled = {name: (tokens.values * tokens.mask()[..., None]).sum(1) / tokens.mask().sum(1, keepdim=True)
              for name, tokens in output.tokens.items()}  # fmt: skip
    layer_outputs = {f"at/{prefix}_model": pooled[name] for name, prefix in prefixes.items()}
    layer_outputs |= {
        f"at/{prefix}_encoder": outputs[network.fusion.encoders[name]] for name, prefix in prefixes.items()
    }
    layer_outputs |= {f"at/cross{index}": outputs[network.fusion.norms[name]] for index, name in enumerate(prefixes, 1)}
    return layer_outputs | {
        "traits": output.predicted["traits"],
        "emotion_logits": output.predicted["emotions"],
        "at/shared_mlp": outputs[network.hidden[0]],
    }


def _network(arrays: Arrays, *columns: int) -> Network:
    """Return a transformer with a head of `columns` outputs; for two numbers of columns, the published fusion of two
    transformers, each with a head."""
    width, heads, positions = arrays["meta/d_model"].item(), arrays["meta/heads"].item(), arrays["in/x"].shape[1]
    names = ["one"] if len(columns) == 1 else ["traits", "emotions"]
    transformer = {
        "kind": "sequence_transformer", "reads": ["embeddings"], "take": "all", "steps": 1, "positions": positions,
        "width": width, "heads": heads, "feed_forward": 4 * width, "depth": 3, "dropout": 0.2, "norm": "after",
        "mask": False, "weights": None, "frozen": False,
    }  # fmt: skip
    multitask = len(columns) == 2
    settings = {
        "use": names, "fusion": "multitask_pooled" if multitask else "plain_concat", "queries": [], "targets": names,
        "missing": "drop", "width": 6 * heads, "heads": heads, "depth": int(arrays.get("meta/encoder_layers", 1)),
        "dropout": 0.2, "hidden": width if multitask else 0, "encoders": dict.fromkeys(names, transformer),
    }  # fmt: skip
    groups = {
        name: TargetGroup(columns=list(map(str, range(count))), range=[0, 1], head="linear", loss="mse", weight=1)
        for name, count in zip(names, columns, strict=True)
    }
    streams = {"embeddings": StreamInfo({}, {"": [arrays["in/x"].shape[2]]})}
    return Network.from_settings(check(settings, Settings, "model"), groups, streams).eval()


def _read(arrays: Arrays) -> Steps:
    values, lengths = torch.from_numpy(arrays["in/x"]), torch.from_numpy(arrays["in/lengths"])
    steps = torch.arange(values.shape[1])
    return Steps(values, steps.float().expand(len(values), -1), steps < lengths[:, None])


def _head(network: Network, name: str, weights: dict[str, Tensor], published: str) -> None:
    head: Any = network.heads[name]
    head.layers[0][1].load_state_dict(_below(weights, f"{published}."))


def _loss_and_metrics(arrays: Arrays, folder: Path) -> Outputs:
    inputs = _tensors(arrays, "in/")
    shares = inputs["logits"].softmax(1)
    weights = inputs["class_weights"].expand_as(shares)
    columns = [*mosei.EMOTIONS]
    group = TargetGroup(
        columns=["neutral", *columns], range=[0, 1], head="softmax", loss="kl", weight=1,
        detect=columns, detect_from=1 / 7,
    )  # fmt: skip
    outputs = detection.detection_scores(inputs["targets"].double().numpy(), shares.double().numpy(), group)
    scored = {
        f"{published}{end}": torch.tensor(outputs[name][which])
        for published, name in (("mf1", "macro_f1"), ("muar", "uar"))
        for end, which in (("", 0), ("_each", slice(1, None)))
    }
    labels = {"predicted_labels": shares[:, 1:] >= group.detect_from, "target_labels": inputs["targets"][:, 1:] > 0}
    labels = {name: metric.long() for name, metric in labels.items()}
    return {"loss": LOSSES["kl"](HeadOutput(shares), inputs["targets"], weights)} | labels | scored


def _tensors(arrays: Arrays, kind: str) -> dict[str, Tensor]:
    """Return the fixture's arrays of a kind, `param/` or `in/`, without this prefix."""
    return _below({name: torch.from_numpy(value) for name, value in arrays.items() if name.startswith(kind)}, kind)


def _below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights whose names start with a prefix, without the prefix."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


LAYOUTS = (
    Layout("emonext_small", ("in/labels", "meta/se_reduction"), _small),
    Layout("emonext_base_recipe", ("meta/recipe_prefix",), _base),
    Layout("transformer", ("in/lengths", "param/pos_embed", "param/fc.bias"), _transformer),
    Layout("fusion", ("in/lengths", "out/emotion_logits"), _fusion),
    Layout("loss_and_metrics", ("in/class_weights",), _loss_and_metrics),
)
