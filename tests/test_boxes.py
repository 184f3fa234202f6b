"""Messages about video files that cannot be opened."""

from pathlib import Path

import pytest

from lib.media.boxes import describe_damage
from lib.media.packets import VideoError, measure_duration
from tests.video_files import Track, timed_frames, write_video_file

CUT = "its index (moov) is missing: was the recording or download cut off?"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    write_video_file(tmp_path / "complete.mp4", Track(timed_frames(30)))
    return tmp_path / "complete.mp4"


def test_truncated_recording_has_no_index(video: Path) -> None:
    content = video.read_bytes()
    index = content.index(b"moov") - 4
    for length in (index, index // 2):
        video.write_bytes(content[:length])
        with pytest.raises(VideoError, match=r"^cannot be read: its index \(moov\) is missing: .* cut off\?$"):
            measure_duration(video)


def test_describe_damage_skips_64_bit_boxes(tmp_path: Path) -> None:
    ftyp, large_box = b"\0\0\0\x10ftypisom\0\0\0\0", b"\0\0\0\1mdat" + (32).to_bytes(8) + bytes(16)
    (tmp_path / "a.mp4").write_bytes(ftyp + large_box + b"\0\0\0\x08moov")
    assert describe_damage(tmp_path / "a.mp4") == "not a video, or damaged (FFmpeg: invalid data)"
    (tmp_path / "a.mp4").write_bytes(ftyp + large_box)
    assert describe_damage(tmp_path / "a.mp4") == CUT


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "the file is empty"), (b"no video at all", "not a video, or damaged")]
)
def test_file_without_video_gives_its_cause(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=words):
        measure_duration(tmp_path / "a.mp4")
