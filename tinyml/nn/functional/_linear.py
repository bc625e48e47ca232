"""The fully connected layer, and tables of vectors: linear, embedding, one_hot."""

from __future__ import annotations

from typing import Any

from tinyml import _core, _recording
from tinyml._core import apply2, apply3, fail
from tinyml.errors import ArgumentError, ShapeError
from tinyml.tensor import Tensor, _apply, _apply1, _beside, _operand

_LINEAR, _TAKE, _ONE_HOT = (_core.op(name) for name in ("linear", "take", "one_hot"))


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b: input (..., in), weight (out, in), bias (out,); result (..., out).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.linear.html
    """
    input, weight = _beside("linear", input, [weight]), _beside("linear", weight, [input])
    if bias is None:
        return Tensor._wrap(apply2(_LINEAR, input._ref, weight._ref) or fail())
    bias = _operand("linear", bias)  # bound to its name, as the others are: an address alone keeps nothing alive
    return Tensor._wrap(apply3(_LINEAR, input._ref, weight._ref, bias._ref) or fail())


def embedding(input: Any, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows of weight (n, d) that an int64 tensor of any shape names; result input.shape + (d,).

    No gradient flows to row padding_idx, counted from the end when negative. Raises AxisError for a row outside 0 to
    n - 1, ArgumentError for such a padding_idx.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.embedding.html
    """
    if weight.ndim != 2:
        raise ShapeError(f"embedding: got weight of shape {weight.shape}, expected (rows, features)")
    if padding_idx is None:
        return _apply(_TAKE, (weight, _operand("embedding", input)), (1,))
    rows = len(weight)
    if not -rows <= padding_idx < rows:
        raise ArgumentError(f"embedding: got padding_idx {padding_idx}, expected {-rows} to {rows - 1}")
    return _apply(_TAKE, (weight, _operand("embedding", input)), (1, padding_idx % rows))


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
