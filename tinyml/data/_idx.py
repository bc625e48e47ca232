"""IDX files, the format of MNIST: magic number, extents, then the elements, all big-endian."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from tinyml._dtypes import Array
from tinyml.errors import DataError, DTypeError, ShapeError

_DTYPES = {
    code: np.dtype(name)
    for code, name in {
        0x08: "uint8",
        0x09: "int8",
        0x0B: ">i2",
        0x0C: ">i4",
        0x0D: ">f4",
        0x0E: ">f8",
    }.items()
}
_CODES = {dtype.newbyteorder("="): code for code, dtype in _DTYPES.items()}
_GZIP_MAGIC = b"\x1f\x8b"


def decompress(content: bytes, name: object) -> bytes:
    """The bytes of a file, gunzipped if they are gzip; DataError, with its name, if that fails."""
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{name}: broken gzip data ({error}); get the file again") from None


def read_idx(path: str | os.PathLike[str]) -> Array:
    """The array in an IDX file, plain or gzipped (told by content, not by name).

    Returns a new array in native byte order: uint8, int8, int16, int32, float32 or float64, of the
    shape in the file. Raises DataError for a file that is no IDX file, cut short, too long or
    broken, and OSError (FileNotFoundError and so on) for one that cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(f"{folder}/numbers.gz", np.array([[1, 2], [3, 4]], dtype=np.int16))
    ...     read_idx(f"{folder}/numbers.gz")
    array([[1, 2],
           [3, 4]], dtype=int16)
    """
    name = os.fspath(path)
    content = decompress(Path(path).read_bytes(), name)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _DTYPES:
        codes = ", ".join(f"{code:02x}" for code in _DTYPES)
        raise DataError(
            f"{name}: starts with {content[:4].hex(' ') or 'nothing'}, expected 00 00, a type "
            f"({codes}) and the number of dimensions; is this an IDX file?"
        )
    dtype, rank = _DTYPES[content[2]], content[3]
    start = 4 + 4 * rank
    if len(content) < start:
        raise DataError(
            f"{name}: ends at byte {len(content)} within its header, expected {start} bytes "
            f"for {rank} dimensions; get the file again"
        )
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        problem = "cut short" if len(content) < expected else "too long"
        raise DataError(
            f"{name}: {problem}, got {len(content)} bytes, expected {expected} "
            f"for shape {shape} of {dtype.name}; get the file again"
        )
    if rank > 32:
        raise DataError(f"{name}: got {rank} dimensions, expected at most 32")
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def write_idx(path: str | os.PathLike[str], array: Array) -> None:
    """Writes an array as an IDX file, gzipped if the name ends in .gz.

    Raises DTypeError for a dtype that IDX has no code for, ShapeError for an extent beyond 32 bits.
    """
    array = np.asarray(array)
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        known = ", ".join(dtype.name for dtype in _CODES)
        raise DTypeError(f"write_idx: got an array of {array.dtype}, expected one of {known}; use .astype()")
    if any(extent >= 2**32 for extent in array.shape):
        raise ShapeError(f"write_idx: got shape {array.shape}, expected extents below 2**32")
    header = bytes((0, 0, code, array.ndim))
    header += b"".join(extent.to_bytes(4, "big") for extent in array.shape)
    content = header + array.astype(_DTYPES[code]).tobytes()
    name = os.fspath(path)
    Path(path).write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
