"""The passes over a recorded program: bit for bit what the function computes without them, in fewer steps or bytes."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinyml
from tinyml import Tensor, nn, optim
from tinyml.nn import functional as F

ALL = ("dead", "common", "descend", "tape", "blocks", "share")
MINE = ("common", "blocks", "share")
SETS = [(), *((name,) for name in MINE), MINE, ALL]
SIZES = [(0,), (1,), (1, 1), (3,), (2, 0, 3), (4, 5), (1025,), (3, 700), (40000,)]


def bits(x: Any) -> bytes:
    """What an array looks like in memory; all NaNs alike."""
    array = x.detach().numpy() if isinstance(x, Tensor) else np.float64(x.data)
    if array.dtype.kind == "f" and np.isnan(array).any():
        array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
    return f"{array.shape} {array.dtype}".encode() + array.tobytes()


UNARY: list[Callable[[Tensor], Tensor]] = [
    lambda x: (-x.abs()).exp(),
    lambda x: (x.abs() + 0.5).log(),
    lambda x: (x * x).sqrt(),
    lambda x: x.sin() + x.cos(),
    lambda x: x.tanh(),
    lambda x: x.sigmoid(),
    lambda x: x.relu(),
    lambda x: x.clamp(-1, 1),
    lambda x: F.leaky_relu(x, 0.1),
    lambda x: x.erf(),
    lambda x: -x,
    lambda x: x.silu(),
    lambda x: x.gelu(),
    lambda x: x.gelu("tanh"),
    lambda x: x.elu(0.7),
    lambda x: x.softplus(2.0, 3.0),
    lambda x: x.logsigmoid(),
]
BINARY: list[Callable[[Tensor, Any], Tensor]] = [
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: y - x,
    lambda x, y: x * y * 0.5,
    lambda x, y: x / (y * y + 1),
    lambda x, y: tinyml.maximum(x, 0.0 * x + y),
    lambda x, y: tinyml.minimum(x, 0.0 * x + y),
    lambda x, y: (x * x + 1) ** (y * 0.1),
]
OTHER: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda x, first: x.detach() * first,
    lambda x, first: x.reshape(-1).reshape(x.shape) + 1,
    lambda x, first: x.reshape(-1).tanh().reshape(x.shape) + first.reshape(-1).tanh().reshape(x.shape),
    lambda x, first: x + x.mean() if x.numel() else x + x.sum(),
    lambda x, first: F.softmax(x, -1) if x.numel() else x * 2,
    lambda x, first: tinyml.where(x > first, x, first),
]


class Graph:
    """A random function of two arguments over parameters: the same whenever it is called."""

    def __init__(self, seed: int, shape: tuple[int, ...], dtype: str, steps: int = 20) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape, self.dtype, self.steps = shape, dtype, steps
        self.choices = self.rng.integers(0, 1 << 30, (steps, 4)).tolist()
        self.backward = seed % 4 != 0
        self.start = [self.array(each) for each in (shape, shape, (), shape[-1:], (1,))]
        self.params = [tinyml.tensor(each, requires_grad=True) for each in self.start]
        self.optimizer_class = (optim.SGD, optim.Adam)[seed // 2 % 2]
        self.reset()

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(self.dtype)

    def reset(self) -> None:
        for param, start in zip(self.params, self.start, strict=True):
            param.data = start
            param.grad = None
        self.optimizer = self.optimizer_class(self.params, lr=0.01)

    def step(self, made: list[Tensor], i: int) -> Tensor:
        kind, first, second, extra = self.choices[i]
        x = made[-1 - first % min(len(made), 5)]
        operands = [*made[-5:], *made, *made[-5:], *self.params[2:], 2.0, -0.5]
        y = operands[second % len(operands)]
        if extra % 16 < 7:
            return UNARY[kind % len(UNARY)](x)
        if extra % 16 < 12:
            return BINARY[kind % len(BINARY)](x, y)
        if extra % 16 < 14:
            f = BINARY[kind % len(BINARY)]
            return f(x, y).tanh() - f(x, y).tanh() * f(x, y)
        return OTHER[kind % len(OTHER)](x, made[0])

    def __call__(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        made = [a * self.params[0], b + self.params[1]]
        for i in range(self.steps):
            made.append(self.step(made, i))
        out = made[-1] + made[-2] * made[-3]
        loss = out.sum()
        if self.backward:
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return loss, out, made[len(made) // 2]


def runs(graph: Graph, function: Any, replays: int = 4) -> list[Any]:
    """All that a few calls leave: results, parameters and gradients."""
    graph.reset()
    rng = np.random.default_rng(1)
    left: list[Any] = []
    for _ in range(replays):
        a, b = (tinyml.tensor(rng.standard_normal(graph.shape).astype(graph.dtype)) for _ in range(2))
        with np.errstate(all="ignore"):
            left += [bits(each) for each in function(a, b)]
        left += [bits(param) for param in graph.params]
        left += [None if param.grad is None else bits(param.grad) for param in graph.params]
    return left


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_graphs(seed: int, dtype: str) -> None:
    shape = SIZES[seed % len(SIZES)]
    graph = Graph(seed, shape, dtype)
    eager = runs(graph, graph)
    for passes in SETS:
        compiled = tinyml.compile(graph, passes=passes)
        assert runs(graph, compiled) == eager, (seed, passes)
        assert len(compiled.programs) == 1


def text(compiled: Any) -> list[str]:
    """The steps of a program, without numbers and shapes."""
    return [re.sub(r"\s{2,}.*", "", line[6:].strip()) for line in repr(compiled.program).splitlines()[1:]]


def check(function: Any, args: tuple[Any, ...], passes: tuple[str, ...], params: Any = (), replays: int = 4) -> Any:
    """The compiled function leaves what the function leaves, at every call; returns it."""
    start = [each.detach().numpy().copy() for each in params]
    left: list[list[Any]] = []
    compiled = tinyml.compile(function, passes=passes)
    for f in (function, compiled):
        for param, data in zip(params, start, strict=True):
            param.data = data
            param.grad = None
        left.append([])
        for _ in range(replays):
            results = f(*args)
            left[-1].append([bits(each) for each in (results if isinstance(results, tuple) else (results,))])
            left[-1].append([bits(each) for each in params])
            left[-1].append([None if each.grad is None else bits(each.grad) for each in params])
    assert left[0] == left[1]
    return compiled


def tensor(*shape: int, dtype: str = "float32", seed: int = 0, requires_grad: bool = False) -> Tensor:
    data = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return tinyml.tensor(data, requires_grad=requires_grad)


# -- common


def test_common_does_the_same_once() -> None:
    def f(x: Tensor) -> Any:
        return (x * 2).exp() + (x * 2).exp() * (x * 3).exp(), F.softmax(x, -1) - F.softmax(x, 0) + F.softmax(x, -1)

    compiled = check(f, (tensor(3, 4),), ("common",))
    names = text(compiled)
    assert names.count("forward exp") == 2
    assert names.count("forward softmax") == 2
    assert names.count("forward mul") == 3


def test_common_keeps_backward_and_its_order() -> None:
    w = tensor(3, 4, requires_grad=True)

    def f(x: Tensor) -> Tensor:
        loss = ((x @ w).tanh() + (x @ w).tanh() * (x @ w).tanh()).sum()
        loss.backward()
        return loss

    compiled = check(f, (tensor(2, 3),), ("common",), [w])
    names = text(compiled)
    assert names.count("forward matmul") == 1
    assert names.count("backward matmul") == 3


def test_common_copies_single_numbers() -> None:
    def f(x: tinyml.Value) -> Any:
        return x.exp() * 2, x.exp() * 2 + x

    assert text(check(f, (tinyml.Value(0.3),), ("common",))).count("alias exp") == 1


def test_common_shares_what_is_left_for_backward() -> None:
    w = tensor(3, 4, requires_grad=True)

    def f(x: Tensor, labels: Tensor) -> Tensor:
        loss = F.cross_entropy(x @ w, labels) + F.cross_entropy(x @ w, labels) * 3
        loss.backward()
        return loss

    compiled = check(f, (tensor(2, 3), tinyml.tensor([1, 3])), ("common",), [w])
    assert text(compiled).count("forward cross_entropy") == 1


def test_common_sees_writes_in_between() -> None:
    w = tensor(3, 3, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1)

    def f(x: Tensor) -> Any:
        first = (x * w).exp()
        optimizer.zero_grad()
        first.sum().backward()
        optimizer.step()
        return first, (x * w).exp(), x.exp() + x.exp()

    compiled = check(f, (tensor(3, 3),), ("common",), [w])
    assert text(compiled).count("forward exp") == 3
    x = w.detach()  # the very memory that the step writes
    before = x.numpy().copy()
    for _ in range(2):
        first, second, _ = compiled(x)
        assert bits(first) == bits((tinyml.tensor(before) * before).exp())
        before = x.numpy().copy()
        assert bits(second) == bits((tinyml.tensor(before) * before).exp())


def test_common_leaves_random_draws_alone() -> None:
    x = tinyml.tensor(np.ones(1000, np.float32))
    compiled = tinyml.compile(lambda x: (F.dropout(x, 0.5), F.dropout(x, 0.5)), passes=("common",))
    for _ in range(3):
        a, b = compiled(x)
        assert bits(a) != bits(b)


def test_common_tells_shapes_and_attributes_apart() -> None:
    def f(x: Tensor) -> Any:
        return (
            x.sum(0),
            x.sum(1),
            x.sum(0, keepdim=True),
            x.reshape(9) + 1,
            x.reshape(3, 3) + 1,
            x.clamp(0, 1),
            x.clamp(0, 2),
        )

    assert len(text(check(f, (tensor(3, 3),), ("common",)))) == 9


# -- blocks


def test_blocks_are_one_step() -> None:
    def f(x: Tensor) -> Tensor:
        y = x
        for _ in range(6):
            y = (y * x + 0.5).tanh()
        return y

    for n in (0, 1, 3, 1024, 1025, 100_001):
        compiled = check(f, (tensor(n),), ("blocks",))
        assert len(compiled.program) == 1
        assert text(compiled)[0] == "blocks"
    assert len(check(f, (tensor(0, 3),), ("blocks",)).program) == 1


def test_blocks_end_where_shapes_do() -> None:
    def f(x: Tensor, row: Tensor, one: Tensor) -> Tensor:
        y = (x * one + 1) * 2
        y = (y + row).exp() * one
        return ((y.sum(0) + 1) * 2).sum() + y.numel()

    compiled = check(f, (tensor(4, 5), tensor(5), tensor(1, 1)), ("blocks",))
    assert text(compiled) == [
        "blocks", "forward mul", "forward add", "forward mul", "forward add", "blocks", "forward exp", "forward mul",
        "forward sum", "blocks", "forward add", "forward mul", "forward sum", "forward add",
    ]  # fmt: skip


def test_blocks_of_integers() -> None:
    x = tinyml.tensor(np.arange(5000))
    compiled = check(lambda x: -(x * 3 + x) * x, (x,), ("blocks", "share"))
    assert len(compiled.program) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 7, 513, 50_000])
def test_blocks_backward(dtype: str, n: int) -> None:
    w, v = (tensor(n, dtype=dtype, seed=i, requires_grad=True) for i in (1, 2))
    ones = tinyml.tensor(np.ones(n, dtype))

    def f(x: Tensor) -> Tensor:
        y = (x * w).tanh() * w - v * v
        z = (y * 2).sigmoid() + y * y + y
        z.backward(ones)  # gradients of w and v go on growing
        return z

    for passes in (("blocks",), ("blocks", "share"), ALL):
        compiled = check(f, (tensor(n, dtype=dtype),), passes, [w, v])
        assert text(compiled).count("blocks") == 2
        assert len(compiled.program) == 4


def test_blocks_leave_sums_to_their_kernel() -> None:
    w, scale = tensor(30_000, requires_grad=True), tensor(1, requires_grad=True)

    def f(x: Tensor) -> Tensor:
        y = ((x * w).exp() * scale).tanh() * 2
        y.sum().backward()
        return y

    names = text(check(f, (tensor(30_000),), ("blocks", "share"), [w, scale]))
    assert "backward mul" in names[names.index("seed sum") :]


def test_blocks_and_gradients_that_python_looks_at() -> None:
    w = tensor(2000, requires_grad=True)
    ones = tinyml.tensor(np.ones(2000, np.float32))

    def f(x: Tensor) -> Tensor:
        y = (x * w).tanh() * w
        y.backward(ones)
        return y

    compiled = tinyml.compile(f, passes=("blocks", "share"))
    x = tensor(2000, seed=5)
    seen = []
    for function in (f, compiled):
        w.grad = None
        views = []
        for i in range(5):
            function(x)
            views.append(w.grad)
            if i == 2:
                w.grad = None
        seen.append([bits(view) for view in views])
    assert seen[0] == seen[1]


def test_blocks_on_any_number_of_threads() -> None:
    w = tensor(300_000, requires_grad=True)
    ones = tinyml.tensor(np.ones(300_000, np.float32))

    def f(x: Tensor) -> Tensor:
        y = (x * w).tanh() * w + (x - 1).exp()
        y.backward(ones)
        return y

    before = tinyml.get_num_threads()
    try:
        for threads in (1, 2, 3):
            tinyml.set_num_threads(threads)
            check(f, (tensor(300_000),), ("blocks", "share"), [w], replays=2)
    finally:
        tinyml.set_num_threads(before)


def test_long_runs() -> None:
    w = tensor(100, requires_grad=True)
    ones = tinyml.tensor(np.ones(100, np.float32))

    def f(x: Tensor) -> Tensor:
        y = [x * w]
        for i in range(100):
            y.append((y[-1] + y[i // 2]) * 0.5 if i % 3 else (y[-1] * y[0]).tanh())
        y[-1].backward(ones)
        return y[-1]

    for passes in (("blocks",), MINE, ALL):
        assert len(check(f, (tensor(100),), passes, [w]).program) < 25


# -- share


def mlp(sizes: tuple[int, ...], batch: int) -> tuple[Any, list[Tensor], tuple[Tensor, Tensor]]:
    tinyml.manual_seed(0)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    params = [param for layer in layers for param in layer.parameters()]
    optimizer = optim.SGD(params, lr=0.1)
    data = tensor(batch, sizes[0]), tinyml.tensor(np.random.default_rng(0).integers(0, sizes[-1], batch))

    def step(x: Tensor, labels: Tensor) -> Tensor:
        for layer in layers[:-1]:
            x = layer(x).tanh()
        loss = F.cross_entropy(layers[-1](x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, params, data


def test_share_saves_memory() -> None:
    step, params, data = mlp((20, 64, 64, 64, 10), 32)
    alone = check(step, data, (), params).program.bytes
    assert check(step, data, ("share",), params).program.bytes < 0.55 * alone
    assert check(step, data, ALL, params).program.bytes < 0.55 * alone


def test_share_in_inference() -> None:
    _, params, (x, _) = mlp((20, *(64,) * 12, 10), 32)

    def infer(x: Tensor) -> Tensor:
        with tinyml.no_grad():
            for w, b in zip(params[::2], params[1::2], strict=True):
                x = F.linear(x, w, b).relu()
        return x

    alone = check(infer, (x,), ()).program.bytes
    assert check(infer, (x,), ("share",)).program.bytes < 0.2 * alone


def test_what_backward_does_not_read_need_not_stay() -> None:
    w = tensor(10_000, requires_grad=True)

    def f(x: Tensor) -> Tensor:
        y = x * w
        for _ in range(10):
            y = ((y * 2 + x) - 0.5 * y) * -0.3
        y.sum().backward()
        return w.grad + 0

    assert check(f, (tensor(10_000),), MINE, [w]).program.bytes < 6 * 4 * 10_240


def test_blocks_in_scratch_need_no_memory() -> None:
    def f(x: Tensor) -> Tensor:
        y = x
        for _ in range(10):
            y = (y * x).tanh()
        return y

    x = tensor(5000)
    assert check(f, (x,), ("blocks", "share")).program.bytes <= 2 * 4 * 6144  # x, which stands for the argument, and y


def test_replays_allocate_only_results() -> None:
    step, _, data = mlp((20, 64, 64, 10), 32)
    for passes in SETS:
        compiled = tinyml.compile(step, passes=passes)
        compiled(*data)
        compiled.repeat(2, *data, progress=False)
        counts = []
        for n in (2, 20):
            before = tinyml._core.allocations()
            compiled.repeat(n, *data, progress=False)
            counts.append(tinyml._core.allocations() - before)
        assert counts[0] == counts[1], passes


def test_memory_comes_back() -> None:
    step, _, data = mlp((20, 64, 64, 10), 32)
    step(*data)
    before = tinyml.live_nodes()
    for passes in SETS:
        compiled = tinyml.compile(step, passes=passes)
        for _ in range(3):
            compiled(*data)
        del compiled
        assert tinyml.live_nodes() == before


def test_what_python_holds_stays() -> None:
    """And what it was made from: one may go backward from it."""
    w = tensor(40, requires_grad=True)
    kept = []

    def f(x: Tensor) -> Tensor:
        y = ((x * w).exp() * 2).tanh() * w
        kept.append(y)
        z = (y + 1).exp() * 3
        for _ in range(4):
            z = (z - 1).tanh() * y
        return z.sum()

    x = tensor(40, seed=1)
    compiled = tinyml.compile(f, passes=MINE)
    with pytest.warns(tinyml.errors.FrozenWarning, match="outlive"):
        compiled(x)
    for i in range(3):
        w.data = w.detach().numpy() + 0.1
        compiled(x)
        gradients = []
        for y in (kept[0], ((x * w).exp() * 2).tanh() * w):
            w.grad = None
            y.sum().backward()
            gradients.append((bits(y), bits(w.grad)))
        assert gradients[0] == gradients[1], i


def test_retained_gradients() -> None:
    w = tensor(50, requires_grad=True)

    def f(x: Tensor) -> Any:
        y = (x * w).tanh()
        z = (y * y).exp()
        z.retain_grad()
        (z * w).sum().backward()
        return z.grad + 0, y

    for passes in SETS:
        check(f, (tensor(50),), passes, [w])


def test_two_sweeps_and_gradients_as_data() -> None:
    w = tensor(6, 6, requires_grad=True)

    def f(x: Tensor) -> Any:
        w.grad = None
        (x @ w).tanh().sum().backward()
        first = w.grad * 2
        y = (x @ w).tanh() * w
        y.sum().backward()
        y.mean().backward()
        return first + w.grad, w.grad

    for passes in SETS:
        check(f, (tensor(6, 6),), passes, [w])


def test_failures_leave_a_program_that_works() -> None:
    w = tensor(3, 4, requires_grad=True)

    def f(x: Tensor, labels: Tensor) -> Tensor:
        loss = F.cross_entropy(((x @ w).tanh() + 1) * 2, labels)
        w.grad = None
        loss.backward()
        return loss

    x, good, bad = tensor(2, 3), tinyml.tensor([1, 3]), tinyml.tensor([1, 7])
    loss = f(x, good)
    gradient = bits(w.grad)
    compiled = tinyml.compile(f, passes=ALL)
    compiled(x, good)
    for _ in range(2):
        with pytest.raises(tinyml.errors.TinymlError):
            compiled(x, bad)
        assert bits(compiled(x, good)) == bits(loss)
        assert bits(w.grad) == gradient


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
def test_instruction_sets(isa: str) -> None:
    if os.environ.get("TINYML_ISA"):
        pytest.skip("this is one of these runs")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", __file__],
        env=os.environ | {"TINYML_ISA": isa}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "set one of these" in result.stdout + result.stderr:
        pytest.skip(f"this processor does not run {isa}")
    assert result.returncode == 0, result.stdout
