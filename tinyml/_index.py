"""Indexing: turns what stands in t[...] into a slice op, or into positions for the take op."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyml._dtypes import Array
from tinyml.errors import ArgumentError, AxisError, DTypeError


class Basic(NamedTuple):
    """Ints, slices, ellipsis and newaxis: (start, step, count) per dimension, step 0 for an int, which drops it.

    shape: that of the result, where newaxis adds to what the triples give; else None.
    """

    triples: list[int]
    shape: list[int] | None


class Advanced(NamedTuple):
    """Integer arrays or masks among the indices: which of the first `covered` dimensions' elements, row-major."""

    positions: Array
    covered: int


def span(index: slice, extent: int) -> range:
    """The positions that a slice means in a dimension. Raises DTypeError or ArgumentError for what means none."""
    try:
        return range(*index.indices(extent))
    except TypeError:
        raise DTypeError(f"index: got {index}, expected ints or nothing around the colons") from None
    except ValueError:
        raise ArgumentError(f"index: got {index}, expected a step other than 0") from None


def _plain(index: Any) -> Any:
    """An index without tensors and lists: ints, slices, None, Ellipsis and NumPy arrays."""
    if isinstance(index, slice):
        span(index, 0)
        return index
    if index is None or index is Ellipsis:
        return index
    if isinstance(index, int) and not isinstance(index, bool):
        return index
    if isinstance(index, np.integer):
        return int(index)
    array = np.asarray(index)
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(np.int64)  # an empty list
    if array.dtype.kind not in "iub":
        raise DTypeError(
            f"index: got {type(index).__name__} of {array.dtype}, "
            "expected ints, slices, ..., None, integer arrays or bool masks"
        )
    return int(array) if array.ndim == 0 and array.dtype.kind != "b" else array


def _expand(index: tuple[Any, ...], rank: int) -> tuple[Any, ...]:
    """The index with its ellipsis written out; too many indices raise AxisError."""
    used = sum(
        item.ndim if isinstance(item, np.ndarray) and item.dtype.kind == "b" else 1
        for item in index
        if item is not None and item is not Ellipsis
    )
    if used > rank:
        raise AxisError(f"index: got {used} indices for {rank} dimension{'s' * (rank != 1)}")
    ellipses = [i for i, item in enumerate(index) if item is Ellipsis]
    if len(ellipses) > 1:
        raise AxisError("index: got more than one ellipsis (...)")
    if not ellipses:
        return index
    at = ellipses[0]
    return (*index[:at], *[slice(None)] * (rank - used), *index[at + 1 :])


def resolve(index: Any, shape: tuple[int, ...]) -> Basic | Advanced:
    """What an index means for a tensor of that shape.

    Raises AxisError for an index out of range or too many of them, DTypeError for what is no index, ArgumentError for a
    slice of step 0.

    >>> resolve((0, slice(None, None, 2)), (3, 5))
    Basic(triples=[0, 0, 1, 0, 2, 3], shape=None)
    >>> resolve([2, 0], (3, 5))
    Advanced(positions=array([2, 0]), covered=1)
    """
    items = index if isinstance(index, tuple) else (index,)
    given = tuple(map(_plain, items))
    items = _expand(given, len(shape))
    if any(isinstance(item, np.ndarray) for item in items):
        covered = sum(
            item.ndim if isinstance(item, np.ndarray) and item.dtype.kind == "b" else 1
            for item in items
            if item is not None
        )
        block = np.arange(np.prod(shape[:covered], dtype=np.int64)).reshape(shape[:covered])
        try:
            return Advanced(block[given], covered)  # an ellipsis counts, even one that stands for nothing
        except IndexError as error:
            raise AxisError(f"index: {error}") from None
    triples: list[int] = []
    result: list[int] = []
    axis = 0
    for item in items:
        if item is None:
            result.append(1)
            continue
        extent = shape[axis]
        if isinstance(item, slice):
            positions = span(item, extent)
            triples += (positions.start, positions.step, len(positions))
            result.append(len(positions))
        else:
            triples += (item, 0, 1)
        axis += 1
    if None not in items:
        return Basic(triples, None)
    return Basic(triples, [*result, *shape[axis:]])
