"""Say in words why a file can't be opened as a video."""

from pathlib import Path


def describe_damage(path: Path) -> str:
    """Return why FFmpeg reports invalid data in a file."""
    size = path.stat().st_size
    if not size:
        return "the file is empty"
    boxes = _top_boxes(path, size)
    if b"ftyp" in boxes and b"moov" not in boxes:
        return "its index (moov) is missing: was the recording or download cut off?"
    return "not a video, or damaged (FFmpeg: invalid data)"


def _top_boxes(path: Path, size: int) -> list[bytes]:
    """Return the types of the boxes that follow each other in an MP4 or QuickTime file, up to a damaged one."""
    boxes, offset = [], 0
    with path.open("rb") as file:
        while offset + 8 <= size:
            file.seek(offset)
            header = file.read(16)
            length = int.from_bytes(header[:4])
            if length == 1:  # the length follows, in 64 bits
                length = int.from_bytes(header[8:])
            boxes.append(header[4:8])
            if length < 8:  # 0: up to the end of the file
                break
            offset += length
    return boxes
