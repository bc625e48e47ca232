"""Dropout."""

from __future__ import annotations

from tinyml.errors import ArgumentError
from tinyml.nn import functional as F
from tinyml.nn._module import Module
from tinyml.tensor import Tensor


class Dropout(Module):
    """In training, zeroes each element with probability p and scales the others by 1 / (1 - p).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout.html
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ArgumentError(f"Dropout: got p = {p}, expected a probability from 0 to 1")
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        """Any shape."""
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
