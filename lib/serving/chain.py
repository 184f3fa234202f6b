"""Predict clips with the ONNX files that `python -m tools.export --chain FOLDER` wrote, without PyTorch.

The scores are those of the Predictor. Clips that are clearly longer than the training clips are predicted in windows.
A clip is rejected if a stream of an encoder is missing, or if less than half of it can be used.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lib.core.errors import InputError, describe_internal_error
from lib.core.estimates import (
    average_usable_fractions,
    average_windows,
    check_usable_fraction,
    find_interval,
    percentile,
)
from lib.core.records import Raw, Record, measure_usable_fraction
from lib.data.crops import scale_and_crop
from lib.data.samplers import SAMPLERS, select_steps
from lib.media.packets import Span
from lib.serving.chain_streams import EXTRACTIONS, open_network
from lib.serving.windows import measure_clip_seconds, split_long_clip

DESCRIPTION, NETWORK = "chain.json", "network.onnx"
FORMAT = 1
"""Format of the description; another format needs another version of this code."""
_MIN_USABLE = 0.5


class _Output(NamedTuple):
    """The network's outputs (K,) of a window by name, and the fraction of usable steps by stream."""

    values: dict[str, np.ndarray]
    usable_fractions: dict[str, float]


class Chain:
    """The complete chain from a video file to scores. Networks are loaded once.

    folder: as `tools.export --chain` wrote it. Raises InputError if it is not such a folder.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.about: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{folder / DESCRIPTION} can't be read ({error}); allowed: an exported folder") from None
        if self.about["format"] != FORMAT:
            raise InputError(
                f"{folder / DESCRIPTION}: format = {self.about['format']}; allowed: {FORMAT}; export again"
            )
        self._extractors = {
            name: EXTRACTIONS[name].make(stream["arguments"], folder) for name, stream in self.about["streams"].items()
        }
        self._session = open_network(folder / NETWORK, has_fixed_shapes=True)
        self._shapes = {node.name: node.shape for node in self._session.get_inputs()}

    def __call__(self, clip: Path) -> dict[str, Any]:
        """Return a clip's prediction: `clip`; `rejected`, the reason why it is rejected, or ""; and `targets`, by group and
        column score, low and high end of the interval, percentile and scale, null where they are not known."""
        try:
            return {"clip": str(clip), "targets": self._predict(clip), "rejected": ""}
        except InputError as error:
            return {"clip": str(clip), "targets": {}, "rejected": str(error)}
        except Exception as error:  # a file can break any package that reads it
            return {"clip": str(clip), "targets": {}, "rejected": describe_internal_error(error)[0]}

    def read_inputs(self, clip: Path, span: Span | None = None) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Return the network's inputs (1, T, ...) by name, and the fraction of usable steps by stream, of a clip or of a
        part of it. Raises InputError if a stream is missing."""
        raw, records = Raw(clip.name, clip, None, span), dict[str, Record]()
        for name, extract in self._extractors.items():
            inputs = [records[other] for other in self.about["streams"][name]["inputs"]]
            rejected = next((record for record in inputs if record.rejected), None)
            records[name] = rejected or (extract(*inputs) if inputs else extract(raw))
        reasons = dict.fromkeys(record.rejected for record in records.values() if record.rejected)
        if reasons:
            raise InputError("; ".join(reasons))
        arrays: dict[str, np.ndarray] = {}
        for name, encoder in self.about["encoders"].items():
            arrays |= self._read_encoder(name, encoder, records)
        streams = {read["stream"] for encoder in self.about["encoders"].values() for read in encoder["reads"].values()}
        return arrays, {name: measure_usable_fraction(records[name]) for name in streams}

    def _read_encoder(
        self, name: str, encoder: Mapping[str, Any], records: Mapping[str, Record]
    ) -> dict[str, np.ndarray]:
        reads = encoder["reads"]
        references = {reference: (read["stream"], read["array"]) for reference, read in reads.items()}
        sampler, steps = SAMPLERS[encoder["take"]], encoder["steps"]
        selected = select_steps(records, references, lambda present: sampler.choose(present, steps, None))
        arrays = {}
        for reference, (indices, times) in selected.items():
            stream, array = references[reference]
            if not len(indices):
                raise InputError(f"{reference}: no step for the encoder {name}")
            values = EXTRACTIONS[stream].read(records[stream], indices, array)
            if encoder["images"]:
                values = scale_and_crop(values, encoder["shorter_side"], encoder["crop"], None, reference)
            if values.dtype == np.uint8:
                values = values.astype(np.float32) / 255
            arrays[reads[reference]["values"]] = np.ascontiguousarray(values[None], np.float32)
            arrays[reads[reference]["times"]] = times[None].astype(np.float32)
        return arrays

    def _run(self, clip: Path, span: Span | None) -> _Output:
        arrays, usable = self.read_inputs(clip, span)
        for name, shape in self._shapes.items():
            if isinstance(shape[1], int) and arrays[name].shape[1] != shape[1]:
                raise InputError(f"{name} has {arrays[name].shape[1]} steps; allowed by this network: {shape[1]}")
        names = [node.name for node in self._session.get_outputs()]
        outputs = self._session.run(names, {name: arrays[name] for name in self._shapes})
        if not all(np.isfinite(values).all() for values in outputs):
            raise InputError("the model's prediction is not a finite number")
        return _Output({name: values[0].astype(float) for name, values in zip(names, outputs, strict=True)}, usable)

    def _predict(self, clip: Path) -> dict[str, Any]:
        if not clip.is_file() or not clip.stat().st_size:
            raise InputError(f"{clip} is not a file" if not clip.is_file() else "the file is empty")
        spans: Sequence[Span | None] = split_long_clip(measure_clip_seconds(clip), self.about["seconds"], None) or [
            None
        ]
        usable, reason = list[_Output](), ""
        for span in spans:
            try:
                usable.append(self._run(clip, span))
            except InputError as error:
                reason = reason or str(error)
        if not usable:
            raise InputError(reason)
        weights = average_usable_fractions([output.usable_fractions for output in usable])
        check_usable_fraction(sum(weights) / len(spans), _MIN_USABLE, len(usable), len(spans), reason)
        return {
            name: self._estimate(name, group, usable, weights, len(spans) == 1)
            for name, group in self.about["targets"].items()
        }

    def _estimate(
        self, name: str, group: Mapping[str, Any], usable: Sequence[_Output], weights: Sequence[float], interval: bool
    ) -> dict[str, dict[str, float | None]]:
        """Return a group's estimates by column, the mean over windows."""
        has_scale = f"{name}_scale" in usable[0].values
        scales = np.array([output.values[f"{name}_scale"] for output in usable]) if has_scale else None
        mean, scale = average_windows(np.array([output.values[name] for output in usable]), scales, weights)
        estimates = {}
        for index, (column, ranks) in enumerate(group["columns"].items()):
            score, deviation = float(mean[index]), None if scale is None else float(scale[index])
            half_width = ranks["half_width"] if ranks and ranks["half_width"] is not None and interval else np.inf
            low, high = find_interval(score, half_width * (deviation or 1.0), group["bounds"])
            has_ranks = ranks is not None and ranks["quantiles"] is not None
            rank = percentile(score, np.array(ranks["quantiles"])) if has_ranks else None
            estimates[column] = {"score": score, "low": low, "high": high, "percentile": rank, "scale": deviation}
        return estimates


def main() -> None:
    """Predict the clips of the command line; print a JSON object for each. The status is 1 if a clip is rejected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP", help="video file")
    parser.add_argument(
        "--save-inputs", type=Path, metavar="FILE.npz", help="write the network's inputs for the first clip"
    )
    arguments = parser.parse_args()
    chain = Chain(Path(sys.argv[0]).resolve().parent)
    if arguments.save_inputs:
        try:
            np.savez(arguments.save_inputs, **chain.read_inputs(arguments.clips[0])[0])  # type: ignore[arg-type]
        except InputError as error:
            parser.exit(1, f"{arguments.clips[0]}: {error}\n")
    any_rejected = False
    for clip in arguments.clips:
        prediction = chain(clip)
        any_rejected |= bool(prediction["rejected"])
        print(json.dumps(prediction), flush=True)
    sys.exit(int(any_rejected))
