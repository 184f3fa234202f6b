"""Write a model file from a published network of SSL-MEPR, so that it predicts clips without training.

The file is multitask_fusion_model.pth, fiv2_best_checkpoint.pth or cmu_mosei_best_checkpoint.pth. The network is that of
params/multitask.yaml, params/traits_embeddings.yaml or params/emotions.yaml. The settings are those of the publication: BGR
images, no mask, and attention between single tokens.

examples:
  python -m tools.import_model multitask_fusion_model.pth multitask.pt
  python -m tools.predict talk.mp4 --model multitask.pt
"""

import argparse
from pathlib import Path
from typing import Any

from lib.core import command, interrupts
from lib.core.errors import InputError
from tools.parameters import check, merge_parameters, plain

STREAM = "embeddings"
WIDTH = 1024
"""Numbers in an embedding of EmoNeXt base."""

_EMBEDDINGS = ("embeddings.colour=bgr", "embeddings.se=reference", "embeddings.stn=true")
_SINGLE = ("model.encoders.embeddings.mask=false", *_EMBEDDINGS)
PUBLISHED: dict[str, tuple[str, tuple[str, ...], list[str]]] = {
    "traits": ("traits_embeddings", ("targets.traits.head=linear", *_SINGLE), ["fiv2"]),
    "emotions": ("emotions", _SINGLE, ["mosei"]),
    "multitask": (
        "multitask",
        (
            "targets.traits.head=linear",
            "model.fusion=multitask_pooled",
            "model.encoders.of_traits.mask=false",
            "model.encoders.of_emotions.mask=false",
            *_EMBEDDINGS,
        ),
        ["fiv2", "mosei"],
    ),
}
"""By kind of network: the file of params/, its changes, and the corpora of the training."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.import_model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="published checkpoint")
    parser.add_argument("model", type=Path, metavar="MODEL", help="model file to write")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="change of a parameter, such as faces.side=112")
    arguments = parser.parse_args()
    if arguments.model.exists():
        raise InputError(f"{arguments.model} exists; allowed: a new file. Remove it, or choose another name")
    with interrupts.loading():
        from lib.core.weights import load_published
        from lib.model import ssl_mepr_weights

    source = f"the weights of {arguments.file}"
    state = load_published(str(arguments.file), "FILE", "allowed: the path of a published checkpoint")
    kind = ssl_mepr_weights.find_kind(state)
    if kind is None:
        raise InputError(f"{source} are not those of a network of SSL-MEPR; allowed: {', '.join(PUBLISHED)}")
    name, changes, corpora = PUBLISHED[kind]
    parameters = plain(merge_parameters(name, [*changes, *arguments.changes]))
    check(parameters)
    write_model(arguments.model, state, parameters, corpora, source)
    print(
        f"{arguments.model}: the published {kind} network, with the settings of params/{name}.yaml and {' '.join(changes)}"
    )


def write_model(path: Path, state: Any, parameters: dict[str, Any], corpora: list[str], source: str) -> None:
    """Write the model file of a published network that `parameters` describe."""
    from lib.core.parameters import check as validate
    from lib.core.targets import TargetSections
    from lib.model import checkpoint, ssl_mepr_weights
    from lib.model.network import Network
    from lib.model.settings import Settings
    from lib.streams import base

    settings = validate(parameters["model"], Settings, "model")
    sections = validate({"targets": parameters["targets"]}, TargetSections)
    targets = settings.select_targets(sections.targets)
    streams = {
        name: base.StreamInfo(parameters[name], {"": [WIDTH]} if name == STREAM else {})
        for name in base.list_with_inputs(STREAM, parameters)
    }
    network = Network.from_settings(settings, targets, streams)
    ssl_mepr_weights.load(network, state, targets, source)
    summary = checkpoint.TrainingSummary(corpora)
    provenance = {"hardware": "published", "clips": {}, "seed": 0}
    checkpoint.save(path, network.state_dict(), settings, targets, streams, training=summary, provenance=provenance)


if __name__ == "__main__":
    command.run(main)
