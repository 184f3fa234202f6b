"""The voice by name: speech activity, turns and pauses, pitch, level, speech rate, jitter and shimmer."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from lib.core import shards
from lib.core.shards import Record
from lib.streams._measures import ARRAYS, DETAILED, read_steps
from lib.streams.base import RAW, Raw, Stream, StreamSettings
from lib.streams.voice.measures import MEASURES


class Settings(StreamSettings):
    """activity: the detector of speech. min_pause, min_turn: in seconds. lowest_pitch, highest_pitch: in Hz."""

    activity: Literal["energy", "silero"]
    min_pause: Annotated[float, Field(ge=0.05, le=10)]
    min_turn: Annotated[float, Field(ge=0.01, le=10)]
    lowest_pitch: Annotated[float, Field(ge=40, le=1000)]
    highest_pitch: Annotated[float, Field(ge=60, le=4000)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.highest_pitch < 1.5 * self.lowest_pitch:
            raise ValueError(
                f"highest_pitch = {self.highest_pitch}; allowed: at least 1.5 x lowest_pitch = {1.5 * self.lowest_pitch}"
            )
        return self


def make_extractor(settings: Settings) -> Callable[[Raw], Record]:
    """Return a function that measures a clip's voice. Raises InputError if the detector's weights are missing."""
    from lib.streams._activity import make_detector  # not needed to read the stream's shards
    from lib.streams.voice.extract import measure_voice

    detect = make_detector(settings.activity, "voice.activity")
    return lambda raw: measure_voice(raw, detect, settings.model_dump(exclude={"enabled", "activity"}))


def files(settings: Settings) -> list[Path]:
    """Return the weights file of silero-vad if it is the detector of speech."""
    from lib.streams._activity import list_weights

    return list_weights(settings.activity)


def summary(folder: Path) -> dict[str, Any]:
    """Return the minutes of audio and of speech."""
    seconds = np.array(list(shards.read_attributes(folder, "seconds")), float)
    speech = np.array(list(shards.read_attributes(folder, "speech_seconds")), float)
    return {"minutes": round(seconds.sum() / 60, 3), "minutes_of_speech": round(speech.sum() / 60, 3)}


STREAM = Stream(
    inputs=(RAW,),
    kind="vectors",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    arrays=ARRAYS,
    detailed=DETAILED,
    groups={measure.name: measure.group for measure in MEASURES},
    files=files,
    summary=summary,
)
