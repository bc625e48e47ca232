"""Settings that are one int, or one for each dimension: kernel sizes, strides, paddings."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from tinyml.errors import ArgumentError, DTypeError

Ints = int | Sequence[int]


def ints(op: str, what: str, value: Any, n: int) -> tuple[int, ...]:
    """An int, or one for each of n dimensions, as n ints."""
    try:
        if not isinstance(value, Sequence):
            return (operator.index(value),) * n
        several = tuple(map(operator.index, value))
    except TypeError:
        raise DTypeError(f"{op}: got {what} {value!r}, expected an int{f' or {n} of them' if n > 1 else ''}") from None
    if len(several) == 1:
        return several * n
    if len(several) != n:
        raise ArgumentError(f"{op}: got {what} {value!r}, expected an int{f' or {n} of them' if n > 1 else ''}")
    return several
