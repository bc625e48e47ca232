"""Activations: far from 0, at the edges, for Values as for Tensors, eager as compiled, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinyml
from tinyml import Value, nn
from tinyml.errors import ArgumentError, ShapeError
from tinyml.nn import functional as F

inf, nan = np.inf, np.nan


def gelu_tanh(m: Any, x: Any) -> Any:
    return x / 2 * (1 + m.tanh(m.sqrt(2 / m.pi) * (x + m.mpf("0.044715") * x**3)))


def softplus(m: Any, x: Any) -> Any:
    return m.log1p(m.exp(x))


#: name: (ours, the truth of mpmath, which is m)
ACTIVATIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "gelu": (lambda x: x.gelu(), lambda m, x: x * m.ncdf(x)),
    "gelu tanh": (lambda x: x.gelu("tanh"), gelu_tanh),
    "silu": (lambda x: x.silu(), lambda m, x: x / (1 + m.exp(-x))),
    "elu": (lambda x: x.elu(0.75), lambda m, x: x if x > 0 else 0.75 * m.expm1(x)),
    "softplus": (lambda x: x.softplus(threshold=inf), softplus),
    "softplus 4": (lambda x: x.softplus(4.0, inf), lambda m, x: softplus(m, 4 * x) / 4),
    "logsigmoid": (lambda x: x.logsigmoid(), lambda m, x: -softplus(m, -x)),
    "leaky_relu": (lambda x: x.leaky_relu(0.125), lambda m, x: x if x > 0 else x / 8),
}
X = [-1000, -710.5, -100, -88.25, -38, -20, -9.5, -5, -2, -1, -0.5, -0.0625, -1e-3, -1e-9]
X += [-x for x in X]


@pytest.fixture
def m() -> Any:
    return pytest.importorskip("mpmath", reason="mpmath is not installed")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_gradients_near_and_far(name: str, dtype: str, m: Any) -> None:
    ours, truth = ACTIVATIONS[name]
    x = tinyml.tensor(np.array(X, dtype), requires_grad=True)
    y = ours(x)
    y.sum().backward()
    assert x.grad is not None
    with m.workdps(700):
        points = [m.mpf(float(each)) for each in x.detach().numpy()]
        step = m.mpf(10) ** -300
        values = [float(truth(m, each)) for each in points]
        slopes = [float((truth(m, each + step) - truth(m, each - step)) / (2 * step)) for each in points]
    accuracy = 8 * np.finfo(dtype).eps
    np.testing.assert_allclose(y.detach().numpy(), values, accuracy, accuracy)
    np.testing.assert_allclose(x.grad.numpy(), slopes, accuracy, 2 * accuracy)


@pytest.mark.parametrize("name", ["softplus", "softplus 4", "logsigmoid", "elu", "silu"])
def test_tails_keep_their_digits(name: str, m: Any) -> None:
    """What is near 0 has a small error for its size, too."""
    ours, truth = ACTIVATIONS[name]
    for dtype in ("float32", "float64"):
        x = np.array([each for each in X if abs(each) < 80], dtype)
        with m.workdps(50):
            values = np.array([float(truth(m, m.mpf(float(each)))) for each in x])
        kept = np.abs(values) > np.finfo(dtype).tiny
        np.testing.assert_allclose(ours(tinyml.tensor(x)).numpy()[kept], values[kept], 8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_passes_through(name: str, dtype: str) -> None:
    x = tinyml.tensor(np.full(20, nan, dtype), requires_grad=True)
    assert np.isnan(ACTIVATIONS[name][0](x).detach().numpy()).all()
    assert np.isnan(F.hardtanh(x).detach().numpy()).all()
    assert np.isnan(F.relu6(x).detach().numpy()).all()
    assert np.isnan(F.prelu(x, tinyml.tensor(np.array([0.5], dtype))).detach().numpy()).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_value_is_a_tensor_of_one(name: str) -> None:
    function = ACTIVATIONS[name][0]
    for number in (-3.0, -0.25, 0.0, 1.5, 1000.0):
        value, tensor = Value(number), tinyml.tensor(np.array([number]), requires_grad=True)
        y = function(value)
        assert isinstance(y, Value)
        y.backward()
        z = function(tensor)
        z.backward()
        assert tensor.grad is not None
        assert (y.data, value.grad) == pytest.approx((z.item(), tensor.grad.item()), rel=1e-15)
    assert isinstance(F.hardtanh(Value(2.0)), Value)
    assert F.hardtanh(Value(2.0)).data == 1


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nothing_flows_from_a_zero_gradient(name: str) -> None:
    """Not even where the derivative is nan."""
    x = tinyml.tensor([nan, inf, -inf, 1000.0, -1000.0], dtype="float64", requires_grad=True)
    (tinyml.where(tinyml.tensor([False] * 5), ACTIVATIONS[name][0](x), 3 * x)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3] * 5


KINKS = {
    "elu": (lambda x: F.elu(x, 0.3), 0.0, 0.3),
    "prelu": (lambda x: F.prelu(x, tinyml.tensor([0.3], dtype="float64")), 0.0, 0.3),
    "hardtanh low": (lambda x: F.hardtanh(x, -1, 2), -1.0, 0.0),
    "hardtanh high": (lambda x: F.hardtanh(x, -1, 2), 2.0, 0.0),
    "relu6 low": (F.relu6, 0.0, 0.0),
    "relu6 high": (F.relu6, 6.0, 0.0),
}


@pytest.mark.parametrize("name", KINKS)
def test_subgradients(name: str) -> None:
    function, at, expected = KINKS[name]
    x = tinyml.tensor([at], dtype="float64", requires_grad=True)
    function(x).backward()
    assert x.grad is not None
    assert x.grad.item() == expected


MODULES = [
    nn.ELU(0.5), nn.GELU(), nn.GELU("tanh"), nn.Hardtanh(), nn.LeakyReLU(), nn.LogSigmoid(), nn.LogSoftmax(1),
    nn.PReLU(), nn.PReLU(5), nn.ReLU6(), nn.SiLU(), nn.Sigmoid(), nn.Softmax(1), nn.Softplus(2.0, 3.0), nn.Tanh(),
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES, ids=repr)
def test_compiled_as_eager(module: nn.Module) -> None:
    def step(x: Any) -> Any:
        y = module(x * 3)
        (y * y).sum().backward()
        return y

    rng = np.random.default_rng(0)
    program = tinyml.compile(step)
    for _ in range(3):
        array = rng.standard_normal((7, 5)).astype("float32")
        left = []
        for function in (step, program):
            module.zero_grad()
            x = tinyml.tensor(array, requires_grad=True)
            y = function(x)
            left.append([y.detach().numpy(), x.grad.numpy(), *(p.grad.numpy() for p in module.parameters())])
        for eager, replayed in zip(*left, strict=True):
            np.testing.assert_array_equal(eager, replayed)


def test_representations() -> None:
    shown = [repr(module) for module in MODULES]
    assert shown[:6] == [
        "ELU(alpha=0.5)",
        "GELU(approximate='none')",
        "GELU(approximate='tanh')",
        "Hardtanh(min_val=-1.0, max_val=1.0)",
        "LeakyReLU(negative_slope=0.01)",
        "LogSigmoid()",
    ]
    assert shown[8] == "PReLU(num_parameters=5)"
    assert shown[13] == "Softplus(beta=2.0, threshold=3.0)"


def test_prelu_starts_and_learns() -> None:
    module = nn.PReLU(2)
    assert module.weight.tolist() == [0.25, 0.25]
    module(tinyml.tensor([[-1.0, 2.0], [-3.0, -5.0]])).sum().backward()
    assert module.weight.grad.tolist() == [-4, -5]
    module.weight.data = [3.0, 4.0]
    module.reset_parameters()
    assert module.weight.tolist() == [0.25, 0.25]
    assert nn.PReLU(dtype="float64").weight.dtype is tinyml.float64


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ArgumentError, r"gelu: got approximate='erf', expected 'none' or 'tanh'", lambda x: F.gelu(x, "erf")),
        (ArgumentError, r"GELU: got approximate='erf', expected 'none' or 'tanh'", lambda x: nn.GELU("erf")),
        (ShapeError, r"prelu: got weight \(2,\) for input \(3, 4\).*\(4,\)", lambda x: F.prelu(x, [0.1, 0.2])),
        (ShapeError, r"prelu: got weight \(4,\) for input \(4,\)", lambda x: F.prelu(x[0], [0.1] * 4)),
        (ShapeError, r"prelu: got weight \(1, 4\)", lambda x: F.prelu(x, [[0.1] * 4])),
        (ArgumentError, r"PReLU: got 0 parameters", lambda x: nn.PReLU(0)),
        (ArgumentError, r"hardtanh: got min_val 1.*max_val 1", lambda x: F.hardtanh(x, 1, 1)),
        (ArgumentError, r"Hardtanh: got min_val 2", lambda x: nn.Hardtanh(2, 1)),
        (TypeError, r"dim", lambda x: nn.Softmax()(x)),  # PyTorch guesses
    ],
)
def test_refused(error: type[Exception], message: str, call: Callable[[Any], Any]) -> None:
    with pytest.raises(error, match=message):
        call(tinyml.zeros(3, 4))
