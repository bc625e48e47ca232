"""Initialisers: each fills a tensor in place from tinyml's generator and returns it."""

from __future__ import annotations

import math

import numpy as np

from tinyml import _random
from tinyml.errors import ArgumentError, ShapeError
from tinyml.tensor import Tensor


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The recommended gain: 1 for linear, convolutions and sigmoid, 5/3 for tanh, sqrt(2) for relu, sqrt(2 / (1 +
    slope^2)) for leaky_relu with the slope `param` (0.01), 3/4 for selu.

    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.calculate_gain

    >>> calculate_gain("tanh")
    1.6666666666666667
    """
    gains = {
        "linear": 1.0,
        "conv1d": 1.0,
        "conv2d": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2)),
        "selu": 3 / 4,
    }
    if nonlinearity not in gains:
        raise ArgumentError(f"calculate_gain: got {nonlinearity!r}, expected one of {', '.join(gains)}")
    return gains[nonlinearity]


def _fans(name: str, tensor: Tensor) -> tuple[int, int]:
    """Inputs and outputs of a weight (out, in, ...)."""
    if tensor.ndim < 2:
        raise ShapeError(f"{name}: got shape {tensor.shape}, expected a weight of at least 2 dimensions (out, in, ...)")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform numbers in [a, b)."""
    tensor.data = _random.generator().uniform(a, b, tensor.shape).astype(tensor.dtype.numpy)
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal numbers."""
    tensor.data = _random.generator().normal(mean, std, tensor.shape).astype(tensor.dtype.numpy)
    return tensor


def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """Normal numbers between a and b: those that fall outside are drawn again.

    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.trunc_normal_. a and b are numbers, not multiples
    of std, and may be infinite. Raises ArgumentError where a is not below b or std is not positive.
    """
    if not (a < b and std > 0):
        raise ArgumentError(f"trunc_normal_: got bounds {a} and {b} and std {std}, expected a < b and a positive std")
    low, high = (a - mean) / std, (b - mean) / std
    mode = min(max(0.0, low), high)
    reach = math.sqrt(mode * mode + 72)  # less than 1e-15 of the numbers lie beyond
    low, high = max(low, -reach), min(high, reach)
    random = _random.generator()
    numbers, left = np.empty(tensor.numel()), np.arange(tensor.numel())
    while left.size:  # uniform candidates, kept in proportion to their density
        candidates = random.uniform(low, high, left.size)
        kept = random.random(left.size) < np.exp((mode * mode - candidates**2) / 2)
        numbers[left[kept]] = candidates[kept]
        left = left[~kept]
    scaled = (mean + std * numbers).astype(tensor.dtype.numpy)
    tensor.data = scaled.clip(a, b).reshape(tensor.shape)
    return tensor


def constant_(tensor: Tensor, val: float) -> Tensor:
    """One number everywhere."""
    tensor.data = np.full(tensor.shape, val, tensor.dtype.numpy)
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity, of a tensor of 2 dimensions: ones on the diagonal, zeros elsewhere."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_: got shape {tensor.shape}, expected 2 dimensions")
    tensor.data = np.eye(*tensor.shape, dtype=tensor.dtype.numpy)
    return tensor


def orthogonal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """A random matrix with orthonormal rows or columns, whichever are fewer, times gain: Saxe et al., 2013.

    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.orthogonal_. Dimensions after the first count as
    one. Raises ShapeError for a tensor of fewer than 2 dimensions.
    """
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_: got shape {tensor.shape}, expected at least 2 dimensions")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    normal = _random.generator().standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(normal)
    q *= np.where(r.diagonal() < 0, -gain, gain)  # with signs so that every rotation is equally likely
    tensor.data = (q.T if rows < columns else q).astype(tensor.dtype.numpy).reshape(tensor.shape)
    return tensor


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform in +-gain sqrt(6 / (fan_in + fan_out)): Glorot and Bengio, 2010."""
    fan_in, fan_out = _fans("xavier_uniform_", tensor)
    bound = gain * math.sqrt(6 / max(1, fan_in + fan_out))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Normal of deviation gain sqrt(2 / (fan_in + fan_out)): Glorot and Bengio, 2010."""
    fan_in, fan_out = _fans("xavier_normal_", tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2 / max(1, fan_in + fan_out)))


def _kaiming_std(name: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fan_in, fan_out = _fans(name, tensor)
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"{name}: got mode {mode!r}, expected 'fan_in' or 'fan_out'")
    fan = fan_in if mode == "fan_in" else fan_out
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fan))


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Uniform in +-gain sqrt(3 / fan), where a is the slope of the leaky relu that follows: He et al., 2015."""
    bound = math.sqrt(3) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Normal of deviation gain / sqrt(fan), where a is the slope of the leaky relu that follows: He et al., 2015."""
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity))
