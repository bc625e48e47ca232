"""The dtypes, with their number in C and their NumPy counterpart."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinyml.errors import ArgumentError, DTypeError

Array: TypeAlias = npt.NDArray[Any]


class DType:
    """A dtype of tensors; the only instances are float32, float64, int64 and bool."""

    __slots__ = ("code", "name", "numpy")

    def __init__(self, code: int, name: str) -> None:
        self.code = code
        self.name = name
        self.numpy: np.dtype[Any] = np.dtype(name)

    def __repr__(self) -> str:
        return f"tinyml.{self.name}"

    def __reduce__(self) -> str:
        return f"{self.name}_" if self.name == "bool" else self.name

    @property
    def is_floating_point(self) -> bool:
        """Whether tensors of this dtype can have gradients."""
        return self.code <= 1


float32 = DType(0, "float32")
float64 = DType(1, "float64")
int64 = DType(2, "int64")
bool_ = DType(3, "bool")

DTYPES = (float32, float64, int64, bool_)
_BY_NAME = {dtype.name: dtype for dtype in DTYPES}

DTypeLike: TypeAlias = DType | str | type | np.dtype[Any]


def as_dtype(dtype: DTypeLike) -> DType:
    """The dtype that a DType, its name, a Python type or a NumPy dtype means.

    Raises DTypeError when tensors cannot have it.

    >>> as_dtype("float32"), as_dtype(float), as_dtype(np.dtype("int64"))
    (tinyml.float32, tinyml.float64, tinyml.int64)
    """
    if isinstance(dtype, DType):
        return dtype
    try:
        return _BY_NAME[np.dtype(dtype).name]
    except (KeyError, TypeError):
        raise DTypeError(f"dtype: got {dtype!r}, expected one of {', '.join(map(repr, DTYPES))}") from None


def as_supported(array: Array, op: str = "tensor") -> Array:
    """The array, C-contiguous, in the dtype that tensors keep it in.

    Floats of other sizes become float32 (half) or float64 (long double), integers int64. Raises DTypeError for what has
    no place in a tensor: strings, objects, complex numbers.
    """
    kind = array.dtype.kind
    if array.dtype.name in _BY_NAME and array.dtype.isnative:
        target = array.dtype
    elif kind == "f":
        target = float32.numpy if array.dtype.itemsize <= 4 else float64.numpy
    elif kind in "iu":
        target = int64.numpy
    else:
        raise DTypeError(
            f"{op}: got an array of dtype {array.dtype}, expected numbers or bools; convert it with .astype()"
        )
    if kind == "u" and array.size and array.dtype.itemsize == 8 and array.max() > 2**63 - 1:
        raise DTypeError("tensor: got uint64 values above the int64 range; scale them down")
    return np.asarray(array, dtype=target, order="C")


def as_type(array: Array, dtype: DType, op: str) -> Array:
    """The array in that dtype. Raises ArgumentError for nan or infinity among what shall become integers."""
    if dtype is int64 and array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ArgumentError(f"{op}: got nan or infinity, which have no int64 value; mask them first")
    return array.astype(dtype.numpy)
