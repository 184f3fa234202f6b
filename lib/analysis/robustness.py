"""Robustness: predictions for corrupted faces, and the accuracy that is lost.

The stored faces are corrupted. Faces are not detected again, but streams that are computed from faces, such as flow, are
computed again from the corrupted faces.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd

from lib.analysis._context import Context, concatenate_tables
from lib.core.artifacts import ROBUSTNESS
from lib.core.clips import write_csv
from lib.core.shards import Record
from lib.data.batch import Sample
from lib.data.dataset import ClipDataset, make_inputs
from lib.data.inputs import list_streams
from lib.model import infer
from lib.model.network import Network
from lib.scoring.tables import control_table
from lib.streams import base
from lib.streams._extraction import extract_clip
from lib.streams.base import StreamInfo
from lib.streams.faces.align import TEMPLATE
from lib.streams.frames import select_frames

if TYPE_CHECKING:  # it takes a second to load; checks of parameters and predictions do not need it
    from lightning_fabric import Fabric

OUTPUTS = (ROBUSTNESS,)

FACES = "faces"
_EYES, _MOUTH = TEMPLATE[:2].mean(0) / 112, TEMPLATE[3:].mean(0) / 112  # x and y as fractions of the side
INTACT = "intact", 0.0
_COVER = 0.7  # width of the bar, as a fraction of the side
_GREY = 127
_COLUMNS = "targets", "corruption", "strength", "target", "clips", "accuracy", "r2", "loss", "low", "high"


def compress(faces: np.ndarray, quality: float) -> np.ndarray:
    """Return the faces after JPEG compression at this quality, one by one."""
    compressed = np.empty_like(faces)
    for face, output in zip(faces, compressed, strict=True):
        _, coded = cv2.imencode(".jpg", face[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
        output[:] = cv2.cvtColor(cv2.imdecode(coded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return compressed


def blur(faces: np.ndarray, sigma: float) -> np.ndarray:
    """Return the faces after a Gaussian blur; sigma in % of the side."""
    return np.stack([cv2.GaussianBlur(face, (0, 0), sigma / 100 * len(face)) for face in faces])


def darken(faces: np.ndarray, light: float) -> np.ndarray:
    """Return the faces with `light` % of their brightness."""
    return np.asarray((faces * (light / 100)).round().astype(np.uint8))


def cover_eyes(faces: np.ndarray, height: float) -> np.ndarray:
    """Return the faces with a grey bar over the eyes, its height in % of the side."""
    return _cover(faces, _EYES, height)


def cover_mouth(faces: np.ndarray, height: float) -> np.ndarray:
    """Return the faces with a grey bar over the mouth, its height in % of the side."""
    return _cover(faces, _MOUTH, height)


def downscale(faces: np.ndarray, side: float) -> np.ndarray:
    """Return the faces scaled down to `side` % and up again."""
    size = faces.shape[1:3]
    small_size = tuple(max(1, round(side / 100 * length)) for length in size)
    small = (cv2.resize(face, small_size, interpolation=cv2.INTER_AREA) for face in faces)
    return np.stack([cv2.resize(face, size, interpolation=cv2.INTER_LINEAR) for face in small])


CORRUPTIONS: dict[str, tuple[Callable[[np.ndarray, float], np.ndarray] | None, tuple[float, ...]]] = {
    "JPEG quality": (compress, (40, 15, 5)),
    "blur (σ, % of side)": (blur, (2, 4, 8)),
    "light (%)": (darken, (50, 25, 12)),
    "eyes covered (% of height)": (cover_eyes, (10, 20, 30)),
    "mouth covered (% of height)": (cover_mouth, (10, 20, 30)),
    "resolution (% of side)": (downscale, (50, 25, 12)),
    "frames (one of ...)": (None, (2, 3, 5)),
}
"""Corruption -> a function that changes a clip's faces, uint8 (T, S, S, 3), and three strengths from mild to severe.

None in place of the function means that frames are left out. The corruptions follow Hendrycks and Dietterich 2019,
Benchmarking neural network robustness to common corruptions and perturbations.
"""


def run(context: Context) -> None:
    write_csv(ROBUSTNESS, measure_robustness(context))


def measure_robustness(context: Context) -> pd.DataFrame:
    """Return the loss of accuracy of each target group under each corruption.

    All rows use the same clips: those of the sample with a label that can be predicted under every corruption. Without
    such clips the table is empty.
    """
    sample, tables = context.sample(context.settings.robustness_clips), list[pd.DataFrame]()
    streams = context.evaluation.trained.streams
    predicted = predict(context.fabric, context.network, streams, context.clips, sample, context.batch_size)
    all_videos = context.clips.table["video"].iloc[sample].to_numpy()
    for name, group in context.targets.items():
        arrays = {key: by_group[name] for key, by_group in predicted.items() if name in by_group}
        if len(arrays) < len(predicted) or not arrays:
            continue
        actual = context.actual(sample, group)
        members = np.isfinite(actual).any(1) & np.isfinite([*arrays.values()]).all((0, 2))
        if members.any():
            keys = {str(key): key for key in arrays}
            values = {text: [group.from_unit(arrays[key][members])] for text, key in keys.items()}
            videos = all_videos[members]
            table = control_table(values, str(INTACT), actual[members], videos, group, context.bootstrap)
            corruption, strength = zip(*(keys[text] for text in table["control"]), strict=True)
            tables.append(table.assign(targets=name, corruption=corruption, strength=strength))
    return concatenate_tables(tables, _COLUMNS)


def predict(
    fabric: "Fabric",
    network: Network,
    streams: Mapping[str, StreamInfo],
    clips: ClipDataset,
    chosen: Sequence[int],
    batch_size: int,
) -> dict[tuple[str, float], dict[str, np.ndarray]]:
    """Return the predictions (N, K) of the N `chosen` clips by corruption and strength, or INTACT, and by target group.

    Predictions are NaN for a clip that is missing an input after the corruption. The dictionary is empty if the network
    reads neither faces nor streams that are computed from faces.
    """
    read, dependent = list_streams(network.settings_by_encoder), streams_from_faces(streams)
    if not {*dependent} & {*read}:
        return {}
    extractors = base.make_extractors({name: streams[name] for name in dependent if name != FACES})
    sources = {name: base.load(name).inputs_of(streams[name].settings) for name in extractors}
    others = {source for inputs in sources.values() for source in inputs if source not in dependent}
    changes = [INTACT, *((name, strength) for name, (_, strengths) in CORRUPTIONS.items() for strength in strengths)]
    predicted: dict[tuple[str, float], dict[str, np.ndarray]] = {change: {} for change in changes}
    for start in range(0, len(chosen), batch_size):  # the streams of many clips may take gigabytes
        batch = chosen[start : start + batch_size]
        stored = [clips.records(index, dict.fromkeys([FACES, *read, *sorted(others)])) for index in batch]
        for change in changes:
            samples = []
            for place, intact in enumerate(stored, start):
                records = dict(intact)
                if change != INTACT:
                    records[FACES] = corrupt(records[FACES], *change)
                    unchanged = {name: leave_out(intact[name], *change) for name in others}
                    for name, extractor in extractors.items():
                        needed = [unchanged.get(source) or records[source] for source in sources[name]]
                        records[name] = extract_clip(extractor, needed)
                inputs = make_inputs(records, network.settings_by_encoder, streams, None)
                if all(len(steps.times) for references in inputs.values() for steps in references.values()):
                    samples.append(Sample(inputs, {}, place))
            for group, values in (infer.predict(fabric, network, samples, batch_size, 0) if samples else {}).items():
                array = predicted[change].setdefault(group, np.full((len(chosen), values.shape[1]), np.nan))
                array[[sample.index for sample in samples]] = values
    return predicted


def corrupt(record: Record, name: str, strength: float) -> Record:
    """Return a clip's record of faces after a corruption; a rejected clip's record is unchanged."""
    if record.rejected:
        return record
    change, _ = CORRUPTIONS[name]
    arrays = {key: values[()] for key, values in record.arrays.items()}
    if change is not None:
        arrays["faces"] = change(arrays["faces"], strength)
    else:
        frames = np.arange(0, len(arrays["times"]), int(strength))
        cut = np.logical_or.reduceat(arrays["cut"][: frames[-1] + 1], np.concatenate([[0], frames[:-1] + 1]))
        arrays = {key: values[frames] for key, values in arrays.items()} | {"cut": cut}
    return Record(record.clip, arrays, record.attributes)


def leave_out(frames: Record, name: str, strength: float) -> Record:
    """Return a clip's record of frames without those that the corruption of the faces leaves out."""
    if frames.rejected or CORRUPTIONS[name][0] is not None:
        return frames
    return select_frames(frames, np.arange(0, len(frames.arrays["times"]), int(strength)))


def streams_from_faces(streams: Mapping[str, StreamInfo]) -> list[str]:
    """Return the names of `streams` that are faces or computed from them, each after its inputs."""
    names: list[str] = []
    for name in streams:
        if name == FACES or {*names} & {*base.load(name).inputs_of(streams[name].settings)}:
            names.append(name)
    return names


def _cover(faces: np.ndarray, middle: np.ndarray, height: float) -> np.ndarray:
    """Return the faces with a grey bar around `middle`, x and y as fractions of the side; height in % of the side."""
    side, faces = faces.shape[1], faces.copy()
    (start_x, end_x), (start_y, end_y) = (
        (max(0, round(side * (centre - length / 2))), round(side * (centre + length / 2)))
        for centre, length in zip(middle, (_COVER, height / 100), strict=True)
    )
    faces[:, start_y:end_y, start_x:end_x] = _GREY
    return faces
