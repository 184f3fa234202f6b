"""Read the frames of all windows of a video in one pass, so that overlapping windows decode no frame twice."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np

from lib.media.frames import Sampler, find_shown, list_times, to_image
from lib.media.packets import STEP_TOLERANCE, Span, VideoTrack, open_video

Encode = Callable[[np.ndarray], Any]
"""Turns an image, RGB uint8 (H, W, 3), into what is stored of it."""


def read_windows(
    path: Path | None, fps: float, max_side: int | None, spans: Sequence[Span], encode: Encode
) -> Iterator[list[tuple[float, Any]]]:
    """Yield for each window the list that `read_frames` yields for its span, each image turned by `encode`.

    The video is decoded once, without frames that no window shows and that no other frame depends on. An image that several
    windows show is encoded once. spans: in rising order of their begins and of their ends. Raises VideoError if the video
    can't be decoded, and UnexpectedFrameError if `read_frames` must decode each window separately.
    """
    times, seconds = list_times(path)
    plans = [[times[index] for index in find_shown(seconds, *span, fps)] if times else [] for span in spans]
    with open_video(path, "cannot be decoded") as container:
        video = VideoTrack(container)
        video.wanted = frozenset([*chain.from_iterable(plans), times[-1]]) if times else None
        images = _Images(video, encode)
        pending = deque(
            _Window(span, Sampler(video, fps, max_side, plan), images) for span, plan in zip(spans, plans, strict=True)
        )
        active: deque[_Window] = deque()
        last: tuple[float, av.VideoFrame | None] = -np.inf, None
        for now, frame in video.decode():
            while pending and now > pending[0].begin + STEP_TOLERANCE:
                active.append(pending.popleft())
                active[-1].push(0.0, last[1] or frame)
            while active and now >= active[0].end - STEP_TOLERANCE:
                yield active.popleft().finish(ended=False)
            if not (pending or active):
                return
            for window in active:
                if now > window.begin + STEP_TOLERANCE:
                    window.push(now - window.begin, frame)
            last = now, frame
        for window in active:
            yield window.finish(ended=True)
        for window in pending:
            if last[1] is not None and last[0] + video.step >= window.begin:
                window.push(0.0, last[1])
            yield window.finish(ended=True)


class _Images:
    """Encodes frames; keeps the last one, because the next window may show it too."""

    def __init__(self, video: VideoTrack, encode: Encode) -> None:
        self._video, self._encode = video, encode
        self._last: tuple[av.VideoFrame, tuple[int, int], Any] | None = None

    def __call__(self, frame: av.VideoFrame, size: tuple[int, int]) -> Any:
        if self._last is None or self._last[0] is not frame or self._last[1] != size:
            self._last = frame, size, self._encode(to_image(self._video, frame, size))
        return self._last[2]


class _Window:
    """A window and its frames so far. begin, end: in seconds since the video's first frame."""

    def __init__(self, span: Span, sampler: Sampler, images: _Images) -> None:
        (self.begin, self.end), self._sampler, self._images = span, sampler, images
        self._frames: list[tuple[float, Any]] = []

    def push(self, now: float, frame: av.VideoFrame) -> None:
        """Take the frame that is shown from `now` on, in seconds since the window's begin."""
        self._take(self._sampler.push(now, frame))

    def finish(self, *, ended: bool) -> list[tuple[float, Any]]:
        """Return the window's frames. ended: whether the video ended before the window."""
        self._take(self._sampler.finish(None if ended else self.end - self.begin))
        return self._frames

    def _take(self, frames: Iterator[tuple[float, av.VideoFrame]]) -> None:
        self._frames += [(seconds, self._images(frame, self._sampler.size)) for seconds, frame in frames]
