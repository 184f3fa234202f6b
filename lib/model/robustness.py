"""What a network predicts of clips whose stored faces were made worse; nothing is detected anew, but what is made of the
faces, as flow, is made of the worse ones."""

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from lightning_fabric import Fabric

from lib.core.shards import Record
from lib.data.batch import Sample
from lib.data.dataset import Clips, inputs_of, streams_of
from lib.model import infer
from lib.model.network import Network
from lib.streams import base
from lib.streams.base import StreamInfo
from lib.streams.faces.align import TEMPLATE

FACES = "faces"
_EYES, _MOUTH = TEMPLATE[:2].mean(0) / 112, TEMPLATE[3:].mean(0) / 112  # x and y in parts of the side
INTACT = "intact", 0.0
_COVER = 0.7  # of the side is the width of what covers them
_GREY = 127


def compressed(faces: np.ndarray, quality: float) -> np.ndarray:
    """JPEG at this quality, picture by picture."""
    found = np.empty_like(faces)
    for face, into in zip(faces, found, strict=True):
        _, coded = cv2.imencode(".jpg", face[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
        into[:] = cv2.cvtColor(cv2.imdecode(coded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return found


def blurred(faces: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur; sigma in % of the side."""
    return np.stack([cv2.GaussianBlur(face, (0, 0), sigma / 100 * len(face)) for face in faces])


def darkened(faces: np.ndarray, light: float) -> np.ndarray:
    """So much % of the light."""
    return np.asarray((faces * (light / 100)).round().astype(np.uint8))


def eyes_covered(faces: np.ndarray, height: float) -> np.ndarray:
    """A grey bar over the eyes, its height in % of the side."""
    return _covered(faces, _EYES, height)


def mouth_covered(faces: np.ndarray, height: float) -> np.ndarray:
    """A grey bar over the mouth, its height in % of the side."""
    return _covered(faces, _MOUTH, height)


def coarsened(faces: np.ndarray, side: float) -> np.ndarray:
    """Scaled down to so much % of the side, and up again."""
    whole = faces.shape[1:3]
    small = tuple(max(1, round(side / 100 * length)) for length in whole)
    scaled = (cv2.resize(face, small, interpolation=cv2.INTER_AREA) for face in faces)
    return np.stack([cv2.resize(one, whole, interpolation=cv2.INTER_LINEAR) for one in scaled])


CORRUPTIONS: dict[str, tuple[Callable[[np.ndarray, float], np.ndarray] | None, tuple[float, ...]]] = {
    "JPEG quality": (compressed, (40, 15, 5)),
    "blur (σ, % of side)": (blurred, (2, 4, 8)),
    "light (%)": (darkened, (50, 25, 12)),
    "eyes covered (% of height)": (eyes_covered, (10, 20, 30)),
    "mouth covered (% of height)": (mouth_covered, (10, 20, 30)),
    "resolution (% of side)": (coarsened, (50, 25, 12)),
    "frames (one of ...)": (None, (2, 3, 5)),
}
"""By name what is done to a clip's faces uint8 (T, S, S, 3), None: some are left out, and three strengths, from mild to
harsh (after Hendrycks and Dietterich 2019, Benchmarking neural network robustness to common corruptions)."""


def predict(
    fabric: Fabric,
    network: Network,
    streams: Mapping[str, StreamInfo],
    clips: Clips,
    chosen: Sequence[int],
    batch_size: int,
) -> dict[tuple[str, float], dict[str, np.ndarray]]:
    """Return the predictions (N, K) of the N `chosen` clips by what was done, a corruption and its strength, or INTACT, and
    target group; NaN for a clip that then lacks anything that is read. Empty where the network reads nothing that is faces
    or made of them."""
    read, made = streams_of(network.readings), made_of_faces(streams)
    if not {*made} & {*read}:
        return {}
    makers = base.make_extractors({name: streams[name] for name in made if name != FACES})
    done = [INTACT, *((name, strength) for name, (_, strengths) in CORRUPTIONS.items() for strength in strengths)]
    found: dict[tuple[str, float], dict[str, np.ndarray]] = {what: {} for what in done}
    for at in range(0, len(chosen), batch_size):  # what is made anew of many clips may be gigabytes
        stored = [clips.records(index, {FACES: None, **dict.fromkeys(read)}) for index in chosen[at : at + batch_size]]
        for what in done:
            samples = []
            for place, of_clip in enumerate(stored, at):
                records = dict(of_clip)
                if what != INTACT:
                    records[FACES] = worse(records[FACES], *what)
                    for name, make in makers.items():
                        records[name] = base.extract(make, [records[one] for one in base.load(name).inputs])
                inputs = inputs_of(records, network.readings, streams, None)
                if all(len(steps.times) for of in inputs.values() for steps in of.values()):
                    samples.append(Sample(inputs, {}, place))
            for group, values in (infer.predict(fabric, network, samples, batch_size, 0) if samples else {}).items():
                into = found[what].setdefault(group, np.full((len(chosen), values.shape[1]), np.nan))
                into[[one.index for one in samples]] = values
    return found


def worse(record: Record, name: str, strength: float) -> Record:
    """Return a clip's record of faces with a corruption."""
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


def made_of_faces(streams: Mapping[str, StreamInfo]) -> list[str]:
    """Return which of `streams` are faces or made of them, each after its inputs."""
    found: list[str] = []
    for name in streams:
        if name == FACES or {*found} & {*base.load(name).inputs}:
            found.append(name)
    return found


def _covered(faces: np.ndarray, middle: np.ndarray, height: float) -> np.ndarray:
    side, faces = faces.shape[1], faces.copy()
    (left, right), (top, bottom) = (
        (max(0, round(side * (at - of / 2))), round(side * (at + of / 2)))
        for at, of in zip(middle, (_COVER, height / 100), strict=True)
    )
    faces[:, top:bottom, left:right] = _GREY
    return faces
