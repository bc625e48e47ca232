"""Tensors from scratch: filled, counted or drawn, and strung together from others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyml import _core, _random
from tinyml._dtypes import Array, DTypeLike, as_dtype, float32, int64
from tinyml._node import Node
from tinyml.errors import ArgumentError, ShapeError
from tinyml.tensor import Tensor, _beside, _extents, tensor


def _checked(op: str, shape: tuple[Any, ...]) -> tuple[int, ...]:
    extents = _extents(shape)
    if not all(0 <= extent < 2**63 for extent in extents):
        raise ShapeError(f"{op}: got shape {extents}, expected extents of at least 0, each an int64")
    return extents


def zeros(*shape: Any, dtype: DTypeLike = float32, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros; the shape as one sequence or as separate ints.

    >>> zeros(2, 3).shape
    (2, 3)
    """
    extents = _checked("zeros", shape)
    return Tensor._wrap(_core.leaf(as_dtype(dtype).code, extents, None, requires_grad))


def ones(*shape: Any, dtype: DTypeLike = float32, requires_grad: bool = False) -> Tensor:
    """A tensor of ones.

    >>> ones(2)
    tensor([1., 1.])
    """
    return full(_checked("ones", shape), 1, dtype, requires_grad)


def full(
    shape: int | Sequence[int],
    fill_value: float,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor filled with one number, whose Python type gives the dtype unless it is told.

    >>> full((2,), 7)
    tensor([7, 7])
    """
    number = tensor(fill_value, dtype)
    result = zeros(_checked("full", (shape,)), dtype=number.dtype)
    result[...] = number
    result.requires_grad = requires_grad
    return result


def zeros_like(input: Tensor, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Zeros in the shape, and by default the dtype, of another tensor."""
    return zeros(input.shape, dtype=dtype or input.dtype, requires_grad=requires_grad)


def ones_like(input: Tensor, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Ones in the shape, and by default the dtype, of another tensor."""
    return ones(input.shape, dtype=dtype or input.dtype, requires_grad=requires_grad)


def full_like(input: Tensor, fill_value: float, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """One number in the shape, and by default the dtype, of another tensor."""
    return full(input.shape, fill_value, dtype or input.dtype, requires_grad)


def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from start (0 when only the end is given) up to but without end.

    int64 when all are ints, else float32.

    >>> arange(3), arange(0, 1, 0.5)
    (tensor([0, 1, 2]), tensor([0. , 0.5]))
    """
    if end is None:
        start, end = 0, start
    if step == 0:
        raise ArgumentError("arange: step is 0, expected any other number")
    integers = all(isinstance(number, int | np.integer) for number in (start, end, step))
    return tensor(np.arange(start, end, step), dtype or (int64 if integers else float32), requires_grad)


def linspace(start: float, end: float, steps: int, dtype: DTypeLike = float32, requires_grad: bool = False) -> Tensor:
    """`steps` numbers at equal distances from start to end, both included.

    >>> linspace(0, 1, 3)
    tensor([0. , 0.5, 1. ])
    """
    if steps < 0:
        raise ArgumentError(f"linspace: got {steps} steps, expected at least 0")
    return tensor(np.linspace(start, end, steps), dtype, requires_grad)


def eye(n: int, m: int | None = None, dtype: DTypeLike = float32, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal, zeros elsewhere.

    >>> eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    return tensor(np.eye(n, m), dtype, requires_grad)


def rand(*shape: Any, dtype: DTypeLike = float32, requires_grad: bool = False) -> Tensor:
    """Uniform random numbers in [0, 1)."""
    numpy_dtype: Any = np.float64 if as_dtype(dtype).name == "float64" else np.float32
    drawn = _random.generator().random(_checked("rand", shape), dtype=numpy_dtype)
    return tensor(np.asarray(drawn), dtype, requires_grad)


def randn(*shape: Any, dtype: DTypeLike = float32, requires_grad: bool = False) -> Tensor:
    """Normal random numbers of mean 0 and variance 1."""
    numpy_dtype: Any = np.float64 if as_dtype(dtype).name == "float64" else np.float32
    drawn = _random.generator().standard_normal(_checked("randn", shape), dtype=numpy_dtype)
    return tensor(np.asarray(drawn), dtype, requires_grad)


def randint(low: int, high: int, size: Sequence[int], dtype: DTypeLike = int64) -> Tensor:
    """Uniform random integers from low up to but without high."""
    if low >= high:
        raise ArgumentError(f"randint: got low {low} and high {high}, expected low < high")
    return tensor(_random.generator().integers(low, high, _checked("randint", (size,))), dtype, False)


def randperm(n: int) -> Tensor:
    """The integers from 0 to n - 1 in random order."""
    return tensor(_random.generator().permutation(n), int64, False)


def from_numpy(array: Array) -> Tensor:
    """A tensor with a copy of the array. PyTorch shares the memory; here only numpy() does, in the other direction."""
    return tensor(array, None, False)


def _nodes(op: str, tensors: Sequence[Any]) -> list[Node]:
    tensors = list(tensors)
    nodes = [_beside(op, x, tensors) for x in tensors]
    if not nodes:
        raise ArgumentError(f"{op}: got no tensors, expected at least one")
    return nodes


_STACK, _CONCAT = _core.op("stack"), _core.op("concat")


def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors or Values of one shape side by side along a new dimension; gradients flow back into each.

    >>> from tinyml import Value
    >>> a, b = Value(1.0), Value(2.0)
    >>> (stack([a, b]) * 3).sum().backward()
    >>> a.grad, b.grad
    (3.0, 3.0)
    """
    refs = _nodes("stack", tensors)
    return Tensor._wrap(_core.apply(_STACK, [node._ref for node in refs], (dim,)))


def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors joined along an existing dimension; the other extents must agree.

    >>> cat([ones(1, 2), zeros(1, 2)])
    tensor([[1., 1.],
            [0., 0.]])
    """
    refs = _nodes("cat", tensors)
    return Tensor._wrap(_core.apply(_CONCAT, [node._ref for node in refs], (dim,)))


concat = cat
