"""Activations as modules."""

from __future__ import annotations

from typing import Any

from tinyml._creation import full
from tinyml._dtypes import DTypeLike, float32
from tinyml.errors import ArgumentError
from tinyml.nn import functional as F
from tinyml.nn._module import Module, Parameter
from tinyml.tensor import Tensor


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, input: Any) -> Any:
        """Any shape."""
        return input.relu()


class LeakyReLU(Module):
    """x where positive, negative_slope * x elsewhere."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, input: Any) -> Any:
        """Any shape."""
        return input.leaky_relu(self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class PReLU(Module):
    """x where positive, weight * x elsewhere, with a weight that is learnt.

    weight (num_parameters,) starts at init; num_parameters is 1, or the extent of dimension 1, each index of which then
    has its own. Weight decay would pull it towards relu. https://docs.pytorch.org/docs/stable/generated/torch.nn.PReLU.html

    >>> PReLU(3)
    PReLU(num_parameters=3)
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: DTypeLike = float32) -> None:
        if num_parameters < 1:
            raise ArgumentError(f"PReLU: got {num_parameters} parameters, expected at least 1")
        self.init = init
        self.weight = Parameter(full((num_parameters,), init, dtype=dtype))

    def reset_parameters(self) -> None:
        """Brings the weight back to init."""
        self.weight.data = full(self.weight.shape, self.init, dtype=self.weight.dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Any shape; with several parameters (N, num_parameters, ...)."""
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.weight.numel()}"


class ELU(Module):
    """x where positive, alpha * (exp(x) - 1) elsewhere."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, input: Any) -> Any:
        """Any shape."""
        return input.elu(self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(Module):
    """F.gelu; approximate: "none" (by erf) or "tanh".

    >>> GELU("tanh")
    GELU(approximate='tanh')
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ArgumentError(f"GELU: got approximate={approximate!r}, expected 'none' or 'tanh'")
        self.approximate = approximate

    def forward(self, input: Any) -> Any:
        """Any shape."""
        return input.gelu(self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x * sigmoid(x), which is also called Swish."""

    def forward(self, input: Any) -> Any:
        """Any shape."""
        return input.silu()


class Softplus(Module):
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above the threshold."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Any) -> Any:
        """Any shape."""
        return input.softplus(self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Hardtanh(Module):
    """Every element brought into [min_val, max_val]."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        if not min_val < max_val:
            raise ArgumentError(f"Hardtanh: got min_val {min_val}, max_val {max_val}, expected the former to be less")
        self.min_val = min_val
        self.max_val = max_val

    def forward(self, input: Any) -> Any:
        """Any shape."""
        return F.hardtanh(input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}"


class ReLU6(Module):
    """min(max(x, 0), 6)."""

    def forward(self, input: Any) -> Any:
        """Any shape."""
        return F.relu6(input)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, input: Any) -> Any:
        """Any shape."""
        return input.tanh()


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, input: Any) -> Any:
        """Any shape."""
        return input.sigmoid()


class LogSigmoid(Module):
    """log(sigmoid(x)), stable for large x."""

    def forward(self, input: Any) -> Any:
        """Any shape."""
        return input.logsigmoid()


class Softmax(Module):
    """exp(x) / sum(exp(x)) along a dimension, which PyTorch would guess, with a warning, where none is given."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Any shape."""
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """The logarithm of softmax along a dimension, stable for large inputs."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Any shape."""
        return F.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
