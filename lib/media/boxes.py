"""Read the boxes of MP4 and QuickTime files: why a file does not open, and which part of its frames is shown."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO


def describe_damage(path: Path) -> str:
    """Return the likely reason why FFmpeg reports invalid data in a file."""
    size = path.stat().st_size
    if not size:
        return "the file is empty"
    boxes = _top_boxes(path, size)
    if b"ftyp" in boxes and b"moov" not in boxes:
        return "its index (moov) is missing: was the recording or download cut off?"
    return "not a video, or damaged (FFmpeg: invalid data)"


def _top_boxes(path: Path, size: int) -> list[bytes]:
    """Return the types of a file's top-level boxes, up to a damaged one."""
    boxes, offset = [], 0
    with path.open("rb") as file:
        while offset + 8 <= size:
            file.seek(offset)
            header = file.read(16)
            length = int.from_bytes(header[:4])
            if length == 1:  # the length follows in 64 bits
                length = int.from_bytes(header[8:])
            boxes.append(header[4:8])
            if length < 8:  # 0: the box ends with the file
                break
            offset += length
    return boxes


def read_aperture(container: Any, stream: Any) -> tuple[float, float]:
    """Return the fractions of the width and height that are shown, around the centre of a video's frames.

    They are given by the box `clap` (ISO/IEC 14496-12). Its offsets are ignored: encoders write 0.
    """
    if "mov" not in container.format.name:
        return 1.0, 1.0
    with Path(container.name).open("rb") as file:
        ranges = [(0, os.fstat(file.fileno()).st_size)]
        for name, header in ((b"moov", 8), (b"trak", 8), (b"mdia", 8), (b"minf", 8), (b"stbl", 8), (b"stsd", 16)):
            boxes = [box for limits in ranges for box in _boxes(file, *limits)]
            ranges = [(begin + header, end) for kind, begin, end in boxes if kind == name]
            ranges = ranges[stream.index : stream.index + 1] if name == b"trak" else ranges
        for _, entry, entry_end in [box for limits in ranges for box in _boxes(file, *limits)]:
            for name, begin, end in _boxes(file, entry + 86, entry_end):
                if name == b"clap" and end - begin >= 40:
                    file.seek(begin + 8)
                    width, width_divisor, height, height_divisor = struct.unpack(">4I", file.read(16))
                    stored = stream.width * width_divisor, stream.height * height_divisor
                    if 0 < width <= stored[0] and 0 < height <= stored[1]:
                        return width / stored[0], height / stored[1]
    return 1.0, 1.0


def _boxes(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, first byte and end of each box between two offsets of a file."""
    while begin + 8 <= end:
        file.seek(begin)
        length, name = struct.unpack(">I4s", file.read(8))
        if length == 1:  # the length follows the name in 64 bits
            length = int.from_bytes(file.read(8), "big")
        length = length or end - begin
        if length < 8 or begin + length > end:
            return
        yield name, begin, begin + length
        begin += length
