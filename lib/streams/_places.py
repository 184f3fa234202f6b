"""Where a file of features stores a clip's vectors, so that shards can refer to them."""

import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lib.core import resume
from lib.core.references import FileArray


def find_dataset(path: Path, dataset: h5py.Dataset, values: np.ndarray) -> FileArray | None:
    """Return the place of an HDF5 data set with these values; None for one of another file, such as an external link."""
    if dataset.file.filename != str(path) or dataset.is_virtual or dataset.external:
        return None
    offset = dataset.id.get_offset()  # None for chunks and compression
    reference = _refer(path, values, offset, dataset.name)
    return reference if offset is None or _is_right(reference, values) else reference._replace(offset=None)


def find_npz_entry(path: Path, archive: zipfile.ZipFile, name: str, values: np.ndarray) -> FileArray | None:
    """Return the place of an array in an NPZ file; None if it is compressed."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        return None
    with path.open("rb") as file:
        file.seek(_find_content(file, info))
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read_header or read_header[version](file)[1]:  # in Fortran's order
            return None
        reference = _refer(path, values, file.tell())
    return reference if _is_right(reference, values) else None


def find_tensor(path: Path, tensor: Any) -> FileArray | None:
    """Return the place of a tensor (T, ...) that was read from a file of PyTorch; None if it isn't stored in sequence."""
    import torch

    if not zipfile.is_zipfile(path) or tensor.dtype == torch.bfloat16 or not tensor.is_contiguous():
        return None
    values, size = tensor.numpy(), tensor.untyped_storage().nbytes()
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for info in archive.infolist():
            if "/data/" in info.filename and (info.file_size, info.compress_type) == (size, zipfile.ZIP_STORED):
                start = _find_content(file, info) + tensor.storage_offset() * tensor.element_size()
                reference = _refer(path, values, start)
                if _is_right(reference, values):
                    return reference
    return None


def _find_content(file: Any, info: zipfile.ZipInfo) -> int:
    """Return the offset of an entry's bytes. They follow its local header, whose length is in the header."""
    file.seek(info.header_offset)
    header = file.read(30)
    return info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _refer(path: Path, values: np.ndarray, offset: int | None, key: str = "") -> FileArray:
    """Return a reference to values (T, ...) or (D,), one vector."""
    return FileArray(str(path), resume.hash_unchanged(path), np.atleast_2d(values).shape, values.dtype.str, offset, key)


def _is_right(reference: FileArray, values: np.ndarray) -> bool:
    """Return whether reading at the place gives these values, bit for bit."""
    end = (reference.offset or 0) + reference.nbytes
    if end > Path(reference.path).stat().st_size:
        return False
    return reference.read().reshape(-1).view(np.uint8).data == values.reshape(-1).view(np.uint8).data
