"""Activations, elementwise and along a dimension."""

from __future__ import annotations

from typing import Any

from tinyml import _core
from tinyml._core import apply2, fail
from tinyml.errors import ArgumentError, ShapeError
from tinyml.tensor import Tensor, _operand

_HARDTANH, _PRELU = _core.op("hardtanh"), _core.op("prelu")


def relu(input: Any) -> Any:
    """max(x, 0); its derivative at 0 is 0."""
    return input.relu()


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Any:
    """x where positive, negative_slope * x elsewhere."""
    return input.leaky_relu(negative_slope)


def prelu(input: Tensor, weight: Any) -> Tensor:
    """x where positive, weight * x elsewhere: one weight for all, or one for each index of dimension 1.

    Raises ShapeError for another number of weights. https://arxiv.org/abs/1502.01852

    >>> import tinyml
    >>> prelu(tinyml.tensor([[-1.0, -1.0, 2.0]]), tinyml.tensor([0.5, 0.25, 0.5]))
    tensor([[-0.5 , -0.25,  2.  ]])
    """
    weight = _operand("prelu", weight)
    n, rank = weight.numel(), input.ndim
    if weight.ndim > 1 or (n != 1 and (rank < 2 or n != input.shape[1])):
        raise ShapeError(
            f"prelu: got weight {weight.shape} for input {input.shape}, expected (1,)"
            + (f" or ({input.shape[1]},), the extent of dimension 1" if rank > 1 else "")
        )
    weight = weight.reshape(n, *[1] * (rank - 2)) if rank else weight.reshape(())
    return Tensor._wrap(apply2(_PRELU, input._ref, weight._ref) or fail())


def elu(input: Any, alpha: float = 1.0) -> Any:
    """x where positive, alpha * (exp(x) - 1) elsewhere; its derivative at 0 is alpha. https://arxiv.org/abs/1511.07289

    >>> import tinyml
    >>> elu(tinyml.tensor([-1000.0, 0.0, 2.0]))
    tensor([-1.,  0.,  2.])
    """
    return input.elu(alpha)


def gelu(input: Any, approximate: str = "none") -> Any:
    """x times the probability that a normal number is less than x. https://arxiv.org/abs/1606.08415

    approximate="tanh" takes x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) for it. Raises ArgumentError for any
    other but "none".

    >>> import tinyml
    >>> gelu(tinyml.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1587,  0.    ,  0.8413])
    """
    return input.gelu(approximate)


def silu(input: Any) -> Any:
    """x * sigmoid(x), which is also called Swish. https://arxiv.org/abs/1702.03118

    >>> import tinyml
    >>> silu(tinyml.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.2689,  0.    ,  0.7311])
    """
    return input.silu()


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(beta * x)) / beta, a smooth relu; x itself where beta * x is above the threshold, as in PyTorch.

    >>> import tinyml
    >>> softplus(tinyml.tensor([-1000.0, 0.0, 1000.0]))
    tensor([0.0000e+00, 6.9315e-01, 1.0000e+03])
    """
    return input.softplus(beta, threshold)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """Every element brought into [min_val, max_val]; unlike clamp's, the derivative on a bound is 0.

    Raises ArgumentError unless min_val < max_val.
    """
    if not min_val < max_val:
        raise ArgumentError(f"hardtanh: got min_val {min_val}, max_val {max_val}, expected the former to be less")
    return input._kind._wrap(_core.apply(_HARDTANH, (input._ref,), (min_val, max_val)))


def relu6(input: Any) -> Any:
    """min(max(x, 0), 6)."""
    return hardtanh(input, 0.0, 6.0)


def tanh(input: Any) -> Any:
    """The hyperbolic tangent."""
    return input.tanh()


def sigmoid(input: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return input.sigmoid()


def logsigmoid(input: Any) -> Any:
    """log(sigmoid(x)), stable for large x.

    >>> import tinyml
    >>> logsigmoid(tinyml.tensor([-1000.0, 0.0]))
    tensor([-1.0000e+03, -6.9315e-01])
    """
    return input.logsigmoid()


def softmax(input: Tensor, dim: int) -> Tensor:
    """exp(x) / sum(exp(x)) along a dimension.

    PyTorch guesses a dimension, with a warning, where none is given; here it has to be.

    >>> import tinyml
    >>> softmax(tinyml.tensor([0.0, 0.0]), dim=0)
    tensor([0.5, 0.5])
    """
    return input.softmax(dim)


def log_softmax(input: Tensor, dim: int) -> Tensor:
    """The logarithm of softmax, stable for large inputs; dim has to be given."""
    return input.log_softmax(dim)
