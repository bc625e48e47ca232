"""Normalisation: layer_norm, rms_norm, group_norm, batch_norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyml import _core
from tinyml._creation import ones, stack
from tinyml.errors import ArgumentError, ShapeError
from tinyml.tensor import Tensor, _apply, _apply1, _beside

_LAYER_NORM, _RMS_NORM, _GROUP_NORM = (_core.op(name) for name in ("layer_norm", "rms_norm", "group_norm"))
_MOMENTS, _BATCH_NORM = _core.op("moments"), _core.op("batch_norm")


def _with(input: Tensor, weight: Any, bias: Any) -> list[Tensor]:
    """The inputs of an op that takes a bias only after a weight."""
    if weight is None and bias is not None:
        bias = _beside("bias", bias, [input])
        weight = ones(bias.shape, dtype=bias.dtype)
    return [input, *(_beside("weight", each, [input]) for each in (weight, bias) if each is not None)]


def _eps(op: str, eps: float) -> float:
    if not eps >= 0:
        raise ArgumentError(f"{op}: got eps = {eps}, expected 0 or more")
    return eps


def _normalized(op: str, input: Tensor, normalized_shape: int | Sequence[int]) -> int:
    """How many dimensions there are in normalized_shape, which the input's shape ends with."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or input.shape[-len(shape) :] != shape:
        raise ShapeError(f"{op}: got input of shape {input.shape}, expected an end of normalized_shape {shape}")
    return len(shape)


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last dimensions, which normalized_shape lists.

    weight, bias: of shape normalized_shape, or None. Raises ShapeError for an input that does not end with that shape.
    https://arxiv.org/abs/1607.06450, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.layer_norm.html

    >>> import tinyml
    >>> layer_norm(tinyml.tensor([[1.0, 3.0], [2.0, 8.0]]), (2,))
    tensor([[-1.,  1.],
            [-1.,  1.]])
    """
    dims = _normalized("layer_norm", input, normalized_shape)
    return _apply(_LAYER_NORM, _with(input, weight, bias), (dims, _eps("layer_norm", eps)))


def rms_norm(
    input: Tensor, normalized_shape: int | Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimensions, which normalized_shape lists.

    weight: of shape normalized_shape, or None. eps: by default the machine's for the input's dtype. Raises ShapeError
    for an input that does not end with that shape. https://arxiv.org/abs/1910.07467,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.rms_norm.html

    >>> import tinyml
    >>> rms_norm(tinyml.tensor([1.0, -1.0, 1.0, 5.0]), (4,))
    tensor([ 0.378 , -0.378 ,  0.378 ,  1.8898])
    """
    dims = _normalized("rms_norm", input, normalized_shape)
    if eps is None:
        eps = float(np.finfo(input.dtype.numpy if input.dtype.is_floating_point else np.float32).eps)
    return _apply(_RMS_NORM, _with(input, weight, None), (dims, _eps("rms_norm", eps)))


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias of input (N, C, ...), over each sample's groups of channels.

    weight, bias: (C,), or None. Raises ArgumentError unless num_groups divides C. https://arxiv.org/abs/1803.08494,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.group_norm.html

    >>> import tinyml
    >>> group_norm(tinyml.tensor([[1.0, 3.0, 2.0, 8.0]]), 2)
    tensor([[-1.,  1., -1.,  1.]])
    """
    return _apply(_GROUP_NORM, _with(input, weight, bias), (num_groups, _eps("group_norm", eps)))


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias of input (N, C) or (N, C, ...), for each channel.

    In training mean and variance are the batch's, and the running ones, if any, move towards them in place: running +=
    momentum * (batch - running), with the unbiased variance. Otherwise the running ones are taken. All but the input
    are (C,). Raises ShapeError in training for one value per channel, ArgumentError where running statistics are
    missing. https://arxiv.org/abs/1502.03167,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.batch_norm.html

    >>> import tinyml
    >>> mean, var = tinyml.zeros(1), tinyml.ones(1)
    >>> batch_norm(tinyml.tensor([[1.0], [3.0]]), mean, var, training=True, momentum=0.5)
    tensor([[-1.],
            [ 1.]])
    >>> mean, var
    (tensor([1.]), tensor([1.5]))
    """
    if (running_mean is None) != (running_var is None):
        raise ArgumentError("batch_norm: got one of running_mean and running_var, expected both or neither")
    attributes = (training, _eps("batch_norm", eps))
    if not training:
        if running_mean is None or running_var is None:
            raise ArgumentError("batch_norm: got no running statistics, expected them; or pass training=True")
        moments = stack([running_mean.detach(), running_var.detach()])
        return _normalize(input, moments, weight, bias, attributes)
    count = _values_per_channel(input)
    moments = _apply1(_MOMENTS, input.detach())
    result = _normalize(input, moments, weight, bias, attributes)
    if running_mean is not None and running_var is not None and count:
        _follow(running_mean, moments[0], momentum)
        _follow(running_var, moments[1] * (count / (count - 1)), momentum)
    return result


def _normalize(
    input: Tensor, moments: Tensor, weight: Tensor | None, bias: Tensor | None, attributes: Sequence[float]
) -> Tensor:
    x, *parameters = _with(input, weight, bias)
    return _apply(_BATCH_NORM, [x, moments, *parameters], attributes)


def _values_per_channel(input: Tensor) -> int:
    shape = input.shape
    count = math.prod(shape[:1] + shape[2:])
    if count == 1 and len(shape) > 1:
        raise ShapeError(
            f"batch_norm: got input of shape {shape}, expected more than 1 value per channel when training, of which "
            "there is no variance; use a larger batch, or eval()"
        )
    return count


def _follow(running: Tensor, batch: Tensor, momentum: float | Tensor) -> None:
    """Moves running statistics in place, as replays of a compiled function will too."""
    now = running.detach()
    running.data = (now + (batch - now) * momentum).to(now.dtype)
