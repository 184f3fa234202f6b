"""Scale and crop the images of a clip; separate so that importing it loads only NumPy and OpenCV."""

import cv2
import numpy as np

from lib.core.errors import InputError


def scale_and_crop(
    values: np.ndarray, shorter_side: int | None, crop: int | None, rng: np.random.Generator | None, name: str
) -> np.ndarray:
    """Return uint8 images (T, 3, H, W), scaled to a shorter side of `shorter_side` pixels, cropped to `crop` x `crop`.

    None leaves the size as it is. All images of a clip have the same crop: a random one with `rng`, as in training, the
    middle one without. Raises InputError if the images of the stream `name` are smaller than the crop.
    """
    if shorter_side is not None:
        height, width = values.shape[2:]
        scale = shorter_side / min(height, width)
        if scale != 1:
            size = int(width * scale + 1e-9), int(height * scale + 1e-9)
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            images = [np.ascontiguousarray(image.transpose(1, 2, 0)) for image in values]
            scaled = [cv2.resize(image, size, interpolation=method) for image in images]
            values = np.stack(scaled).transpose(0, 3, 1, 2)
    if crop is None:
        return values
    excess = np.array(values.shape[2:]) - crop
    if excess.min() < 0:
        raise InputError(
            f"crop = {crop} pixels, but {name} has images of {values.shape[3]}x{values.shape[2]};"
            " lower it, or set shorter_side"
        )
    y, x = excess // 2 if rng is None else rng.integers(excess + 1)
    return values[:, :, y : y + crop, x : x + crop]
