"""Weights of the published networks of SSL-MEPR: transformers for traits or emotions, and the fusion of both."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lib.core.errors import InputError
from lib.core.targets import TargetGroup, Targets
from lib.core.weights import find_mismatches, summarise_mismatches
from lib.model.network import Network

TRAITS = ("openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism")
"""The outputs for traits, in the order of the files."""
EMOTIONS = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise")
"""The outputs for emotions, in the order of the files."""

_FILES = {"multitask": "multitask", "traits": "traits_embeddings", "emotions": "emotions"}  # in params/, by kind
_FUSION = "trait_model.model.pos_embed"
_SINGLE = {"pos_embed", "fc.weight", "fc.bias"}


def find_kind(state: Mapping[str, Tensor]) -> str | None:
    """Return "multitask", "traits" or "emotions" for the weights of a published network, None for any other weights."""
    if _FUSION in state:
        return "multitask"
    if state.keys() >= _SINGLE:
        return {len(TRAITS): "traits", len(EMOTIONS): "emotions"}.get(len(state["fc.bias"]))
    return None


def load(network: Network, state: Mapping[str, Tensor], targets: Targets, source: str) -> None:
    """Load the weights of a published network. source: what the weights are, for errors.

    The first encoder of the multitask network is that of traits, the second that of emotions. Outputs are selected by the
    names of the columns. Raises InputError if the network or its targets have another form.
    """
    kind, names = find_kind(state), list(network.encoders)
    count = 2 if kind == "multitask" else 1
    if len(names) != count:
        raise InputError(
            f"{source} are those of a published {kind} network; model.use = {names}; allowed: {count} of kind"
            f" sequence_transformer. `python -m tools.parameters {_FILES[str(kind)]}` selects them"
        )
    renamed = _rename(state, _list_parts(names), targets, source)
    if wrong := find_mismatches(network.state_dict(), renamed):
        raise InputError(
            f"{source} do not fit the section model: {summarise_mismatches(wrong)}; take it from"
            f" params/{_FILES[str(kind)]}.yaml"
        )
    network.load_state_dict(renamed)


def _list_parts(names: list[str]) -> dict[str, str]:
    """Return the prefixes of the published names, and those of this project's names."""
    if len(names) == 1:
        return {"": f"encoders.{names[0]}."}
    parts = {"shared_mlp.0.": "hidden.0.0."}
    for name, prefix, cross in zip(names, ("trait", "emo"), ("cross1", "cross2"), strict=True):
        parts |= {f"{prefix}_model.model.": f"encoders.{name}.", f"{prefix}_encoder.": f"fusion.encoders.{name}."}
        parts |= {f"{cross}.attn.": f"fusion.cross.{name}.", f"{cross}.norm.": f"fusion.norms.{name}."}
    return parts


def _rename(state: Mapping[str, Tensor], parts: Mapping[str, str], targets: Targets, source: str) -> dict[str, Tensor]:
    heads = {"trait_head": TRAITS, "emo_head": EMOTIONS}
    if find_kind(state) != "multitask":
        heads = {"fc": TRAITS if find_kind(state) == "traits" else EMOTIONS}
    renamed = {}
    for name, value in state.items():
        prefix = next((prefix for prefix in parts if name.startswith(prefix)), None)
        if name.partition(".")[0] not in heads:
            renamed[name if prefix is None else parts[prefix] + name.removeprefix(prefix)] = value
    for target, group in targets.items():
        head, columns = _choose_head(target, group, heads, source)
        rows = torch.tensor([columns.index(column) for column in group.columns])
        for end in ("weight", "bias"):
            renamed[f"heads.{target}.layers.0.1.{end}"] = state[f"{head}.{end}"][rows]
    return renamed


def _choose_head(
    target: str, group: TargetGroup, heads: Mapping[str, tuple[str, ...]], source: str
) -> tuple[str, tuple[str, ...]]:
    """Return the published head that predicts a target group, and its columns."""
    activations = {TRAITS: "linear", EMOTIONS: "softmax"}
    for head, columns in heads.items():
        complete = columns == TRAITS or len(group.columns) == len(EMOTIONS)
        if {*group.columns} <= {*columns} and complete and group.head == activations[columns]:
            return head, columns
    allowed = " or ".join(
        f"head = {activations[columns]} with columns {', '.join(columns)}" for columns in heads.values()
    )
    raise InputError(
        f"{source} do not predict targets.{target} with head = {group.head} and columns {', '.join(group.columns)}; allowed:"
        f" {allowed}"
    )
