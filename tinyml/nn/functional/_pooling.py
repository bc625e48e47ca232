"""Pooling: maxima and means of windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyml import _core
from tinyml.errors import ArgumentError
from tinyml.nn.functional._ints import Ints, ints
from tinyml.tensor import Tensor, _apply1, _operand

_MAX_POOL, _AVG_POOL, _ADAPTIVE = (_core.op(name) for name in ("max_pool", "avg_pool", "adaptive_avg_pool"))


def _windows(op: str, n: int, kernel_size: Ints, stride: Ints | None, padding: Ints) -> tuple[int, ...]:
    """Kernel, stride and padding over height and width; in one dimension the height is that of a single row."""
    kernel = ints(op, "kernel_size", kernel_size, n)
    strides = kernel if stride is None or stride == () else ints(op, "stride", stride, n)
    paddings = ints(op, "padding", padding, n)
    return (1, *kernel, 1, *strides, 0, *paddings) if n == 1 else (*kernel, *strides, *paddings)


def _max_pool(
    n: int,
    input: Any,
    kernel_size: Ints,
    stride: Ints | None,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
    return_indices: bool,
) -> Tensor:
    op = f"max_pool{n}d"
    if return_indices:
        raise ArgumentError(f"{op}: got return_indices=True, expected False: the places of maxima are not returned")
    windows, dilations = _windows(op, n, kernel_size, stride, padding), ints(op, "dilation", dilation, n)
    return _apply1(_MAX_POOL, _operand(op, input), n, *windows, *(1,) * (2 - n), *dilations, bool(ceil_mode))


def max_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The maxima of windows of input (N, C, L) or (C, L); options as in max_pool2d.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool1d.html

    >>> import tinyml
    >>> max_pool1d(tinyml.tensor([[1.0, 3.0, 2.0, 0.0]]), 2)
    tensor([[3., 2.]])
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The maxima of windows of input (N, C, H, W) or (C, H, W).

    stride is kernel_size unless given; padding counts as -inf and is at most half of the kernel; ceil_mode keeps a
    last window that reaches past the end. The gradient goes to the first of equal maxima; a nan is a maximum. Raises
    ShapeError for a kernel larger than the padded input. There is no return_indices.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool2d.html

    >>> import tinyml
    >>> max_pool2d(tinyml.arange(8.0).reshape(1, 2, 4), 2)
    tensor([[[5., 7.]]])
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _avg_pool(
    n: int,
    input: Any,
    kernel_size: Ints,
    stride: Ints | None,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    op = f"avg_pool{n}d"
    if divisor_override == 0:
        raise ArgumentError(f"{op}: got divisor_override 0, expected another number, or None")
    windows = _windows(op, n, kernel_size, stride, padding)
    return _apply1(
        _AVG_POOL, _operand(op, input), n, *windows, bool(ceil_mode), bool(count_include_pad), divisor_override or 0
    )


def avg_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The means of windows of input (N, C, L) or (C, L); options as in avg_pool2d.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool1d.html

    >>> import tinyml
    >>> avg_pool1d(tinyml.tensor([[1.0, 3.0, 2.0, 0.0]]), 2)
    tensor([[2., 1.]])
    """
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The means of windows of input (N, C, H, W) or (C, H, W).

    stride is kernel_size unless given; padding is of zeros, which count_include_pad=False leaves out of the mean;
    divisor_override divides every sum instead. Raises ShapeError for a kernel larger than the padded input.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool2d.html

    >>> import tinyml
    >>> avg_pool2d(tinyml.arange(8.0).reshape(1, 2, 4), 2)
    tensor([[[2.5, 4.5]]])
    """
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """The means of as many windows, about the same size, as make an output of that size; None: the input's.

    input (N, C, H, W) or (C, H, W). Window i of n along an extent e is floor(i e / n) to ceil((i + 1) e / n).
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool2d.html

    >>> import tinyml
    >>> adaptive_avg_pool2d(tinyml.arange(8.0).reshape(1, 2, 4), 1)
    tensor([[[3.5]]])
    """
    op = "adaptive_avg_pool2d"
    input = _operand(op, input)
    sizes = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    if len(sizes) == 2 and input.ndim >= 2:
        sizes = [own if size is None else size for size, own in zip(sizes, input.shape[-2:], strict=True)]
    return _apply1(_ADAPTIVE, input, 2, *ints(op, "output_size", sizes, 2))
