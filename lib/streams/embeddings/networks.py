"""Face embedding networks by name, without their classifiers."""

import logging
import re
from pathlib import Path

import torch
import torchvision
from torch import nn

from lib.core import weights
from lib.core.errors import InputError
from lib.streams import landmarks
from lib.streams.embeddings import emonext, small_networks
from lib.streams.embeddings.dlib_face import DlibFace
from lib.streams.embeddings.emonext import EmoNeXt, Se

_FAMILIES = re.compile(r"resnet\d+|resnext.*|wide_resnet.*|convnext_.*|vit_.*|mobilenet_v2|vgg\d+(_bn)?")
_FACENET, _DLIB = "inception_resnet_v1", "dlib_face"
_LOG = "embeddings"


def get_normalisation(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return the mean and the standard deviation of the images that a network was trained on."""
    if name in (_FACENET, "efficientnet_lite0"):
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    if name == _DLIB or name in small_networks.NETWORKS:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return weights.IMAGENET_MEAN, weights.IMAGENET_STD


def build_network(name: str, weights_name: str | None, stn: bool, se: Se, seed: int) -> nn.Module:
    """Return the network, which maps images (B, 3, S, S) to vectors (B, D).

    name: a key of `emonext.SIZES` (`stn` and `se` apply only to these); inception_resnet_v1 (FaceNet); dlib_face, with its
    own weights; a key of `small_networks.NETWORKS`; or a ResNet, ResNeXt, ConvNeXt, ViT, VGG or mobilenet_v2 of torchvision.
    weights_name: None, "imagenet" or a path; None for dlib_face. For small networks, None means the file in data/weights/.
    Weights of other networks that are not loaded are initialised randomly with `seed`. Raises InputError for an unknown
    network, or weights that are missing or don't fit.
    """
    if name in small_networks.NETWORKS:
        return small_networks.NETWORKS[name](weights_name)
    if name == _DLIB:
        if weights_name is not None:
            raise InputError(
                f"weights = {weights_name!r}; allowed with dlib_face: null (it ships its weights); set it to null"
            )
        return DlibFace()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in emonext.SIZES:
            network: nn.Module = EmoNeXt(*emonext.SIZES[name], stn=stn, se=se)
        elif name == _FACENET:
            from facenet_pytorch import InceptionResnetV1  # an optional package

            network = InceptionResnetV1()
        else:
            network = _torchvision(name)
    if isinstance(network, EmoNeXt):
        if weights_name is not None:
            load_emonext(network, name, weights_name, _LOG)
        return network
    if name == _FACENET:  # its last linear layer and norm make the embedding
        weights.load_weights(network, name, weights_name, "imagenet", ("logits.",))
        return network
    weights.load_weights(network, name, weights_name, "imagenet")
    return _without_classifier(network)


def files(name: str, weights_name: str | None) -> list[Path]:
    """Return the weights files of a network, without files that torchvision downloads: their names contain checksums."""
    if name == _DLIB:
        models = landmarks.load_dlib(f"network = {_DLIB}", "name another network")[1]
        return [Path(models.face_recognition_model_location()), Path(models.pose_predictor_model_location())]
    if name in small_networks.NETWORKS:
        return [small_networks.find_weights(name, weights_name)]
    return [] if weights_name in (None, "imagenet") else [Path(weights_name)]


def _torchvision(name: str) -> nn.Module:
    allowed = [model for model in torchvision.models.list_models(torchvision.models) if _FAMILIES.fullmatch(model)]
    if name not in allowed:
        other_names = [*emonext.SIZES, _FACENET, _DLIB, *small_networks.NETWORKS]
        raise InputError(
            f"network = {name!r}; allowed: the folder of a network, ORG/NAME of the hub, timm/NAME,"
            f" {', '.join([*other_names, *allowed])}; correct the name"
        )
    return torchvision.models.get_model(name, weights=None)


def load_emonext(network: EmoNeXt, name: str, weights_name: str, log: str) -> None:
    """Load weights: "imagenet" for torchvision's ConvNeXt of the same size, or the path of published weights.

    Missing parts are reported in the log called `log`. Raises InputError if the weights are missing or don't fit.
    """
    if weights_name == "imagenet":
        state = dict(weights.load_imagenet(name.replace("emonext", "convnext")))
    else:
        allowed = "allowed: null, imagenet, or the path of weights of EmoNeXt or ConvNeXt"
        state = weights.load_published(weights_name, "weights", allowed)
    for line in emonext.load_published_weights(network, state, f"weights = {weights_name!r}"):
        logging.getLogger(log).info("%s: weights: %s", name, line)


def _without_classifier(network: nn.Module) -> nn.Module:
    """Return a torchvision network with its last linear layer replaced by the identity."""
    last = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    parent, _, leaf = last.rpartition(".")
    setattr(network.get_submodule(parent), leaf, nn.Identity())
    return network
