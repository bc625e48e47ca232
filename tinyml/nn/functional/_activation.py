"""Activations, elementwise and along a dimension."""

from __future__ import annotations

from typing import Any

from tinyml.tensor import Tensor


def relu(input: Any) -> Any:
    """max(x, 0); its derivative at 0 is 0."""
    return input.relu()


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Any:
    """x where positive, negative_slope * x elsewhere."""
    return input.leaky_relu(negative_slope)


def tanh(input: Any) -> Any:
    """The hyperbolic tangent."""
    return input.tanh()


def sigmoid(input: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return input.sigmoid()


def softmax(input: Tensor, dim: int) -> Tensor:
    """exp(x) / sum(exp(x)) along a dimension.

    >>> import tinyml
    >>> softmax(tinyml.tensor([0.0, 0.0]), dim=0)
    tensor([0.5, 0.5])
    """
    return input.softmax(dim)


def log_softmax(input: Tensor, dim: int) -> Tensor:
    """The logarithm of softmax, stable for large inputs."""
    return input.log_softmax(dim)
