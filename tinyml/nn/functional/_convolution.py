"""Convolutions over one and two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyml import _core
from tinyml.errors import ArgumentError
from tinyml.nn.functional._ints import Ints, ints
from tinyml.tensor import Tensor, _apply, _beside, _operand

_CONV = _core.op("conv")


def _paddings(
    op: str, padding: Any, n: int, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """What is added before and after each of n dimensions."""
    if not isinstance(padding, str):
        return [side for p in ints(op, "padding", padding, n) for side in (p, p)]
    if padding == "valid":
        return [0] * (2 * n)
    if padding != "same":
        raise ArgumentError(f"{op}: got padding {padding!r}, expected 'same', 'valid' or ints")
    if any(s != 1 for s in stride):
        raise ArgumentError(
            f"{op}: got padding 'same' and stride {stride}, expected a stride of 1; give padding as ints"
        )
    totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return [side for total in totals for side in (total // 2, total - total // 2)]


def _conv(
    n: int, input: Any, weight: Any, bias: Any, stride: Ints, padding: Ints | str, dilation: Ints, groups: int
) -> Tensor:
    op = f"conv{n}d"
    input, weight = _beside(op, input, [weight]), _beside(op, weight, [input])
    strides, dilations = ints(op, "stride", stride, n), ints(op, "dilation", dilation, n)
    kernel = weight.shape[2:] if weight.ndim == n + 2 else (1,) * n  # of another rank: C says what is wrong
    paddings = _paddings(op, padding, n, kernel, strides, dilations)
    (groups,) = ints(op, "groups", groups, 1)
    if n == 1:
        strides, paddings, dilations = (1, *strides), [0, 0, *paddings], (1, *dilations)
    operands = [input, weight] if bias is None else [input, weight, _operand(op, bias)]
    return _apply(_CONV, operands, (n, *strides, *paddings, *dilations, groups))


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """The cross-correlation of input (N, C, L) or (C, L) with weight (O, C / groups, k), plus bias (O,).

    The result is (N, O, (L + 2 padding - dilation (k - 1) - 1) // stride + 1). padding: zeros on both sides, or
    "valid" for none, or "same" for as many as keep L, where stride is 1. Raises ShapeError when shapes do not fit.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv1d.html

    >>> import tinyml
    >>> conv1d(tinyml.tensor([[1.0, 2.0, 4.0]]), tinyml.tensor([[[-1.0, 1.0]]]))
    tensor([[1., 2.]])
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """The cross-correlation of input (N, C, H, W) or (C, H, W) with weight (O, C / groups, kh, kw), plus bias (O,).

    stride, padding and dilation are ints or pairs, and as in conv1d for each dimension; channels and outputs are cut
    into groups that see nothing of one another. Raises ShapeError when shapes do not fit.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html

    >>> import tinyml
    >>> conv2d(tinyml.ones(1, 3, 3), tinyml.ones(1, 1, 2, 2), padding="same")
    tensor([[[4., 4., 2.],
             [4., 4., 2.],
             [2., 2., 1.]]])
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)
