"""Losses as modules."""

from __future__ import annotations

from typing import Any

from tinyml.nn import functional as F
from tinyml.nn._module import Module
from tinyml.tensor import Tensor


class CrossEntropyLoss(Module):
    """F.cross_entropy with its options kept."""

    def __init__(self, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0) -> None:
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Logits and int64 labels; see F.cross_entropy."""
        return F.cross_entropy(input, target, self.ignore_index, self.reduction, self.label_smoothing)


class MSELoss(Module):
    """F.mse_loss with its options kept."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Two tensors of one shape."""
        return F.mse_loss(input, target, self.reduction)
