"""Linear, the fully connected layer."""

from __future__ import annotations

import math

from tinyml._creation import zeros
from tinyml._dtypes import DTypeLike, float32
from tinyml.errors import ArgumentError
from tinyml.nn import functional as F
from tinyml.nn import init
from tinyml.nn._module import Module, Parameter
from tinyml.tensor import Tensor


class Linear(Module):
    """y = x W^T + b: (..., in_features) to (..., out_features).

    weight (out_features, in_features) and bias (out_features,) start uniform in +-1 / sqrt(in_features).
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html

    >>> Linear(3, 2)
    Linear(in_features=3, out_features=2, bias=True)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: DTypeLike = float32) -> None:
        if in_features < 0 or out_features < 0:
            raise ArgumentError(f"Linear: got {in_features} in and {out_features} out features, expected at least 0")
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(zeros(out_features, in_features, dtype=dtype))
        self.bias = Parameter(zeros(out_features, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weight and bias afresh."""
        bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """input (..., in_features)."""
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
