"""Modules that arrange others: Sequential and Flatten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tinyml.nn._module import Module
from tinyml.tensor import Tensor


class Sequential(Module):
    """Modules one after the other, each fed with the result of the one before.

    >>> from tinyml import nn
    >>> Sequential(nn.Linear(2, 4), nn.Tanh())
    Sequential(
      (0): Linear(in_features=2, out_features=4, bias=True)
      (1): Tanh()
    )
    """

    def __init__(self, *modules: Module) -> None:
        for i, module in enumerate(modules):
            setattr(self, str(i), module)

    def forward(self, input: Any) -> Any:
        """What the first module takes; what the last one gives."""
        for module in self.children():
            input = module(input)
        return input

    def __len__(self) -> int:
        return len(list(self.children()))

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: int) -> Module:
        return list(self.children())[index]


class Flatten(Module):
    """Merges the dimensions from start_dim to end_dim; by default all but the batch."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        """Any shape that has these dimensions."""
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
