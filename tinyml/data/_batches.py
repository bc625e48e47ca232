"""Batches: arrays of one length, and which of their rows make up each batch of an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyml import _random
from tinyml._dtypes import Array, as_supported
from tinyml._node import _array_ref
from tinyml.errors import ArgumentError, ShapeError
from tinyml.tensor import Tensor


class Batches:
    """What a DataLoader over a TensorDataset does, for steps that gather their rows themselves.

    arrays: contiguous and of supported dtypes. full: the full batches of an epoch; rest: the rows of one more.
    """

    def __init__(
        self,
        arrays: Sequence[Array],
        size: int,
        shuffle: bool,
        drop_last: bool,
        generator: np.random.Generator | None,
    ) -> None:
        if not arrays:
            raise ArgumentError("over: got no arrays, expected one for each argument of the function")
        lengths = [len(array) for array in arrays]
        if len(set(lengths)) > 1:
            raise ShapeError(f"over: got arrays of lengths {lengths}, expected one length")
        if size < 1:
            raise ArgumentError(f"over: got batch_size {size}, expected at least 1")
        self.arrays = [np.ascontiguousarray(as_supported(array)) for array in arrays]
        self.size = size
        self.full, rest = divmod(lengths[0], size)
        self.rest = 0 if drop_last else rest
        if not len(self):
            raise ArgumentError(f"over: {lengths[0]} rows make no batch of {size}; lower batch_size")
        self._shuffle = shuffle
        self._generator = generator

    def __len__(self) -> int:
        """The batches of an epoch."""
        return self.full + (self.rest > 0)

    @property
    def counts(self) -> Array:
        """How many rows each batch has."""
        return np.array([self.size] * self.full + [self.rest] * (self.rest > 0))

    def order(self) -> Array | None:
        """The rows of the next epoch, in their order; None: as they are. Draws as DataLoader does."""
        if not self._shuffle:
            return None
        return (self._generator or _random.generator()).permutation(len(self.arrays[0]))

    def batch(self, order: Array | None, i: int) -> tuple[Tensor, ...]:
        """Batch number i of an epoch of that order."""
        rows: slice | Array = slice(i * self.size, (i + 1) * self.size)
        if order is not None:
            rows = order[rows]
        return tuple([Tensor._wrap(_array_ref(np.ascontiguousarray(array[rows]))) for array in self.arrays])
