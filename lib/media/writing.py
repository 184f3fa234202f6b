"""Write video files with PyAV."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(path: Path, frames: np.ndarray, fps: int, samples: np.ndarray, sample_rate: int) -> None:
    """Write RGB uint8 frames (T, H, W, 3) as H.264 and mono float samples in [-1, 1] as AAC.

    The same input gives the same bytes.
    """
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        # x264's look-ahead would encode the same frames to different bytes in each call
        video.options = {"crf": "18", "preset": "veryfast", "threads": "1", "x264-params": "rc-lookahead=0"}
        audio = container.add_stream("aac", rate=sample_rate, layout="mono")
        audio.time_base = Fraction(1, sample_rate)
        for image in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())
        voice = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="fltp", layout="mono")
        voice.sample_rate, voice.pts, voice.time_base = sample_rate, 0, audio.time_base
        container.mux(audio.encode(voice))
        container.mux(audio.encode())
