"""Value: micrograd's surface, against stored numbers, PyTorch, NumPy and finite differences."""

import copy
import gc
import math
import operator
import pickle

import numpy as np
import pytest

import tinyml
from tinyml import Tensor, Value
from tinyml.errors import ArgumentError, DTypeError, GraphError, ShapeError


def sanity(x):
    z = 2 * x + 2 + x
    q = z.relu() + z * x
    return (z * z).relu() + q + q * x


def readme(a, b):
    c, d = a + b, a * b + b**3
    c = 2 * c + 1
    c = 1 + 2 * c - a
    d = 3 * d + (b + a).relu()
    d = 4 * d + (b - a).relu()
    f = (c - d) ** 2
    return f / 2.0 + 10.0 / f


def every_function(a, b):
    c = (a.sin() * b.cos()).exp() + a.abs().sqrt() - (-b).tanh()
    return c.sigmoid() / (a * a + 1).log() + 2.0**c - b.clamp(-0.5, 0.5) * (0.3 + c * c) ** -1.5


def one_value_many_times(a, b):
    c = a
    for _ in range(10):
        c = c * a + c * b - c
    return c


#: name: (function, arguments, its value, its gradients)
EXPRESSIONS = {
    "sanity": (sanity, (-4.0,), -20.0, (46.0,)),
    "readme": (readme, (-4.0, 2.0), 24.70408163265306, (138.8338192419825, 645.5772594752187)),
    "functions": (
        every_function,
        (-1.3, -0.7),
        3.0880200751985933,
        (0.43480242452506285, 0.2870911421032534),
    ),
    "many": (one_value_many_times, (0.7, 0.9), 0.00423263232, (0.0765904896, 0.070543872)),
}


@pytest.fixture(params=EXPRESSIONS)
def expression(request):
    return EXPRESSIONS[request.param]


def scalars(numbers):
    return [tinyml.tensor(x, dtype="float64", requires_grad=True) for x in numbers]


@pytest.mark.parametrize("leaves", [lambda numbers: list(map(Value, numbers)), scalars])
def test_expressions_give_the_stored_numbers(expression, leaves):
    function, numbers, value, gradients = expression
    inputs = leaves(numbers)
    result = function(*inputs)
    result.backward()
    assert result.item() == pytest.approx(value, rel=1e-12)
    assert [float(x.grad) for x in inputs] == pytest.approx(gradients, rel=1e-12)


def test_expressions_agree_with_torch(expression):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    function, numbers, *_ = expression
    ours = list(map(Value, numbers))
    theirs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in numbers]
    result, expected = function(*ours), function(*theirs)
    result.backward()
    expected.backward()
    assert result.data == pytest.approx(expected.item(), rel=1e-14)
    assert [x.grad for x in ours] == pytest.approx([x.grad.item() for x in theirs], rel=1e-13)


def test_expressions_agree_with_differences(expression):
    function, numbers, *_ = expression
    assert tinyml.gradcheck(function, [Value(x) for x in numbers])


def test_the_readme_of_micrograd():
    a, b = Value(-4.0), Value(2.0)
    g = readme(a, b)
    assert f"{g.data:.4f}" == "24.7041"
    g.backward()
    assert (f"{a.grad:.4f}", f"{b.grad:.4f}") == ("138.8338", "645.5773")


OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
NUMBERS = [3, 2.5, True, np.float64(2.5), np.float32(2.5), np.int64(3), np.uint8(3), np.bool_(True)]


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("number", NUMBERS, ids=lambda x: type(x).__name__)
def test_numbers_on_both_sides(op, number):
    v = Value(1.7)
    for result, expected in [
        (op(v, number), op(1.7, float(number))),
        (op(number, v), op(float(number), 1.7)),
    ]:
        assert type(result) is Value
        assert result.data == pytest.approx(expected, rel=1e-15)
        assert result.requires_grad
    assert tinyml.gradcheck(lambda v: op(v, number) + op(number, v), v)


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_arrays_on_both_sides(op, dtype):
    array = np.array([[1, 2, 3], [3, 2, 1]], dtype=dtype)
    wide = array.astype(np.float64)
    v, torch_like = Value(1.7), tinyml.tensor(1.7, dtype="float64", requires_grad=True)
    for result, expected in [(op(v, array), op(1.7, wide)), (op(array, v), op(wide, 1.7))]:
        assert type(result) is Tensor
        assert result.dtype.name == ("float32" if dtype == "float32" else "float64")
        np.testing.assert_allclose(result.detach().numpy(), expected, rtol=1e-6)
        result.sum().backward()
    (op(torch_like, tinyml.tensor(wide)) + op(tinyml.tensor(wide), torch_like)).sum().backward()
    assert v.grad == pytest.approx(torch_like.grad.item(), rel=1e-5)


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("other", ["2", None, 1j, np.complex128(1), [1.0], object()])
def test_operators_refuse_what_is_no_number(op, other):
    v, live = Value(2.0), tinyml.live_nodes()
    for a, b in [(v, other), (other, v)]:
        with pytest.raises(TypeError):
            op(a, b)
    assert tinyml.live_nodes() <= live


def test_unary_operators():
    v = Value(-2.0)
    assert (-v).data == 2
    assert abs(v).data == 2
    assert tinyml.gradcheck(lambda v: -v * abs(v), v)


def test_augmented_assignment_makes_a_new_value():
    a = b = Value(3.0)
    b += 1
    b *= a
    b -= 2
    b /= 4
    b **= 2
    assert a.data == 3
    assert b.data == 6.25
    b.backward()
    assert a.grad == 2 * 2.5 * 7 / 4


def test_data_is_a_float64_and_assignable():
    v = Value(1 / 3)
    assert v.data == 1 / 3
    for number in (2, 2.5, True, np.float32(2.5), np.int64(2), tinyml.tensor(2.0), Value(0.1)):
        v.data = number
        assert type(v.data) is float
        assert v.data == float(number)
    assert Value().data == 0


def test_a_graph_sees_new_data_of_its_leaves():
    a, b = Value(2.0), Value(3.0)
    y = a * b
    a.data = 10.0
    y.backward()
    assert (y.data, b.grad) == (6, 10)


def test_grad_is_assignable_and_added_to():
    a = Value(2.0)
    assert a.grad == 0
    a.grad = 5
    (a * 3).backward()
    assert a.grad == 8
    a.grad = 0.0
    assert a.grad == 0


@pytest.mark.parametrize("attribute", ["data", "grad"])
@pytest.mark.parametrize("bad", ["3", None, [1.0], 1j, np.zeros(2), np.zeros(1)])
def test_assigning_what_is_no_number_changes_nothing(attribute, bad):
    v = Value(2.0)
    v.grad = 1.5
    with pytest.raises(DTypeError, match=f"{attribute}: got .*, expected a number"):
        setattr(v, attribute, bad)
    assert (v.data, v.grad) == (2, 1.5)
    with pytest.raises(DTypeError, match="Value: got"):
        Value(bad)


def test_the_second_backward_is_right():
    a = Value(3.0)
    b = a * a
    c = b * 2 + b
    c.backward()
    assert (a.grad, b.grad, c.grad) == (18, 3, 1)
    c.backward()
    assert (a.grad, b.grad, c.grad) == (36, 3, 1)
    b.backward()
    assert (a.grad, b.grad) == (42, 1)


def test_backward_needs_a_graph_that_requires_a_gradient():
    with tinyml.no_grad():
        v = Value(2.0) * 3
    assert not v.requires_grad
    with pytest.raises(GraphError, match=r"backward: .*requires_grad=True.*no_grad"):
        v.backward()


def test_how_a_value_was_made():
    a, b = Value(2.0), Value(3.0)
    assert a._prev == set()
    assert a._op == ""
    results = {"+": a + b, "-": a - b, "*": a * b, "/": a / b, "**": a**b}
    for symbol, result in results.items():
        assert result._op == symbol
        assert result._prev == {a, b}
    assert (a * a)._prev == {a}
    assert {x.data for x in (a + 5)._prev} == {2, 5}
    assert a.relu()._op == "ReLU"
    assert a.tanh()._op == "tanh"
    assert next(x for x in (a * b)._prev if x == a).data == 2


def test_a_walk_through_prev_meets_every_value_once():
    a, b = Value(2.0), Value(3.0)
    c = a * b
    d = c + c * a
    seen, todo = set(), [d]
    while todo:
        v = todo.pop()
        if v not in seen:
            seen.add(v)
            todo.extend(v._prev)
    assert len(seen) == 5
    assert {a, b, c, d} <= seen


def test_repr():
    a = Value(2)
    assert repr(a) == "Value(data=2.0, grad=0.0)"
    (a * -0.25).backward()
    assert repr(a) == "Value(data=2.0, grad=-0.25)"
    assert repr(Value(math.nan)) == "Value(data=nan, grad=0.0)"


def test_numbers_out():
    v = Value(-2.75)
    assert (float(v), int(v), v.item()) == (-2.75, -2, -2.75)
    assert v
    assert not Value(0.0)
    assert f"{float(v):.1f}" == "-2.8"
    assert math.sqrt(Value(4.0)) == 2


COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize("compare", COMPARISONS)
@pytest.mark.parametrize("other", [1, 2, 2.0, 3.5, np.float64(2), np.float32(3), np.int64(1)])
def test_comparisons_give_bools(compare, other):
    v = Value(2.0)
    assert compare(v, other) is compare(2.0, float(other))
    assert compare(other, v) is compare(float(other), 2.0)
    assert compare(v, Value(float(other))) is compare(2.0, float(other))


def test_comparison_with_text_is_refused():
    with pytest.raises(TypeError):
        Value(1.0) < "2"  # noqa: B015


def test_extremes_of_values():
    values = [Value(x) for x in (2.0, -1.0, 5.0, 0.5)]
    assert max(values) is values[2]
    assert sorted(values)[0] is values[1]


def test_equality_is_identity():
    a, b = Value(1.0), Value(1.0)
    assert a == a
    assert a != b
    assert a != 1.0
    assert len({a, b, a}) == 2
    assert {a: "x"}[a] == "x"
    assert [a, b].index(b) == 1


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("make", [lambda: Value(1.0), lambda: tinyml.ones(2)])
def test_pickling_is_refused(duplicate, make):
    with pytest.raises(DTypeError, match="cannot be pickled"):
        duplicate(make())


def test_a_subclass_gives_plain_values():
    class Money(Value):
        __slots__ = ()

    assert type(Money(2.0)) is Money
    assert type(Money(2.0) * 3) is Value


def counted(function):
    """What function returns, and how many nodes that has made."""
    gc.disable()  # which would free nodes of tests before
    try:
        before = tinyml.live_nodes()
        result = function()
        return result, tinyml.live_nodes() - before
    finally:
        gc.enable()


@pytest.mark.parametrize("n", [1, 2, 3, 1000])
def test_sum_is_one_node(n):
    values = [Value(0.25 * i) for i in range(n)]
    result, nodes = counted(lambda: tinyml.sum(values))
    assert nodes == 1
    assert type(result) is Value
    assert result.data == 0.25 * n * (n - 1) / 2
    assert len(result._prev) == n
    result.backward()
    assert [v.grad for v in values] == [1.0] * n


def test_sum_of_one_value_several_times():
    a, b = Value(2.0), Value(3.0)
    assert tinyml.gradcheck(lambda a, b: tinyml.sum([a, b, a, a * b, a]) ** 2, [a, b])
    y = tinyml.sum((a, b, a, a))
    y.backward()
    assert (y.data, a.grad, b.grad) == (9, 3, 1)


ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": lambda x: x.relu(),
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: x.sigmoid(),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [None, 0.3, -2.0])
@pytest.mark.parametrize("n", [0, 1, 3, 40])
def test_dot_is_one_node(activation, bias, n):
    rng = np.random.default_rng(n)
    ws, xs = ([Value(x) for x in rng.uniform(-1, 1, n)] for _ in range(2))
    b = None if bias is None else Value(bias)
    result, nodes = counted(lambda: tinyml.dot(ws, xs, b, activation))
    assert nodes == 1
    assert type(result) is Value

    def by_hand(*inputs):
        total = sum((w * x for w, x in zip(inputs[:n], inputs[n : 2 * n], strict=True)), Value(0.0))
        return ACTIVATIONS[activation](total + (inputs[2 * n] if b is not None else 0))

    inputs = [*ws, *xs] if b is None else [*ws, *xs, b]
    expected = by_hand(*inputs)
    assert result.data == pytest.approx(expected.data, rel=1e-12, abs=1e-15)
    if not inputs:
        return
    (result * 3).backward()
    gradients = [v.grad for v in inputs]
    for v in inputs:
        v.grad = 0.0
    (expected * 3).backward()
    assert gradients == pytest.approx([v.grad for v in inputs], rel=1e-12, abs=1e-15)
    if n < 10:
        assert tinyml.gradcheck(lambda *v: tinyml.dot(v[:n], v[n : 2 * n], v[2 * n] if b else None, activation), inputs)


def test_dot_takes_numbers_and_the_same_value_twice():
    a, b = Value(2.0), Value(3.0)
    y = tinyml.dot([a, a, b, 4], [a, 5.0, a, b], bias=a)
    assert y.data == 4 + 10 + 6 + 12 + 2
    y.backward()
    assert (a.grad, b.grad) == (4 + 5 + 3 + 1, 2 + 4)


def test_dot_refuses_what_does_not_fit():
    ws = [Value(1.0), Value(2.0)]
    with pytest.raises(ShapeError, match="dot: got 2 weights and 1 inputs"):
        tinyml.dot(ws, [1.0])
    with pytest.raises(ArgumentError, match="dot: got activation 'gelu', expected one of linear"):
        tinyml.dot(ws, ws, activation="gelu")
    with pytest.raises(ShapeError, match=r"dot: got shapes \(3,\) and \(2,\)"):
        tinyml.dot([Value(1.0), tinyml.ones(2)], [tinyml.ones(3), 1.0])
    with pytest.raises(DTypeError):
        tinyml.dot(ws, ["a", 1.0])
    with pytest.raises(DTypeError, match="sum"):
        tinyml.sum([ws[0], "a"])


# -- Values and Tensors in one graph


def test_value_times_tensor():
    v = Value(1.5)
    t = tinyml.tensor([[1.0, 2.0], [3.0, 4.0]], dtype="float64", requires_grad=True)
    y = v * t + t / v - (v - t) ** 2
    assert type(y) is Tensor
    y.sum().backward()
    assert tinyml.gradcheck(lambda v, t: v * t + t / v - (v - t) ** 2, [v, t])
    expected = (t.detach() - t.detach() / 2.25 - (1.5 - t.detach()) * 2).sum().item()
    assert v.grad == pytest.approx(expected, rel=1e-12)


def test_a_value_leaves_a_float32_tensor_float32():
    v, t = Value(0.1), tinyml.ones(3, requires_grad=True)
    y = (v * t).sum()
    assert y.dtype is tinyml.float32
    y.backward()
    assert v.grad == 3
    assert t.grad.tolist() == [np.float32(0.1)] * 3


def test_stack_makes_a_tensor_of_values():
    values = [Value(x) for x in (1.0, -2.0, 0.5)]
    t = tinyml.stack(values)
    assert (t.shape, t.dtype) == ((3,), tinyml.float64)
    (t * tinyml.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert [v.grad for v in values] == [1, 10, 100]
    weight = tinyml.tensor(np.random.default_rng(0).normal(size=(2, 3)), requires_grad=True)
    assert tinyml.gradcheck(lambda w, *v: (w @ tinyml.stack([*v, v[0] * v[1]])[:3]).tanh(), [weight, *values])


def test_elements_of_a_tensor_in_expressions_of_values():
    t = tinyml.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    v = Value(10.0)
    y = v * t[0, 1] + t[1, 0] ** 2 / v
    assert (type(y), y.shape) == (Tensor, ())
    y.backward()
    assert v.grad == pytest.approx(2 - 9 / 100, rel=1e-6)
    np.testing.assert_allclose(t.grad.numpy(), [[0, 10], [0.6, 0]], rtol=1e-6)


def test_functions_take_both():
    v = Value(0.5)
    assert type(tinyml.exp(v)) is Value
    assert type(tinyml.maximum(v, 1.0)) is Value
    assert type(tinyml.maximum(v, tinyml.ones(2))) is Tensor
    y = tinyml.where(tinyml.tensor([True, False]), v * 2, tinyml.zeros(2))
    assert y.tolist() == [1, 0]
    y.sum().backward()
    assert v.grad == 2


def test_comparison_with_a_tensor_is_elementwise():
    v, t = Value(2.0), tinyml.tensor([1.0, 2.0, 3.0])
    assert (v < t).tolist() == [False, False, True]
    assert (t <= v).tolist() == [True, True, False]
    assert (v >= t).tolist() == [True, True, False]
    assert (t == v).tolist() == (v == t).tolist() == [False, True, False]
    assert (t != v).tolist() == (v != t).tolist() == [True, False, True]


def test_a_tensor_of_one_element_becomes_a_value():
    assert Value(tinyml.tensor([2.5])).data == 2.5
    assert tinyml.tensor(Value(2.5)).item() == 2.5
