"""tinyml.func: against torch.func, calculus by hand, and what it promises about everybody else's gradients."""

from typing import NamedTuple

import numpy as np
import pytest

import tinyml
from tinyml import Tensor, Value, func, nn
from tinyml.errors import ArgumentError, DTypeError, GraphError, ShapeError
from tinyml.func import grad, jacrev, value_and_grad, vjp

RNG = np.random.default_rng(0)
W, X, B = RNG.normal(size=(3, 4)), RNG.normal(size=(5, 4)), RNG.normal(size=3)


def loss(w, x, b):
    return (((x @ w.T + b).tanh() - 0.3) ** 2).mean()


def outputs(w, x, b):
    return (x @ w.T + b).tanh()


def alike(ours, theirs):
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("argnums", [0, 2, -1, (0, 2), (2, 0, 1), (-3, -1)])
def test_grad_agrees_with_torch(torch, argnums):
    ours = grad(loss, argnums)(*map(tinyml.tensor, (W, X, B)))
    theirs = torch.func.grad(loss, argnums)(*map(torch.tensor, (W, X, B)))
    if isinstance(argnums, int):
        ours, theirs = (ours,), (theirs,)
    assert type(ours) is tuple
    for a, b in zip(ours, theirs, strict=True):
        alike(a, b)


@pytest.mark.parametrize("argnums", [0, 1, (0, 1, 2)])
def test_jacrev_agrees_with_torch(torch, argnums):
    ours = jacrev(outputs, argnums)(*map(tinyml.tensor, (W, X, B)))
    theirs = torch.func.jacrev(outputs, argnums)(*map(torch.tensor, (W, X, B)))
    if isinstance(argnums, int):
        ours, theirs = (ours,), (theirs,)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == tuple(b.shape)
        alike(a, b)


def test_vjp_agrees_with_torch(torch):
    output, vjp_fn = vjp(outputs, *map(tinyml.tensor, (W, X, B)))
    expected, expected_fn = torch.func.vjp(outputs, *map(torch.tensor, (W, X, B)))
    alike(output, expected)
    kept = []
    for seed in range(3):  # as often as wanted; what was returned before stays what it was
        cotangent = np.random.default_rng(seed).normal(size=(5, 3))
        kept.append((vjp_fn(tinyml.tensor(cotangent)), expected_fn(torch.tensor(cotangent))))
    for ours, theirs in kept:
        assert len(ours) == 3
        for a, b in zip(ours, theirs, strict=True):
            alike(a, b)


def test_each_kind_of_argument():
    gradient = grad(lambda x: (x * x * 3).sum() if isinstance(x, Tensor) else x * x * 3)
    for number in (2.0, 2, np.float64(2), np.float32(2), Value(2.0)):
        result = gradient(number)
        assert type(result) is Value
        assert result.data == 12
    for array in (np.array([1.0, 2.0]), tinyml.tensor([1.0, 2.0], dtype="float64"), nn.Parameter(np.array([1.0, 2.0]))):
        result = gradient(array)
        assert type(result) is Tensor
        assert (result.tolist(), result.dtype) == ([6, 12], tinyml.float64)
    assert gradient(tinyml.ones(2, 2)).dtype is tinyml.float32
    assert gradient(tinyml.tensor(2.0)).tolist() == 12
    assert gradient(tinyml.zeros(0)).shape == (0,)


class Pair(NamedTuple):
    a: object
    b: object


def test_structures():
    def f(p, xs):
        total = p["w"][0] * p["w"][1] + p["t"].sum() * p["pair"].a
        return total + xs[0] * p["pair"].b

    params = {"w": [Value(2.0), 3.0], "t": tinyml.ones(2), "pair": Pair(4.0, Value(5.0)), "empty": ()}
    value, (by_params, by_xs) = value_and_grad(f, (0, 1))(params, (7.0,))
    assert value.item() == 6 + 8 + 35
    assert [x.data for x in by_params["w"]] == [3, 2]
    assert by_params["t"].tolist() == [4, 4]
    assert type(by_params["pair"]) is Pair
    assert (by_params["pair"].a.data, by_params["pair"].b.data, by_params["empty"]) == (2, 7, ())
    assert [x.data for x in by_xs] == [5]


def test_zeros_where_nothing_flows():
    by_a, by_b, by_c = grad(lambda a, b, c: b * 2, (0, 1, 2))(tinyml.ones(2, 3), 1.0, Value(2.0))
    assert by_a.tolist() == [[0] * 3] * 2
    assert (by_b.data, by_c.data) == (2, 0)
    assert grad(lambda x: x[1])(tinyml.ones(3)).tolist() == [0, 1, 0]


def test_the_result_may_be_the_argument():
    assert grad(lambda x: x)(3.0).data == 1
    value, gradient = value_and_grad(lambda x: x)(tinyml.ones(1))
    assert (value.tolist(), gradient.tolist()) == ([1], [1])


def test_the_same_argument_twice():
    x = Value(3.0)
    assert [g.data for g in grad(lambda a, b: a * a * b, (0, 1))(x, x)] == [18, 9]
    assert x.grad == 0


def test_has_aux():
    def f(x):
        return x * x, {"x": x * 2, "text": "a"}

    gradient, aux = grad(f, has_aux=True)(3.0)
    assert (gradient.data, aux["x"].data, aux["x"].requires_grad, aux["text"]) == (6, 6, False, "a")
    (value, aux), gradient = value_and_grad(f, has_aux=True)(3.0)
    assert (value.data, value.requires_grad, aux["x"].data, gradient.data) == (9, False, 6, 6)


def test_nobody_elses_gradient_is_touched():
    v, t, c = Value(2.0), tinyml.ones(3, requires_grad=True), tinyml.ones(3, requires_grad=True)
    outer = v * 3
    (outer * t).sum().backward()
    before = (v.grad, t.grad.tolist())
    f = value_and_grad(lambda v, t, c, d: (v * t * c * d["d"]).sum(), (0, 1))
    value, gradients = f(outer, t, c, {"d": v})
    assert value.item() == 6 * 3 * 2
    assert (gradients[0].data, gradients[1].tolist()) == (6, [12] * 3)
    value, gradient = value_and_grad(lambda t, c: (t * c).sum())(t, c=c)
    assert (v.grad, t.grad.tolist(), c.grad) == (*before, None)
    assert (value.requires_grad, gradient.requires_grad) == (False, False)
    gradient[0] = 5.0  # nor is its memory
    assert t.grad.tolist() == before[1]


def test_within_no_grad():
    with tinyml.no_grad():
        assert grad(lambda x: x * x)(3.0).data == 6
        assert not tinyml.is_grad_enabled()
        with pytest.raises(ZeroDivisionError):
            grad(lambda x: x / (1 // 0))(3.0)
        assert not tinyml.is_grad_enabled()


def test_nodes_are_released():
    f = value_and_grad(lambda x, y: (x * y).sum() ** 2, (0, 1))
    x, y = tinyml.ones(3), Value(2.0)
    f(x, y)
    live = tinyml.live_nodes()
    for _ in range(10):
        f(x, y)
        with pytest.raises(ShapeError):
            grad(lambda x: x * 2)(x)
        with pytest.raises(DTypeError):
            grad(lambda x: 2)(x)
    assert tinyml.live_nodes() == live


def test_the_name_and_the_documentation_stay():
    def f(x):
        """Squares."""
        return x * x

    for wrapped in (grad(f), value_and_grad(f), jacrev(f)):
        assert (wrapped.__name__, wrapped.__doc__) == ("f", "Squares.")
    assert grad(nn.MLP(1, [1]))([2.0])[0].data != 7  # a module is a function too


def test_vjp_of_structures():
    output, vjp_fn = vjp(lambda a, b: {"sum": a + b["b"], "both": [a * b["b"], b["b"].sum()]}, 2.0, {"b": np.ones(2)})
    assert output["sum"].tolist() == [3, 3]
    assert not output["both"][0].requires_grad
    by_a, by_b = vjp_fn({"sum": np.array([1.0, 0.0]), "both": [tinyml.zeros(2, dtype="float64"), 10.0]})
    assert (by_a.data, by_b["b"].tolist()) == (1, [11, 10])
    output, vjp_fn = vjp(lambda x: x * x, 3.0)
    assert (output.data, vjp_fn(2.0)[0].data, vjp_fn(Value(-1.0))[0].data) == (9, 12, -6)


def test_jacrev_of_values_and_tensors():
    by_a, by_t = jacrev(lambda a, t: (a * t) ** 2, (0, 1))(3.0, tinyml.tensor([1.0, 2.0]))
    assert (by_a.tolist(), by_t.tolist()) == ([6, 24], [[18, 0], [0, 36]])
    rows = jacrev(lambda v: [v[0] * v[1], v[0] - v[1], v[1]])([2.0, Value(5.0)])
    assert [[x.data for x in row] for row in rows] == [[5, 2], [1, -1], [0, 1]]
    assert jacrev(lambda x: x * x)(3.0).data == 6
    assert jacrev(lambda x: x[:0] * 2)(tinyml.ones(3)).shape == (0, 3)
    assert jacrev(lambda x: (x * x).sum())(tinyml.ones(3)).tolist() == [2, 2, 2]


def test_a_training_loop():
    def mse(params, x, y):
        return ((x @ params["w"] + params["b"] - y) ** 2).mean()

    x = tinyml.tensor(RNG.normal(size=(50, 2)))
    y = x @ tinyml.tensor(np.array([2.0, -1.0])) + 0.5
    params = {"w": tinyml.zeros(2, dtype="float64"), "b": Value(0.0)}
    step = value_and_grad(mse)
    for _ in range(200):
        value, gradients = step(params, x, y)
        params = {name: params[name] - 0.1 * gradients[name] for name in params}
    assert value.item() < 1e-12
    np.testing.assert_allclose(params["w"].detach().tolist(), [2, -1], atol=1e-6)


@pytest.mark.parametrize("name", ["grad", "value_and_grad"])
def test_errors(name):
    f = getattr(func, name)
    with pytest.raises(
        ShapeError, match=rf"{name}: the function returned shape \(3,\), expected one element; .*jacrev"
    ):
        f(lambda x: x * 2)(tinyml.ones(3))
    with pytest.raises(DTypeError, match=f"{name}: the function returned float"):
        f(lambda x: x.item())(2.0)
    with pytest.raises(DTypeError, match=f"{name}: the function returned tuple.*has_aux"):
        f(lambda x: (x, 1))(2.0)
    with pytest.raises(DTypeError, match=f"{name}: has_aux=True, but the function returned Value"):
        f(lambda x: x, has_aux=True)(2.0)
    with pytest.raises(DTypeError, match=f"{name}: got str to differentiate by"):
        f(lambda x: x)("2")
    with pytest.raises(DTypeError, match=f"{name}: .*got int64.*convert with .float"):
        f(lambda x: x.sum())(tinyml.arange(3))
    for argnums in (1, -2, (0, 0), (0, -1)):
        with pytest.raises(ArgumentError, match=f"{name}: got argnums .* and 1 positional arguments"):
            f(lambda x: x, argnums)(2.0)
    with pytest.raises(GraphError, match=f"{name}: no gradient flows.*first order only"):
        f(lambda x: tinyml.ones(1))(2.0)


def test_second_order_is_refused():
    with pytest.raises(GraphError, match="first order only"):
        grad(grad(lambda x: x**3))(2.0)
    with pytest.raises(GraphError, match="first order only"):
        jacrev(grad(lambda x: (x**3).sum()))(tinyml.ones(2))


def test_errors_of_vjp_and_jacrev():
    with pytest.raises(DTypeError, match="jacrev: the function returned int"):
        jacrev(lambda x: [x, 2])(1.0)
    _, vjp_fn = vjp(lambda x: (x * 2, x.sum()), tinyml.ones(3))
    with pytest.raises(ArgumentError, match="vjp: the cotangents differ in structure"):
        vjp_fn(tinyml.ones(3))
    with pytest.raises(ShapeError, match=r"gradient has shape \(2,\), expected the result's, \(3,\)"):
        vjp_fn((tinyml.ones(2), 1.0))
    with pytest.raises(GraphError, match="vjp: no gradient flows"):
        vjp(lambda x: x.detach(), tinyml.ones(3))
