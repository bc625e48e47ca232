"""DataLoader: a dataset in batches, in order or shuffled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinyml import _core, _random
from tinyml._dtypes import Array, as_dtype, as_supported
from tinyml.data._batches import Batches
from tinyml.data._dataset import Dataset, TensorDataset
from tinyml.errors import ArgumentError, DTypeError, ShapeError
from tinyml.tensor import Tensor, tensor

# Shuffled rows are gathered for several batches at once, about as much as stays in a core's cache:
# at batch size 1 a gather per batch would cost more than the rest of the loader.
_BLOCK_BYTES = 1 << 18
_MOST_CONVERTED = 1 << 24


class DataLoader:
    """Iterates over a dataset in batches: tuples of tensors with one more dimension in front.

    https://docs.pytorch.org/docs/stable/data.html#torch.utils.data.DataLoader. Each pass is an
    epoch; with `shuffle` each epoch has a fresh order. The last batch may be smaller, or is left
    out with `drop_last`. `seed` gives the loader a random generator of its own: the same seed gives
    the same orders, whatever else draws numbers. Without it the orders follow tinyml.manual_seed.

    A TensorDataset is gathered by whole-array indexing. Other datasets are asked for one sample at
    a time, and the samples are stacked; unlike in PyTorch a batch is always a tuple, and Python
    floats become float32 as in tinyml.tensor.

    Raises ArgumentError for an empty dataset or a batch size below 1, DTypeError for what is no
    dataset, and during iteration ShapeError for samples that differ in shape or number of parts.

    >>> numbers = TensorDataset([[0.0], [1.0], [2.0]], [0, 1, 2])
    >>> for x, y in DataLoader(numbers, batch_size=2):
    ...     print(x.shape, y)
    (2, 1) tensor([0, 1])
    (1, 1) tensor([2])
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        *,
        seed: int | None = None,
    ) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise DTypeError(
                f"DataLoader: got a {type(dataset).__name__}, expected a dataset with __len__ and "
                "__getitem__; put samples into a list, or arrays into a TensorDataset"
            )
        if len(dataset) == 0:
            raise ArgumentError("DataLoader: the dataset is empty, expected at least one sample")
        if not isinstance(batch_size, int | np.integer):
            raise DTypeError(f"DataLoader: got batch_size {batch_size!r}, expected an int")
        if batch_size < 1:
            raise ArgumentError(
                f"DataLoader: got batch_size {batch_size}, expected at least 1; "
                "for all samples at once give len(dataset)"
            )
        self.dataset = dataset
        self.batch_size = int(batch_size)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self._generator = None if seed is None else np.random.default_rng(seed)

    def __len__(self) -> int:
        """How many batches an epoch has."""
        samples = len(self.dataset)
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        samples = len(self.dataset)
        order = None
        if self.shuffle:
            order = (self._generator or _random.generator()).permutation(samples)
        if self.drop_last:
            samples -= samples % self.batch_size
        if isinstance(self.dataset, TensorDataset):
            return _gathered(self.dataset.arrays, order, samples, self.batch_size)
        return _collated(self.dataset, order, samples, self.batch_size)

    def batches(self) -> Batches | None:
        """The same batches for a step that gathers rows itself; None for a dataset that is not all arrays, or whose
        arrays would grow large when brought to a supported dtype as a whole."""
        if not isinstance(self.dataset, TensorDataset):
            return None
        arrays = self.dataset.arrays
        if any(as_supported(array[:0]).dtype != array.dtype and array.size > _MOST_CONVERTED for array in arrays):
            return None
        return Batches(arrays, self.batch_size, self.shuffle, self.drop_last, self._generator)

    def __repr__(self) -> str:
        return (
            f"DataLoader({len(self.dataset)} samples, batch_size={self.batch_size}, "
            f"shuffle={self.shuffle}, drop_last={self.drop_last})"
        )


def _gathered(
    arrays: Sequence[Array], order: Array | None, samples: int, batch_size: int
) -> Iterator[tuple[Tensor, ...]]:
    """Batches of arrays of one length: of their rows order[:samples], or of the first `samples`."""
    batch_bytes = batch_size * sum(array[:1].nbytes for array in arrays)
    rows = batch_size * max(1, _BLOCK_BYTES // max(1, batch_bytes))
    dtypes = [as_supported(array[:0]).dtype for array in arrays]
    codes = [as_dtype(dtype).code for dtype in dtypes]
    scratch = []
    if order is not None:
        shapes = [(min(rows, samples), *array.shape[1:]) for array in arrays]
        scratch = [np.empty(shape, array.dtype) for shape, array in zip(shapes, arrays, strict=True)]
    for start in range(0, samples, rows):
        count = min(rows, samples - start)
        if order is None:
            block = [array[start : start + count] for array in arrays]
        else:
            block = [target[:count] for target in scratch]
            for array, target in zip(arrays, block, strict=True):
                # "clip" writes straight into the target, the default through a copy.
                np.take(array, order[start : start + count], axis=0, out=target, mode="clip")
        fields = [
            (code, part if part.dtype == dtype else as_supported(part))
            for code, part, dtype in zip(codes, block, dtypes, strict=True)
        ]
        for at in range(0, count, batch_size):
            yield tuple([_leaf(code, part[at : at + batch_size]) for code, part in fields])


def _leaf(code: int, array: Array) -> Tensor:
    """A tensor with a copy of a C-contiguous array of that dtype."""
    return Tensor._wrap(_core.leaf(code, array.shape, array, False))


def _collated(dataset: Dataset, order: Array | None, samples: int, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
    """Batches of samples asked for one at a time."""
    indices: Sequence[int] = range(samples) if order is None else order[:samples].tolist()
    for at in range(0, samples, batch_size):
        yield _collate([dataset[index] for index in indices[at : at + batch_size]])


def _collate(samples: list[Any]) -> tuple[Tensor, ...]:
    """Samples, each one part or a sequence of parts, as a tuple with one tensor per part."""
    rows = [sample if isinstance(sample, tuple | list) else (sample,) for sample in samples]
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise ShapeError(
            f"DataLoader: samples of one batch have {_either(lengths)} parts, "
            "expected the same number for each; return tuples of one length"
        )
    return tuple(_stack(i, parts) for i, parts in enumerate(zip(*rows, strict=True)))


def _stack(place: int, parts: Sequence[Any]) -> Tensor:
    """The tensor that holds one part of every sample."""
    if not hasattr(parts[0], "__array__"):
        return tensor(list(parts), _op=f"DataLoader, part {place} of the samples")
    arrays = [part.detach().numpy() if isinstance(part, Tensor) else np.asarray(part) for part in parts]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ShapeError(
            f"DataLoader: part {place} of the samples of one batch has shapes {_either(shapes)}, "
            "expected one shape; pad or crop them in the dataset, or use batch_size=1"
        )
    return tensor(np.stack(arrays))


def _either(items: set[Any]) -> str:
    return " and ".join(map(str, sorted(items)))
