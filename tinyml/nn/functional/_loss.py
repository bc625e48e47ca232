"""Losses."""

from __future__ import annotations

from typing import Any

from tinyml import _core
from tinyml.errors import ArgumentError
from tinyml.tensor import Tensor, _apply, _beside, _operand

_CROSS_ENTROPY, _NLL_LOSS, _MSE_LOSS = (_core.op(name) for name in ("cross_entropy", "nll_loss", "mse_loss"))
_REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


def _reduction(op: str, reduction: str) -> int:
    try:
        return _REDUCTIONS[reduction]
    except KeyError:
        raise ArgumentError(f"{op}: got reduction {reduction!r}, expected 'none', 'mean' or 'sum'") from None


def cross_entropy(
    input: Tensor,
    target: Any,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The loss of logits (N, C), (C,) or (N, C, d1, ...) against int64 labels of shape (N,), () or (N, d1, ...).

    -log softmax(logits)[label], over the labels that are not ignore_index; "mean" divides by their count (nan for
    none). Raises AxisError for a label outside 0 to C - 1, ArgumentError unless 0 <= label_smoothing <= 1.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html (class weights and class
    probabilities are not there yet)

    >>> import tinyml
    >>> round(cross_entropy(tinyml.zeros(4, 10), [3, 1, 4, 1]).item(), 4)
    2.3026
    """
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"cross_entropy: got label_smoothing {label_smoothing}, expected 0 to 1")
    attributes = (_reduction("cross_entropy", reduction), ignore_index, label_smoothing)
    return _apply(_CROSS_ENTROPY, (_operand("cross_entropy", input), _operand("cross_entropy", target)), attributes)


def nll_loss(input: Tensor, target: Any, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """The loss of log-probabilities against int64 labels, shapes as for cross_entropy: -input[label].

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.nll_loss.html
    """
    attributes = (_reduction("nll_loss", reduction), ignore_index)
    return _apply(_NLL_LOSS, (_operand("nll_loss", input), _operand("nll_loss", target)), attributes)


def mse_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """The squared differences of two tensors of one shape.

    PyTorch broadcasts unequal shapes with a warning; here they raise ShapeError.

    >>> import tinyml
    >>> mse_loss(tinyml.tensor([1.0, 2.0]), tinyml.tensor([1.0, 4.0])).item()
    2.0
    """
    attributes = (_reduction("mse_loss", reduction),)
    return _apply(_MSE_LOSS, (input, _beside("mse_loss", target, [input])), attributes)
