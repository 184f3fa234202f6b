"""Predict how people rate the person in a video clip, with a trained or a published model.

from apparent_personality import Predictor
print(Predictor.from_pretrained("FOLDER")("talk.mp4"))

An installed package contains the folders lib and tools of the repository as apparent_personality.lib and
apparent_personality.tools. In the repository's folder the same imports work without an installation.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lib.core.errors import InputError
    from lib.serving.predictor import Predictor
    from lib.serving.results import Prediction, to_frame

__all__ = ["InputError", "Prediction", "Predictor", "to_frame"]

_MODULES = {
    "InputError": "lib.core.errors",
    "Prediction": "lib.serving.results",
    "Predictor": "lib.serving.predictor",
    "to_frame": "lib.serving.results",
}


def __getattr__(name: str) -> Any:
    """Import a class or function when it is first used, because PyTorch takes seconds to load."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
