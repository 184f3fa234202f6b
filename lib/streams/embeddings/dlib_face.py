"""dlib's face recognition network: embeddings of 128 numbers, similar for images of the same person."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.streams import landmarks

_SIDE, _PADDING = 150, 0.25  # of the network's training images


class DlibFace(nn.Module):
    """dlib's ResNet of 29 layers (dlib_face_recognition_resnet_model_v1; 99.4 % on LFW).

    It runs on the CPU unless dlib is built for GPUs. Faces are aligned again by dlib's 68 points, as in its training.

    Raises InputError if dlib or its models are not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._dlib, models = landmarks.load_dlib("network = dlib_face", "name another network")
        self._find: Any = landmarks.make_shape_finder(self._dlib, models)
        self._network = self._dlib.face_recognition_model_v1(models.face_recognition_model_location())

    def forward(self, pictures: Tensor) -> Tensor:
        """Return embeddings (B, 128) of aligned faces (B, 3, S, S) in [0, 1]."""
        faces = (pictures * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        chips = [self._dlib.get_face_chip(*self._find(face), _SIDE, _PADDING) for face in faces]
        vectors = np.array([list(vector) for vector in self._network.compute_face_descriptor(chips)], np.float32)
        return torch.from_numpy(vectors).to(pictures.device)
