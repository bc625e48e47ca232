"""MNIST, 70,000 handwritten digits, and Fashion-MNIST in its form, from a folder, the cache or a public mirror."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinyml.data._dataset import TensorDataset
from tinyml.data._idx import decompress, read_idx
from tinyml.errors import DataError

_TIMEOUT = 10.0  # seconds without a byte


class _Source(NamedTuple):
    """Four files of the same names: the function that loads them, their folder in the cache, where they are to be had,
    and the SHA-256 of each, uncompressed."""

    function: str
    folder: str
    mirrors: tuple[str, ...]
    sha256: dict[str, str]


_MNIST = _Source(
    "mnist",
    "mnist",
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
)
_FASHION_MNIST = _Source(
    "fashion_mnist",
    "fashion-mnist",
    (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ),
    {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
)


class MNIST(NamedTuple):
    """The two sets of MNIST or Fashion-MNIST, each of images and labels; see mnist."""

    train: TensorDataset
    test: TensorDataset


def mnist(root: str | os.PathLike[str] | None = None, *, flatten: bool = False) -> MNIST:
    """MNIST as (train, test): TensorDatasets of 60,000 and 10,000 images with their labels.

    Images are float32 from 0 (background) to 1, of shape (N, 1, 28, 28), or (N, 784) if `flatten`;
    labels are int64, 0 to 9, of shape (N,). `train.arrays` has both as NumPy arrays.

    Each of the four original files, gzipped or not, is looked for in `root`, then in the cache:
    $TINYML_DATA/mnist if that variable is set, else $XDG_CACHE_HOME/tinyml/mnist or
    ~/.cache/tinyml/mnist. What is in neither is downloaded into the cache from a public mirror and
    checked against its SHA-256. Other data in files of these names works too.

    Raises DataError, which names every place tried, when a file is nowhere to be had, and when a
    file is broken or images and labels do not belong together.

    >>> train, test = mnist("examples/data/mnist")  # doctest: +SKIP
    >>> train  # doctest: +SKIP
    TensorDataset(float32[60000, 1, 28, 28], int64[60000])
    """
    return MNIST(_load(_MNIST, root, "train", flatten), _load(_MNIST, root, "t10k", flatten))


def fashion_mnist(root: str | os.PathLike[str] | None = None, *, flatten: bool = False) -> MNIST:
    """Fashion-MNIST as (train, test): 60,000 and 10,000 images of clothes, in the form of MNIST and harder.

    https://github.com/zalandoresearch/fashion-mnist. Shapes, dtypes, places and errors are those of mnist, but the
    cache is the folder fashion-mnist beside mnist. The labels: 0 T-shirt/top, 1 trouser, 2 pullover, 3 dress, 4 coat,
    5 sandal, 6 shirt, 7 sneaker, 8 bag, 9 ankle boot.
    """
    return MNIST(_load(_FASHION_MNIST, root, "train", flatten), _load(_FASHION_MNIST, root, "t10k", flatten))


def _load(source: _Source, root: str | os.PathLike[str] | None, part: str, flatten: bool) -> TensorDataset:
    images_path = _find(source, root, f"{part}-images-idx3-ubyte")
    labels_path = _find(source, root, f"{part}-labels-idx1-ubyte")
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise DataError(
            f"{source.function}: got shapes {images.shape} in {images_path} and {labels.shape} in "
            f"{labels_path}, expected (N, rows, columns) and (N,); are both from the same set?"
        )
    n, rows, columns = images.shape
    pixels = np.divide(images, 255, dtype=np.float32)
    return TensorDataset(
        pixels.reshape((n, rows * columns) if flatten else (n, 1, rows, columns)),
        labels.astype(np.int64),
    )


def _cache(folder: str) -> Path:
    """The folder of that name for downloaded files."""
    data = os.environ.get("TINYML_DATA")
    if data:
        return Path(data).expanduser() / folder
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "tinyml" / folder


def _find(source: _Source, root: str | os.PathLike[str] | None, name: str) -> Path:
    """The path of a file, downloaded if need be."""
    cache = _cache(source.folder)
    folders = [cache] if root is None else [Path(root).expanduser(), cache]
    for folder in folders:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    tried = [f"{folder}: no such file" for folder in folders]
    for mirror in source.mirrors:
        try:
            return _download(f"{mirror}{name}.gz", cache / f"{name}.gz", source.sha256[name])
        except (OSError, DataError) as error:
            tried.append(f"{mirror}: {error}")
    raise DataError(
        f"{source.function}: found {name}[.gz] nowhere.\n"
        + "".join(f"  {place}\n" for place in tried)
        + f"Put the four files {', '.join(source.sha256)}, gzipped or not, into {cache}, "
        f"or give the folder they are in, as in {source.function}(root)."
    )


def _download(url: str, path: Path, sha256: str) -> Path:
    """Fetches a gzipped file, checks what is in it, and puts it in place in one move."""
    # Not at the top: rarely needed, and slow to import.
    import hashlib
    import tempfile
    import urllib.request
    from http.client import HTTPException

    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            content: bytes = response.read()
    except HTTPException as error:
        raise DataError(str(error)) from None
    found = hashlib.sha256(decompress(content, url)).hexdigest()
    if found != sha256:
        raise DataError(f"got {len(content)} bytes of SHA-256 {found}, expected {sha256}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        part.write_bytes(content)
        part.replace(path)
    return path
