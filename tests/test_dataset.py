"""Which clips can be used, from the shards of both streams."""

from pathlib import Path

import h5py
import pandas as pd
import pytest

from lib.core.errors import InputError
from lib.data.dataset import usable

TABLE = pd.DataFrame({"clip": ["a", "b", "c"], "shard": ["one", "one", "two"]})


def write(stream: Path, clips: dict[str, list[str]], refused: str = "") -> Path:
    stream.mkdir()
    for shard, names in clips.items():
        with h5py.File(stream / f"{shard}.h5", "w") as file:
            for name in names:
                file.create_group(name).attrs.update({"refused": "why"} if name == refused else {})
    return stream


def test_a_clip_is_usable_if_no_stream_has_refused_it(tmp_path: Path) -> None:
    whole = {"one": ["a", "b"], "two": ["c"]}
    faces, flow = write(tmp_path / "faces", whole), write(tmp_path / "flow", whole, refused="b")
    assert usable(TABLE, faces, flow)["clip"].tolist() == ["a", "c"]
    assert usable(TABLE, faces)["clip"].tolist() == ["a", "b", "c"]


def test_what_shards_lack_is_named(tmp_path: Path) -> None:
    faces, flow = write(tmp_path / "faces", {"one": ["a", "b"]}), write(tmp_path / "flow", {"one": ["b"], "two": ["c"]})
    with pytest.raises(InputError, match=r"faces/two\.h5 is missing; run `dvc repro faces`"):
        usable(TABLE, faces)
    with pytest.raises(InputError, match=r"flow/one\.h5 lacks a \(1 in all\); run `dvc repro flow`"):
        usable(TABLE, flow)
