"""From a clip's file to predictions, through the same functions as the pipeline's stages."""

import os
from pathlib import Path

import torch

from lib.core.errors import InputError, internal, log_once
from lib.core.shards import Record
from lib.data.batch import Sample, collate
from lib.data.dataset import inputs_of
from lib.data.loading import to_device
from lib.model import checkpoint
from lib.streams import base
from lib.streams.base import RAW, TRACEBACK, Raw


class Predictor:
    """A trained model that predicts single clips; what it loads is loaded once."""

    def __init__(self, model: Path, device: torch.device) -> None:
        self.served = checkpoint.load(model, device)
        self._device, self._makers = device, base.makers(self.served.streams)

    @torch.no_grad()
    def __call__(self, clip: Path) -> dict[str, dict[str, float]]:
        """Return, by target group, the prediction for each of its columns, in the labels' own units.

        Raises InputError, saying why, if the clip can't be used; with missing = "keep" that is if no encoder can read it.
        What goes wrong in the program itself is such a reason too; its traceback is logged.
        """
        try:
            return self._predict(clip)
        except InputError:
            raise
        except Exception as error:
            reason, trace = internal(error)
            log_once("predict", trace)
            raise InputError(reason) from error

    def _predict(self, clip: Path) -> dict[str, dict[str, float]]:
        if not os.path.isfile(clip):  # noqa: PTH113 (Path's raises at too long a name)
            raise InputError(f"{clip} is no file")
        records = self._records(clip)
        network, streams = self.served.network, self.served.streams
        inputs = inputs_of(records, network.readings, streams, seed=None)
        read = [all(len(steps.times) for steps in of.values()) for of in inputs.values()]
        if not (any(read) if self.served.settings.missing == "keep" else all(read)):
            raise InputError("; ".join(dict.fromkeys(one.refused for one in records.values() if one.refused)))
        batch = to_device(collate([Sample(inputs, {}, 0)]), self._device)
        found = {}
        for name, values in network(batch.inputs).predicted.items():
            group = self.served.targets[name]
            if not values.isfinite().all():
                raise InputError("the model predicts no number of it")
            found[name] = dict(zip(group.columns, group.from_unit(values[0].float().cpu()).tolist(), strict=True))
        return found

    def _records(self, clip: Path) -> dict[str, Record]:
        """Make the streams that the model reads, in the order in which they are made from each other."""
        raw = Raw(clip.name, clip, None)
        records: dict[str, Record] = {}
        for name, make in self._makers.items():
            above = [raw if one == RAW else records[one] for one in base.load(name).inputs]
            records[name] = base.made_from(make, above)
            if trace := records[name].attributes.get(TRACEBACK):
                log_once("predict", trace)
        return records
