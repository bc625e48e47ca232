"""tinyml.Function: custom ops with gradients in Python, in every place where a built-in op may stand."""

import gc
import subprocess
import sys
import threading
import traceback
import weakref

import numpy as np
import pytest

import tinyml
from tinyml import Function, Value, _function
from tinyml.errors import ArgumentError, DTypeError, GraphError, ShapeError


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * dy


class Weighted(Function):
    """k a b, of two arguments and a plain number."""

    @staticmethod
    def forward(ctx, a, b, k):
        ctx.save_for_backward(a, b)
        ctx.k = k
        return k * a * b

    @staticmethod
    def backward(ctx, dy):
        a, b = ctx.saved_tensors
        da = dy * ctx.k * b if ctx.needs_input_grad[0] else None
        db = dy * ctx.k * a if ctx.needs_input_grad[1] else None
        return da, db, None


class Polar(Function):
    """Two results, and an int64 one: the radius, the angle, the quadrant."""

    @staticmethod
    def forward(ctx, x, y):
        r = np.hypot(x, y)
        ctx.save_for_backward(x, y, r)
        return r, np.arctan2(y, x), np.asarray(2 * (y < 0) + (x < 0), np.int64)

    @staticmethod
    def backward(ctx, dr, dangle, dquadrant):
        assert dquadrant is None
        x, y, r = ctx.saved_tensors
        return dr * x / r - dangle * y / r**2, dr * y / r + dangle * x / r**2


def make(backward, forward=lambda ctx, x: x * 2):
    """A Function of given kernels."""
    return type("Made", (Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


def f64(*numbers):
    return tinyml.tensor(np.array(numbers), requires_grad=True)


# -- what it computes


def test_gradcheck():
    x, y = f64(0.3, -1.2, 2.0), f64(1.5, 0.7, -0.4)
    assert tinyml.gradcheck(Cube.apply, x)
    assert tinyml.gradcheck(lambda x, y: Weighted.apply(x, y, 3), (x, y))
    assert tinyml.gradcheck(lambda x, y: Polar.apply(x, y)[:2], (x, y))
    assert tinyml.gradcheck(Cube.apply, Value(0.7))
    assert tinyml.gradcheck(lambda a, b: Polar.apply(a, b)[0] * Cube.apply(a), (Value(0.7), Value(-0.2)))
    assert not tinyml.gradcheck(make(lambda ctx, dy: dy * 3).apply, x, raise_exception=False)


def test_agrees_with_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class TorchCube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, dy):
            (x,) = ctx.saved_tensors
            return 3 * x**2 * dy

    def loss(t, cube, x):
        return (cube.apply(x * 2) * x + cube.apply(cube.apply(x).sum())).sum()

    numbers = np.linspace(-1, 1, 7)
    ours, theirs = f64(*numbers), torch.tensor(numbers, requires_grad=True)
    a, b = loss(tinyml, Cube, ours), loss(torch, TorchCube, theirs)
    a.backward()
    b.backward()
    assert a.item() == pytest.approx(b.item(), rel=1e-12)
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (0,), (2, 0, 3), (2, 1, 3, 1, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shapes_and_dtypes(shape, dtype):
    x = tinyml.tensor(np.full(shape, 2.0), dtype=dtype, requires_grad=True)
    y = Cube.apply(x)
    assert (type(y), y.shape, y.dtype, y._op) == (tinyml.Tensor, shape, x.dtype, "function")
    y.sum().backward()
    assert x.grad.dtype == x.dtype
    assert np.array_equal(x.grad.numpy(), np.full(shape, 12.0))


def test_values():
    a, b = Value(2.0), Value(3.0)
    y = Weighted.apply(a, b, 4)
    assert type(y) is Value
    assert y.data == 24.0
    (y * y).backward()
    assert (a.grad, b.grad, y.grad) == (2 * 24 * 12.0, 2 * 24 * 8.0, 48.0)
    # An int counts as the float it stands for; with a Tensor beside it the result is one.
    assert type(make(None, lambda ctx, x: max(0, int(x))).apply(Value(-1.0))) is Value
    assert type(Weighted.apply(Value(1.0), tinyml.ones(()), 1)) is tinyml.Tensor
    assert type(Weighted.apply(Value(1.0), f64(1.0, 2.0), 1)) is tinyml.Tensor


def test_what_forward_and_backward_get():
    seen = []

    def forward(ctx, *args):
        seen.append((args, ctx.needs_input_grad, tinyml.is_grad_enabled()))
        return args[0] * 2

    def backward(ctx, dy):
        seen.append((dy, tinyml.is_grad_enabled()))
        return (dy * 2, *[None] * 5)

    x, labels, array = tinyml.ones(2, requires_grad=True), tinyml.tensor([1, 2]), np.zeros(3)
    made = make(backward, forward)
    made.apply(x, labels, Value(1.5), "text", array, None).sum().backward()
    (args, needs, grad_enabled), (dy, in_backward) = seen
    assert [type(arg) for arg in args] == [np.ndarray, np.ndarray, float, str, np.ndarray, type(None)]
    assert args[4] is array
    assert needs == (True, False, True, False, False, False)
    assert not grad_enabled
    assert not in_backward
    assert dy.tolist() == [1.0, 1.0]
    for lent in (args[0], args[1], dy):
        with pytest.raises(ValueError, match="read-only"):
            lent[0] = 7
    assert np.shares_memory(args[0], x.detach().numpy())
    with tinyml.no_grad():
        made.apply(x, labels, Value(1.5), "text", array, None)
    assert not any(seen[-1][1])


def test_python_numbers_take_the_dtype_of_the_arguments():
    numbers = make(None, lambda ctx, *args: 2.5)
    assert numbers.apply(f64(1.0)).dtype == tinyml.float64
    assert numbers.apply(tinyml.ones(2)).dtype == tinyml.float32
    assert numbers.apply(tinyml.tensor([1]), f64(1.0)).dtype == tinyml.float64
    assert numbers.apply("nothing").dtype == tinyml.float32
    assert make(None, lambda ctx, x: True).apply(f64(1.0)).dtype == tinyml.bool
    assert make(None, lambda ctx, x: np.float64(1)).apply(tinyml.ones(2)).dtype == tinyml.float64


def test_without_nodes():
    y = make(None, lambda ctx, n: np.arange(n)).apply(4)
    assert y.tolist() == [0, 1, 2, 3]
    assert y.is_leaf


def test_several_results():
    x, y = tinyml.tensor([3.0, -3.0], requires_grad=True), tinyml.tensor([4.0, -4.0], requires_grad=True)
    r, angle, quadrant = Polar.apply(x, y)
    assert [each.dtype for each in (r, angle, quadrant)] == [tinyml.float32, tinyml.float32, tinyml.int64]
    assert r.tolist() == [5.0, 5.0]
    assert quadrant.tolist() == [0, 3]
    assert not quadrant.requires_grad
    r.sum().backward()  # nothing flows to the angle: its gradient is zero
    np.testing.assert_allclose(x.grad.numpy(), [0.6, -0.6], rtol=1e-6)
    assert [type(each) for each in Polar.apply(Value(1.0), Value(1.0))] == [Value, Value, tinyml.Tensor]
    (one,) = make(lambda ctx, dy: dy, lambda ctx, x: (x,)).apply(x)
    one.sum().backward()
    pair = make(None, lambda ctx, x: (x.reshape(2, 1), x.sum())).apply(x)
    assert [each.shape for each in pair] == [(2, 1), ()]
    ints = make(None, lambda ctx: (np.array(2**60 + 1), np.arange(3))).apply()
    assert [each.tolist() for each in ints] == [2**60 + 1, [0, 1, 2]]
    with pytest.raises(ArgumentError, match=r"Made.forward: .*2\*\*53"):
        make(None, lambda ctx: (np.array(2**60 + 1), np.zeros(3))).apply()


def test_none_is_no_gradient():
    x, y = f64(1.0, 2.0), f64(3.0, 4.0)
    made = make(lambda ctx, dx: (None, dx), lambda ctx, x, y: x * y)
    (made.apply(x, y) + made.apply(x * 2, y)).sum().backward()
    assert x.grad is None
    assert y.grad.tolist() == [2.0, 2.0]


def test_one_node_twice_and_accumulation():
    x = f64(2.0)
    Weighted.apply(x, x, 1).sum().backward()
    assert x.grad.tolist() == [4.0]
    y = Cube.apply(x)
    for _ in range(2):
        y.sum().backward()
    assert x.grad.tolist() == [4.0 + 12.0 + 12.0]
    y = Cube.apply(x)
    y.retain_grad()
    (y * 5).sum().backward()
    assert y.grad.tolist() == [5.0]


def test_numbers_are_gradients_where_there_are_no_dimensions():
    x, v = tinyml.tensor(2.0, requires_grad=True), Value(3.0)
    made = make(lambda ctx, dy: (2, np.float64(0.5)), lambda ctx, x, v: x * v)
    made.apply(x, v).backward()
    assert (x.grad.item(), x.grad.dtype, v.grad) == (2.0, tinyml.float32, 0.5)


def test_gradients_may_be_of_any_layout():
    x = tinyml.zeros(2, 3, requires_grad=True)
    made = make(lambda ctx, dy: np.arange(6, dtype=np.float32).reshape(3, 2).T, lambda ctx, x: x.T)
    made.apply(x).sum().backward()
    assert x.grad.tolist() == [[0, 2, 4], [1, 3, 5]]
    y = make(lambda ctx, dy: dy, lambda ctx, x: np.broadcast_to(np.float32(1), (2, 3))).apply(x)
    assert y.tolist() == [[1, 1, 1], [1, 1, 1]]
    y.sum().backward()  # the gradient is what backward was lent


def test_deep_graphs():
    x = Value(1.0)
    y, total = x, 0
    for _ in range(20_000):
        y = make_step(y)
    y.backward()
    assert x.grad == 1.0
    del y, total
    assert not _function._applications


class Step(Function):
    @staticmethod
    def forward(ctx, x):
        return x + 1.0

    @staticmethod
    def backward(ctx, dy):
        return dy


def make_step(x):
    return Step.apply(x)


def test_tinyml_within():
    """As in activation checkpointing: forward without a graph, and again with one in backward."""
    w = f64(0.5, -0.5)

    def inner(x):
        return (x * w).tanh()

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return inner(tinyml.tensor(x)).detach().numpy()

    def backward(ctx, dy):
        with tinyml.enable_grad():
            x = tinyml.tensor(ctx.saved_tensors[0], requires_grad=True)
            inner(x).backward(tinyml.tensor(dy))
        return x.grad.numpy()

    x = f64(1.0, 2.0)
    inner(x).sum().backward()
    expected = x.grad.tolist(), w.grad.tolist()
    x.grad = w.grad = None
    make(backward, forward).apply(x).sum().backward()
    assert (x.grad.tolist(), w.grad.tolist()) == expected


# -- what is refused


@pytest.mark.parametrize(
    ("error", "message", "result"),
    [
        (ArgumentError, r"Made.backward: got 2 gradients, expected 3, one for each argument", lambda dy: (dy, dy)),
        (ArgumentError, r"Made.backward: got 4 gradients, expected 3", lambda dy: (dy, dy, None, None)),
        (ArgumentError, r"Made.backward: got 1 gradients, expected 3", lambda dy: dy),
        (ArgumentError, r"Made.backward: .*argument 2, a str, expected None", lambda dy: (dy, dy, dy)),
        (ShapeError, r"Made.backward: .*argument 1 has shape \(3,\), .*, \(2,\)", lambda dy: (dy, np.zeros(3), None)),
        (ShapeError, r"Made.backward: .*argument 0 has shape \(\), .*, \(2,\)", lambda dy: (1.0, dy, None)),
        (DTypeError, r"Made.backward: .*argument 1 is float32, .*float64", lambda dy: (dy, dy.astype("f"), None)),
        (DTypeError, r"Made.backward: .*argument 0 is int64, .*float64", lambda dy: (dy.astype(int), dy, None)),
        (DTypeError, r"Made.backward: .*argument 0 is a Tensor, expected", lambda dy: (tinyml.ones(2), dy, None)),
        (DTypeError, r"Made.backward: .*argument 0 is a list, expected", lambda dy: ([1.0, 1.0], dy, None)),
    ],
)
def test_gradients_that_do_not_fit(error, message, result):
    x, y = f64(1.0, 2.0), f64(3.0, 4.0)
    made = make(lambda ctx, dy: result(dy), lambda ctx, x, y, text: x * y)
    with pytest.raises(error, match=message):
        made.apply(x, y, "text").sum().backward()
    assert x.grad is None  # of no argument, however many fit
    assert y.grad is None


@pytest.mark.parametrize("result", [None, "text", [1.0], {}, (), (1.0, None), tinyml.ones(2), 1j, np.array("a")])
def test_results_that_are_no_numbers(result):
    with pytest.raises((DTypeError, ArgumentError), match=r"Made.forward: got"):
        make(None, lambda ctx, x: result).apply(f64(1.0))
    assert not _function._applications


def test_too_many_dimensions():
    with pytest.raises(ShapeError, match="17 dimensions"):
        make(None, lambda ctx, x: np.zeros((1,) * 17)).apply(f64(1.0))
    assert not _function._applications


def test_undefined_methods():
    with pytest.raises(NotImplementedError, match="static method"):
        Function.apply(f64(1.0))
    y = type("Half", (Function,), {"forward": staticmethod(lambda ctx, x: x)}).apply(f64(1.0))
    with pytest.raises(NotImplementedError, match="backward"):
        y.sum().backward()


class OwnError(Exception):
    pass


def fails(ctx, *_):
    raise OwnError("of mine")


@pytest.mark.parametrize("interrupt", [OwnError, KeyboardInterrupt])
def test_exceptions_come_out_as_they_are(interrupt):
    def backward(ctx, dy):
        raise interrupt("of mine")

    gc.collect()
    before = tinyml.live_nodes()
    x = f64(1.0, 2.0)
    y = make(backward).apply(x)
    loss = (y * 3 + Cube.apply(x)).sum()
    for _ in range(2):
        with pytest.raises(interrupt, match="of mine") as caught:
            loss.backward()
        assert "in backward" in "".join(traceback.format_tb(caught.value.__traceback__))
        assert caught.value.__context__ is None
    with pytest.raises(OwnError, match="of mine"):
        make(None, fails).apply(x)
    del caught
    # The engine works on: the marks of the sort, and the locks on leaves, are as they were.
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]
    del loss, x, y
    gc.collect()
    assert tinyml.live_nodes() <= before  # garbage of others may go as well
    assert not _function._applications


def test_a_failed_sweep_changes_no_gradient():
    x, y, unused = f64(1.0), f64(2.0), f64(3.0)
    x.grad = tinyml.tensor([5.0], dtype="float64")
    loss = (make(fails).apply(x * y) + x * y + y + Cube.apply(unused)).sum()
    with pytest.raises(OwnError):
        loss.backward()
    assert x.grad.tolist() == [5.0]
    assert y.grad is None
    assert unused.grad is None


# -- lifetimes


def test_the_context_goes_with_the_node():
    contexts = []

    def forward(ctx, x):
        contexts.append(weakref.ref(ctx))
        ctx.save_for_backward(x)
        return x * 2

    made = make(lambda ctx, dy: dy * 2, forward)
    x = f64(1.0, 2.0)
    y = made.apply(x)
    z = y.sum()
    del y
    z.backward()
    assert contexts[0]() is not None
    del z
    assert contexts[0]() is None
    with tinyml.no_grad():
        alive = made.apply(x)
    assert not alive.requires_grad
    assert contexts[1]() is None  # nobody will ask for its gradient
    kept = made.apply(x).detach()
    assert kept.tolist() == [2.0, 4.0]
    assert contexts[2]() is None


def test_nothing_leaks():
    def run():
        x = f64(1.0, 2.0)
        r, _, _ = Polar.apply(Cube.apply(x), x)
        (r * 2).sum().backward()
        Weighted.apply(Value(1.0), Value(2.0), 3).backward()

    run()
    gc.collect()
    before = tinyml.live_nodes()
    for _ in range(10):
        run()
    assert tinyml.live_nodes() == before
    assert not _function._applications


def test_chains_of_contexts_go_without_recursion():
    """A context that holds a graph, whose context holds a graph, and so on."""

    def forward(ctx, x, before):
        ctx.before = before
        return x * 1.0

    made, y = make(lambda ctx, dy: (dy, None), forward), Value(1.0)
    holder = [y]
    for _ in range(20_000):
        y = made.apply(Value(1.0), holder)
        holder = [y]
    del y, holder
    assert not _function._applications


def test_the_node_goes_within_the_collector():
    y = Cube.apply(f64(1.0))
    cycle = [y]
    cycle.append(cycle)
    del y, cycle
    gc.collect()
    assert not _function._applications


@pytest.mark.parametrize(
    "how", ["", "import os; os._exit(0)", "raise SystemExit(0)", "threading.Thread(target=work).start()"]
)
def test_at_exit(how):
    program = f"""
import threading, tinyml
class Twice(tinyml.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.kept = kept
        return x * 2
    @staticmethod
    def backward(ctx, dy):
        return dy * 2
kept = []
x = tinyml.ones(2, requires_grad=True)
y = Twice.apply(x)
kept.append(y)
step = tinyml.compile(lambda x: Twice.apply(x).sum())
step(tinyml.ones(3)), step(tinyml.ones(3))
def work():
    for _ in range(300):
        Twice.apply(x).sum().backward()
threading.Thread(target=lambda: [work() for _ in range(10**6)], daemon=True).start()
{how}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# -- threads


def test_threads():
    shared, errors = f64(1.0, 2.0), []

    def work():
        try:
            for _ in range(100):
                (Cube.apply(shared) * 2).sum().backward()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert shared.grad.tolist() == [4 * 100 * 6.0, 4 * 100 * 24.0]
    assert not _function._applications


def test_a_backward_may_wait_for_another_thread():
    """Which adds to the same leaf: nobody holds it meanwhile."""
    x = f64(1.0)

    def backward(ctx, dy):
        other = threading.Thread(target=lambda: (x * 3).sum().backward())
        other.start()
        other.join(timeout=30)
        assert not other.is_alive()
        return dy

    make(backward, lambda ctx, x: x * 1).apply(x).sum().backward()
    assert x.grad.tolist() == [4.0]


def test_nodes_released_by_another_thread():
    nodes = [Cube.apply(f64(float(i))) for i in range(100)]
    thread = threading.Thread(target=nodes.clear)
    thread.start()
    thread.join()
    assert not _function._applications


# -- recorded


def training(function, compiled, **options):
    """Losses and weights of a few steps."""
    w = tinyml.tensor([0.5, -0.3, 0.2], requires_grad=True)
    optimizer = tinyml.optim.SGD([w], lr=0.1, momentum=0.9)

    def step(x):
        loss = (function(w * x) * x).sum() + function(w).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    if compiled:
        step = tinyml.compile(step, **options)
    xs = np.random.default_rng(0).standard_normal((6, 3)).astype("f")
    return [step(tinyml.tensor(x)).item() for x in xs], w.tolist()


@pytest.mark.parametrize("passes", [tinyml.program.PASSES, ()])
def test_replays_have_the_bits_of_eager_runs(passes):
    def polar(x):
        r, angle, _ = Polar.apply(x, x * x)
        return r * angle.exp()

    for function in (Cube.apply, polar, lambda x: Weighted.apply(x, x.tanh(), 2) * x):
        assert training(function, True, passes=passes, strict=True) == training(function, False)


def test_values_are_recorded_too():
    def run(compiled):
        a, b = Value(0.5), Value(-0.3)
        optimizer = tinyml.optim.SGD([a, b], lr=0.1)

        def step(x):
            y = Cube.apply(a * x + b).tanh()
            loss = Weighted.apply(y, a, 2) * y + Polar.apply(y + 1, b)[1]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        if compiled:
            step = tinyml.compile(step, strict=True)
        return [step(Value(x)).data for x in (1.0, -0.5, 0.25, 2.0)], a.data, b.data

    assert run(True) == run(False)


def test_a_function_is_called_in_each_replay():
    calls = []

    def forward(ctx, x, tag):
        calls.append((tag, x.tolist()))
        return x + len(calls)

    made = make(lambda ctx, dy: (dy, None), forward)
    # Two calls on the same data stay two, and what they draw is drawn again.
    step = tinyml.compile(lambda x: made.apply(x, "a") * made.apply(x, "b"), strict=True)
    results = [step(tinyml.tensor([float(i)])).item() for i in range(3)]
    assert calls == [(tag, [float(i)]) for i in range(3) for tag in "ab"]
    assert results == [1 * 2, 4 * 5, 7 * 8]
    assert step.repeat(2, tinyml.tensor([0.0])).tolist() == [[7.0 * 8], [9.0 * 10]]


def test_without_nodes_it_is_called_in_each_replay_too():
    counter = iter(range(100))
    count = make(None, lambda ctx: next(counter))
    step = tinyml.compile(lambda x: x + count.apply(), strict=True)
    assert [step(tinyml.ones(1)).item() for _ in range(3)] == [1.0, 2.0, 3.0]


def test_tinyml_within_a_recording_is_not_recorded():
    inner = tinyml.compile(lambda x: x * 2)

    def forward(ctx, x):
        y = tinyml.tensor(x) + tinyml.rand(1) * 0  # strict mode would refuse a draw that is frozen
        return inner(y).numpy() * y.sum().item()

    step = tinyml.compile(lambda x: make(lambda ctx, dy: dy, forward).apply(x), strict=True)
    assert [step(tinyml.full((2,), i)).tolist() for i in range(3)] == [[0.0, 0.0], [4.0, 4.0], [16.0, 16.0]]
    assert "rand" not in str(step.program)
    assert len(step.program) == 1


def test_exceptions_in_replays():
    def forward(ctx, x):
        if x[0] > 1:
            raise OwnError("too large")
        return x * 2

    step = tinyml.compile(lambda x: make(None, forward).apply(x).sum())
    step(tinyml.ones(2)), step(tinyml.ones(2))
    with pytest.raises(OwnError, match="too large"):
        step(tinyml.full((2,), 2.0))
    assert step(tinyml.ones(2)).item() == 4.0
    with pytest.raises(OwnError, match="too large"):
        step.over(np.array([[1.0], [1.0], [2.0], [1.0]], "f"), progress=False)
    assert len(step.programs) == 2


def test_what_a_replay_cannot_do():
    sizes = iter([2, 2, 3])
    step = tinyml.compile(lambda x: make(None, lambda ctx, x: np.zeros(next(sizes))).apply(x))
    step(tinyml.ones(1)), step(tinyml.ones(1))
    with pytest.raises(ShapeError, match=r"Made.forward: got float64 \(3,\) in a replay, expected float64 \(2,\)"):
        step(tinyml.ones(1))

    some = iter([True, True, False])
    w = tinyml.ones(1, requires_grad=True)
    made = make(lambda ctx, dy: dy if next(some) else None)

    @tinyml.compile
    def sweep():
        loss = made.apply(w).sum()
        loss.backward()
        return loss

    sweep(), sweep()
    with pytest.raises(GraphError, match=r"Made.backward: in a replay other arguments get None"):
        sweep()


def test_a_recording_keeps_what_its_nodes_stand_for():
    step = tinyml.compile(lambda x: Cube.apply(x).sum())
    step(tinyml.ones(2))
    assert len(_function._applications) == 1
    step(tinyml.ones(2))
    del step
    gc.collect()
    assert not _function._applications


def test_a_program_of_another_thread_is_left_alone():
    """A Function that is applied while another thread records is no part of that recording."""
    recording, done, calls = threading.Event(), threading.Event(), []

    def step(x):
        y = x * 2
        recording.set()
        assert done.wait(30)
        return y + 1

    def work():
        assert recording.wait(30)
        calls.append(Cube.apply(tinyml.ones(1)).item())
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    compiled = tinyml.compile(step, strict=True)
    assert [compiled(tinyml.full((1,), i)).item() for i in range(2)] == [1.0, 3.0]
    thread.join()
    assert calls == [1.0]
    assert len(compiled.program) < 3


def test_func_and_optimizers():
    x = f64(1.0, 2.0)
    assert tinyml.func.grad(lambda x: Cube.apply(x).sum())(x).tolist() == [3.0, 12.0]


def test_the_callback_fails_after_exit_has_begun():
    """In a process of its own, which forgets Python as atexit does."""
    program = """
import tinyml
from tinyml import _core
from tinyml._engine import ffi, lib
class Twice(tinyml.Function):
    forward = staticmethod(lambda ctx, x: x * 2)
    backward = staticmethod(lambda ctx, dy: dy * 2)
y = Twice.apply(tinyml.ones(2, requires_grad=True))
lib.tm_set_callback(ffi.NULL)
for call in (y.sum().backward, lambda: Twice.apply(tinyml.ones(2))):
    try:
        call()
    except tinyml.errors.GraphError as error:
        print(error)
del y
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("function: Python is shutting down\n" * 2, "")
