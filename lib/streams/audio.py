"""A clip's sound as what networks of speech take: mel-frequency cepstral coefficients and the log-mel spectrogram."""

from pathlib import Path

import librosa
import numpy as np

from lib.core.shards import Record
from lib.media import video

_FLOOR = 1e-10  # of power; -100 dB


def features(path: Path, clip: str, sample_rate: int, window: float, step: float, mels: int, mfcc: int) -> Record:
    """Return a clip's `mfcc` (T, mfcc), `log_mel` (T, mels) in dB of full scale's power, and `times` (T,).

    Sound is mixed down and resampled to `sample_rate` Hz; `window` and `step` are in seconds. Each coefficient of `mfcc`
    has mean 0 and standard deviation 1 over the clip (0 if it is constant). `times` are the windows' centres in seconds
    since the first video frame. A clip without sound is refused.
    """
    try:
        start, samples = video.sound(path, sample_rate)
    except video.VideoError as error:
        return Record(clip, refused=f"audio: {error}")
    length, hop = round(window * sample_rate), round(step * sample_rate)
    if len(samples) < length:
        return Record(clip, refused=f"audio: {len(samples) / sample_rate:.3f} s of sound, audio.window is {window}")
    power = librosa.feature.melspectrogram(
        y=samples, sr=sample_rate, n_fft=length, hop_length=hop, n_mels=mels, center=False
    )
    log_mel = 10 * np.log10(np.maximum(power, _FLOOR))
    coefficients = librosa.feature.mfcc(S=log_mel, n_mfcc=mfcc)
    spread = coefficients.std(1, keepdims=True)
    standardised = (coefficients - coefficients.mean(1, keepdims=True)) / np.where(spread > 1e-6, spread, np.inf)
    times = start + (np.arange(log_mel.shape[1]) * hop + length / 2) / sample_rate
    return Record(clip, {"mfcc": _rows(standardised), "log_mel": _rows(log_mel), "times": times})


def _rows(columns: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(columns.T, dtype=np.float32)
