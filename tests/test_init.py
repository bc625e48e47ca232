"""Initialisers beside those of test_nn.py: truncated normal, orthogonal, identity; and that draws are never shared."""

import math

import numpy as np
import pytest

import tinyml
from tinyml import nn
from tinyml.errors import ArgumentError, ShapeError


def drawn(initialise, *shape, dtype="float64", **options):
    tinyml.manual_seed(0)
    x = tinyml.zeros(shape, dtype=dtype, requires_grad=True)
    memory = x.detach().numpy()
    assert initialise(x, **options) is x
    assert (x.shape, x.dtype.name) == (shape, dtype)
    assert x.requires_grad
    assert np.shares_memory(memory, x.detach().numpy()) or not x.ndim or not x.numel()
    return x.detach().numpy().copy()


def density(z):
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def moments(low, high):
    """Mean and deviation of the standard normal distribution between two bounds, by adding up."""
    z = np.linspace(max(low, -40), min(high, 40), 2_000_001)
    p = np.exp(-(z**2 - min(z**2)) / 2)
    p /= p.sum()
    mean = (p * z).sum()
    return mean, math.sqrt((p * (z - mean) ** 2).sum())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [
        (0.0, 1.0, -2.0, 2.0),
        (0.5, 0.02, -2.0, 2.0),
        (1.0, 2.0, -1.0, 0.5),
        (0.0, 1.0, 3.0, 7.0),
        (0.0, 1.0, -math.inf, math.inf),
        (2.0, 3.0, -math.inf, -7.0),
        (0.0, 1.0, 20.0, math.inf),
        (0.1, 0.1, 0.1, 0.3),
    ],
)
def test_trunc_normal(mean, std, a, b, dtype):
    x = drawn(nn.init.trunc_normal_, 200, 300, dtype=dtype, mean=mean, std=std, a=a, b=b)
    low, high = np.asarray([a, b], dtype=dtype)
    assert low <= x.min()
    assert x.max() <= high
    z = (x.astype(np.float64) - mean) / std
    expected, deviation = moments((a - mean) / std, (b - mean) / std)
    assert z.mean() == pytest.approx(expected, abs=0.02 * deviation)
    assert z.std() == pytest.approx(deviation, rel=0.02)


def test_trunc_normal_has_the_right_shape():
    """Shares of the numbers, not only moments."""
    x = drawn(nn.init.trunc_normal_, 300, 300)
    inside = math.erf(2 / math.sqrt(2))
    for bound in (0.25, 0.5, 1.0, 1.5):
        assert (np.abs(x) < bound).mean() == pytest.approx(math.erf(bound / math.sqrt(2)) / inside, abs=0.005)


@pytest.mark.parametrize("options", [{"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 1.0}, {"std": 0.0}, {"b": math.nan}])
def test_trunc_normal_refuses(options):
    with pytest.raises(ArgumentError, match=r"trunc_normal_: got bounds .* expected a < b and a positive std"):
        nn.init.trunc_normal_(tinyml.zeros(3), **options)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-6)])
@pytest.mark.parametrize("shape", [(5, 5), (40, 7), (7, 40), (6, 3, 2, 2), (20, 3, 2), (1, 4), (3, 1)])
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_orthogonal(shape, dtype, tolerance, gain):
    x = drawn(nn.init.orthogonal_, *shape, dtype=dtype, gain=gain).astype(np.float64).reshape(shape[0], -1)
    rows, columns = x.shape
    product = x @ x.T if rows <= columns else x.T @ x
    np.testing.assert_allclose(product, gain**2 * np.eye(min(rows, columns)), atol=tolerance * gain**2)


def test_orthogonal_prefers_no_direction():
    """Without the signs of R, diagonals of Q would be of one sign."""
    tinyml.manual_seed(0)
    draws = np.stack([nn.init.orthogonal_(tinyml.zeros(3, 3, dtype="float64")).numpy().copy() for _ in range(2000)])
    assert np.abs(draws.mean(axis=0)).max() < 0.05
    assert np.abs((draws**2).mean(axis=0) - 1 / 3).max() < 0.03
    assert np.linalg.det(draws).mean() == pytest.approx(0, abs=0.08)


def test_empty_tensors():
    for initialise in (nn.init.orthogonal_, nn.init.trunc_normal_, nn.init.eye_):
        assert drawn(initialise, 0, 3).shape == (0, 3)
        assert drawn(initialise, 3, 0).shape == (3, 0)
    assert drawn(nn.init.trunc_normal_).shape == ()


def test_eye():
    assert drawn(nn.init.eye_, 2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("name", ["orthogonal_", "eye_", "xavier_uniform_", "kaiming_normal_"])
def test_vectors_are_refused(name):
    with pytest.raises(ShapeError, match=rf"{name}: got shape \(3,\), expected"):
        getattr(nn.init, name)(tinyml.zeros(3))


def test_gains():
    gain = nn.init.calculate_gain
    assert [gain(name) for name in ("linear", "conv1d", "conv2d", "sigmoid")] == [1.0] * 4
    assert gain("relu") == math.sqrt(2)
    assert gain("leaky_relu", 0.5) == pytest.approx(math.sqrt(1.6))
    assert gain("selu") == 0.75
    with pytest.raises(ArgumentError, match=r"calculate_gain: got 'swish', expected one of linear, .*selu"):
        gain("swish")


MODULES = {
    "linears": lambda: nn.Sequential(nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 30)),
    "values": lambda: nn.MLP(5, [5, 5, 5]),
    "scalars of one seed": lambda: nn.MLP(5, [5, 5, 5], seed=3),
    "a list": lambda: nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)]),
}


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_layers_made_in_one_go_share_no_numbers(make):
    tinyml.manual_seed(0)
    numbers = np.concatenate([np.ravel(array) for array in make().state_dict().values()])
    numbers = numbers[numbers != 0]
    assert len(np.unique(numbers)) > 0.99 * len(numbers), "float32 may meet twice by chance, whole layers may not"


RANDOM = [
    "uniform_", "normal_", "trunc_normal_", "orthogonal_",
    "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_",
]  # fmt: skip


@pytest.mark.parametrize("name", RANDOM)
def test_two_draws_differ_and_a_seed_repeats_them(name):
    def draw():
        return [getattr(nn.init, name)(tinyml.zeros(6, 6)).tolist() for _ in range(2)]

    tinyml.manual_seed(4)
    first, second = draw()
    assert not np.intersect1d(first, second).size
    tinyml.manual_seed(4)
    assert draw() == [first, second]
