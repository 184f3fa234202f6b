"""Robustness: predictions for corrupted faces, and the accuracy that is lost.

The stored faces are corrupted. Faces are not detected again, but streams that are computed from faces, as flow, are computed
from the corrupted ones.
"""

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
import pandas as pd
from lightning_fabric import Fabric

from lib.analysis._context import ClipCount, Context, concatenate_tables
from lib.core.artifacts import ROBUSTNESS
from lib.core.clips import write_csv
from lib.core.parameters import Section
from lib.core.shards import Record
from lib.data.batch import Sample
from lib.data.dataset import ClipDataset, list_streams, make_inputs
from lib.model import infer
from lib.model.network import Network
from lib.scoring.tables import ROBUSTNESS_COLUMNS, control_table
from lib.streams import base
from lib.streams.base import StreamInfo
from lib.streams.faces.align import TEMPLATE

OUTPUTS = (ROBUSTNESS,)

FACES = "faces"
_EYES, _MOUTH = TEMPLATE[:2].mean(0) / 112, TEMPLATE[3:].mean(0) / 112  # x and y as fractions of the side
INTACT = "intact", 0.0
_COVER = 0.7  # width of the bar, as a fraction of the side
_GREY = 127


def compress(faces: np.ndarray, quality: float) -> np.ndarray:
    """Return the faces after JPEG compression at this quality, each on its own."""
    found = np.empty_like(faces)
    for face, into in zip(faces, found, strict=True):
        _, coded = cv2.imencode(".jpg", face[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
        into[:] = cv2.cvtColor(cv2.imdecode(coded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return found


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
    whole = faces.shape[1:3]
    small = tuple(max(1, round(side / 100 * length)) for length in whole)
    scaled = (cv2.resize(face, small, interpolation=cv2.INTER_AREA) for face in faces)
    return np.stack([cv2.resize(one, whole, interpolation=cv2.INTER_LINEAR) for one in scaled])


CORRUPTIONS: dict[str, tuple[Callable[[np.ndarray, float], np.ndarray] | None, tuple[float, ...]]] = {
    "JPEG quality": (compress, (40, 15, 5)),
    "blur (σ, % of side)": (blur, (2, 4, 8)),
    "light (%)": (darken, (50, 25, 12)),
    "eyes covered (% of height)": (cover_eyes, (10, 20, 30)),
    "mouth covered (% of height)": (cover_mouth, (10, 20, 30)),
    "resolution (% of side)": (downscale, (50, 25, 12)),
    "frames (one of ...)": (None, (2, 3, 5)),
}
"""By name the change of a clip's faces uint8 (T, S, S, 3), None for fewer frames, and three strengths, from mild to severe
(after Hendrycks and Dietterich 2019, Benchmarking neural network robustness to common corruptions)."""


class Settings(Section):
    robustness_clips: ClipCount


def run(context: Context) -> None:
    write_csv(ROBUSTNESS, measure_robustness(context))


def measure_robustness(context: Context) -> pd.DataFrame:
    """Return the loss of accuracy of each target group under each corruption.

    It is measured on the clips of the sample that have a label and can be predicted under every corruption; without any,
    there is no row.
    """
    sample, tables = context.sample(context.settings.robustness_clips), list[pd.DataFrame]()
    streams = context.evaluation.trained.streams
    predicted = predict(context.fabric, context.network, streams, context.clips, sample, context.batch_size)
    all_videos = context.clips.table["video"].iloc[sample].to_numpy()
    for name, group in context.targets.items():
        of_group = {key: by_group[name] for key, by_group in predicted.items() if name in by_group}
        if len(of_group) < len(predicted) or not of_group:
            continue
        actual = context.actual(sample, group)
        used = np.isfinite(actual).any(1) & np.isfinite([*of_group.values()]).all((0, 2))
        if used.any():
            keys = {str(key): key for key in of_group}
            values = {text: [group.from_unit(of_group[key][used])] for text, key in keys.items()}
            videos = all_videos[used]
            table = control_table(values, str(INTACT), actual[used], videos, group, context.bootstrap)
            corruption, strength = zip(*(keys[text] for text in table["control"]), strict=True)
            tables.append(table.assign(targets=name, corruption=corruption, strength=strength))
    return concatenate_tables(tables, ROBUSTNESS_COLUMNS)


def predict(
    fabric: Fabric,
    network: Network,
    streams: Mapping[str, StreamInfo],
    clips: ClipDataset,
    chosen: Sequence[int],
    batch_size: int,
) -> dict[tuple[str, float], dict[str, np.ndarray]]:
    """Return the predictions (N, K) of the N `chosen` clips by corruption and strength, or INTACT, and target group; NaN for
    a clip that is then missing an input. Empty if the network reads neither faces nor streams computed from them."""
    read, made = list_streams(network.encoder_inputs), streams_from_faces(streams)
    if not {*made} & {*read}:
        return {}
    makers = base.make_extractors({name: streams[name] for name in made if name != FACES})
    done = [INTACT, *((name, strength) for name, (_, strengths) in CORRUPTIONS.items() for strength in strengths)]
    found: dict[tuple[str, float], dict[str, np.ndarray]] = {what: {} for what in done}
    for at in range(0, len(chosen), batch_size):  # recomputed streams of many clips may take gigabytes
        stored = [clips.records(index, {FACES: None, **dict.fromkeys(read)}) for index in chosen[at : at + batch_size]]
        for what in done:
            samples = []
            for place, of_clip in enumerate(stored, at):
                records = dict(of_clip)
                if what != INTACT:
                    records[FACES] = corrupt(records[FACES], *what)
                    for name, make in makers.items():
                        records[name] = base.extract(make, [records[one] for one in base.load(name).inputs])
                inputs = make_inputs(records, network.encoder_inputs, streams, None)
                if all(len(steps.times) for of in inputs.values() for steps in of.values()):
                    samples.append(Sample(inputs, {}, place))
            for group, values in (infer.predict(fabric, network, samples, batch_size, 0) if samples else {}).items():
                into = found[what].setdefault(group, np.full((len(chosen), values.shape[1]), np.nan))
                into[[one.index for one in samples]] = values
    return found


def corrupt(record: Record, name: str, strength: float) -> Record:
    """Return a clip's record of faces after a corruption."""
    if record.refused:
        return record
    change, _ = CORRUPTIONS[name]
    arrays = {key: values[()] for key, values in record.arrays.items()}
    if change is not None:
        arrays["faces"] = change(arrays["faces"], strength)
    else:
        kept = np.arange(0, len(arrays["times"]), int(strength))
        cut = np.logical_or.reduceat(arrays["cut"][: kept[-1] + 1], np.concatenate([[0], kept[:-1] + 1]))
        arrays = {key: values[kept] for key, values in arrays.items()} | {"cut": cut}
    return Record(record.clip, arrays, record.attributes)


def streams_from_faces(streams: Mapping[str, StreamInfo]) -> list[str]:
    """Return the names of `streams` that are faces or computed from them, each after its inputs."""
    found: list[str] = []
    for name in streams:
        if name == FACES or {*found} & {*base.load(name).inputs}:
            found.append(name)
    return found


def _cover(faces: np.ndarray, middle: np.ndarray, height: float) -> np.ndarray:
    side, faces = faces.shape[1], faces.copy()
    (left, right), (top, bottom) = (
        (max(0, round(side * (at - of / 2))), round(side * (at + of / 2)))
        for at, of in zip(middle, (_COVER, height / 100), strict=True)
    )
    faces[:, top:bottom, left:right] = _GREY
    return faces
