"""Hide faces and names of clips, for reports that others may see (figures.faces and figures.names)."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import pandas as pd

from lib.core.face_template import TEMPLATE as TEMPLATE
from lib.report.figures import ClipAttention, FigureInputs
from lib.report.figures._read import ImportanceMaps, MeanAttention, Sample, SampleArray
from lib.report.settings import FacesMode, NamesMode

_CELLS = 4  # per side of a blurred image; with 6, a detector still finds a few faces
_GREY, _POINT = 200, (160, 40, 60)


def hide_face(image: np.ndarray, mode: FacesMode, points: np.ndarray | None = None) -> np.ndarray:
    """Return an image (H, W, 3), uint8, in which no face can be seen; unchanged with "show".

    blur: the complete image is blurred. landmarks: only the `points` (P, 2) in pixels, on grey. none: grey.
    """
    height, width = image.shape[:2]
    if mode == "show":
        return image
    if mode == "blur":
        small = cv2.resize(image, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    hidden = np.full_like(image, _GREY)
    if mode == "landmarks" and points is not None:
        for x, y in np.asarray(points)[np.isfinite(points).all(1)].round().astype(int).tolist():
            cv2.circle(hidden, (x, y), max(1, height // 60), _POINT, -1, cv2.LINE_AA)
    return hidden


def place_template(image: np.ndarray) -> np.ndarray:
    """Return where the five points lie in an aligned face (S, S, 3)."""
    return TEMPLATE * len(image) / 112


class Pseudonyms:
    """Names for clips: "clip 1", "clip 2", ..., in an order that does not depend on the alphabet.

    Someone with the complete list of clips can compute them too.
    """

    def __init__(self, clips: Iterable[str]) -> None:
        order = sorted({*clips}, key=lambda clip: hashlib.sha256(clip.encode(errors="surrogateescape")).hexdigest())
        self._names = {clip: f"clip {number}" for number, clip in enumerate(order, 1)}

    def __call__(self, clip: str) -> str:
        return self._names.setdefault(clip, f"clip {len(self._names) + 1}")


@dataclass(frozen=True)
class Privacy:
    """What the documents of a run show. aligned: names of encoders that read aligned faces."""

    faces: FacesMode
    names: NamesMode
    aligned: frozenset[str] = frozenset()

    @classmethod
    def from_settings(cls, faces: FacesMode, names: NamesMode, encoders: Mapping[str, Any]) -> "Privacy":
        """Return it for a run with these encoders, the section model.encoders."""
        aligned = {name for name, settings in encoders.items() if "faces" in settings["reads"]}
        return cls(faces, names, frozenset({"faces", *aligned}))

    def hide(self, results: FigureInputs) -> FigureInputs:
        """Return the results of a run without faces and names of clips, as far as the settings require."""
        if self.faces != "show":
            results = replace(
                results,
                samples={clip: self._hide_sample(sample) for clip, sample in results.samples.items()},
                augmented={name: self._hide_sample(sample) for name, sample in results.augmented.items()},
                attention={clip: self._hide_attention(attention) for clip, attention in results.attention.items()},
                mean_attention=self._hide_mean(results.mean_attention),
                importance=self._hide_importance(results.importance),
            )
        if self.names == "clip":
            return results
        rename = Pseudonyms(results.clips["clip"])
        tables = ("clips", "predictions", "map")
        return replace(
            results,
            **{name: rename_clips(getattr(results, name), rename) for name in tables},
            samples={rename(clip): sample for clip, sample in results.samples.items()},
            attention={rename(clip): attention for clip, attention in results.attention.items()},
            data=rename_left_out(results.data, rename),
        )

    def _hide_images(self, name: str, images: np.ndarray) -> np.ndarray:
        return np.stack([self._hide_image(name, image) for image in images]) if len(images) else images

    def _hide_image(self, name: str, image: np.ndarray) -> np.ndarray:
        return hide_face(image, self.faces, place_template(image) if name in self.aligned else None)

    def _hide_sample(self, sample: Sample) -> Sample:
        """Hide the faces of all images but coloured flow. In the mode landmarks, aligned faces get their points."""
        pictures = {}
        for name, steps in sample.pictures.items():
            if steps.full is None:
                steps = steps._replace(values=self._hide_steps(name, steps))
            pictures[name] = steps if self.faces != "none" else steps._replace(points=None)
        return sample._replace(pictures=pictures)

    def _hide_steps(self, name: str, steps: SampleArray) -> np.ndarray:
        """Return the images of a clip; a figure draws the points of a stream itself."""
        mode = "none" if steps.points is not None and self.faces == "landmarks" else self.faces
        return np.stack([
            hide_face(image, mode, place_template(image) if name in self.aligned else None) for image in steps.values
        ])  # fmt: skip

    def _hide_attention(self, attention: ClipAttention) -> ClipAttention:
        return attention._replace(
            pictures={name: self._hide_images(name, images) for name, images in attention.pictures.items()}
        )

    def _hide_mean(self, mean: MeanAttention) -> MeanAttention:
        return mean._replace(
            encoders={
                name: encoder
                if encoder.picture is None
                else encoder._replace(picture=self._hide_image(name, encoder.picture))
                for name, encoder in mean.encoders.items()
            }
        )

    def _hide_importance(self, importance: ImportanceMaps) -> ImportanceMaps:
        pictures = {name: self._hide_image(name, image) for name, image in importance.pictures.items()}
        return importance._replace(pictures=pictures)


def rename_clips(table: pd.DataFrame, rename: Pseudonyms) -> pd.DataFrame:
    """Return a table with pseudonyms in its column `clip`, if it has one."""
    return table.assign(clip=table["clip"].map(rename)) if "clip" in table else table


def rename_left_out(data: Mapping[str, Any], rename: Pseudonyms) -> Mapping[str, Any]:
    """Return the contents of metrics/data.json with pseudonyms for the clips that are in no split."""
    if not (left_out := data.get("left_out")):
        return data
    return {**data, "left_out": {**left_out, "first": [rename(clip) for clip in left_out["first"]]}}
