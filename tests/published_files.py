"""Search files for names of clips and, with the project's own detector, for faces."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pypdfium2
import torch

from lib.streams.faces.detect import Detector
from lib.streams.faces.mtcnn import load_networks

_SIDES = (1.0, 2.0)
"""Scales at which images are searched, because faces in figures can be small."""


def read_texts(path: Path) -> str:
    """Return the text of a file: of the pages of a PDF, or of any other file without embedded images."""
    if path.suffix == ".pdf":
        document = pypdfium2.PdfDocument(path)
        return "\n".join(page.get_textpage().get_text_bounded() for page in document)
    if path.suffix in (".png", ".mp4"):
        return ""
    return re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", path.read_text())


def read_images(path: Path) -> Iterator[np.ndarray]:
    """Yield the RGB images of a PNG, of the pages of a PDF, of the frames of a video, or embedded in a web page."""
    if path.suffix == ".png":
        yield _decode(path.read_bytes())
    elif path.suffix == ".pdf":
        for page in pypdfium2.PdfDocument(path):
            yield np.ascontiguousarray(page.render(scale=2).to_numpy()[..., :3][..., ::-1])
    elif path.suffix == ".mp4":
        with av.open(str(path)) as container:
            yield from (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
    elif path.suffix == ".html":
        for encoded in re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", path.read_text()):
            yield _decode(base64.b64decode(encoded))


def _decode(content: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


_CERTAIN = 0.9
"""Smallest score of a face. A grid of blurred images had 0.83; most faces in the demo's figures have more than 0.97."""


class FaceSearch:
    """Counts faces in files with the project's detector."""

    def __init__(self) -> None:
        self._detector = Detector(30, load_networks(torch.device("cpu")))

    def count(self, images: Iterator[np.ndarray]) -> int:
        return sum(
            (self._detector([cv2.resize(image, None, fx=scale, fy=scale)])[0].scores > _CERTAIN).sum()
            for image in images
            for scale in _SIDES
        )
