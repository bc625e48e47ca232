"""Tensor: PyTorch's surface, against NumPy and PyTorch."""

import gc
import operator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinyml
from tinyml import Tensor, Value
from tinyml.errors import ArgumentError, AxisError, DTypeError, GraphError, ShapeError

settings.register_profile("tinyml", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tinyml")

DTYPES = [tinyml.float32, tinyml.float64, tinyml.int64, tinyml.bool]
FLOATS = ["float32", "float64"]


def leaf(data, dtype="float64"):
    return tinyml.tensor(data, dtype=dtype, requires_grad=True)


def same(x, expected):
    """Equal shape, dtype and bits; nan is nan."""
    array = x.detach().numpy()
    assert array.dtype == expected.dtype
    assert array.shape == expected.shape
    np.testing.assert_array_equal(array, expected)


# -- Making tensors


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        (3, "int64"),
        (True, "bool"),
        ([1, 2.5], "float32"),
        ([[True], [False]], "bool"),
        ([True, 2], "int64"),
        ([], "float32"),
        ((1, 2), "int64"),
        (range(3), "int64"),
        (np.float64(0.1), "float64"),
        (np.float32(0.1), "float32"),
        (np.arange(3, dtype=np.int8), "int64"),
        (np.arange(3, dtype=np.uint64), "int64"),
        (np.arange(3, dtype=np.float16), "float32"),
        (np.arange(3, dtype=np.longdouble), "float64"),
        (np.arange(3, dtype=">f8"), "float64"),
        (np.arange(3, dtype=">i8"), "int64"),
        (np.zeros((0, 3)), "float64"),
        ([np.float32(1), np.float32(2)], "float32"),
    ],
)
def test_tensor_takes_numbers_of_every_kind(data, dtype):
    same(tinyml.tensor(data), np.asarray(data).astype(dtype))


def test_tensor_copies():
    array = np.arange(4.0)
    for make in (tinyml.tensor, tinyml.from_numpy, lambda a: tinyml.tensor(tinyml.tensor(a))):
        x = make(array)
        array[0] = 7
        assert x[0].item() == 0
        array[0] = 0


@pytest.mark.parametrize("view", [lambda a: a.T, lambda a: a[::2, ::-1], lambda a: a[:, 1], np.flip])
def test_arrays_of_any_strides(view):
    array = view(np.arange(12.0).reshape(4, 3))
    same(tinyml.tensor(array), array)
    same(tinyml.from_numpy(array), array)
    same(tinyml.tensor(np.zeros(array.shape)) + array, array)


@pytest.mark.parametrize("dtype", DTYPES)
def test_filled(dtype):
    numpy = dtype.numpy
    same(tinyml.zeros(2, 3, dtype=dtype), np.zeros((2, 3), numpy))
    same(tinyml.zeros((2, 3), dtype=dtype), np.zeros((2, 3), numpy))
    same(tinyml.ones([2, 3], dtype=dtype), np.ones((2, 3), numpy))
    same(tinyml.ones((), dtype=dtype), np.ones((), numpy))
    same(tinyml.zeros(0, 2, dtype=dtype), np.zeros((0, 2), numpy))
    same(tinyml.full((2,), 1, dtype=dtype), np.ones(2, numpy))
    same(tinyml.full(3, 1, dtype), np.ones(3, numpy))
    same(tinyml.eye(2, 3, dtype=dtype), np.eye(2, 3, dtype=numpy))
    like = tinyml.zeros(2, 1, dtype=dtype)
    same(tinyml.ones_like(like), np.ones((2, 1), numpy))
    same(tinyml.zeros_like(like), np.zeros((2, 1), numpy))
    same(tinyml.full_like(like, 1), np.ones((2, 1), numpy))
    same(tinyml.ones_like(like, dtype="float64"), np.ones((2, 1)))


def test_extents_may_be_numpy_integers():
    n = np.int64(3)
    assert tinyml.zeros(n).shape == tinyml.ones((n,)).shape == (3,)
    assert tinyml.zeros(n, 2).reshape(n * 2).shape == (6,)
    assert tinyml.zeros(3, 2).reshape(n, -1).sum(np.int64(0)).shape == (2,)
    assert tinyml.arange(n).tolist() == [0, 1, 2]
    assert tinyml.arange(n).dtype is tinyml.int64
    assert all(type(extent) is int for extent in tinyml.zeros(n).shape)


def test_full_takes_the_dtype_of_its_number():
    assert tinyml.full((2,), 1).dtype is tinyml.int64
    assert tinyml.full((2,), 1.0).dtype is tinyml.float32
    assert tinyml.full((2,), True).dtype is tinyml.bool


@pytest.mark.parametrize("arguments", [(5,), (2, 9, 3), (5, 0, -2), (0, 1, 0.3), (0,), (3, 3)])
def test_arange(arguments):
    dtype = np.float32 if any(isinstance(x, float) for x in arguments) else np.int64
    same(tinyml.arange(*arguments), np.arange(*arguments).astype(dtype))


def test_linspace():
    same(tinyml.linspace(-1, 1, 5), np.linspace(-1, 1, 5, dtype=np.float32))
    assert tinyml.linspace(0, 1, 0).shape == (0,)


def test_drawn():
    tinyml.manual_seed(3)
    uniform, normal = tinyml.rand(100, 100), tinyml.randn(100, 100, dtype="float64")
    assert (uniform.dtype, normal.dtype) == (tinyml.float32, tinyml.float64)
    assert 0 <= uniform.amin().item() < 0.01 < 0.99 < uniform.amax().item() < 1
    assert abs(normal.mean().item()) < 0.05
    assert abs(normal.std().item() - 1) < 0.05
    integers = tinyml.randint(-2, 3, (1000,))
    assert set(integers.tolist()) == {-2, -1, 0, 1, 2}
    assert integers.dtype is tinyml.int64
    assert sorted(tinyml.randperm(50).tolist()) == list(range(50))
    tinyml.manual_seed(3)
    same(tinyml.rand(100, 100), uniform.numpy())


@pytest.mark.parametrize("make", [tinyml.zeros, tinyml.ones, tinyml.rand, tinyml.randn])
def test_made_with_requires_grad(make):
    assert make(2, requires_grad=True).requires_grad
    assert not make(2).requires_grad


def test_a_tensor_is_made_by_tensor():
    for arguments in ((), ([1.0],)):
        with pytest.raises(DTypeError, match=r"tinyml\.tensor"):
            Tensor(*arguments)


def test_dtype_names():
    assert [repr(d) for d in DTYPES] == [
        "tinyml.float32", "tinyml.float64", "tinyml.int64", "tinyml.bool"
    ]  # fmt: skip
    for name in ("float64", float, np.float64, np.dtype("float64"), tinyml.float64):
        assert tinyml.zeros(1, dtype=name).dtype is tinyml.float64
    assert tinyml.zeros(1, dtype=int).dtype is tinyml.int64
    assert tinyml.zeros(1, dtype=bool).dtype is tinyml.bool


def test_conversions_between_dtypes():
    x = tinyml.tensor([-1.7, 0.0, 2.5])
    same(x.long(), np.array([-1, 0, 2]))
    same(x.bool(), np.array([True, False, True]))
    same(x.double(), np.array([-1.7, 0.0, 2.5], np.float32).astype(np.float64))
    assert x.float() is x
    assert x.to(tinyml.float32, copy=True) is not x
    y = leaf([1.0, 2.0], "float32")
    (y.double() * 0.1).sum().backward()
    assert y.grad.dtype is tinyml.float32
    np.testing.assert_allclose(y.grad.numpy(), [0.1, 0.1], rtol=1e-6)


# -- Memory shared with NumPy


@pytest.mark.parametrize("shape", [(3, 2), (), (0, 2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_shares_memory_that_outlives_the_tensor(dtype, shape):
    x = tinyml.zeros(shape, dtype=dtype)
    a, b = x.numpy(), x.detach().numpy()
    a[...] = 1
    assert x.tolist() == np.ones(shape, dtype.numpy).tolist()
    if shape:
        assert b.tolist() == a.tolist()
    x[...] = 0
    assert not a.any()
    a[...] = 1
    del x, b
    gc.collect()
    others = [tinyml.zeros(shape, dtype=dtype) for _ in range(100)]
    assert a.all()
    assert a.shape == others[0].shape


def test_grad_shares_memory_that_outlives_the_tensor():
    x = leaf([1.0, 2.0])
    (x * 3).sum().backward()
    g, array = x.grad, x.grad.numpy()
    (x * 3).sum().backward()
    assert g.tolist() == array.tolist() == [6, 6]
    x.grad = None
    (x * 5).sum().backward()
    assert array.tolist() == [6, 6]
    del x, g
    gc.collect()
    assert array.tolist() == [6, 6]


def test_reshape_shares_memory():
    x = tinyml.arange(6.0)
    y = x.reshape(2, 3)
    y[0, 0] = 9
    assert x[0].item() == 9
    assert np.shares_memory(x.numpy(), y.numpy())
    assert not np.shares_memory(x.numpy(), x.clone().numpy())


def test_numpy_refuses_a_tensor_that_requires_a_gradient():
    x = leaf([1.0])
    for convert in (lambda: x.numpy(), lambda: np.asarray(x), lambda: np.array([x, x])):
        with pytest.raises(GraphError, match=r"detach\(\)"):
            convert()
    assert x.detach().numpy().tolist() == [1]


def test_array_protocol():
    x = tinyml.tensor([1.0, 2.0])
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert not np.shares_memory(np.array(x), x.numpy())
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert np.stack([x, x]).shape == (2, 2)
    assert np.zeros(5)[tinyml.tensor([1, 2])].shape == (2,)


# -- Operators

OPERATORS = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.pow,
    operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne,
]  # fmt: skip


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.__name__)
@pytest.mark.parametrize(("shape", "other"), [((2, 3), (2, 3)), ((2, 3), (3,)), ((3,), (2, 1)), ((), (2,)), ((2,), ())])
def test_arrays_on_both_sides(op, shape, other):
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 4, shape) * 1.0, rng.integers(1, 4, other) * 1.0
    a, b = np.asarray(a), np.asarray(b)
    for x, y in [(leaf(a), b), (a, leaf(b)), (leaf(a), leaf(b))]:
        result = op(x, y)
        assert type(result) is Tensor
        same(result, np.asarray(op(a, b)))
        if result.dtype is not tinyml.bool:
            assert tinyml.gradcheck(op, [tinyml.tensor(z) if isinstance(z, np.ndarray) else z for z in (x, y)])
            assert result.requires_grad


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.__name__)
@pytest.mark.parametrize("number", [2, 1.5, True, np.float64(1.5), np.float32(1.5), np.int64(2), np.bool_(True)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_numbers_on_both_sides_leave_the_dtype(op, number, dtype):
    array = np.array([1, 2, 3], dtype)
    x = tinyml.tensor(array)
    plain = number.item() if isinstance(number, np.generic) else number
    for result, expected in [(op(x, number), op(array, plain)), (op(number, x), op(plain, array))]:
        assert type(result) is Tensor
        assert result.dtype.name == ("bool" if expected.dtype == bool else dtype)
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


BESIDE = {
    "where": lambda x: tinyml.where(x > 0, 0.1, x),
    "where other": lambda x: tinyml.where(x < 0, x, [0.1, 0.1]),
    "maximum": lambda x: tinyml.maximum(0.1, -x),
    "minimum": lambda x: tinyml.minimum([0.1, 0.1], x),
    "stack": lambda x: tinyml.stack([x[0], 0.1])[1],
    "cat": lambda x: tinyml.cat(part for part in ([0.1], x))[0],
    "matmul": lambda x: tinyml.matmul([0.1, 0], x),
    "dot": lambda x: tinyml.dot([0.1, 0], x),
    "linear": lambda x: tinyml.nn.functional.linear([0.1, 0], x.reshape(1, 2)),
    "mse_loss": lambda x: tinyml.nn.functional.mse_loss(x - 1, [0.1, 0.1], reduction="sum").sqrt() * 2**0.5,
    "ufunc": lambda x: np.multiply(0.1, x),
    "Value": lambda x: tinyml.stack([Value(1.0), 0.1])[1],
}


@pytest.mark.parametrize("name", BESIDE)
def test_numbers_beside_float64_keep_their_digits(name):
    """They take the dtype of the tensor beside them, and are not rounded to float32 on the way."""
    result = BESIDE[name](tinyml.ones(2, dtype="float64"))
    assert result.dtype is tinyml.float64
    assert result.sum().item() in (pytest.approx(0.1, rel=1e-14), pytest.approx(0.2, rel=1e-14))


def test_matmul_on_both_sides():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    for x, y in [(leaf(a), b), (a, leaf(b)), (leaf(a), leaf(b))]:
        same(x @ y, a @ b)
        assert (x @ y).requires_grad


@pytest.mark.parametrize("op", OPERATORS[:9], ids=lambda op: op.__name__)
@pytest.mark.parametrize("other", ["2", None, 1j, object(), {}])
def test_operators_refuse_what_is_no_number(op, other):
    x = tinyml.ones(2)
    for a, b in [(x, other), (other, x)]:
        with pytest.raises(TypeError):
            op(a, b)


def test_large_integers_are_exact():
    big = 2**53 + 1
    x = tinyml.tensor([big, -big])
    assert x.tolist() == [big, -big]
    assert x[0].item() == big
    assert int(x[0]) == big
    assert (x + x).tolist() == [2 * big, -2 * big]
    assert (x == tinyml.tensor(big)).tolist() == [True, False]
    for exact in (2**53 - 1, 1 - 2**53):
        assert (x - exact).tolist() == [big - exact, -big - exact]
    for inexact in (big, -big, 2**63, 10**300):
        with pytest.raises(ArgumentError, match=r"eq: got the integer .*tinyml\.tensor"):
            x == inexact  # noqa: B015
    assert (x.double() - big).tolist() == [0, -(2.0**54)]


def test_bools():
    a, b = tinyml.tensor([True, True, False]), tinyml.tensor([True, False, False])
    assert (a & b).tolist() == [True, False, False]
    assert (a | b).tolist() == [True, True, False]
    assert (~a).tolist() == [False, False, True]
    assert a.any().item() is True
    assert a.all().item() is False
    assert tinyml.zeros(0).all().item() is True
    assert (tinyml.tensor([1.0, 3.0]) > 2).any()


def test_augmented_assignment_makes_a_new_tensor():
    x = y = tinyml.ones(2)
    y += 1
    y *= x
    assert x.tolist() == [1, 1]
    assert y.tolist() == [2, 2]


UFUNCS = {
    "add": 2, "subtract": 2, "multiply": 2, "divide": 2, "power": 2, "maximum": 2, "minimum": 2,
    "matmul": 2, "negative": 1, "absolute": 1, "exp": 1, "log": 1, "sqrt": 1, "square": 1,
    "sin": 1, "cos": 1, "tanh": 1,
    "equal": 2, "not_equal": 2, "less": 2, "less_equal": 2, "greater": 2, "greater_equal": 2,
}  # fmt: skip


def test_every_ufunc_is_tested():
    assert set(UFUNCS) == set(Tensor._UFUNCS)


@pytest.mark.parametrize("name", UFUNCS)
def test_ufuncs_of_tensors(name):
    rng = np.random.default_rng(5)
    ufunc, arrays = getattr(np, name), [rng.uniform(0.5, 2, (3, 3)) for _ in range(UFUNCS[name])]
    expected = ufunc(*arrays)
    mixes = [[leaf(a) for a in arrays]]
    if len(arrays) == 2:
        mixes += [[leaf(arrays[0]), arrays[1]], [arrays[0], leaf(arrays[1])]]
    for inputs in mixes:
        result = ufunc(*inputs)
        assert type(result) is Tensor
        np.testing.assert_allclose(result.detach().numpy(), expected, rtol=1e-13)
        if result.dtype is tinyml.bool:
            continue
        nodes = [x for x in inputs if isinstance(x, Tensor)]
        assert tinyml.gradcheck(lambda *_, ufunc=ufunc, inputs=inputs: ufunc(*inputs), nodes)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.floor(x),
        lambda x: np.add.reduce(x),
        lambda x: np.multiply.outer(x, x),
        lambda x: np.add(x, x, out=np.zeros(2)),
        lambda x: np.exp(x, where=np.array([True, False])),
    ],
)
def test_other_ufuncs_are_refused(call):
    with pytest.raises(DTypeError, match=r"numpy\.\w+: tensors take .*exp.*detach\(\)\.numpy\(\)"):
        call(tinyml.ones(2))


# -- Looking at tensors


def test_shape_and_size():
    x = tinyml.zeros(2, 3, 4)
    assert x.shape == x.size() == (2, 3, 4)
    assert (x.ndim, x.dim(), x.numel(), len(x)) == (3, 3, 24, 2)
    assert (x.size(0), x.size(-1)) == (2, 4)
    for dim in (3, -4):
        with pytest.raises(AxisError, match="size"):
            x.size(dim)


def test_item():
    assert tinyml.tensor([[2.5]]).item() == 2.5
    for data, kind in [(2.5, float), (2, int), (True, bool)]:
        assert type(tinyml.tensor(data).item()) is kind
    for bad in (tinyml.zeros(2), tinyml.zeros(0)):
        with pytest.raises(ArgumentError, match=r"item: got \d elements, expected 1"):
            bad.item()


def test_tolist():
    for data in (1.5, [], [[1, 2], [3, 4]], [True], [[[0.5]]], [[], []]):
        assert tinyml.tensor(data).tolist() == data


def test_numbers_out():
    assert float(tinyml.tensor([2])) == 2.0
    assert int(tinyml.tensor(-2.7)) == -2
    assert range(5)[tinyml.tensor(3)] == 3
    with pytest.raises(DTypeError, match="int64"):
        range(5)[tinyml.tensor(3.0)]


def test_truth():
    assert tinyml.tensor([[1.0]])
    assert not tinyml.tensor(0)
    assert tinyml.tensor(float("nan"))
    for bad in (tinyml.zeros(2), tinyml.zeros(0)):
        with pytest.raises(ArgumentError, match=r"bool: a tensor of \d elements"):
            bool(bad)


def test_iteration():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    rows = list(x)
    assert [row.tolist() for row in rows] == x.tolist()
    a, b = x
    (a * b).sum().backward()
    assert x.grad.tolist() == [[3, 4], [1, 2]]
    for bad in (len, list):
        with pytest.raises(DTypeError, match="0-d"):
            bad(tinyml.tensor(1.0))


def test_equality_is_elementwise_and_hash_by_identity():
    a, b = tinyml.ones(2), tinyml.ones(2)
    assert (a == b).tolist() == [True, True]
    assert (a != np.array([1, 2])).tolist() == [False, True]
    assert len({a, b, a}) == 2
    assert {a: 1}[a] == 1
    assert (a == None) is False  # noqa: E711
    assert (a == "x") is False
    assert (a != "x") is True
    assert 1.0 in a
    assert 3.0 not in a


REPRS = {
    "tensor([1. , 2.5])": lambda: tinyml.tensor([1, 2.5]),
    "tensor([[1, 2],\n        [3, 4]])": lambda: tinyml.tensor([[1, 2], [3, 4]]),
    "tensor([ True, False])": lambda: tinyml.tensor([True, False]),
    "tensor(1.5)": lambda: tinyml.tensor(1.5),
    "tensor(7)": lambda: tinyml.tensor(7),
    "tensor([0.1], dtype=tinyml.float64)": lambda: tinyml.tensor([0.1], dtype="float64"),
    "tensor([], dtype=tinyml.float32)": lambda: tinyml.tensor([]),
    "tensor([], dtype=tinyml.int64)": lambda: tinyml.zeros(0, dtype="int64"),
    "tensor([1.], requires_grad=True)": lambda: tinyml.ones(1, requires_grad=True),
    "tensor([2.], op=mul)": lambda: tinyml.ones(1, requires_grad=True) * 2,
    "tensor(1., dtype=tinyml.float64, op=sum)": lambda: leaf([1.0]).sum(),
    "tensor([2.])": lambda: tinyml.ones(1) * 2,
    "tensor([nan, inf])": lambda: tinyml.tensor([np.nan, np.inf]),
    "tensor([0.3333])": lambda: tinyml.tensor([1 / 3]),
    "tensor([   0,    1,    2, ..., 1998, 1999, 2000])": lambda: tinyml.arange(2001),
    "Parameter containing:\ntensor([1.], requires_grad=True)": lambda: tinyml.nn.Parameter([1.0]),
}  # fmt: skip


@pytest.mark.parametrize("text", REPRS)
def test_repr(text):
    assert repr(REPRS[text]()) == text


def test_how_a_tensor_was_made():
    x, y = leaf([1.0]), leaf([2.0])
    z = x * y
    assert z._op == "mul"
    assert [p.tolist() for p in z._prev] == [[1], [2]]
    assert (x._op, x._prev, x.is_leaf, z.is_leaf) == ("", (), True, False)


# -- Gradients


def test_requires_grad():
    x, c = leaf([1.0]), tinyml.ones(1, dtype="float64")
    assert (x * c).requires_grad
    assert not (c * c).requires_grad
    assert (c * c).is_leaf
    assert not (x > 0).requires_grad
    assert not x.argmax().requires_grad
    assert not x.long().requires_grad
    assert c.requires_grad_() is c
    assert (c * 2).requires_grad
    c.requires_grad = False
    assert not (c * 2).requires_grad


def test_requires_grad_is_refused():
    y = leaf([1.0]) * 2
    with pytest.raises(GraphError, match=r"requires_grad: .*leaf.*mul.*detach"):
        y.requires_grad = False
    assert y.requires_grad
    i = tinyml.tensor([1])
    with pytest.raises(DTypeError, match=r"requires_grad: got int64, expected float32 or float64"):
        i.requires_grad = True
    with pytest.raises(DTypeError):
        tinyml.tensor([1], requires_grad=True)
    assert not i.requires_grad


def test_grad_is_none_until_backward():
    x = leaf([1.0, 2.0])
    y = x * x
    assert x.grad is None
    y.sum().backward()
    assert x.grad.tolist() == [2, 4]
    assert y.grad is None
    assert not x.grad.requires_grad
    assert tinyml.ones(2).grad is None


@pytest.mark.parametrize("shape", [(2,), ()])
def test_retain_grad(shape):
    x = leaf(np.ones(shape))
    y = x * 3
    y.retain_grad()
    z = y * y
    z.sum().backward()
    assert y.grad.tolist() == np.full(shape, 6).tolist()
    assert z.grad is None
    with pytest.raises(GraphError, match="retain_grad"):
        tinyml.ones(2).retain_grad()


def test_backward_with_a_gradient():
    x = leaf([[1.0, 2.0]], "float32")
    y = x * x
    for gradient in ([[1.0, 10.0]], np.array([[1, 10]], np.float32), tinyml.tensor([[1.0, 10.0]])):
        x.grad = None
        y.backward(gradient)
        assert x.grad.tolist() == [[2, 40]]
    x.grad = None
    y[0, :1].backward(retain_graph=True)
    assert x.grad.tolist() == [[2, 0]]


def test_assigning_data():
    x = leaf([1.0, 2.0], "float32")
    memory = x.detach().numpy()
    for data in (
        [3.0, 4.0],
        np.array([3, 4], np.float32),
        tinyml.tensor([3.0, 4.0]),
        x * 3,
        [5, 6],
    ):
        x.data = data
        assert memory.tolist() == x.tolist()
    assert x.is_leaf
    assert x.requires_grad
    x.data += 1.0
    assert x.tolist() == [6, 7]
    scalar = leaf(2.0)
    scalar.data = 3.0
    assert scalar.item() == 3
    x.data[0] = 9.0
    assert x.tolist() == [9, 7]


def test_assigning_grad():
    x = leaf([1.0, 2.0], "float32")
    for grad in ([3, 4], np.array([3, 4], np.float32), tinyml.tensor([3.0, 4.0])):
        x.grad = grad
        assert x.grad.tolist() == [3, 4]
    x.grad = x.grad
    assert x.grad.tolist() == [3, 4]
    x.grad *= 2
    (x * 1).sum().backward()
    assert x.grad.tolist() == [7, 9]
    x.grad = None
    assert x.grad is None


def test_detach_shares_memory_and_stops_the_gradient():
    x = leaf([1.0, 2.0])
    d = x.detach()
    assert d.is_leaf
    assert not d.requires_grad
    d[0] = 5.0
    assert x.tolist() == [5, 2]
    (x * x.detach()).sum().backward()
    assert x.grad.tolist() == [5, 2]


@pytest.mark.parametrize("dtype", DTYPES)
def test_clone_copies_and_passes_the_gradient(dtype):
    x = tinyml.ones(3, dtype=dtype)
    y = x.clone()
    y[0] = 0
    assert x.tolist() == [1, 1, 1]
    if dtype.is_floating_point:
        x.requires_grad = True
        (x.clone() * 2).sum().backward()
        assert x.grad.tolist() == [2, 2, 2]


def test_no_grad():
    x = leaf([1.0])
    with tinyml.no_grad():
        assert not (x * 2).requires_grad
        with tinyml.enable_grad():
            assert (x * 2).requires_grad
        assert not tinyml.is_grad_enabled()
        assert leaf([1.0]).requires_grad
    assert (x * 2).requires_grad
    with pytest.raises(ZeroDivisionError), tinyml.no_grad():
        1 / 0  # noqa: B018
    assert tinyml.is_grad_enabled()


def test_no_grad_as_decorator():
    @tinyml.no_grad()
    def down(x, depth):
        """Recursive."""
        assert not tinyml.is_grad_enabled()
        return down(x * 2, depth - 1) if depth else x * 2

    x = leaf([1.0])
    y = down(x, 3)
    assert y.tolist() == [16]
    assert not y.requires_grad
    assert (down.__name__, down.__doc__) == ("down", "Recursive.")
    assert (x * 2).requires_grad
    guard = tinyml.no_grad()
    with guard, guard:
        pass
    assert tinyml.is_grad_enabled()


# -- Indexing


@st.composite
def indexed(draw):
    """An array and an index for it, sometimes out of range."""
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    items, axis = [], 0
    ellipsis = False
    while axis <= len(shape) and len(items) < 6:
        kind = draw(st.sampled_from(["int", "slice", "none", "...", "array", "mask", "list", "bool", "end", "end"]))
        extent = shape[axis] if axis < len(shape) else 1
        if kind == "end":
            break
        if kind == "none":
            items.append(None)
        elif kind == "...":
            if not ellipsis:
                items.append(...)
                axis += draw(st.integers(0, len(shape) - axis))
            ellipsis = True
        elif kind == "bool":
            items.append(draw(st.booleans()))
        elif kind == "int":
            number = draw(st.integers(-extent - (draw(st.integers(0, 9)) == 0), max(extent - 1, 0)))
            items.append(draw(st.sampled_from([number, np.int64(number), tinyml.tensor(number)])))
            axis += 1
        elif kind == "slice":
            bound = st.none() | st.integers(-6, 6)
            step = draw(st.sampled_from([None, 1, 1, 2, -1, -3]))
            items.append(slice(draw(bound), draw(bound), step))
            axis += 1
        elif kind in ("array", "list"):
            array_shape = draw(st.sampled_from([(2,), (1,), (2, 1), (3, 2), (0,)]))
            array = np.array(
                [draw(st.integers(-extent, max(extent - 1, 0))) for _ in range(int(np.prod(array_shape)))],
                dtype=np.int64,
            ).reshape(array_shape)
            items.append(array.tolist() if kind == "list" else array)
            axis += 1
        else:
            dims = draw(st.integers(1, 2))
            mask_shape = shape[axis : axis + dims]
            if not mask_shape:
                break
            mask = np.array([draw(st.booleans()) for _ in range(int(np.prod(mask_shape)))], dtype=bool).reshape(
                mask_shape
            )
            items.append(draw(st.sampled_from([mask, tinyml.tensor(mask)])))
            axis += len(mask_shape)
    array = np.asarray(np.arange(np.prod(shape), dtype=np.float64).reshape(shape) + 0.5)
    index = tuple(items)
    return array, index[0] if len(index) == 1 and draw(st.booleans()) else index


def for_numpy(index):
    plain = lambda i: i.numpy() if isinstance(i, Tensor) else i  # noqa: E731
    return tuple(map(plain, index)) if isinstance(index, tuple) else plain(index)


@settings(max_examples=1000)
@given(indexed())
def test_indexing_as_numpy(case):
    array, index = case
    x = leaf(array)
    try:
        expected = array[for_numpy(index)]
    except DeprecationWarning:
        return  # NumPy before 2.3 only warns of an index out of range where nothing is selected
    except IndexError:
        with pytest.raises(AxisError, match="index"):
            x[index]
        return
    result = x[index]
    same(result, np.asarray(expected))
    weight = np.random.default_rng(0).normal(size=result.shape)
    result.backward(weight)
    gradient = np.zeros_like(array)
    np.add.at(gradient, for_numpy(index), weight)
    np.testing.assert_allclose(x.grad.numpy(), gradient, rtol=1e-12)


@settings(max_examples=200)
@given(indexed())
def test_index_assignment_as_numpy(case):
    array, index = case
    x, plain = tinyml.tensor(array), for_numpy(index)
    try:
        target = array[plain]
    except IndexError:
        with pytest.raises(AxisError, match="index assignment"):
            x[index] = 1.0
        same(x, array)
        return
    memory = x.numpy()
    for value in (0.1, np.random.default_rng(0).normal(size=np.shape(target))):
        x[index] = value
        array[plain] = value
        np.testing.assert_array_equal(memory, array)


def test_index_assignment_takes_everything():
    x = tinyml.zeros(2, 2, dtype="float64")
    x[0] = [0.1, 2]
    x[1, 0] = tinyml.Value(3.0)
    x[1, 1] = tinyml.tensor(4.0, requires_grad=True)
    assert x.tolist() == [[0.1, 2], [3, 4]]
    x[x > 2] = 0
    assert x.tolist() == [[0.1, 2], [0, 0]]
    i = tinyml.zeros(2, dtype="int64")
    i[...] = 2.7
    assert i.tolist() == [2, 2]
    i[0] = 2**53 + 1
    assert i.tolist() == [2**53 + 1, 2]
    scalar = tinyml.tensor(1.0)
    scalar[...] = 5.0
    assert scalar.item() == 5


def test_index_assignment_is_refused():
    x = leaf([1.0, 2.0])
    with pytest.raises(GraphError, match=r"requires a gradient; write into \.data"):
        x[0] = 5.0
    y = tinyml.ones(2)
    with pytest.raises(ShapeError, match="index assignment"):
        y[:] = [1.0, 2.0, 3.0]
    with pytest.raises(DTypeError, match="index assignment"):
        y[0] = "a"
    assert (x.tolist(), y.tolist()) == ([1, 2], [1, 1])


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (1.0, DTypeError),
        ("a", DTypeError),
        (object(), DTypeError),
        (slice("a", None), DTypeError),
        (slice(None, None, 0), ArgumentError),
        (([0], slice(None, None, 0)), ArgumentError),
        (10**30, AxisError),
        ((0, 0, 0), AxisError),
        ((..., 0, ...), AxisError),
        ([0, 5], AxisError),
        (np.zeros((3, 2), bool), AxisError),
        (([0, 1], [0, 1, 1]), AxisError),
        (np.array([0.5]), DTypeError),
        (tinyml.tensor([0.5]), DTypeError),
    ],
)
def test_what_is_no_index(index, error):
    x = tinyml.zeros(2, 3)
    live = tinyml.live_nodes()
    with pytest.raises(error, match="index"):
        x[index]
    assert tinyml.live_nodes() <= live
