"""Losses as modules: the functions with their options kept."""

from __future__ import annotations

from typing import Any

from tinyml.nn import functional as F
from tinyml.nn._module import Module
from tinyml.tensor import Tensor, _operand


class _Loss(Module):
    """A loss with no option but the reduction: "mean", "sum" or "none"."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def _keep(self, name: str, weight: Any) -> None:
        """A weight is part of the state, and no parameter."""
        self.register_buffer(name, None if weight is None else _operand(type(self).__name__, weight))


class MSELoss(_Loss):
    """F.mse_loss: squared differences."""

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Two tensors of one shape."""
        return F.mse_loss(input, target, self.reduction)


class L1Loss(_Loss):
    """F.l1_loss: magnitudes of differences."""

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Two tensors of one shape."""
        return F.l1_loss(input, target, self.reduction)


class HuberLoss(_Loss):
    """F.huber_loss: squares up to delta, a straight line beyond."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Two tensors of one shape."""
        return F.huber_loss(input, target, self.reduction, self.delta)


class SmoothL1Loss(_Loss):
    """F.smooth_l1_loss: slope 1, rounded off within beta."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Two tensors of one shape."""
        return F.smooth_l1_loss(input, target, self.reduction, self.beta)


class HingeLoss(_Loss):
    """F.hinge_loss: scores against labels -1 and +1. PyTorch has none by this name."""

    def forward(self, input: Any, target: Any) -> Any:
        """Two tensors of one shape, or a Value and a label."""
        return F.hinge_loss(input, target, self.reduction)


class BCELoss(_Loss):
    """F.binary_cross_entropy: probabilities against targets from 0 to 1."""

    weight: Tensor | None

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self._keep("weight", weight)

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Two tensors of one shape."""
        return F.binary_cross_entropy(input, target, self.weight, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """F.binary_cross_entropy_with_logits: scores against targets from 0 to 1."""

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction)
        self._keep("weight", weight)
        self._keep("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Two tensors of one shape."""
        return F.binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)


class CrossEntropyLoss(_Loss):
    """F.cross_entropy: logits against labels or class probabilities.

    >>> import tinyml
    >>> CrossEntropyLoss(weight=[1.0, 3.0])(tinyml.zeros(2, 2), [0, 1])
    tensor(0.6931)
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        self._keep("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Logits and int64 labels or class probabilities; see F.cross_entropy."""
        return F.cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)


class NLLLoss(_Loss):
    """F.nll_loss: log-probabilities against labels."""

    weight: Tensor | None

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self._keep("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Log-probabilities and int64 labels; see F.nll_loss."""
        return F.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class KLDivLoss(_Loss):
    """F.kl_div: log-probabilities against probabilities. "batchmean" is the divergence as it is defined."""

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Two tensors of one shape."""
        return F.kl_div(input, target, self.reduction, self.log_target)
