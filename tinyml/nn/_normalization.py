"""Normalising layers: LayerNorm, RMSNorm, GroupNorm, BatchNorm1d, BatchNorm2d."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tinyml._creation import ones, zeros
from tinyml._dtypes import DTypeLike, float32, int64
from tinyml.errors import ArgumentError, ShapeError
from tinyml.nn import functional as F
from tinyml.nn._module import Module, Parameter
from tinyml.tensor import Tensor


class _Affine(Module):
    """What all share: a weight that starts at ones and a bias that starts at zeros, either of which may be None."""

    weight: Parameter | None
    bias: Parameter | None

    def _make_parameters(self, shape: tuple[int, ...], weight: bool, bias: bool, dtype: DTypeLike) -> None:
        self.weight = Parameter(ones(shape, dtype=dtype)) if weight else None
        self.bias = Parameter(zeros(shape, dtype=dtype)) if bias else None

    def reset_parameters(self) -> None:
        """The weight to ones and the bias to zeros."""
        if self.weight is not None:
            self.weight.data = ones(self.weight.shape, dtype=self.weight.dtype)
        if self.bias is not None:
            self.bias.data = zeros(self.bias.shape, dtype=self.bias.dtype)


def _extents(name: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or min(shape) < 0:
        raise ArgumentError(f"{name}: got normalized_shape {normalized_shape}, expected one extent or several")
    return shape


class LayerNorm(_Affine):
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last dimensions, which normalized_shape lists.

    weight and bias, of that shape, start at ones and zeros. https://arxiv.org/abs/1607.06450,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html

    >>> import tinyml
    >>> LayerNorm(2)(tinyml.tensor([[1.0, 3.0], [2.0, 8.0]])).detach()
    tensor([[-1.,  1.],
            [-1.,  1.]])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: DTypeLike = float32,
    ) -> None:
        self.normalized_shape = _extents("LayerNorm", normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self._make_parameters(self.normalized_shape, elementwise_affine, elementwise_affine and bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """input (..., *normalized_shape)."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(_Affine):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimensions, which normalized_shape lists.

    weight, of that shape, starts at ones. eps: None is the machine's for the input's dtype.
    https://arxiv.org/abs/1910.07467, https://docs.pytorch.org/docs/stable/generated/torch.nn.RMSNorm.html

    >>> RMSNorm(3)
    RMSNorm((3,), eps=None, elementwise_affine=True)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: DTypeLike = float32,
    ) -> None:
        self.normalized_shape = _extents("RMSNorm", normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self._make_parameters(self.normalized_shape, elementwise_affine, False, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """input (..., *normalized_shape)."""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(_Affine):
    """(x - mean) / sqrt(variance + eps) * weight + bias over each sample's groups of channels.

    weight and bias (num_channels,) start at ones and zeros. Raises ArgumentError unless num_groups divides
    num_channels. https://arxiv.org/abs/1803.08494, https://docs.pytorch.org/docs/stable/generated/torch.nn.GroupNorm.html

    >>> import tinyml
    >>> GroupNorm(2, 6)(tinyml.rand(5, 6, 4, 4)).shape
    (5, 6, 4, 4)
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: DTypeLike = float32,
        *,
        bias: bool = True,
    ) -> None:
        if num_groups < 1 or num_channels < 0 or num_channels % num_groups:
            raise ArgumentError(
                f"GroupNorm: got {num_groups} groups for {num_channels} channels, expected a divisor of them"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self._make_parameters((num_channels,), affine, affine and bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """input (N, num_channels, ...)."""
        _check_features(self, input, self.num_channels)
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


def _check_features(module: Module, input: Tensor, features: int) -> None:
    shape = input.shape
    if len(shape) > 1 and shape[1] != features:
        raise ShapeError(
            f"{type(module).__name__}: got input of shape {shape}, expected {features} channels in dimension 1"
        )


class _BatchNorm(_Affine):
    """What BatchNorm1d and BatchNorm2d share: all but the shapes they take."""

    _SHAPES: ClassVar[dict[int, str]]  # by rank

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: DTypeLike = float32,
        *,
        bias: bool = True,
    ) -> None:
        if num_features < 0:
            raise ArgumentError(f"{type(self).__name__}: got {num_features} features, expected at least 0")
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self._make_parameters((num_features,), affine, affine and bias, dtype)
        tracked = track_running_stats
        self.register_buffer("running_mean", zeros(num_features, dtype=dtype) if tracked else None)
        self.register_buffer("running_var", ones(num_features, dtype=dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", zeros(dtype=int64) if tracked else None)

    def reset_running_stats(self) -> None:
        """The running mean to zeros, the variance to ones, the count of batches to 0."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean.data = zeros(self.num_features, dtype=self.running_mean.dtype)
            self.running_var.data = ones(self.num_features, dtype=self.running_var.dtype)
            self.num_batches_tracked.data = 0

    def reset_parameters(self) -> None:
        """The weight to ones and the bias to zeros; running statistics start anew."""
        super().reset_parameters()
        self.reset_running_stats()

    def forward(self, input: Tensor) -> Tensor:
        """In training also moves the running statistics."""
        if input.ndim not in self._SHAPES:
            shapes = " or ".join(self._SHAPES.values())
            raise ShapeError(f"{type(self).__name__}: got input of shape {input.shape}, expected {shapes}")
        _check_features(self, input, self.num_features)
        mean, var, tracked = self.running_mean, self.running_var, self.num_batches_tracked
        training = self.training or mean is None
        if not self.training or mean is None or tracked is None:
            return F.batch_norm(input, mean, var, self.weight, self.bias, training, 0.0, self.eps)
        count = tracked.detach() + 1
        momentum = 1 / count.to(mean.dtype) if self.momentum is None else self.momentum  # None: the mean of all batches
        result = F.batch_norm(input, mean, var, self.weight, self.bias, training, momentum, self.eps)
        tracked.data = count
        return result

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """(x - mean) / sqrt(variance + eps) * weight + bias, for each feature of input (N, C) or (N, C, L).

    In training mean and variance are the batch's, which needs more than one value per feature, and the running ones
    move towards them: running += momentum * (batch - running), with the unbiased variance; momentum=None makes them the
    mean of all batches. eval() takes the running ones, unless track_running_stats is False. weight and bias (C,) start
    at ones and zeros. Raises ShapeError for other shapes. https://arxiv.org/abs/1502.03167,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html

    >>> import tinyml
    >>> norm = BatchNorm1d(2)
    >>> norm(tinyml.tensor([[1.0, 30.0], [3.0, 10.0]])).detach()
    tensor([[-1.,  1.],
            [ 1., -1.]])
    >>> norm.running_mean
    tensor([0.2, 2. ])
    """

    _SHAPES: ClassVar[dict[int, str]] = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(_BatchNorm):
    """BatchNorm1d for images: for each channel of input (N, C, H, W).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html

    >>> BatchNorm2d(8, momentum=None).eval()
    BatchNorm2d(8, eps=1e-05, momentum=None, affine=True, bias=True, track_running_stats=True)
    """

    _SHAPES: ClassVar[dict[int, str]] = {4: "(N, C, H, W)"}
