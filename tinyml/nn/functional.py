"""Functions of tensors under torch.nn.functional's names, for use as `F`."""

from __future__ import annotations

from typing import Any

from tinyml import _core, _random, _recording
from tinyml._core import apply2, apply3, fail
from tinyml.errors import ArgumentError
from tinyml.tensor import Tensor, _apply, _apply1, _beside, _operand

_LINEAR, _TAKE, _ONE_HOT, _DROPOUT = (_core.op(name) for name in ("linear", "take", "one_hot", "dropout"))
_CROSS_ENTROPY, _NLL_LOSS, _MSE_LOSS = (_core.op(name) for name in ("cross_entropy", "nll_loss", "mse_loss"))
_REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


def _reduction(op: str, reduction: str) -> int:
    try:
        return _REDUCTIONS[reduction]
    except KeyError:
        raise ArgumentError(f"{op}: got reduction {reduction!r}, expected 'none', 'mean' or 'sum'") from None


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


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b: input (..., in), weight (out, in), bias (out,); result (..., out).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.linear.html
    """
    input, weight = _beside("linear", input, [weight]), _beside("linear", weight, [input])
    if bias is None:
        return Tensor._wrap(apply2(_LINEAR, input._ref, weight._ref) or fail())
    bias = _operand("linear", bias)  # bound to its name, as the others are: an address alone keeps nothing alive
    return Tensor._wrap(apply3(_LINEAR, input._ref, weight._ref, bias._ref) or fail())


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Zeroes each element with probability p and scales the others by 1 / (1 - p); as it is when not training.

    Raises ArgumentError unless 0 <= p <= 1. https://jmlr.org/papers/v15/srivastava14a.html
    """
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: got p = {p}, expected a probability from 0 to 1")
    if not training or p == 0:
        return input
    return Tensor._wrap(_core.apply(_DROPOUT, (input._ref, _random.c_generator()), (p,)))


def embedding(input: Any, weight: Tensor) -> Tensor:
    """The rows of weight (n, d) that an int64 tensor of any shape names; result input.shape + (d,).

    Raises AxisError for a row outside 0 to n - 1.
    """
    return _apply(_TAKE, (weight, _operand("embedding", input)), (1,))


def one_hot(tensor: Any, num_classes: int = -1) -> Tensor:
    """int64 labels as vectors of 0 with one 1, along a new last dimension; -1: as many classes as the largest label
    asks.

    >>> one_hot([0, 2])
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    labels = _operand("one_hot", tensor)
    if num_classes == -1 and _recording.active is not None:
        _recording.look(labels._ref, "counting the classes of one_hot (give num_classes)")
    return _apply1(_ONE_HOT, labels, num_classes)


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


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Merges the dimensions from start_dim to end_dim."""
    return input.flatten(start_dim, end_dim)
