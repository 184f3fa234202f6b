"""Layer weights: how much of each layer of a pretrained network an encoder uses."""

from collections.abc import Mapping
from typing import cast

import pandas as pd

from lib.analysis._context import Context
from lib.core.artifacts import LAYER_WEIGHTS
from lib.core.clips import write_csv
from lib.data.inputs import split_reference
from lib.model.encoders import Encoder
from lib.model.network import Network
from lib.streams.base import StreamInfo

OUTPUTS = (LAYER_WEIGHTS,)

_COLUMNS = "encoder", "stream", "layer", "weight"


def run(context: Context) -> None:
    trained = context.evaluation.trained
    write_csv(LAYER_WEIGHTS, list_weights(context.network, trained.streams))


def list_weights(network: Network, streams: Mapping[str, StreamInfo]) -> pd.DataFrame:
    """Return the learned weight of each layer, with a row for each encoder, stream and layer; no row without layers.

    streams: by name. Layers have the numbers that the key `layers` of the encoder or of the stream lists; otherwise they are
    counted from 0.
    """
    rows: list[tuple[str, str, int, float]] = []
    for name, encoder in network.encoders.items():
        for reference, weights in cast(Encoder, encoder).list_layer_weights().items():
            of_stream = streams[split_reference(reference)[0]].settings.get("layers")
            layers = getattr(network.settings_by_encoder[name], "layers", of_stream)
            numbers = layers if isinstance(layers, list) else range(len(weights))
            rows += [
                (name, reference, number, weight) for number, weight in zip(numbers, weights.tolist(), strict=True)
            ]
    return pd.DataFrame(rows, columns=[*_COLUMNS])
