"""Names of clips and paths in users' tables, matched with the clips of a corpus."""

import pytest

from lib.sources._matching import ClipNames, is_absolute, split_path


@pytest.mark.parametrize(
    ("value", "clip"),
    [
        ("p01.mp4", "p01.mp4"),
        ("p01", "p01.mp4"),
        ("P01", None),
        ("p01.MP4", "p01.mp4"),
        ("x/p02", "x_p02.mov"),
        (r"C:\Users\me\Videos\p01.mp4", "p01.mp4"),
        ("v.000", "v.000.mp4"),
        ("twice", None),
        ("twice.mp4", "twice.mp4"),
        ("", None),
    ],
)
def test_clip_is_found_with_or_without_suffix(value: str, clip: str | None) -> None:
    names = ClipNames(["p01.mp4", "x_p02.mov", "v.000.mp4", "twice.mp4", "twice.mov"])
    assert names.find(value) == clip


def test_paths_of_other_machines_are_absolute() -> None:
    assert all(map(is_absolute, (r"C:\a\b.mp4", "D:/b.mp4", "/home/x/b.mp4", "~/b.mp4", r"\\server\b.mp4")))
    assert not any(map(is_absolute, ("a/b.mp4", "b.mp4", r"a\b.mp4", "./b.mp4")))
    assert split_path(r".\a\\b.mp4") == ("a", "b.mp4")
