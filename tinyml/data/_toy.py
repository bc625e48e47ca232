"""Toy problems, small enough to look at."""

from __future__ import annotations

from tinyml.tensor import Tensor, tensor


def xor() -> tuple[Tensor, Tensor]:
    """The exclusive or: four points (4, 2) and their targets (4, 1), float32 zeros and ones.

    >>> x, y = xor()
    >>> x.tolist(), y.flatten().tolist()
    ([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0.0, 1.0, 1.0, 0.0])
    """
    return (
        tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]),
        tensor([[0.0], [1.0], [1.0], [0.0]]),
    )
