"""Large arrays: the same bits on any number of threads, for every op that shares its work among them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tinyml
from tinyml import Tensor
from tinyml.nn import functional as F

Shape = tuple[int, ...]

# Shapes around the sizes from which on work is cut and shared, and those in which operands are broadcast.
ONE: list[list[Shape]] = [[(16385,)], [(300_007,)], [(517, 1030)]]
TWO: list[list[Shape]] = [
    [(300_007,), (300_007,)],
    [(300_007,), ()],
    [(1,), (300_007,)],
    [(4000, 77), (77,)],
    [(4000, 77), (4000, 1)],
    [(700, 1), (1, 700)],
    [(3, 100_001), (3, 1)],
    [(3, 100_001), (100_001,)],
    [(40, 3, 2500), (3, 1)],
]
ROWS: list[list[Shape]] = [[(40_000, 10)], [(700, 513)], [(3, 150_000)]]
PLANES: list[list[Shape]] = [*ROWS, [(7, 300, 200)], [(5, 1, 70_000)]]


def away_from_zero(x: Any) -> Any:
    return x * x + 0.3


UNARY: dict[str, Callable[..., Any]] = {
    "neg": lambda x: -x,
    "abs": lambda x: x.abs(),
    "exp": lambda x: x.exp(),
    "log": lambda x: away_from_zero(x).log(),
    "sqrt": lambda x: away_from_zero(x).sqrt(),
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: x.sigmoid(),
    "erf": lambda x: x.erf(),
    "relu": lambda x: x.relu(),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "clamp": lambda x: x.clamp(-0.5, 0.7),
    "double": lambda x: x.double(),
    "twice": lambda x: x * x,
    "softmax": lambda x: F.softmax(x, -1),
}
BINARY: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / away_from_zero(b),
    "pow": lambda a, b: away_from_zero(a) ** b,
    "maximum": lambda a, b: a.maximum(b),
    "minimum": lambda a, b: a.minimum(b),
    "where": lambda a, b: tinyml.where(a > b, a, b),
}
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": lambda x, **axes: x.sum(**axes),
    "mean": lambda x, **axes: x.mean(**axes),
    "prod": lambda x, **axes: (1 + x * 1e-3).prod(**axes),
    "amax": lambda x, **axes: x.amax(**axes),
    "amin": lambda x, **axes: x.amin(**axes),
    "var": lambda x, **axes: x.var(**axes),
    "logsumexp": lambda x, dim=None: x.logsumexp(tuple(range(x.ndim)) if dim is None else dim),
}
AXES: list[dict[str, Any]] = [{"dim": 0}, {"dim": -1}, {"dim": (0, -1)}]
LOSSES: dict[str, Callable[..., Any]] = {
    "softmax rows": lambda x, _: F.softmax(x, 1),
    "softmax columns": lambda x, _: F.softmax(x, 0),
    "log_softmax rows": lambda x, _: F.log_softmax(x, 1),
    "log_softmax columns": lambda x, _: F.log_softmax(x, 0),
    "cumsum rows": lambda x, _: x.cumsum(1),
    "cumsum columns": lambda x, _: x.cumsum(0),
    "cross_entropy": lambda x, t: F.cross_entropy(x, t),
    "cross_entropy smoothed": lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1, ignore_index=3),
    "cross_entropy none": lambda x, t: F.cross_entropy(x, t, reduction="none"),
    "nll_loss": lambda x, t: F.nll_loss(x, t),
    "mse_loss": lambda x, _: F.mse_loss(x, x.detach().exp()),
    "mse_loss none": lambda x, _: F.mse_loss(x, x.exp(), reduction="none"),
}


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = tinyml.get_num_threads()
    yield
    tinyml.set_num_threads(before)


def numbers(shape: Shape, dtype: str, seed: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).uniform(-2, 2, shape), dtype)


def outcome(function: Callable[..., Any], arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Values, gradients, and gradients added to those."""
    inputs = [tinyml.tensor(array, requires_grad=array.dtype.kind == "f") for array in arrays]
    y = function(*inputs)
    seen = [y.detach().numpy().copy()]
    if not y.requires_grad:
        return seen
    dy = numbers(y.shape, y.dtype.name, 9)
    if dy.ndim:
        dy[..., ::7] = 0
    for _ in range(2):
        function(*inputs).backward(tinyml.tensor(dy))
        seen += [x.grad.numpy().copy() for x in inputs if x.grad is not None]
    return seen


def check(function: Callable[..., Any], arrays: list[np.ndarray]) -> None:
    results = []
    for threads in (1, 2, 3):
        tinyml.set_num_threads(threads)
        results.append(outcome(function, arrays))
    for result in results[1:]:
        assert [x.tobytes() for x in result] == [x.tobytes() for x in results[0]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shapes", ONE, ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str, shapes: list[Shape], dtype: str) -> None:
    check(UNARY[name], [numbers(shape, dtype, i) for i, shape in enumerate(shapes)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shapes", TWO, ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str, shapes: list[Shape], dtype: str) -> None:
    check(BINARY[name], [numbers(shape, dtype, i) for i, shape in enumerate(shapes)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shapes", PLANES, ids=str)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name: str, shapes: list[Shape], dtype: str) -> None:
    x = [numbers(shape, dtype, i) for i, shape in enumerate(shapes)]
    check(lambda x: REDUCTIONS[name](x), x)
    for axes in AXES:
        check(lambda x, axes=axes: REDUCTIONS[name](x, **axes), x)


@pytest.mark.parametrize("shapes", ROWS, ids=str)
def test_places_and_integers(shapes: list[Shape]) -> None:
    for dtype in ("float32", "int64"):
        x = [np.asarray(1000 * numbers(shape, "float64", 1), dtype) for shape in shapes]
        for function in (
            lambda x: x.argmax(),
            lambda x: x.argmin(1),
            lambda x: x.argmax(0),
            lambda x: x.sum(),
            lambda x: x.amax(1),
            lambda x: x > 3,
            lambda x: x * x - x,
        ):
            check(function, x)
        assert tinyml.tensor(x[0]).argmax().item() == x[0].argmax()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shapes", ROWS, ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_along_an_axis(name: str, shapes: list[Shape], dtype: str) -> None:
    rows, classes = shapes[0]
    labels = np.random.default_rng(1).integers(0, classes, rows)
    check(LOSSES[name], [numbers(shapes[0], dtype, 0), labels])


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout(p: float) -> None:
    def dropped(x: Tensor) -> Any:
        tinyml.manual_seed(5)
        return F.dropout(x, p)

    check(dropped, [numbers((300_007,), "float32", 0)])


def test_sums_are_right() -> None:
    """Parts of sums are put together in the right places: against NumPy, in float64."""
    a, b = numbers((4000, 77), "float64", 0), numbers((77,), "float64", 1)
    x, w = tinyml.tensor(a, requires_grad=True), tinyml.tensor(b, requires_grad=True)
    c = tinyml.tensor(1.5, dtype="float64", requires_grad=True)
    (x * w * c).sum().backward()
    assert x.grad is not None
    assert w.grad is not None
    assert c.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), np.broadcast_to(1.5 * b, a.shape), 1e-12)
    np.testing.assert_allclose(w.grad.numpy(), 1.5 * a.sum(0), 1e-9)
    np.testing.assert_allclose(c.grad.item(), (a * b).sum(), 1e-9)
    big = numbers((7, 300, 200), "float64", 2)
    for axes in (None, 0, 1, 2, (0, 1), (0, 2), (1, 2)):
        y = tinyml.tensor(big)
        ours = (y.sum(), y.amax(), y.var()) if axes is None else (y.sum(axes), y.amax(axes), y.var(axes))
        theirs = (big.sum(axes), big.max(axes), big.var(axes, ddof=1))
        for mine, expected in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine.numpy(), expected, 1e-10, 1e-10)


FORKED = """
import os, numpy as np, tinyml
tinyml.set_num_threads(2)
x = tinyml.tensor(np.random.default_rng(0).standard_normal((600, 1000)), requires_grad=True)
def work():
    x.grad = None
    y = (x.tanh() * x).softmax(1).log().sum()
    y.backward()
    return y.item(), x.grad.numpy().tobytes()
before = work()
child = os.fork()
if not child:
    os._exit(0 if work() == before and work() == before else 1)
assert os.waitpid(child, 0)[1] == 0
assert work() == before
print("alike")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.skipif("TINYML_SANITIZED" in os.environ, reason="sanitizers do not follow a fork among threads")
def test_after_a_fork() -> None:
    # Python 3.12 and later warn of forks among threads.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("alike\n", "")


def test_threads_of_the_program_and_of_the_pool() -> None:
    """Calls from several threads at once: one has the pool, the others do all themselves."""
    from concurrent.futures import ThreadPoolExecutor

    x = numbers((300, 1001), "float32", 0)

    def work(_: int) -> list[bytes]:
        return [a.tobytes() for a in outcome(lambda x: F.softmax(x.tanh(), 1).sum(0), [x])]

    tinyml.set_num_threads(2)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(8)))
    assert results == [work(0)] * 8
