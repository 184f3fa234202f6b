"""The settings of a pretrained network of `transformers` or `timm`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from lib.core import pretrained as folders
from lib.core.errors import InputError
from lib.core.pretrained import PretrainedSettings
from lib.data.inputs import EncoderSettings
from lib.model.architecture import Architecture, read_architecture, write_architecture

_CONSECUTIVE = ("all", "window")
"""Samplers whose steps are consecutive, as audio needs."""


def _check_trainable(value: Any) -> Any:
    if value != "lora" and not (type(value) is int and value >= 0):
        raise ValueError("a number of layers from 0 on, or lora")
    return value


class Settings(EncoderSettings, PretrainedSettings):
    """trainable: number of trained layers, counted from the last, or "lora". rank, alpha: of the adapters of "lora".

    weights: "pretrained", those of the network's folder; None for random weights; for timm also a path. architecture: the
    contents of the folder's descriptions, which training fills in, so that a model's file can be read without the folder.
    """

    kind: Literal["pretrained"]
    weights: str | None
    trainable: Annotated[int | Literal["lora"], BeforeValidator(_check_trainable)]
    rank: Annotated[int, Field(ge=1, le=4096)]
    alpha: Annotated[float, Field(gt=0, le=1e6)]
    checkpointing: bool
    tokens: Literal["clip", "steps"]
    architecture: Architecture | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(is_audio(reference) for reference in self.reads) and self.take not in _CONSECUTIVE:
            raise ValueError(
                f"take = {self.take} with audio; allowed: {', '.join(_CONSECUTIVE)}, whose steps are consecutive"
            )
        return self

    def fill_from_clips(self, lengths: Callable[[], Sequence[int]]) -> Self:
        """Return the settings with the descriptions of the network's folder."""
        folder = self._find_folder()
        return self.model_copy(update={"architecture": read_architecture(folder) if folder else {}})

    def files(self) -> list[Path]:
        """Return the files of the network's folder."""
        folder = self._find_folder()
        return folders.list_files(folder) if folder else []

    @contextmanager
    def open_folder(self) -> Iterator[Path | None]:
        """Give the network's folder, or for a model's file a temporary folder with the descriptions that it contains.

        None for a network of timm whose weights are in no folder.
        """
        if self.weights is None and self.architecture and not self.allow_code:
            with write_architecture(self.architecture) as folder:
                yield folder
        else:
            yield self._find_folder()

    def _find_folder(self) -> Path | None:
        """Return the network's folder; None for a network of timm whose weights are in no folder."""
        from lib.streams.embeddings.pretrained_images import TIMM, find_timm_hub_name  # they load PyTorch

        network, is_timm = self.network, self.network.startswith(TIMM)
        if is_timm and self.weights != "pretrained":
            return None
        if not is_timm and self.weights not in (None, "pretrained"):
            raise InputError(f"weights = {self.weights!r}; allowed with network = {network!r}: null or pretrained")
        name = find_timm_hub_name(network) if is_timm else network
        return folders.find_folder(name, revision=self.revision, download=self.download)


def is_audio(reference: str) -> bool:
    """Return whether a reference to a stream is one to audio samples."""
    return reference.partition(".")[0] == "waveform"
