"""A network's inputs as images that people can look at."""

from collections.abc import Mapping

import numpy as np
import torch
from torchvision.utils import flow_to_image

from lib.data.inputs import find_kind
from lib.streams.base import Steps


def input_images(inputs: Mapping[str, Steps]) -> list[np.ndarray]:
    """Return a list with the images (T, H, W, 3), 0 to 255, of the first image stream of an encoder's inputs for one clip.

    The list is empty if the encoder reads no images, or if a step of the clip is absent.
    """
    for reference, steps in inputs.items():
        if find_kind(reference) == "pictures" and bool(steps.present.all()):
            return [(255 * steps.values[0]).round().byte().permute(0, 2, 3, 1).cpu().numpy()]
    return []


def colour_flow(flow: np.ndarray, full: float | None = None) -> tuple[np.ndarray, float]:
    """Return flow (T, 2, H, W) as coloured images, uint8 (T + 1, 3, H, W), and the displacement of saturated colours.

    The colours are those of Baker et al. 2011 (A database and evaluation methodology for optical flow). full:
    displacement of saturated colours; None uses the 99th percentile of the motion. The last image is the colour wheel:
    each position shows the colour of motion from the centre to it.
    """
    full = max(float(np.percentile(np.linalg.norm(flow, axis=1), 99)), 1e-3) if full is None else full
    height, width = flow.shape[2:]
    down, right = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    with_wheel = np.concatenate([flow, full * np.stack([right, down])[None]])
    size = np.linalg.norm(with_wheel, axis=1, keepdims=True)
    within = torch.from_numpy(with_wheel * np.minimum(1, full / np.maximum(size, full))).float()
    images = flow_to_image(within).numpy()
    images[-1][:, down**2 + right**2 > 1] = 255
    return images, full
