"""Convolutional layers."""

from __future__ import annotations

import math

from tinyml._creation import zeros
from tinyml._dtypes import DTypeLike, float32
from tinyml.errors import ArgumentError
from tinyml.nn import functional as F
from tinyml.nn import init
from tinyml.nn._module import Module, Parameter
from tinyml.nn.functional._convolution import _paddings
from tinyml.nn.functional._ints import Ints, ints
from tinyml.tensor import Tensor


class _Convolution(Module):
    """What the convolutional layers share."""

    _dimensions: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: Ints | str = 0,
        dilation: Ints = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: DTypeLike = float32,
    ) -> None:
        name, n = type(self).__name__, self._dimensions
        if padding_mode != "zeros":
            raise ArgumentError(f"{name}: got padding_mode {padding_mode!r}, expected 'zeros', the only one there is")
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"{name}: got {in_channels} in_channels, {out_channels} out_channels and {groups} groups, expected "
                "both to be multiples of groups; change one"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = ints(name, "kernel_size", kernel_size, n)
        self.stride = ints(name, "stride", stride, n)
        self.dilation = ints(name, "dilation", dilation, n)
        for what, least, values in (
            ("in_channels and out_channels", 0, (in_channels, out_channels)),
            ("kernel_size", 1, self.kernel_size),
            ("stride", 1, self.stride),
            ("dilation", 1, self.dilation),
            ("padding", 0, _paddings(name, padding, n, self.kernel_size, self.stride, self.dilation)),
        ):
            if min(values) < least:
                raise ArgumentError(f"{name}: got {what} {tuple(values)}, expected at least {least}")
        self.padding = padding if isinstance(padding, str) else ints(name, "padding", padding, n)
        self.groups = groups
        self.padding_mode = padding_mode
        self.weight = Parameter(zeros(out_channels, in_channels // groups, *self.kernel_size, dtype=dtype))
        self.bias = Parameter(zeros(out_channels, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weight and bias afresh."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            inputs = math.prod(self.weight.shape[1:])
            bound = 1 / math.sqrt(inputs) if inputs else 0.0
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        shown = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * self._dimensions:
            shown += f", padding={self.padding}"
        if self.dilation != (1,) * self._dimensions:
            shown += f", dilation={self.dilation}"
        if self.groups != 1:
            shown += f", groups={self.groups}"
        return shown if self.bias is not None else shown + ", bias=False"


class Conv1d(_Convolution):
    """A convolution (a cross-correlation, strictly) of (N, C, L) or (C, L): see nn.functional.conv1d.

    weight (out_channels, in_channels / groups, k) and bias (out_channels,) start uniform in +-1 / sqrt(inputs of an
    output). Raises ArgumentError for channels that are no multiples of groups, and for a padding_mode but "zeros".
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv1d.html

    >>> Conv1d(3, 8, 5, padding=2)
    Conv1d(3, 8, kernel_size=(5,), stride=(1,), padding=(2,))
    """

    _dimensions = 1

    def forward(self, input: Tensor) -> Tensor:
        """input (N, C, L) or (C, L)."""
        return F.conv1d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv2d(_Convolution):
    """A convolution (a cross-correlation, strictly) of (N, C, H, W) or (C, H, W): see nn.functional.conv2d.

    weight (out_channels, in_channels / groups, kh, kw) and bias (out_channels,) start uniform in +-1 / sqrt(inputs of
    an output). Raises ArgumentError for channels that are no multiples of groups, and for a padding_mode but "zeros".
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html

    >>> import tinyml
    >>> Conv2d(1, 6, 5, padding="same")(tinyml.zeros(64, 1, 28, 28)).shape
    (64, 6, 28, 28)
    """

    _dimensions = 2

    def forward(self, input: Tensor) -> Tensor:
        """input (N, C, H, W) or (C, H, W)."""
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
