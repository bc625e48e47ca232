"""Dropout."""

from __future__ import annotations

from tinyml import _core, _random
from tinyml.errors import ArgumentError
from tinyml.tensor import Tensor

_DROPOUT = _core.op("dropout")


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Zeroes each element with probability p and scales the others by 1 / (1 - p); as it is when not training.

    Raises ArgumentError unless 0 <= p <= 1. https://jmlr.org/papers/v15/srivastava14a.html
    """
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: got p = {p}, expected a probability from 0 to 1")
    if not training or p == 0:
        return input
    return Tensor._wrap(_core.apply(_DROPOUT, (input._ref, _random.c_generator()), (p,)))
