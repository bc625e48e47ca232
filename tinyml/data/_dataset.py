"""Datasets: what has a length and gives a sample for an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from tinyml._dtypes import Array, as_supported
from tinyml.errors import ArgumentError, ShapeError
from tinyml.tensor import Tensor, tensor


class Dataset(Protocol):
    """Anything with a length whose items are samples: a list of pairs, or a class of your own.

    A sample is a number, a NumPy array or a Tensor, or a tuple of them, the same for every index.
    """

    def __len__(self) -> int:
        """How many samples there are."""

    def __getitem__(self, index: int, /) -> Any:
        """The sample at index 0 to len - 1."""


class TensorDataset:
    """Samples along the first dimension of tensors or NumPy arrays of one length.

    https://docs.pytorch.org/docs/stable/data.html#torch.utils.data.TensorDataset. The arrays are
    kept as they are, without a copy where NumPy can do without; batches take their dtype, or the
    nearest that tensors have (uint8 labels give int64). Gradients do not flow back.

    `arrays` has what was given as NumPy arrays. Raises ArgumentError for no arrays at all,
    ShapeError for arrays of unequal length or without dimensions, DTypeError for what is no number.

    >>> points = TensorDataset(np.eye(3, dtype=np.float32), [7, 8, 9])
    >>> len(points), points[1]
    (3, (tensor([0., 1., 0.]), tensor(8)))
    """

    arrays: tuple[Array, ...]

    def __init__(self, *tensors: Tensor | Array | Sequence[Any]) -> None:
        if not tensors:
            raise ArgumentError("TensorDataset: got no tensors; give at least one, as in (x, y)")
        self.arrays = tuple(map(_as_array, tensors))
        shapes = [array.shape for array in self.arrays]
        if () in shapes:
            raise ShapeError(
                f"TensorDataset: got shapes {_listed(shapes)}, "
                "expected at least one dimension, along which the samples lie"
            )
        if len({shape[0] for shape in shapes}) > 1:
            raise ShapeError(
                f"TensorDataset: got shapes {_listed(shapes)}, expected equal first extents, "
                "one entry per sample; cut the longer ones, as in x[:n]"
            )

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor(array[index]) for array in self.arrays)

    def __repr__(self) -> str:
        fields = ", ".join(f"{array.dtype}{list(array.shape)}" for array in self.arrays)
        return f"TensorDataset({fields})"


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))


def _as_array(data: Any) -> Array:
    """What was given as a NumPy array in C order; refuses what has no place in tensors."""
    if isinstance(data, Tensor):
        return data.detach().numpy()
    if not isinstance(data, np.ndarray):
        return tensor(data).numpy()
    if not data.ndim:
        return data
    as_supported(data[:0])  # a conversion, if any, waits for the batches: uint8 images stay small
    return np.ascontiguousarray(data)
