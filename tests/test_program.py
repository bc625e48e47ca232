"""tinyml.compile: replays give what the function would, bit for bit, and nothing they cannot repeat passes silently."""

import gc
import os
import subprocess
import sys
import threading
import warnings
from typing import NamedTuple

import numpy as np
import pytest
from cases import CASES
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import in_threads

import tinyml
import tinyml.nn.functional as F
from tinyml import Tensor, Value, _core, func, nn, optim
from tinyml.data import DataLoader, TensorDataset
from tinyml.errors import ArgumentError, AxisError, DTypeError, FrozenWarning, GraphError, ShapeError
from tinyml.program import PASSES

PASS_SETS = [(), *((name,) for name in PASSES), PASSES]
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = tinyml.get_num_threads()
    tinyml.set_num_threads(1)
    gc.collect()
    gc.freeze()  # what is there already need not be looked at after every test
    yield
    gc.unfreeze()
    tinyml.set_num_threads(before)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(_one_thread):
    """Programs that are gone leave no node behind, however their recording ended."""
    gc.collect()
    before = tinyml.live_nodes()
    yield
    gc.collect()
    assert tinyml.live_nodes() <= before


def bits(x):
    """What must be equal: kinds, shapes, dtypes and every bit. Only of a nan the bits mean nothing."""
    if isinstance(x, float):
        return "float", np.float64(x if x == x else np.nan).tobytes()
    if isinstance(x, Value):
        return "Value", bits(x.data)
    if isinstance(x, Tensor):
        return "Tensor", bits(x.detach().numpy())
    if isinstance(x, np.ndarray):
        numbers = np.where(x == x, x, np.array(np.nan if x.dtype.kind == "f" else 0, x.dtype))
        return x.shape, str(x.dtype), numbers.tobytes()
    if isinstance(x, dict):
        return {key: bits(child) for key, child in x.items()}
    if isinstance(x, tuple | list):
        return type(x), [bits(child) for child in x]
    return x


def grad_bits(x):
    """The same of a leaf and its gradient."""
    return bits(x), bits(x.grad)


def tensor(*shape, seed=0, low=-1.0, high=1.0, dtype="float32", requires_grad=False):
    numbers = np.random.default_rng(seed).uniform(low, high, shape).astype(dtype)
    return tinyml.tensor(numbers, requires_grad=requires_grad)


def param(*shape, seed=0, dtype="float32"):
    return tensor(*shape, seed=seed, dtype=dtype, requires_grad=True)


def eager_and_compiled(play, **options):
    """play(wrap) with and without compile; both must give the same. wrap is what stands before functions."""
    expected = play(lambda f: f)
    assert bits(play(lambda f: tinyml.compile(f, **options))) == bits(expected)
    return expected


# -- every op


def other_numbers(case, arrays, seed):
    """New numbers of the same kind for a row of the table."""
    rng = np.random.default_rng(seed)
    fresh = []
    for array in arrays:
        shuffled = rng.permutation(array.reshape(-1)).reshape(array.shape)
        if array.dtype == bool:
            shuffled = ~shuffled
        elif array.dtype == np.int64:
            low, high = case.integers
            shuffled = low + (shuffled - low + seed) % (high - low)
        elif not case.distinct:
            middle = (case.low + case.high) / 2
            shuffled = ((shuffled - middle) * (1 - 0.07 * seed) + middle).astype(array.dtype)
        fresh.append(shuffled)
    return fresh


def freezes(case):
    """Rows that look at numbers in Python: indices and masks of x[...], and how many classes there are."""
    return case.op == "one_hot" or (case.op == "take" and case.name != "embedding")


def swept(function):
    """The function, and the sweep from its result."""

    def both(*arguments):
        y = function(tinyml, *arguments)
        if y.requires_grad:
            y.backward() if isinstance(y, Value) else y.backward(y.detach())
        return y

    return both


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name or case.op)
def test_every_row_of_the_op_table(case, dtype):
    for function, shapes in case.runs():
        arrays = case.arrays(shapes, dtype)
        step = tinyml.compile(swept(function), passes=PASSES if dtype == "float64" else ())
        for seed in range(3):
            numbers = other_numbers(case, arrays, seed) if seed else arrays
            if freezes(case):
                numbers[-1] = arrays[-1]
            both = []
            for f in (swept(function), step):
                nodes = [tinyml.tensor(x, requires_grad=x.dtype.kind == "f" and case.differentiable) for x in numbers]
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    both.append((bits(f(*nodes)), [bits(node.grad) for node in nodes]))
                assert not caught or (f is step and seed == 0 and freezes(case))
            assert both[0] == both[1], (shapes, seed)
        assert len(step.programs) == 1


@pytest.mark.parametrize("passes", PASS_SETS, ids="+".join)
def test_every_op_with_every_pass(passes):
    for case in CASES:
        if freezes(case):
            continue
        function, shapes = case.runs()[len(case.runs()) // 2]
        arrays = case.arrays(shapes)
        step = tinyml.compile(swept(function), passes=passes)
        for seed in range(2):
            both = []
            for f in (swept(function), step):
                nodes = [
                    tinyml.tensor(x, requires_grad=x.dtype.kind == "f" and case.differentiable)
                    for x in other_numbers(case, arrays, seed)
                ]
                both.append((bits(f(*nodes)), [bits(node.grad) for node in nodes]))
            assert both[0] == both[1], (case.op, shapes)


def test_every_op_of_values():
    rows = [case for case in CASES if case.differentiable and case.shapes[0] in [((),), ((), ())]]
    rows = [
        case for case in rows if case.op in tinyml._node.Arithmetic.__dict__ or case.op in "add sub mul div pow neg"
    ]
    assert {case.op for case in rows} >= {"add", "div", "pow", "tanh", "relu", "clamp", "neg", "erf", "maximum"}
    for case in rows:
        for function in case.functions:
            step = tinyml.compile(swept(function))
            for seed in range(3):
                numbers = np.random.default_rng(seed).uniform(case.low, case.high, len(case.shapes[0]))
                both = []
                for f in (swept(function), step):
                    values = [Value(number) for number in numbers]
                    try:
                        both.append((bits(f(*values)), [bits(value.grad) for value in values]))
                    except AttributeError:  # a function that Values do not have
                        assert f is not step
                        break
                assert both[0] == both[-1], case.op


# -- training steps


NETWORKS = st.fixed_dictionaries(
    {
        "widths": st.lists(st.integers(1, 9), min_size=1, max_size=3),
        "activation": st.sampled_from([nn.ReLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, lambda: nn.Softmax(-1)]),
        "dropout": st.sampled_from([0.0, 0.0, 0.3, 0.9]),
        "loss": st.sampled_from(["cross entropy", "mse", "nll", "mean of squares"]),
        "optimizer": st.sampled_from(
            [
                lambda p: optim.SGD(p, lr=0.1),
                lambda p: optim.SGD(p, lr=0.1, weight_decay=0.01, maximize=True),
                lambda p: optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.1),
                lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
                lambda p: optim.Adam(p, lr=0.02),
                lambda p: optim.Adam(p, lr=0.02, weight_decay=0.1, maximize=True),
                lambda p: optim.AdamW(p, lr=0.02, weight_decay=0.1),
                lambda p: optim.AdamW(p, lr=0.02, amsgrad=True),
                lambda p: optim.RMSprop(p, lr=0.01),
                lambda p: optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True, weight_decay=0.1),
                lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1, initial_accumulator_value=0.1),
                lambda p: optim.SGD([{"params": p[:1], "lr": 0.5}, {"params": p[1:], "momentum": 0.5}], lr=0.1),
            ]
        ),
        "clip": st.sampled_from([None, None, "norm", "inf", "value"]),
        "clear": st.sampled_from(["first", "before", "last", "never", "zeros"]),
        "batches": st.lists(st.integers(1, 7), min_size=2, max_size=5),
        "double": st.booleans(),
        "mixed": st.booleans(),
        "passes": st.sampled_from(PASS_SETS),
    }
)


def train(kind, wrap):
    """Trains a network of some kind; all that can be seen afterwards."""
    tinyml.manual_seed(3)
    layers, width = [], 5
    for hidden in kind["widths"]:
        layers += [nn.Linear(width, hidden), kind["activation"]()]
        layers += [nn.Dropout(kind["dropout"])] if kind["dropout"] else []
        width = hidden
    model = nn.Sequential(*layers, nn.Linear(width, 3))
    model = model.double() if kind["double"] else model
    scale = Value(0.7)
    parameters = [*model.parameters(), *([scale] if kind["mixed"] else [])]
    optimizer = kind["optimizer"](parameters)

    def step(x, labels):
        if kind["clear"] == "first":
            optimizer.zero_grad()
        logits = model(x)
        if kind["mixed"]:
            logits = logits * scale - scale.tanh()
        loss = {
            "cross entropy": lambda: F.cross_entropy(logits, labels),
            "mse": lambda: F.mse_loss(logits, F.one_hot(labels, 3).to(logits.dtype)),
            "nll": lambda: F.nll_loss(logits.log_softmax(-1), labels),
            "mean of squares": lambda: ((logits - labels.unsqueeze(-1)) ** 2).mean(),
        }[kind["loss"]]()
        if kind["clear"] == "before":
            optimizer.zero_grad()
        elif kind["clear"] == "zeros":
            optimizer.zero_grad(set_to_none=False)
        loss.backward()
        norm = None
        if kind["clip"] == "value":
            nn.utils.clip_grad_value_(parameters, 0.02)
        elif kind["clip"]:
            norm = nn.utils.clip_grad_norm_(parameters, 0.1, 2.0 if kind["clip"] == "norm" else float("inf"))
        optimizer.step()
        if kind["clear"] == "last":
            optimizer.zero_grad()
        return loss, {"logits": logits, "norm": norm}

    if kind["clear"] == "zeros":  # which gradients there are must not change from the first step to the second
        for parameter in parameters:
            parameter.grad = 0.0 if parameter is scale else tinyml.zeros_like(parameter)
    step, seen = wrap(step), []
    for i, batch in enumerate(kind["batches"] * 2):
        optimizer.param_groups[0]["lr"] *= 0.9
        x = tensor(batch, 5, seed=i, dtype="float64" if kind["double"] else "float32")
        labels = tinyml.tensor(np.random.default_rng(i).integers(0, 3, batch))
        seen.append((bits(step(x, labels)), [grad_bits(parameter) for parameter in parameters]))
    return seen, bits(optimizer.state_dict()["state"]), getattr(step, "programs", [])


@settings(deadline=None, max_examples=60)
@given(NETWORKS)
def test_training_gives_the_same_bits(kind):
    seen, state, _ = train(kind, lambda f: f)
    compiled, compiled_state, programs = train(kind, lambda f: tinyml.compile(f, strict=True, passes=kind["passes"]))
    assert compiled == seen
    assert compiled_state == state
    assert len(programs) == len(set(kind["batches"]))


SCALARS = st.fixed_dictionaries(
    {
        "sizes": st.lists(st.integers(1, 4), min_size=1, max_size=3),
        "activation": st.sampled_from(["relu", "tanh", "sigmoid", "leaky_relu", "linear"]),
        "samples": st.integers(1, 4),
        "optimizer": st.sampled_from(["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"]),
        "passes": st.sampled_from(PASS_SETS),
    }
)


@settings(deadline=None, max_examples=25)
@given(SCALARS)
def test_training_of_values_gives_the_same_bits(kind):
    def play(wrap):
        tinyml.manual_seed(1)
        net = nn.MLP(2, [*kind["sizes"], 1], activation=kind["activation"])
        parameters = net.parameters()
        optimizer = getattr(optim, kind["optimizer"])(parameters, lr=0.05)

        @wrap
        def step(xs, ys):
            losses = [(net(x) - y) ** 2 for x, y in zip(xs, ys, strict=True)]
            loss = tinyml.sum(losses) * (1 / len(losses))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss, losses[0]

        seen = []
        for i in range(4):
            numbers = np.random.default_rng(i).normal(size=(kind["samples"], 3)).tolist()
            seen.append(step([row[:2] for row in numbers], [row[2] for row in numbers]))
        return seen, [(value.data, value.grad) for value in parameters]

    eager_and_compiled(play, strict=True, passes=kind["passes"])


@pytest.mark.parametrize("passes", PASS_SETS, ids="+".join)
@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam])
@pytest.mark.parametrize("clear", ["first", "last", "never"])
def test_gradients_left_on_parameters(passes, optimizer, clear):
    """After a call, after repeat and after over: passes must not save what somebody can see."""

    def play(wrap):
        w, b, v = param(3, 4), param(3, seed=1), Value(0.5)
        opt, seen = optimizer([w, b, v], lr=0.1), []

        @wrap
        def step(x):
            if clear == "first":
                opt.zero_grad()
            loss = (F.linear(x, w, b) * v).tanh().sum()
            loss.backward()
            opt.step()
            if clear == "last":
                opt.zero_grad()
            return loss

        def look():
            seen.append([bits(w), bits(b), v.data, bits(w.grad), bits(b.grad), v.grad])

        x = tensor(6, 4, seed=2)
        for _ in range(3):
            step(x)
            look()
        if hasattr(step, "repeat"):
            step.repeat(5, x)
            look()
            step.over(x, batch_size=2, epochs=2)
            look()
        else:
            [step(x) for _ in range(5)]
            look()
            [step(x[i : i + 2]) for _ in range(2) for i in (0, 2, 4)]
            look()
        w.grad = tinyml.ones(3, 4)
        b.grad = None
        step(x)
        look()
        return seen

    eager_and_compiled(play, passes=passes, strict=True)


def test_inference_under_no_grad():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

    @tinyml.compile
    def predict(x):
        return model(x).softmax(-1)

    x = tensor(3, 4)
    with tinyml.no_grad():
        for seed in range(3):
            x = tensor(3, 4, seed=seed)
            assert bits(predict(x)) == bits(model(x).softmax(-1))
    assert len(predict.programs) == 1
    assert not predict(x).requires_grad
    assert len(predict.programs) == 2  # with graphs
    inside = tinyml.compile(tinyml.no_grad()(lambda x: model(x).argmax(-1)))
    for seed in range(3):
        x = tensor(3, 4, seed=seed)
        assert bits(inside(x)) == bits(model(x).argmax(-1))


@pytest.mark.parametrize("passes", PASS_SETS, ids="+".join)
def test_gradients_of_functions(passes):
    def f(p, x):
        return ((x @ p["w"].T + p["b"]).tanh() * p["s"]).sum() / 7

    step = tinyml.compile(func.value_and_grad(f), passes=passes, strict=True)
    eager = func.value_and_grad(f)
    for seed in range(3):
        p = {"w": tensor(3, 4, seed=seed), "b": tensor(3, seed=seed), "s": Value(seed + 0.5)}
        x = tensor(5, 4, seed=seed + 9)
        assert bits(step(p, x)) == bits(eager(p, x))
    assert len(step.programs) == 1
    square = tinyml.compile(func.grad(lambda x: x**3), passes=passes)
    assert [square(x).data for x in (1.0, 2.0, -3.0)] == [3, 12, 27]
    rows = tinyml.compile(func.jacrev(lambda x: (x * x).cumsum(0)), passes=passes)
    for seed in range(3):
        x = tensor(3, seed=seed)
        assert bits(rows(x)) == bits(func.jacrev(lambda x: (x * x).cumsum(0))(x))


def test_updates_by_hand():
    def play(wrap):
        w, v = param(3), Value(2.0)

        @wrap
        def step(x):
            w.grad, v.grad = None, 0.0
            loss = ((w * x).sum() - v) ** 2
            loss.backward()
            w.data -= 0.1 * w.grad
            with tinyml.no_grad():
                w.grad = w.grad * 2
            return loss

        return [step(tensor(3, seed=i)) for i in range(4)], w, w.grad, v.grad

    eager_and_compiled(play, strict=True)


# -- graphs of any shape


KINDS = "unary binary number mixed " * 4 + "binary backward " * 3 + "reshape detach sum matmul dropout clear assign"
KINDS += " gradient update retain clip same value"
INSTRUCTIONS = st.lists(
    st.tuples(st.sampled_from(KINDS.split()), st.integers(0, 30), st.integers(0, 30), st.integers(0, 4)),
    min_size=3,
    max_size=25,
)
UNARY = ["tanh", "relu", "exp", "neg", "sigmoid"]
BINARY = [lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, lambda a, b: a.maximum(b), lambda a, b: b / 2 - a]


def interpret(instructions, optimizer, tensors, values, x, number):
    """Runs instructions over pools of (3, 3) tensors and of Values; returns what some of them made."""
    if not isinstance(number, Value):  # as a compiled function gets it
        number = Value(number)
        number.requires_grad = False
    pool, scalars, swept = [*tensors, x], [*values, number], False
    results = []
    for kind, i, j, k in instructions:
        a, b, s, t = pool[i % len(pool)], pool[j % len(pool)], scalars[i % len(scalars)], scalars[j % len(scalars)]
        p = tensors[i % len(tensors)]
        if kind == "unary":
            pool.append(-a if UNARY[k] == "neg" else getattr(a, UNARY[k])())
            scalars.append(-s if UNARY[k] == "neg" else getattr(s, UNARY[k])())
        elif kind == "binary":
            pool.append(BINARY[k](a, b))
        elif kind == "value":
            scalars.append(BINARY[k](s, t))
        elif kind == "number":
            pool.append(a * (k - 1.5) + k)
            scalars.append(s * 0.5)
        elif kind == "mixed":
            pool.append(BINARY[k](a, s) if k < 3 else a * s)
        elif kind == "reshape":
            pool.append(a.reshape(9).reshape(3, 3))
        elif kind == "detach":
            pool.append(a.detach())
        elif kind == "sum":
            pool.append(a * a.mean())
        elif kind == "matmul":
            pool.append(F.linear(a, b) if k % 2 else a @ b)
        elif kind == "dropout":
            pool.append(F.dropout(a, 0.3))
        elif kind == "same":
            results.append((a.tanh() * 2, a.tanh() * 2))
        elif kind == "backward" and k == 4 and s.requires_grad:
            s.backward()
        elif kind == "backward" and a.requires_grad:
            a.sum().backward() if k else a.backward(b.detach())
            swept = True
        elif kind == "clear":
            p.grad = None
        elif kind == "assign":
            p.data = (b * 0.5).tanh().detach()
        elif kind == "gradient" and swept:
            optimizer.zero_grad()
            (p * b).sum().backward()
            pool.append(p.grad * 0.1)
        elif kind == "update":
            optimizer.step()
        elif kind == "retain" and a.requires_grad and not a.is_leaf:
            a.retain_grad()
            (a * a).sum().backward()
            pool.append(a.grad)
        elif kind == "clip":
            results.append(nn.utils.clip_grad_norm_([*tensors, *values], 0.5 + k))
    return results, pool[3:], scalars[-2:]


@settings(deadline=None, max_examples=120)
@given(INSTRUCTIONS, st.sampled_from([PASSES, PASSES, *PASS_SETS]), st.sampled_from([optim.SGD, optim.Adam]), st.data())
def test_any_graph_gives_the_same_bits(instructions, passes, optimizer, data):
    gives = data.draw(st.booleans(), "the argument wants a gradient")
    every = data.draw(st.booleans(), "everything is returned")
    dtype = data.draw(st.sampled_from(["float32", "float64"]))

    def play(wrap):
        tinyml.manual_seed(0)
        tensors, values = [param(3, 3, seed=i, dtype=dtype) for i in range(2)], [Value(0.5), Value(-1.5)]
        updates = optimizer([*tensors, *values], lr=0.1)

        @wrap
        def step(x, number):
            results, pool, scalars = interpret(instructions, updates, tensors, values, x, number)
            return (results, pool, scalars) if every else (results, pool[-1:])

        seen, x = [], None
        for i in range(4):
            x = x if i == 2 else tensor(3, 3, seed=i, dtype=dtype, requires_grad=gives)
            got = step(x, 0.25 * i)
            seen.append((bits(got), bits(x.grad), [grad_bits(p) for p in (*tensors, *values)]))
        return seen, bits(updates.state_dict()["state"])

    assert play(lambda f: tinyml.compile(f, passes=passes, strict=True)) == play(lambda f: f)


# -- arguments


def test_kinds_of_arguments():
    def f(a, b, c, d, e, *rest, k):
        return (a * b + c * d).sum() * e + k["x"][0] * k["x"][1] + rest[0]

    step = tinyml.compile(f, strict=True)
    for i in range(1, 4):
        arguments = tensor(3, seed=i), Value(i), np.full(3, i), tinyml.tensor(i), 0.5 * i, np.float64(i)
        keywords = {"k": {"x": (i, [np.ones(3, dtype=np.float32) * i][0])}}
        assert bits(step(*arguments, **keywords)) == bits(f(*arguments, **keywords))
    assert len(step.programs) == 1


@pytest.mark.parametrize("kind", [float, int, np.float64, np.float32, np.int64, Value, np.array, tinyml.tensor])
def test_a_changed_number_is_not_frozen(kind):
    x = tensor(4, dtype="float64")
    step = tinyml.compile(lambda x, number: x * number, strict=True)
    for number in (2, 3, -7, 0, 2):
        np.testing.assert_array_equal(step(x, kind(number)).numpy(), x.numpy() * number)
    assert len(step.programs) == 1


def test_large_integers_keep_their_digits():
    step = tinyml.compile(lambda n: n * 1)
    for n in (3, 2**53 + 1, 5, -(2**53) - 1, 2**62 + 1, 2**53 - 1):
        assert step(n).item() == n
    assert len(step.programs) == 2


class Pair(NamedTuple):
    a: object
    b: object


def test_structures():
    def f(tree, *, extra=None):
        return {"sum": tree[0]["x"] + tree[1][0], "pair": Pair(tree[1][1], [tree[0]["y"].b * 2]), "none": extra, 3: "x"}

    step = tinyml.compile(f, strict=True)
    for i in range(3):
        tree = ({"x": tensor(2, seed=i), "y": Pair(1.0, Value(i))}, [tensor(2, seed=i + 5), np.arange(3) + i])
        got, expected = step(tree), f(tree)
        assert type(got["pair"]) is Pair
        assert bits(got["pair"].a) == bits(tinyml.tensor(expected["pair"].a))
        assert bits(got["pair"].b) == bits(expected["pair"].b)
        assert bits(got["sum"]) == bits(expected["sum"])
        assert (got["none"], got[3]) == (None, "x")
    assert len(step.programs) == 1
    step(({"x": tensor(2), "y": Pair(1.0, Value(1))}, [tensor(2), np.arange(3)]), extra=None)
    step(({"y": Pair(1.0, Value(1)), "x": tensor(2)}, [tensor(2), np.arange(3)]))
    assert len(step.programs) == 3


@pytest.mark.parametrize("result", [None, (), {}, 3, "text", [None, ()]])
def test_results_without_nodes(result):
    step = tinyml.compile(lambda x: result)
    assert [step(tensor(2)) for _ in range(3)] == [result] * 3


def test_arguments_and_parameters_returned():
    w = param(2)
    step = tinyml.compile(lambda x, v: (x, v, w, x), strict=True)
    for i in range(3):
        x, v = tensor(2, seed=i), Value(i)
        w.data = tensor(2, seed=i + 5)
        got = step(x, v)
        assert bits(got) == bits((x, v, w, x))
        assert got[0] is not x
        assert not any(node.requires_grad for node in got if node is not v)
        got[0][0] = 9.0  # memory of its own
        got[2][0] = 9.0
        assert x[0].item() != 9
        assert w[0].item() != 9
    alone = tinyml.compile(lambda: w)
    first = alone()
    w.data = tensor(2, seed=8)
    assert bits(alone()) == bits(w.detach())
    assert bits(first) != bits(w.detach())


def test_a_returned_parameter_that_went():
    """Nothing but the result refers to it: its memory must not be read once it is gone."""
    names = {"w": tinyml.ones(1000)}
    step = tinyml.compile(lambda x: (x * 2, names["w"]))
    step(1.0)
    names["w"] = tinyml.full((1000,), 3.0)
    filler = [tinyml.full((1000,), 5.0) for _ in range(8)]
    assert step(1.0)[1].tolist() == [3.0] * 1000
    del filler


@pytest.mark.parametrize("passes", PASS_SETS, ids="+".join)
def test_results_are_independent(passes):
    step = tinyml.compile(lambda x: (x * 2, (x * 2).reshape(-1), x.reshape(-1), x.detach()), passes=passes)
    first = step(tinyml.ones(2, 2))
    kept = bits(first)
    second = step(tinyml.zeros(2, 2))
    third = step(tinyml.full((2, 2), 5.0))
    assert bits(first) == kept
    assert second[0].tolist() == [[0, 0], [0, 0]]
    third[0][0] = -1.0
    third[2][0] = -1.0
    assert third[1].tolist() == [10] * 4
    assert third[3].tolist() == [[5, 5], [5, 5]]
    assert bits(step(tinyml.ones(2, 2))) == kept


def test_results_carry_no_graph():
    w, v = param(2), Value(2.0)
    step = tinyml.compile(lambda x: ((w * x).sum(), v * 3))
    for _ in range(2):
        t, s = step(tinyml.ones(2))
        assert not t.requires_grad
        assert t.is_leaf
        assert not s.requires_grad
        with pytest.raises(GraphError):
            t.backward()


def test_arguments_are_never_written():
    """Not by a replay with other arguments either: inputs borrow memory."""
    step = tinyml.compile(lambda x, y: (x + y).relu())
    arrays = [np.full((4, 4), i, dtype=np.float32) for i in range(6)]
    tensors = [tinyml.tensor(array) for array in arrays]
    for i in range(5):
        step(tensors[i], tensors[i + 1])
        step(arrays[i], tensors[i])
    step.over(tensors[0], tensors[1], batch_size=2, epochs=2)
    for i, x in enumerate(tensors):
        assert x.tolist() == arrays[i].tolist() == [[i] * 4] * 4


def test_an_argument_changed_in_place_is_seen():
    x = tinyml.ones(3)
    view = x.numpy()
    step = tinyml.compile(lambda x: x * 2)
    assert step(x).tolist() == [2, 2, 2]
    view[0] = 5
    assert step(x).tolist() == [10, 2, 2]
    x.data = tinyml.zeros(3)
    assert step(x).tolist() == [0, 0, 0]


def test_arguments_within_arguments_memory():
    x = tensor(3, 4)
    step = tinyml.compile(lambda a, b: (a.sum(), b * 2))
    for i in range(3):
        assert bits(step(x, x.reshape(12))) == bits((x.sum(), x.reshape(12) * 2)), i


# -- gradients of arguments


@pytest.mark.parametrize("passes", PASS_SETS, ids="+".join)
def test_gradients_of_arguments_add_up(passes):
    def play(wrap):
        step = wrap(lambda a, b: ((a * b).sum() * a.mean()).backward())
        seen = []
        a, b, v = param(3), tensor(3, seed=1), Value(2.0)
        for _ in range(3):
            step(a, b)  # with the gradient that the last call left
            seen.append((bits(a.grad), bits(b.grad)))
        a.grad = None
        step(a, b)
        a.grad = tinyml.ones(3) * 100
        step(a, b)
        seen.append(bits(a.grad))
        other = param(3, seed=4)
        step(other, b)
        seen.append((bits(a.grad), bits(other.grad)))
        value_step = wrap(lambda v, w: (v * w * v).backward())
        for _ in range(3):
            w = Value(3.0)
            value_step(v, w)
            seen.append((v.grad, w.grad))
        v.grad = 0.0
        value_step(v, Value(1.0))
        return seen, v.grad

    eager_and_compiled(play, passes=passes, strict=True)


def test_gradients_of_arguments_through_repeat():
    def play(wrap):
        a, b = param(3), param(3, seed=1)
        a.grad = tinyml.ones(3)
        step = wrap(lambda a, b: (a * b).sum().backward())
        step.repeat(5, a, b) if hasattr(step, "repeat") else [step(a, b) for _ in range(5)]
        return a.grad, b.grad

    eager_and_compiled(play)


def test_a_gradient_that_is_held_stays_what_it_was():
    x = param(3)
    step = tinyml.compile(lambda x, y: (x * y).sum().backward())
    step(x, tinyml.ones(3))
    held = x.grad
    x.grad = None
    step(x, tinyml.full((3,), 4.0))
    assert held.tolist() == [1, 1, 1]
    assert x.grad.tolist() == [4, 4, 4]

    def clearing(x, y):
        x.grad = None
        (x * y).sum().backward()

    def adding(x, y):
        (x * y).sum().backward()

    for f in (adding, clearing):
        for wrap in (lambda f: f, tinyml.compile):
            x.grad = tinyml.ones(3)
            step = wrap(f)
            for y in (2.0, 3.0):
                held = x.grad
                step(x, tinyml.full((3,), y))
                assert held.tolist() == (x.grad.tolist() if f is adding else [1 if y == 2 else 2] * 3)


def test_arguments_gradients_read_and_set_within():
    def play(wrap):
        def f(x):
            before = x.grad * 2
            x.grad = None
            (x * x).sum().backward()
            after = x.grad.detach()
            x.grad = after + 1
            return before, after

        step, x, seen = wrap(f), param(2), []
        for i in range(3):
            x.grad = tinyml.full((2,), float(i))
            seen.append((step(x), bits(x.grad)))
        read = wrap(lambda x: x.grad * 3)
        for i in range(3):
            x.grad = tinyml.full((2,), float(i))
            seen.append((read(x), bits(x.grad)))
        return seen

    eager_and_compiled(play, strict=True)


def test_one_tensor_as_two_arguments():
    x, y = param(2), param(2, seed=1)
    step = tinyml.compile(lambda a, b: (a * b).sum().backward())
    with pytest.raises(GraphError, match="two arguments"):
        step(x, x)
    step(x, y)
    for _ in range(2):
        with pytest.raises(GraphError, match="two arguments"):
            step(x, x)
    step(x, y)
    product, half = tinyml.compile(lambda a, b: a * b), tinyml.compile(lambda a, b: (a * b.detach()).sum().backward())
    plain, value = tensor(2), Value(3.0)
    for _ in range(2):  # where no gradient gets mixed up, all is well
        assert product(plain, plain).tolist() == (plain * plain).tolist()
        assert product(value, value).data == 9
        x.grad = None
        half(x, x)
        assert x.grad.tolist() == x.tolist()


def test_an_argument_that_the_optimizer_has():
    """The gradient goes to the argument's stand-in: the optimizer would see none, and move nothing."""
    w, other = param(2), param(2, seed=1)
    optimizer = optim.SGD([w], lr=0.1)

    def f(a):
        (a * a).sum().backward()
        optimizer.step()

    with pytest.raises(GraphError, match="reached in another way"):
        tinyml.compile(f)(w)
    step = tinyml.compile(f)
    step(other)
    with pytest.raises(GraphError, match="reached in another way"):
        step(w)
    step(other)
    assert w.grad is None


def test_an_argument_with_a_graph():
    w = param(2)
    step = tinyml.compile(lambda a: (a * a).sum().backward())
    with pytest.raises(GraphError, match=r"graph behind it.*detach"):
        step(w * 2)
    step(w)
    with pytest.raises(GraphError, match=r"graph behind it.*detach"):
        step(w * 2)
    step(w)


def test_retain_grad():
    def play(wrap):
        w = param(3)

        @wrap
        def step(x):
            hidden = w * x
            hidden.retain_grad()
            scalar = hidden.sum() * 2
            scalar.backward()
            return hidden.grad, hidden

        return [step(tensor(3, seed=i)) for i in range(3)], w.grad

    eager_and_compiled(play, strict=True)


def test_leaves_made_within_start_without_a_gradient():
    def play(wrap):
        @wrap
        def step(x):
            leaf = (x * 2).detach().requires_grad_()
            fresh, value = tinyml.ones(3, requires_grad=True), Value(2.0)
            (leaf * leaf * fresh * value).sum().backward()
            return leaf.grad, fresh.grad, fresh.grad * 1

        return [step(tensor(3, seed=i)) for i in range(4)]

    eager_and_compiled(play, strict=True)


def test_several_sweeps_in_one_step():
    def play(wrap):
        w = param(3)

        @wrap
        def step(x):
            y = (w * x).tanh()
            y.sum().backward()
            (y * y).sum().backward()
            first = w.grad * 1
            w.grad = None
            y.backward(x)
            return first

        return [step(tensor(3, seed=i)) for i in range(3)], w.grad

    for passes in PASS_SETS:
        eager_and_compiled(play, passes=passes, strict=True)


# -- optimizers and their hyperparameters


def play_with(change, make=lambda p: optim.SGD(p, lr=0.1), steps=6):
    """Training in the middle of which change(optimizer, i) happens, with and without compile."""

    def play(wrap):
        w, v = param(3), Value(0.5)
        optimizer = make([w, v])

        @wrap
        def step(x):
            optimizer.zero_grad()
            loss = ((w * x - 1) ** 2).sum() * v
            loss.backward()
            optimizer.step()
            return loss

        seen = []
        for i in range(steps):
            seen.append((bits(step(tensor(3, seed=i))), bits(w), v.data))
            change(optimizer, i)
        return seen, optimizer.state_dict()["state"]

    eager_and_compiled(play, strict=True)


def test_a_learning_rate_that_changes():
    def change(optimizer, i):
        optimizer.param_groups[0]["lr"] = 0.1 / (i + 2)
        optimizer.param_groups[0].update(weight_decay=0.01 * i)

    play_with(change)
    play_with(change, lambda p: optim.Adam(p, lr=0.1))
    w = param(2)
    optimizer = optim.SGD([w], lr=0.0)
    step = tinyml.compile(lambda: ((w * w).sum().backward(), optimizer.step(), optimizer.zero_grad())[1])
    for i in range(50):
        optimizer.param_groups[0]["lr"] = 0.001 * i
        step()
    assert len(step.programs) == 1
    for lr in (-1, "x"):
        optimizer.param_groups[0]["lr"] = lr
        with pytest.raises((ArgumentError, TypeError)):
            step()


def test_momentum_switched_on_later():
    def change(optimizer, i):
        if i in (1, 4):
            optimizer.param_groups[0]["momentum"] = 0.9 if i == 1 else 0.0

    play_with(change)


@pytest.mark.parametrize("saved_at", [None, 1])
def test_load_state_dict_between_replays(saved_at):
    """Also of a state from before the first step: what the replays had counted is gone then."""
    for make in (lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.Adam(p, lr=0.1)):
        saved = []

        def change(optimizer, i, saved=saved, make=make):
            if i == saved_at:
                saved[:] = [optimizer.state_dict()]
            if i == 3:
                optimizer.load_state_dict(saved[0] if saved else make([param(3), Value(0.5)]).state_dict())

        play_with(change, make)


def test_groups_changed_between_replays():
    def play(wrap):
        w, b = param(3), param(3, seed=1)
        optimizer = optim.SGD([w], lr=0.1)

        @wrap
        def step(x):
            optimizer.zero_grad()
            ((w * x - b) ** 2).sum().backward()
            optimizer.step()

        seen = []
        for i in range(13):
            step(tensor(3, seed=i))
            seen.append([bits(w), bits(b)])
            if i == 2:
                optimizer.add_param_group({"params": [b], "lr": 0.5})
            if i == 4:
                optimizer.param_groups[1]["params"] = [w]
                optimizer.param_groups[0]["params"] = [b]
            if i == 6:
                del optimizer.param_groups[1]
                optimizer.zero_grad()
            if i == 7:
                optimizer.param_groups[0] = {**optimizer.param_groups[0], "lr": 0.3}
            if i == 8:
                optimizer.param_groups[0]["lr"] = 0.2
            if i == 9:
                optimizer.param_groups = [dict(group) for group in optimizer.param_groups]
            if i > 9:
                optimizer.param_groups[0]["lr"] *= 0.5
        return seen

    eager_and_compiled(play)


def test_a_scheduler_within_is_reported():
    w = param(2)
    optimizer = optim.SGD([w], lr=0.1)

    def step():
        (w * w).sum().backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 0.5

    with pytest.warns(FrozenWarning, match="parameter group"):
        tinyml.compile(step)()


def test_clearing_gradients_that_are_not_there_yet():
    """zero_grad(set_to_none=False) does nothing in the first step, but does in the second."""
    w = param(2)
    optimizer = optim.SGD([w], lr=0.1)

    def step():
        optimizer.zero_grad(set_to_none=False)
        (w * w).sum().backward()

    with pytest.raises(GraphError, match="no gradient"):
        tinyml.compile(step, strict=True)()
    with pytest.warns(FrozenWarning, match="no gradient"):
        tinyml.compile(step)()


# -- random numbers


def test_dropout_draws_fresh_numbers():
    def play(wrap):
        tinyml.manual_seed(5)
        layer = nn.Dropout(0.5)
        step = wrap(lambda x: (layer(x), layer(x)))
        x, seen = tinyml.ones(50), []
        for i in range(6):
            a, b = step(x)
            assert bits(a) != bits(b)
            seen += [a, b]
            if i == 3:
                tinyml.manual_seed(5)
        assert bits(seen[8:]) == bits(seen[:4])
        assert len({bits(each) for each in seen[:8]}) == 8
        return seen

    for passes in PASS_SETS:
        eager_and_compiled(play, passes=passes, strict=True)


def test_dropout_and_eager_code_share_one_stream():
    tinyml.manual_seed(1)
    x = tinyml.ones(40)
    eager = [bits(F.dropout(x)) for _ in range(4)]
    tinyml.manual_seed(1)
    step = tinyml.compile(lambda x: F.dropout(x))
    assert [bits(f(x)) for f in (step, step, F.dropout, step)] == eager


def test_numpy_randomness_is_reported():
    for draw in (lambda: tinyml.rand(3), lambda: tinyml.randn(3), lambda: tinyml.randint(0, 5, (2,))):
        with pytest.warns(FrozenWarning, match="random"):
            tinyml.compile(lambda x, draw=draw: x + draw().sum())(1.0)


# -- modes, modules and parameters that change


def test_train_and_eval():
    def play(wrap):
        tinyml.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        step = wrap(lambda x: model(x))
        seen = []
        for i in range(8):
            model.train(i % 3 != 0)
            seen.append(step(tensor(3, 4, seed=i)))
        model[1].train()
        seen.append(step(tensor(3, 4)))
        return seen

    eager_and_compiled(play)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5))
    step = tinyml.compile(lambda x: model(x))
    for _ in range(3):
        step(tensor(3, 4))
        model.eval()
        step(tensor(3, 4))
        model.train()
    assert len(step.programs) == 2


class Net(nn.Module):
    def __init__(self):
        self.layers = [nn.Linear(3, 3), nn.Linear(3, 3)]
        self.scale = nn.Parameter(tinyml.ones(1))
        self.shifts = [nn.Parameter(tinyml.zeros(3)), nn.Parameter(tinyml.zeros(3))]
        self.values = [Value(1.0), Value(2.0)]
        self.factor = 1.0
        self.blocks = nn.Sequential(nn.Tanh())

    def forward(self, x):
        for layer, shift, value in zip(self.layers, self.shifts, self.values, strict=True):
            x = self.blocks(layer(x) + shift) * value
        return x * self.scale * self.factor


SPARE = nn.Linear(3, 3)  # made before anything is recorded
CHANGES = {
    "a layer in a list": lambda net: net.layers.__setitem__(1, SPARE),
    "a layer in a Sequential": lambda net: setattr(net.blocks, "0", nn.Sigmoid()),
    "a parameter": lambda net: setattr(net, "scale", nn.Parameter(tinyml.full((1,), 3.0))),
    "a parameter in a list": lambda net: net.shifts.__setitem__(0, nn.Parameter(tinyml.full((3,), 3.0))),
    "an equal parameter in a list": lambda net: net.shifts.__setitem__(0, nn.Parameter(tinyml.zeros(3))),
    "a Value in a list": lambda net: net.values.__setitem__(0, Value(-1.0)),
    "a number": lambda net: setattr(net, "factor", 2.0),
    "another shape": lambda net: setattr(net, "scale", nn.Parameter(tinyml.full((3,), 3.0))),
    "a shorter list": lambda net: [each.pop() for each in (net.layers, net.shifts, net.values)],
    "a frozen layer": lambda net: net.layers[0].requires_grad_(False),
    "numbers in place": lambda net: setattr(net.scale, "data", tinyml.full((1,), 0.5)),
    "a state": lambda net: net.load_state_dict({name: array * 2 for name, array in net.state_dict().items()}),
    "double": lambda net: net.double(),
    "a deleted attribute": lambda net: delattr(net, "unused"),
}


@pytest.mark.parametrize("how", ["called", "held by an optimizer", "two programs", "method"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_module_is_noticed(name, how):
    def play(wrap):
        tinyml.manual_seed(2)
        net = Net()
        net.unused = 1
        optimizer = optim.SGD(net.parameters(), lr=0.01) if how == "held by an optimizer" else None
        old = list(net.parameters()) if how == "called" else None

        def f(x):
            y = net.forward(x) if how == "method" else net(x)
            y.sum().backward()
            return y

        step, seen = wrap(f), []
        for i in range(5):
            if i == 2:
                CHANGES[name](net)
            for rows in (2, 3) if how == "two programs" else (2,):
                seen.append(step(tensor(rows, 3, seed=i)))
        return seen, [parameter.grad for parameter in net.parameters()], old and len(old), optimizer and 1

    SPARE.zero_grad()
    expected = play(lambda f: f)
    SPARE.zero_grad()
    assert bits(play(tinyml.compile)) == bits(expected)
    SPARE.zero_grad()


W = None


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("programs", [1, 2])
@pytest.mark.parametrize("where", ["closure", "global", "list", "attribute", "helper", "partial"])
def test_rebinding_a_name_is_noticed(where, programs, held):
    """Whether or not somebody else, as an optimizer, holds on to the old parameter."""
    global W

    class Owner:
        pass

    owner, old = Owner(), []
    w = owner.w = W = param(1)
    ws = [w, param(1, seed=1)]

    def helper(x):
        return w * x

    def through_self(self, x):
        return self.w * x

    functions = {
        "closure": lambda x: w * x,
        "global": lambda x: W * x,
        "list": lambda x: ws[0] * x + ws[1],
        "helper": lambda x: helper(x) + 1,
        "attribute": through_self.__get__(owner),
        "partial": __import__("functools").partial(through_self, owner),
    }
    f = functions[where]
    step = tinyml.compile(f)
    for i in range(6):
        if i % 2:
            old += [w] if held else []
            w = owner.w = W = ws[0] = param(1, seed=i + 10)
        for rows in range(1, programs + 1):
            x = tensor(rows, seed=i)
            assert bits(step(x)) == bits(f(x).detach()), i
    W = None


def test_numbers_by_name():
    """Not nodes, so that C cannot see them."""
    factor, config, powers = 2.0, {"offset": 1.0}, [1, 2]
    f = tinyml.compile(lambda x: (x * factor + config["offset"]) ** powers[1])
    assert f(3.0).data == 49
    factor = 3.0
    assert f(3.0).data == 100
    config["offset"] = 0.0
    assert f(3.0).data == 81
    powers[1] = 1
    assert f(3.0).data == 9
    del config["offset"]
    with pytest.raises(KeyError):
        f(3.0)


def test_freezing_a_layer():
    def play(wrap):
        tinyml.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        @wrap
        def step(x):
            optimizer.zero_grad()
            loss = model(x).sum()
            loss.backward()
            optimizer.step()
            return loss

        seen = []
        for i in range(8):
            if i in (3, 6):
                model[0].requires_grad_(i == 6)
            seen.append((bits(step(tensor(3, 4, seed=i))), [grad_bits(p) for p in model.parameters()]))
        return seen

    for passes in ((), PASSES):
        eager_and_compiled(play, passes=passes)


def test_requires_grad_switched_within():
    w, v = param(2), param(2)

    def frozen(x):
        w.requires_grad = False
        (w * v * x).sum().backward()

    def asked(x):
        x.requires_grad_()

    def unfrozen(x):
        with tinyml.no_grad():
            y = v * 2
        y.requires_grad = True

    for f in (frozen, asked, unfrozen):
        with pytest.raises(GraphError, match="switched within a compiled function"):
            tinyml.compile(f)(tinyml.ones(2))
        assert w.requires_grad
    again = tinyml.compile(lambda x: w.requires_grad_() * x)  # no change
    assert bits(again(tinyml.ones(2))) == bits(w.detach())


# -- what cannot be replayed


READS = {
    "bool": lambda x, h: bool(h.sum() > 0),
    "if": lambda x, h: 1 if h.sum() > 0 else 2,
    "float": lambda x, h: float(h.sum()),
    "item": lambda x, h: h.sum().item(),
    "detached item": lambda x, h: h.sum().detach().item(),
    "int": lambda x, h: int(h.sum()),
    "numpy": lambda x, h: h.detach().numpy(),
    "data numpy": lambda x, h: h.data.numpy(),
    "array": lambda x, h: np.asarray(h.detach()),
    "tolist": lambda x, h: h.tolist(),
    "print": lambda x, h: str(h),
    "format": lambda x, h: f"{x}",
    "input": lambda x, h: x.numpy(),
    "mask": lambda x, h: h[h > 0].sum(),
    "index": lambda x, h: h[h.argmax()],
    "gradient": lambda x, h: (h.sum().backward(), WEIGHT.grad.tolist()),
    "norm": lambda x, h: nn.utils.clip_grad_norm_([WEIGHT], 1.0).item(),
    "parameter": lambda x, h: WEIGHT.detach().tolist(),
    "classes": lambda x, h: F.one_hot(h.long() * 0 + 1),
    "tensor": lambda x, h: tinyml.tensor(h),
    "assignment": lambda x, h: h.detach().__setitem__(0, 1.0),
    "nothing": lambda x, h: WEIGHT.grad is None and x.grad,
}
WEIGHT = param(3)


@pytest.mark.parametrize("name", READS)
def test_reads_are_reported_once_with_their_place(name):
    code = READS[name].__code__

    def f(x):
        h = WEIGHT * x
        return (READS[name](x, h), 0)[1]

    step = tinyml.compile(f)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for rows in (3, 1, 3):
            step(tensor(rows))
    WEIGHT.grad = None
    assert [(w.category, w.filename, w.lineno) for w in caught] == [(FrozenWarning, __file__, code.co_firstlineno)]
    assert "frozen" in str(caught[0].message)
    with pytest.raises(GraphError, match=rf"frozen.*{os.path.basename(__file__)}, line {code.co_firstlineno}\)"):
        tinyml.compile(f, strict=True)(tensor(3))
    WEIGHT.grad = None


@pytest.mark.parametrize(
    "read",
    [
        lambda v: v.data,
        float,
        bool,
        int,
        str,
        lambda v: v > 1,
        lambda v: v.grad,
        lambda v: v.item(),
        lambda v: max(v, Value(0.0)),
    ],
)
def test_reads_of_values_are_reported(read):
    a = Value(2.0)
    with pytest.warns(FrozenWarning, match="frozen"):
        tinyml.compile(lambda b: (a * b, read(a * b))[0])(Value(3.0))
    with pytest.raises(GraphError, match="frozen"):
        tinyml.compile(lambda b: (a * b, read(a))[0], strict=True)(Value(3.0))


def test_constants_may_be_looked_at():
    def f(x):
        table = tinyml.tensor([1.0, 2.0, 3.0])
        return x * table.sum().shape.__len__() + table[[0, 2]].sum() + table.tolist()[1] + len(x) * x.shape[0]

    step = tinyml.compile(f, strict=True)
    for i in range(3):
        assert bits(step(tensor(3, seed=i))) == bits(f(tensor(3, seed=i)))


def test_numbers_that_are_looked_at_are_part_of_the_program():
    def f(x, n, slope):
        for _ in range(n):
            x = x * 2
        return x * 3 if slope > 0.5 else x

    step = tinyml.compile(f, strict=True, max_programs=20)
    for n, slope in [(1, 0.1), (2, 0.1), (1, 0.9), (3, 0.9), (1, 0.1), (2, 0.1)]:
        assert bits(step(tinyml.ones(2), n, slope)) == bits(f(tinyml.ones(2), n, slope))
    assert len(step.programs) == 4
    shaped = tinyml.compile(lambda x, n: x.reshape(n, -1), strict=True)
    assert [shaped(tinyml.ones(6), n).shape for n in (2, 3, 2, 6)] == [(2, 3), (3, 2), (2, 3), (6, 1)]


@pytest.mark.parametrize(
    "kept",
    [
        lambda x, y: y,
        lambda x, y: y.detach(),
        lambda x, y: [y * 2],
        lambda x, y: x,
        lambda x, y: x.reshape(-1),
        lambda x, y: (y.sum().backward(), WEIGHT.grad)[1],
        lambda x, y: nn.utils.clip_grad_norm_([WEIGHT], 1.0),
    ],
)
def test_nodes_that_escape_are_reported(kept):
    history = []

    def f(x):
        y = WEIGHT * x
        history.append(kept(x, y))
        return y

    with pytest.warns(FrozenWarning, match=r"outlives? the call"):
        tinyml.compile(f)(tensor(3))
    with pytest.raises(GraphError, match=r"outlives? the call"):
        tinyml.compile(f, strict=True)(tensor(3))
    history.clear()
    WEIGHT.grad = None


def test_containers_of_their_own_hold_nodes_back():
    class Box:
        def __init__(self, x):
            self.x = x

    with pytest.warns(FrozenWarning, match="outlives the call"):
        tinyml.compile(lambda x: Box(x * 2))(tensor(3))


def test_each_kind_of_report_at_one_place():
    history = []
    step = tinyml.compile(lambda x: history.append(x * 2), max_programs=1)
    with pytest.warns(FrozenWarning, match="outlives"):
        step(tinyml.ones(1))
    with pytest.warns(FrozenWarning, match="more than 1 programs"):
        step(tinyml.ones(2))
    step(tinyml.ones(3))  # each once
    history.clear()


def test_data_of_inputs_and_results_is_not_assigned():
    for f in (lambda x: setattr(x, "data", x * 2), lambda x: setattr(x * 2, "data", x)):
        with pytest.raises(GraphError, match="assign"):
            tinyml.compile(f)(tinyml.ones(2))


# -- programs


def test_other_kinds_of_arguments_record_other_programs():
    step = tinyml.compile(lambda x, y=None: x * 2)
    calls = [
        (tinyml.ones(2),),
        (tinyml.ones(3),),
        (tinyml.ones(2, 1),),
        (tinyml.ones(2, dtype="float64"),),
        (tinyml.ones(2, requires_grad=True),),
        (Value(1.0),),
        (tinyml.tensor(1.0),),
        (1.0,),
        (1,),
        (tinyml.ones(2), "a"),
        (tinyml.ones(2), "b"),
        (tinyml.ones(2), True),
        (tinyml.ones(2), False),
        (tinyml.ones(2), None),
        (tinyml.ones(2), [1.0]),
        (tinyml.ones(2), (1.0,)),
    ]
    for _ in range(2):
        for call in calls:
            node = (
                call[0]
                if isinstance(call[0], Tensor | Value)
                else (tinyml.tensor, Value)[type(call[0]) is float](call[0])
            )
            assert bits(step(*call)) == bits((node * 2).detach() if isinstance(node, Tensor) else node * 2)
            assert step.program is step.programs[-1]
    assert len(step.programs) == len(calls)
    step(np.ones(2, dtype=np.float32))
    assert len(step.programs) == len(calls)  # as a Tensor


def test_max_programs():
    step = tinyml.compile(lambda x: x * 2, max_programs=2)
    step(tinyml.ones(1))
    step(tinyml.ones(2))
    first, second = step.programs
    step(tinyml.ones(1))
    assert step.programs == [second, first]
    with pytest.warns(FrozenWarning, match=r"more than 2 programs.*raise max_programs"):
        step(tinyml.ones(3))
    assert step.programs[0] is first  # the one unused for longest went
    step(tinyml.ones(2))
    assert len(step.programs) == 2
    assert step(tinyml.full((1,), 4.0)).item() == 8
    for bad in (0, -1):
        with pytest.raises(ArgumentError, match="max_programs"):
            tinyml.compile(lambda: None, max_programs=bad)


def test_options():
    with pytest.raises(ArgumentError, match="passes"):
        tinyml.compile(lambda: None, passes=("dead", "quick"))
    with pytest.raises(DTypeError, match="expected a function"):
        tinyml.compile(3)

    @tinyml.compile(strict=True)
    def named(x):
        """Its text."""
        return x

    assert (named.__name__, named.__doc__, named.__wrapped__(3)) == ("named", "Its text.", 3)
    assert named.program is None
    assert named.programs == []


def test_keywords_and_defaults():
    def f(x, scale=2.0, *, flag=False, **rest):
        return (x * scale if flag else x + scale) + sum(rest.values())

    step = tinyml.compile(f)
    for i in range(1, 4):
        x = tensor(3, seed=i)
        for keywords in ({}, {"scale": 0.5 * i}, {"flag": True}, {"flag": True, "scale": 1.0 * i}, {"z": i, "a": x}):
            assert bits(step(x, **keywords)) == bits(f(x, **keywords))
    assert len(step.programs) == 5


def test_methods():
    class Trainer:
        def __init__(self, w):
            self.w = Value(w)
            self.power = 1

        @tinyml.compile
        def step(self, x):
            return self.w * x * self.power

    a, b = Trainer(2.0), Trainer(3.0)
    for i in range(1, 4):
        assert (a.step(float(i)).data, b.step(float(i)).data) == (2 * i, 3 * i)
    assert len(Trainer.step.programs) == 2
    a.w = Value(5.0)
    assert (a.step(1.0).data, b.step(1.0).data) == (5, 3)
    b.power = 2
    assert (a.step(1.0).data, b.step(1.0).data) == (5, 6)


def test_modules_as_arguments():
    def f(model, x):
        return (model.weight * x).sum()

    step = tinyml.compile(f)
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    x = tensor(2)
    for model in (a, b, a):
        assert bits(step(model, x)) == bits(f(model, x).detach())
    a.weight = nn.Parameter(tinyml.ones(2, 2))
    assert bits(step(a, x)) == bits(f(a, x).detach())
    assert bits(tinyml.compile(a)(x)) == bits(a(x).detach())


def test_compiled_within_compiled():
    w = Value(2.0)
    inner = tinyml.compile(lambda x: w * x)
    outer = tinyml.compile(lambda x: inner(x) + inner(x * 2))
    for i in range(3):
        assert outer(Value(i)).data == 6 * i
        assert inner(Value(i)).data == 2 * i
    for _ in range(2):
        assert outer(Value(1.0)).data == 6
    w = Value(3.0)
    assert (inner(Value(1.0)).data, outer(Value(1.0)).data) == (3, 9)
    for f in (lambda: inner.repeat(2, Value(1.0)), lambda: inner.over(np.ones(2)), lambda: inner.profile(Value(1.0))):
        with pytest.raises(GraphError, match="cannot be part of a recording"):
            tinyml.compile(f)()
    twice = tinyml.compile(tinyml.compile(lambda x: x * 2))
    assert [twice(float(i)).data for i in range(3)] == [0, 2, 4]


def test_recursion():
    @tinyml.compile
    def power(x, n):
        return x if n == "1" else x * power(x, str(int(n) - 1))

    assert [power(2.0, "3").data, power(3.0, "3").data, power(3.0, "2").data] == [8, 27, 9]


def test_printing_and_profile():
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @tinyml.compile
    def step(x):
        optimizer.zero_grad()
        loss = (model(x) * 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    x = tensor(5, 4)
    step(x)
    text = str(step.program)
    assert text.startswith(f"Program: {len(step.program)} steps, arrays of {step.program.bytes:,} bytes, ")
    assert "linear" in text
    assert len(text.splitlines()) >= len(step.program)
    assert step.program.bytes > 0
    times = step.profile(x, replays=2)
    assert len(times) == len(step.program)
    assert all(0 <= time.seconds < 1 for time in times)
    plain = tinyml.compile(lambda x: (x @ x).tanh(), passes=())
    assert [time[:2] for time in plain.profile(tinyml.ones(2, 2))] == [
        ("forward matmul", (2, 2)),
        ("forward tanh", (2, 2)),
    ]
    assert "(2, 2), (2, 2) -> (2, 2) float32, 16 flops" in str(plain.program)


# -- failures


def classifying(wrap):
    tinyml.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @wrap
    def step(x, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step, lambda: (bits(list(model.parameters())), bits(optimizer.state_dict()["state"]))


@pytest.mark.parametrize("passes", PASS_SETS, ids="+".join)
def test_a_label_out_of_range(passes):
    x, good, bad = tensor(2, 4), tinyml.tensor([0, 2]), tinyml.tensor([0, 3])
    step, state = classifying(lambda f: tinyml.compile(f, passes=passes))
    start = state()
    with pytest.raises(AxisError, match="label"):
        step(x, bad)
    assert (state(), step.programs) == (start, [])
    step(x, good)
    before = state()
    for _ in range(2):
        with pytest.raises(AxisError, match="label"):
            step(x, bad)
        assert state() == before
    with pytest.raises(AxisError, match="label"):
        step.over(x, bad, batch_size=1)  # after one good step
    loss = bits(step(x, good))
    assert len(step.programs) == 2
    eager, eager_state = classifying(lambda f: f)
    eager(x, good)
    eager(x[:1], good[:1])
    assert loss == bits(eager(x, good).detach())
    assert state() == eager_state()


def test_exceptions_while_recording():
    """Nothing is recorded, nothing stays, and what was made meanwhile works in the next recording."""
    w = param(2)
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
    broken = [True]

    def f(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()
        if broken:
            raise KeyError("no")
        return x * 2

    step = tinyml.compile(f)
    for _ in range(3):
        with pytest.raises(KeyError):
            step(tinyml.ones(2))
        assert step.programs == []
    live = tinyml.live_nodes()
    with pytest.raises(KeyError):
        step(tinyml.ones(2))
    gc.collect()
    assert tinyml.live_nodes() == live
    broken.clear()
    for _ in range(3):
        step(tinyml.ones(2))
    assert optimizer.state_dict()["state"][0]["step"] == 7
    optimizer.load_state_dict(optim.SGD([w], lr=0.1, momentum=0.9).state_dict())
    step(tinyml.ones(2))
    assert optimizer.state_dict()["state"][0]["step"] == 1
    assert bits(tinyml.compile(lambda x: x * 3)(tinyml.ones(1))) == bits(tinyml.full((1,), 3.0))


def test_escaped_nodes_of_a_failed_recording():
    kept = []

    def f(x):
        kept.extend([x, x * 2, tinyml.ones(2)])
        raise KeyError

    with pytest.raises(KeyError):
        tinyml.compile(f)(tinyml.ones(2))
    step = tinyml.compile(lambda y: kept[0] * kept[1] * kept[2] * y)
    assert step(1.0).tolist() == [2, 2]
    kept[2] = tinyml.full((2,), 5.0)
    assert step(2.0).tolist() == [20, 20]
    kept.clear()


def test_a_module_that_cannot_be_looked_through():
    class Odd(nn.Module):
        def forward(self, x):
            return x * 2

        def modules(self):
            raise KeyError

    odd = Odd()
    for _ in range(2):
        with pytest.raises(KeyError):
            tinyml.compile(lambda x: odd(x))(tinyml.ones(2))
    assert tinyml.compile(lambda x: x * 2)(1.0).data == 2


def test_warnings_as_errors_leave_nothing():
    step = tinyml.compile(lambda x: (x * 2).sum().item())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FrozenWarning):
            step(tinyml.ones(2))
    assert step.programs == []


# -- repeat and over


def counting(passes=PASSES):
    tinyml.manual_seed(4)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step(x, y):
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss, "hits": (x > 0).sum()}

    return model, step, tinyml.compile(step, passes=passes)


@pytest.mark.parametrize("n", [1, 2, 3, 50])
@pytest.mark.parametrize("passes", PASS_SETS, ids="+".join)
def test_repeat(n, passes):
    x, y = tensor(5, 3), tensor(5, 2, seed=1)
    model, step, _ = counting()
    rows = [step(x, y) for _ in range(n)]
    model_again, _, compiled = counting(passes)
    got = compiled.repeat(n, x, y)
    assert bits(got["loss"]) == bits(tinyml.stack([row["loss"] for row in rows]).detach())
    assert got["hits"].tolist() == [row["hits"].item() for row in rows]
    assert [grad_bits(p) for p in model_again.parameters()] == [grad_bits(p) for p in model.parameters()]
    assert compiled.interrupted is False
    tinyml.manual_seed(5)
    more = bits(compiled.repeat(2, x, y)["loss"])
    tinyml.manual_seed(5)
    assert more == bits(tinyml.stack([step(x, y)["loss"] for _ in range(2)]).detach())


def test_repeat_without_results_or_arguments():
    w = Value(1.0)
    step = tinyml.compile(lambda: (w * w).backward())
    assert step.repeat(4) is None
    assert w.grad == 8
    for n in (0, -1):
        with pytest.raises(ArgumentError, match="expected 1 or more"):
            step.repeat(n)
    assert tinyml.compile(lambda x: x * 2).repeat(3, 2.0).tolist() == [4, 4, 4]
    assert tinyml.compile(lambda x: [x, {"a": x > 1}]).repeat(2, 2)[1]["a"].tolist() == [True, True]


@pytest.mark.parametrize("passes", [(), PASSES], ids=["none", "all"])
@pytest.mark.parametrize(
    ("rows", "batch_size", "drop_last"), [(12, 4, False), (13, 4, False), (13, 4, True), (3, 8, False), (7, 1, False)]
)
@pytest.mark.parametrize(("shuffle", "seed"), [(False, None), (True, 7), (True, None)])
def test_over_is_the_loop(rows, batch_size, drop_last, shuffle, seed, passes):
    x, y = tensor(rows, 3).numpy(), tensor(rows, 2, seed=1)
    options = {"batch_size": batch_size, "shuffle": shuffle, "drop_last": drop_last, "seed": seed}
    model, step, _ = counting()
    loader = DataLoader(TensorDataset(x, y), **options)
    expected = [step(*batch) for _ in range(3) for batch in loader]
    model_again, _, compiled = counting(passes)
    got = compiled.over(x, y, epochs=3, **options)
    assert bits(got["loss"]) == bits(tinyml.stack([row["loss"] for row in expected]).detach())
    assert got["hits"].tolist() == [row["hits"].item() for row in expected]
    assert [grad_bits(p) for p in model_again.parameters()] == [grad_bits(p) for p in model.parameters()]
    assert len(compiled.programs) == (2 if rows % batch_size and rows > batch_size and not drop_last else 1)


def test_over_arrays_of_each_kind():
    arrays = {
        "float64": RNG.normal(size=(5, 2)),
        "int64": np.arange(10).reshape(5, 2),
        "bool": RNG.random((5, 2)) < 0.5,
        "uint8": np.arange(10, dtype=np.uint8).reshape(5, 2),
        "float16": np.arange(10, dtype=np.float16).reshape(5, 2),
        "strided": RNG.normal(size=(2, 10))[:, ::2].T,
        "one number each": np.arange(5.0),
        "no columns": np.zeros((5, 0)),
        "list": [[1.0, 2.0]] * 5,
        "Tensor": tensor(5, 2),
        "Parameter": param(5, 2),
    }
    for name, array in arrays.items():
        got = tinyml.compile(lambda x: (x.sum(), x)).over(array, batch_size=1, drop_last=True)
        expected = [
            tinyml.tensor(np.asarray(array.detach() if isinstance(array, Tensor) else array)[i : i + 1])
            for i in range(5)
        ]
        if name in ("uint8", "float16", "list"):
            assert got[1].tolist() == [x.tolist() for x in expected], name
        else:
            assert bits(got) == bits((tinyml.stack([x.sum() for x in expected]), tinyml.stack(expected))), name


def test_over_leaves_its_arrays_alone_and_sees_them_change():
    x = np.arange(6.0)
    step = tinyml.compile(lambda x: x.sum())
    assert step.over(x, batch_size=2).tolist() == [1, 5, 9]
    x[0] = 100
    assert step.over(x, batch_size=2).tolist() == [101, 5, 9]
    assert step.over(x, batch_size=2, shuffle=True, seed=1, epochs=2).sum().item() == 230
    assert x.tolist() == [100, 1, 2, 3, 4, 5]
    t = tinyml.arange(6.0)
    kept = t[:2]
    step(kept)
    step.over(t, batch_size=2)
    assert kept.tolist() == [0, 1]


def test_errors_of_over():
    step = tinyml.compile(lambda *xs: xs[0] * 2)
    for arguments, options, error, match in [
        ((), {}, ArgumentError, "no arrays"),
        ((np.ones(2), np.ones(3)), {}, ShapeError, r"\[2, 3\]"),
        ((np.ones(2),), {"batch_size": 0}, ArgumentError, "batch_size 0"),
        ((np.ones(2),), {"epochs": 0}, ArgumentError, "0 epochs"),
        ((np.ones(2),), {"batch_size": 3, "drop_last": True}, ArgumentError, "no batch of 3"),
        ((np.ones(0),), {}, ArgumentError, "no batch"),
        ((np.float64(1.0),), {}, ShapeError, "no dimensions"),
        ((np.ones(5),), {"batch_size": 2}, ShapeError, "drop_last"),
        ((np.array(["a"]),), {}, DTypeError, "<U1"),
    ]:
        with pytest.raises(error, match=match):
            step.over(*arguments, **options)
    assert step.over(np.ones(4), batch_size=2).tolist() == [[2, 2], [2, 2]]


def test_progress(capsys):
    step = tinyml.compile(lambda x: (x @ x).sum())
    step.repeat(3, tinyml.ones(4, 4))
    assert capsys.readouterr().err == ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tinyml._progress, "_DELAY", -1.0)
        step.repeat(100, tinyml.ones(4, 4))
        assert "100/100" in capsys.readouterr().err.replace(" ", "")
        step.repeat(100, tinyml.ones(4, 4), progress=False)
        assert capsys.readouterr().err == ""


# -- memory, threads, interrupts


def allocations(work):
    before = _core.allocations()
    work()
    return _core.allocations() - before


@pytest.mark.parametrize("passes", PASS_SETS, ids="+".join)
def test_replays_allocate_nothing(passes):
    tinyml.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 3))
    scale = Value(0.5)
    optimizer = optim.Adam([*model.parameters(), scale])

    def step(x, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x) * scale, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()

    step = tinyml.compile(step, passes=passes)
    x, labels = tensor(12, 6), np.arange(12) % 3
    step.over(x, labels, batch_size=4)
    few = allocations(lambda: step.over(x, labels, batch_size=4, shuffle=True, seed=0))
    many = allocations(lambda: step.over(x, labels, batch_size=4, epochs=1, shuffle=True, seed=0))
    assert many == few
    batch = tinyml.tensor(labels)
    step(x, batch)
    assert allocations(lambda: [step(x, batch) for _ in range(50)]) == 0
    assert allocations(lambda: step.repeat(2, x, batch)) == allocations(lambda: step.repeat(500, x, batch))
    values = tinyml.compile(lambda a, b: ((a * b).tanh() * 2 + scale).backward(), passes=passes)
    a, b = Value(1.0), Value(2.0)
    values(a, b)
    assert allocations(lambda: [values(a, b) for _ in range(50)]) == 0


def run(code):
    """Runs a script in a process of its own, which must end quietly; what it printed."""
    prelude = "import gc, os, signal, sys, threading, time\nimport numpy as np, tinyml\nfrom tinyml import nn, optim\n"
    prelude += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background starts without
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", prelude + code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.skipif("TINYML_SANITIZED" in os.environ, reason="a sanitizer keeps freed memory to watch it")
def test_memory_stays_flat_over_a_million_replays():
    out = run("""
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
w, v = tinyml.ones(4, requires_grad=True), tinyml.Value(0.5)
optimizer = optim.SGD([w, v], lr=1e-3)
@tinyml.compile
def step(x):
    optimizer.zero_grad()
    ((w * x).sum() * v).backward()
    optimizer.step()
@tinyml.compile
def call(x):
    return x * 2
def work(n, calls):
    step.repeat(n, x, progress=False)
    for _ in range(calls): call(x)
x = tinyml.ones(4)
work(10, 1000)
before, nodes = resident(), tinyml.live_nodes()
work(950_000, 50_000)
print(resident() - before, tinyml.live_nodes() - nodes)
""")
    grown, nodes = map(int, out.split())
    assert grown < 512 * 1024
    assert nodes == 0


def descent(seed):
    """A network of its own, its step, and what 200 of these give."""

    def play(wrap):
        w = param(8, 8, seed=seed)
        optimizer = optim.SGD([w], lr=0.01)

        @wrap
        def step(x):
            optimizer.zero_grad()
            loss = ((x @ w).tanh() ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        return w, step

    w, step = play(lambda f: f)
    x = tensor(16, 8, seed=seed + 50)
    for _ in range(200):
        step(x)
    return play(tinyml.compile), x, bits(w)


def test_two_threads_replay_two_programs():
    networks = [descent(seed) for seed in range(2)]

    def work(i):
        (w, step), x, expected = networks[i]
        step.repeat(100, x)
        for _ in range(100):
            step(x)
        return bits(w) == expected

    assert in_threads(2, work) == [True, True]


def test_one_program_in_several_threads():
    step = tinyml.compile(lambda x, n: (x * n).sum())
    step(tinyml.ones(50), 1.0)

    def work(i):
        x = tinyml.full((50,), float(i))
        return all(step(x, float(k)).item() == 50 * i * k for k in range(200))

    assert all(in_threads(4, work))
    shapes = tinyml.compile(lambda x: x.sum(), max_programs=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = in_threads(4, lambda i: [shapes(tinyml.ones((i + k) % 6 + 1)).item() for k in range(60)])
    assert done == [[(i + k) % 6 + 1 for k in range(60)] for i in range(4)]


def test_recording_while_another_thread_replays():
    step = tinyml.compile(lambda x: (x * 2).sum())
    step(tinyml.ones(5))
    stop = threading.Event()

    def work(i):
        if i:
            n = 0
            while not stop.is_set() or n < 100:
                n += 1
                assert step(tinyml.full((5,), float(n))).item() == 10 * n
                assert (tinyml.ones(3) * n).sum().item() == 3 * n  # looked at while the other one records
            return n
        for rows in range(1, 40):
            w = param(rows)
            both = tinyml.compile(lambda x, w=w: ((w * x).sum().backward(), step(x[:5]))[1], strict=True)
            for _ in range(3):
                both(tinyml.ones(rows))
            assert bits(w.grad) == bits(tinyml.full((rows,), 3.0))
        stop.set()
        return True

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # many shapes of `step`
        assert all(in_threads(3, work))


def test_programs_are_released():
    before = tinyml.live_nodes()
    model = nn.Linear(3, 3)
    parameters = tinyml.live_nodes() - before
    step = tinyml.compile(lambda x: model(x).sum().backward())
    for rows in range(1, 6):
        step(tensor(rows, 3))
    programs = step.programs
    assert tinyml.live_nodes() - before > parameters + 10
    del step
    gc.collect()
    assert tinyml.live_nodes() - before > parameters + 10
    del programs
    gc.collect()
    assert tinyml.live_nodes() - before == parameters


def test_a_function_that_names_itself_is_released_at_once():
    w = Value(1.0)
    before = tinyml.live_nodes()
    optimizer = optim.SGD([w], lr=0.1)
    space = {"w": w, "optimizer": optimizer, "tinyml": tinyml}
    exec("@tinyml.compile\ndef step():\n    (w * w).backward()\n    optimizer.step()", space)
    space["step"]()
    assert tinyml.live_nodes() > before
    gc.disable()
    try:
        del space["step"]
        assert tinyml.live_nodes() == before
    finally:
        gc.enable()


INTERRUPT = """
def press():
    go.wait()
    time.sleep(0.2)
    pressed.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
go, pressed = threading.Event(), []
threading.Thread(target=press, daemon=True).start()
w = tinyml.ones(3, requires_grad=True)
optimizer = optim.SGD([w], lr=0.0)
@tinyml.compile
def step(x):
    optimizer.zero_grad()
    loss = (w * x).sum()
    loss.backward()
    optimizer.step()
    return loss
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("how", ["repeat(50_000_000, tinyml.ones(3)", "over(np.ones((100_000, 3)), epochs=1000"])
def test_interrupt(how):
    how = how.replace("np.ones((100_000, 3))", "tinyml.ones(100_000, 3)")
    took, rows = run(f"""{INTERRUPT}
step.repeat(2, tinyml.ones(3))
assert not step.interrupted
go.set()
losses = step.{how}, progress=False)
print(time.perf_counter() - pressed[0], len(losses))
assert step.interrupted
assert set(losses.tolist()) == {{3.0}}
assert w.grad.tolist() == [1, 1, 1]
step(tinyml.ones(3))
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
""").split()
    assert 1 < int(rows) < 50_000_000
    assert float(took) < (0.1 if "TINYML_SANITIZED" not in os.environ else 2)
