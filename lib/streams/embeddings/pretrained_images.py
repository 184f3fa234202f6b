"""Image networks of `transformers` and `timm`, each with the preparation of images that its folder defines."""

import difflib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.core import pretrained, weights
from lib.core.errors import InputError
from lib.core.hidden_states import Layers, has_class_token, select_layers

TIMM = "timm/"
"""The prefix of the names of timm's networks."""


class TransformersNetwork:
    """An image network of `transformers` with the image processor in its folder.

    With layers = "last", the vector is the network's pooled output: for DINOv2 and CLIP the normalised class token, for ViT
    its pooling layer on the class token, for SigLIP its attention pooling, for convolutional networks the mean over the
    image. A network without pooled output, such as ViT without weights of a pooling layer, gives the class token of the last
    layer, or else the mean over the patches. For other `layers`, the vector is the class token of each hidden state, or else
    the mean over its patches. Of a network for images and text, only the image part is used, without its projection.

    Raises InputError if the folder contains no image network or no image processor, or `layers` do not fit.
    """

    def __init__(self, folder: Path, device: torch.device, *, layers: Layers, allow_code: bool) -> None:
        network: Any = pretrained.load_network(folder, allow_code=allow_code)
        network = getattr(network, "vision_model", network)
        if network.main_input_name != "pixel_values":
            raise InputError(
                f"network = {str(folder)!r} reads {network.main_input_name}; allowed: networks that read images; name"
                " another network"
            )
        self._processor = pretrained.load_image_processor(folder)
        self._layers, self._device = layers, device
        self._has_class_token = has_class_token(network)
        self._network = network.to(device)
        pretrained.explain_errors(
            lambda: self.embed(self.prepare(np.zeros((1, 3, 64, 64), np.uint8))),
            f"network = {str(folder)!r} can't compute a vector of an image",
            "allowed: networks whose image processor fits; check config.json and preprocessor_config.json",
        )

    def prepare(self, images: np.ndarray) -> Tensor:
        """Return the network's input of images, RGB uint8 (K, 3, H, W)."""
        pictures = list(images.transpose(0, 2, 3, 1))
        prepared = self._processor(pictures, input_data_format="channels_last", return_tensors="pt")
        return prepared["pixel_values"]

    @torch.inference_mode()
    def embed(self, pixels: Tensor) -> Tensor:
        """Return vectors (K, D), or (K, L, D) of several layers."""
        all_layers = self._layers != "last"
        output = self._network(pixel_values=pixels.to(self._device), output_hidden_states=all_layers)
        if all_layers:
            return select_layers([self._pool(state) for state in output.hidden_states], self._layers)
        pooled = getattr(output, "pooler_output", None)
        return self._pool(output.last_hidden_state) if pooled is None else pooled.flatten(1)

    def _pool(self, tokens: Tensor) -> Tensor:
        """Return one vector per image of tokens (K, N, D) or of a feature map (K, D, H, W)."""
        if tokens.dim() == 4:
            return tokens.mean((2, 3))
        return tokens[:, 0] if self._has_class_token else tokens.mean(1)


class TimmNetwork:
    """A network of timm without its classifier, with the preparation of images that its configuration defines.

    The vector is the pooled output. name: "timm/NAME", with random weights drawn with `seed`, or with the state dict in the
    file `weights_name`. folder: with a network as timm saves it, instead of a name. Raises InputError for unknown networks
    and for weights that are missing or don't fit.
    """

    def __init__(
        self, name: str, weights_name: str | None, folder: Path | None, device: torch.device, seed: int
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = load_timm_network(name, weights_name if folder is None else "pretrained", folder)
        timm = pretrained.import_package("timm", name)
        self._device, self._network = device, network.eval().to(device)
        settings = timm.data.resolve_model_data_config(network)
        self._transform = timm.data.create_transform(**settings, is_training=False)

    def prepare(self, images: np.ndarray) -> Tensor:
        """Return the network's input (K, 3, h, w) of images, RGB uint8 (K, 3, H, W)."""
        from PIL import Image

        return torch.stack([self._transform(Image.fromarray(image)) for image in images.transpose(0, 2, 3, 1)])

    @torch.inference_mode()
    def embed(self, pixels: Tensor) -> Tensor:
        """Return vectors (K, D)."""
        return self._network(pixels.to(self._device))


def load_timm_network(name: str, weights_name: str | None, folder: Path | None) -> nn.Module:
    """Return a network of timm without its classifier, in evaluation mode.

    It is "timm/NAME" with random weights or with the state dict in the file `weights_name`, or if there is a `folder`, its
    network with random weights (None) or the folder's. Raises InputError for an unknown network and weights that don't fit.
    """
    timm = pretrained.import_package("timm", name)
    if folder is None:
        return _create(timm, name, weights_name).eval()
    return pretrained.explain_errors(
        lambda: timm.create_model(f"local-dir:{folder}", pretrained=weights_name is not None, num_classes=0).eval(),
        f"network = {str(folder)!r} can't be loaded",
        "allowed: a folder with config.json and weights as timm saves them; get the files again",
    )


def is_timm_folder(folder: Path) -> bool:
    """Return whether a folder contains a network as timm saves it."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):  # `pretrained.load_network` reports it
        return False
    return isinstance(config, dict) and "architecture" in config and "model_type" not in config


def find_timm_hub_name(name: str) -> str:
    """Return the name on the hub of timm's own weights of "timm/NAME". Raises InputError if timm has none."""
    timm = pretrained.import_package("timm", name)
    config = timm.get_pretrained_cfg(_check_name(timm, name))
    if config is None or not config.hf_hub_id:
        raise InputError(
            f"weights = 'pretrained'; timm has none for {name}; allowed: null, or the path of a state dict; name another"
            " network"
        )
    return config.hf_hub_id


def _check_name(timm: Any, name: str) -> str:
    """Return timm's name of "timm/NAME". Raises InputError if timm does not have this network."""
    own_name = name.removeprefix(TIMM)
    if not timm.is_model(own_name):
        close = [f"{TIMM}{other}" for other in difflib.get_close_matches(own_name, timm.list_models(), 3)]
        raise InputError(
            f"network = {name!r} is unknown to timm {timm.__version__}; allowed: {TIMM}NAME for the names that"
            f" timm.list_models() returns{', such as ' * bool(close)}{', '.join(close)}; correct the name"
        )
    return own_name


def _create(timm: Any, name: str, weights_name: str | None) -> nn.Module:
    """Return timm's network "timm/NAME" without classifier."""
    network: nn.Module = timm.create_model(_check_name(timm, name), num_classes=0)
    if weights_name is not None:
        state = weights.load_published(
            weights_name, "weights", "allowed: null, pretrained, or the path of a state dict"
        )
        classifier = network.pretrained_cfg.get("classifier") or ()  # type: ignore[union-attr, operator]
        prefixes = tuple(f"{part}." for part in ([classifier] if isinstance(classifier, str) else classifier))
        state = {key: value for key, value in state.items() if not key.startswith(prefixes)}
        if wrong := weights.find_mismatches(network.state_dict(), state):
            raise InputError(
                f"weights = {weights_name!r} do not fit {name}: {weights.summarise_mismatches(wrong)}; allowed: weights of"
                " this network; name another file"
            )
        network.load_state_dict(state)
    return network
