"""Speak sentences with the library eSpeak NG of the package espeakng-loader."""

import ctypes
from functools import cache
from typing import Any

import numpy as np

from lib.core.errors import InputError

_RETRIEVAL, _UTF8, _END_PAUSE = 1, 1, 0x1000  # espeak_AUDIO_OUTPUT, espeakCHARS_UTF8, espeakENDPAUSE of speak_lib.h
_RATE, _ERROR = (
    1,
    "espeak-ng can't {}; allowed: the package espeakng-loader; run `pip install -r requirements-asr.txt` again",
)
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Speaker:
    """A voice of eSpeak NG. sample_rate: of its audio, in Hz."""

    def __init__(self, voice: str, words_per_minute: int) -> None:
        """Load the library. Raises InputError if the package or the voice is missing. A process can do so once."""
        try:
            import espeakng_loader
        except ImportError:
            raise InputError(
                "the package espeakng-loader is not installed; required: eSpeak NG speaks the sentences; run"
                " `pip install -r requirements-asr.txt`"
            ) from None
        self._library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.sample_rate = int(self._library.espeak_Initialize(_RETRIEVAL, 0, data, 0))
        if self.sample_rate <= 0:
            raise InputError(_ERROR.format("be initialised"))
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise InputError(f"voice {voice!r} is unknown to espeak-ng; allowed: a voice such as en-us; correct it")
        self._library.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._pieces: list[np.ndarray] = []
        self._callback = _CALLBACK(self._collect)  # the library does not keep it alive
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def speak(self, sentence: str) -> np.ndarray:
        """Return the audio samples (N,) of a sentence, float32 in [-1, 1]."""
        self._pieces.clear()
        text = sentence.encode()
        # text, size, position, type of position, end, flags, identifier, user data
        arguments = text, len(text) + 1, 0, 1, 0, _UTF8 | _END_PAUSE, None, None
        failed = self._library.espeak_Synth(*arguments)
        if failed or self._library.espeak_Synchronize() or not self._pieces:
            raise InputError(_ERROR.format(f"speak {sentence!r}"))
        return (np.concatenate(self._pieces) / 32768).astype(np.float32)


@cache
def load_speaker() -> Speaker:
    """Return the speaker of this process, an American voice at 160 words per minute. Raises InputError as Speaker does."""
    return Speaker("en-us", 160)
