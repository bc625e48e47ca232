"""Graphs as a whole: long, wide, many times, in several threads and processes, interrupted, at exit."""

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from tools import in_threads

import tinyml
from tinyml import Value

LONG = 3_000_000


def run(code, *, returncode=0):
    """Runs a script in a process of its own, which must end quietly; what it printed."""
    prelude = "import gc, os, signal, sys, threading, time\nimport numpy as np, tinyml\n"
    prelude += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background starts without
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", prelude + code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stderr) == (returncode, "")
    return result.stdout


@pytest.fixture(autouse=True)
def _nothing_is_left_behind():
    gc.collect()
    before = tinyml.live_nodes()
    yield
    if tinyml.live_nodes() > before:  # what stands in cycles, such as those of threads
        gc.collect()
    assert tinyml.live_nodes() == before


# -- Shapes of graphs


def test_a_chain_of_millions():
    before = tinyml.live_nodes()
    x = y = Value(1.0)
    for _ in range(LONG // 2):
        y = -(y * 1.0)
    assert tinyml.live_nodes() - before == LONG + LONG // 2 + 1  # with the constants
    y.backward()
    assert x.grad == (-1) ** (LONG // 2)
    y.backward()
    assert x.grad == 2 * (-1) ** (LONG // 2)
    del y
    assert tinyml.live_nodes() - before == 1


def test_a_diamond_of_many_floors():
    """2^60 paths: each node is visited once, not each path."""
    x = Value(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad == 2.0**60
    t = tinyml.ones(3, requires_grad=True)
    y = t
    for _ in range(20):
        a, b = y * 0.5, y * 1.5
        y = a + b
    y.sum().backward()
    assert t.grad.tolist() == [2.0**20] * 3


def test_a_deep_graph_beside_a_wide_one():
    x = Value(0.5)
    layer = [x * i for i in range(200)]
    for _ in range(20):
        layer = [tinyml.sum(layer) * 1e-3 + v for v in layer]
    y = tinyml.sum(layer)
    y.backward()
    assert x.grad == pytest.approx(y.data / 0.5, rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 100_000])
def test_one_node_used_many_times(n):
    x = Value(3.0)
    y = x * 2
    tinyml.sum([y] * n).backward()
    assert (y.grad, x.grad) == (n, 2 * n)
    t = tinyml.tensor([1.0, 2.0], requires_grad=True)
    u = t * 2
    tinyml.stack([u] * n).sum().backward()
    assert t.grad.tolist() == [2 * n] * 2


def test_very_wide_nodes():
    n = 10_000
    values = [Value(i) for i in range(n)]
    t = tinyml.stack(values)
    (t * t).sum().backward()
    assert [v.grad for v in values] == [2 * i for i in range(n)]
    tensors = [tinyml.ones(1, 2, requires_grad=True) for _ in range(n)]
    weight = tinyml.arange(2 * n, dtype="float64").reshape(n, 2)
    (tinyml.cat(tensors) * weight).sum().backward()
    assert [x.grad.tolist() for x in tensors] == [[[2 * i, 2 * i + 1]] for i in range(n)]


def test_a_leaf_alone():
    v = Value(2.0)
    v.backward()
    v.backward()
    assert v.grad == 2
    t = tinyml.ones(2, requires_grad=True)
    t.backward(tinyml.tensor([1.0, 2.0]))
    t.backward([3.0, 4.0])
    assert t.grad.tolist() == [4, 6]


def test_leaves_accumulate_and_results_start_from_zero():
    x = tinyml.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    y.retain_grad()
    z = y * y
    for times in (1, 2, 3):
        z.sum().backward()
        assert y.grad.tolist() == [6, 12]
        assert x.grad.tolist() == [18 * times, 36 * times]
    # A result that another root does not reach keeps what it had.
    y.sum().backward()
    assert y.grad.tolist() == [1, 1]


def test_two_roots_over_one_graph():
    x = Value(2.0)
    shared = x * x
    a, b = shared * 3, shared.exp()
    a.backward()
    assert (x.grad, shared.grad) == (12, 3)
    b.backward()
    assert shared.grad == pytest.approx(np.exp(4))
    assert x.grad == pytest.approx(12 + 4 * np.exp(4))


def test_requires_grad_switched_off_after_the_graph_was_built():
    a, b = Value(2.0), Value(3.0)
    y = a * b
    a.requires_grad = False
    y.backward()
    assert (a.grad, b.grad) == (0, 2)


def test_a_graph_holds_what_it_needs_and_no_more():
    before = tinyml.live_nodes()
    x = tinyml.ones(2, requires_grad=True)
    y = (x * 2).exp().sum()
    assert tinyml.live_nodes() - before == 5  # with the 2
    with tinyml.no_grad():
        z = (x * 2).exp().sum()
    assert tinyml.live_nodes() - before == 6
    del x
    assert tinyml.live_nodes() - before == 6
    del y
    assert tinyml.live_nodes() - before == 1
    del z


TRAINING = {
    "scalars": """
net = nn.MLP(3, [4, 4, 1], activation="tanh")
optimizer = optim.SGD(net.parameters(), lr=0.01)
def step():
    loss = (net([0.5, -1.0, 2.0]) - 1) ** 2
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
    "tensors": """
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = optim.Adam(net.parameters())
x, labels = tinyml.randn(5, 8), tinyml.randint(0, 4, (5,))
def step():
    loss = nn.functional.cross_entropy(net(x)[:, [0, 1, 2, 3]], labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
    "mixed": """
w, t = tinyml.Value(0.5), tinyml.randn(3, 3, requires_grad=True)
def step():
    w.grad, t.grad = 0.0, None
    y = tinyml.stack([w * 2, t[0, 1], w]) @ t.T
    (y * w).sum().backward()
    t.data -= t.grad * 0.01
""",
}


@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.skipif("TINYML_SANITIZED" in os.environ, reason="a sanitizer keeps freed memory to watch it")
def test_memory_stays_flat_while_training(name):
    grown, nodes = map(int, run(f"""
from tinyml import nn, optim
{TRAINING[name]}
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
for _ in range(500): step()
before, nodes = resident(), tinyml.live_nodes()
for _ in range(10_000): step()
print(resident() - before, tinyml.live_nodes() - nodes)
""").split())  # fmt: skip
    assert grown < 512 * 1024
    assert nodes == 0


# -- Threads


def chain(leaf, n):
    y = leaf
    for _ in range(n):
        y = y * 2 - y
    return y


def test_each_thread_has_its_own_graph():
    def work(i):
        x = Value(float(i))
        t = tinyml.full((50,), i, dtype="float64", requires_grad=True)
        for _ in range(20):
            chain(x, 300).backward()
            (chain(t, 30) * i).sum().backward()
        return x.grad, set(t.grad.tolist())

    assert in_threads(6, work) == [(20, {20.0 * i}) for i in range(6)]


def test_threads_over_the_same_leaves():
    """Integers in float64 add up exactly in any order: an update that got lost would show."""
    v, w = Value(1.0), Value(2.0)
    t = tinyml.ones(64, dtype="float64", requires_grad=True)
    threads, rounds = 6, 60

    def work(i):
        for _ in range(rounds):
            tinyml.sum([v, w, v, v * i, w * v]).backward()
            (t * v + t * i + t[None, :5].sum()).sum().backward()

    in_threads(threads, work)
    s = sum(range(threads))
    assert v.grad == rounds * (threads * (2 + 2) + s + threads * 64)
    assert w.grad == rounds * threads * 2
    expected = np.full(64, rounds * (threads + s))
    expected[:5] += rounds * threads * 64
    assert t.grad.tolist() == expected.tolist()


def test_sweeps_of_graphs_built_elsewhere_over_the_same_leaves():
    v = Value(1.0)
    t = tinyml.ones(1000, dtype="float64", requires_grad=True)
    roots = [(tinyml.stack([v * i, v]).sum() * t).sum() + t.sum() for i in range(8)]
    in_threads(8, lambda i: [roots[i].backward() for _ in range(50)])
    assert v.grad == 50 * sum(1000 * (i + 1) for i in range(8))
    assert t.grad.tolist() == [50 * sum(i + 2 for i in range(8))] * 1000


def test_built_in_one_thread_released_in_another():
    before = tinyml.live_nodes()
    shared = tinyml.ones(100, requires_grad=True)
    graphs = in_threads(4, lambda i: [chain(Value(i), 1000), chain(shared, 1000).sum()])
    assert tinyml.live_nodes() - before > 4 * 4000
    in_threads(4, lambda i: graphs[i].clear())
    assert tinyml.live_nodes() - before == 1
    for _ in range(30):  # what ended threads leave behind is used again
        in_threads(2, lambda i: chain(Value(i), 1000).backward())


def test_no_grad_holds_for_its_thread_only():
    @tinyml.no_grad()
    def frozen(meet):
        meet.wait()
        return (Value(1.0) * 2).requires_grad

    def work(i, meet=threading.Barrier(4)):  # noqa: B008
        if i % 2:
            with tinyml.no_grad():
                result = frozen(meet)
                return result, (Value(1.0) * 2).requires_grad, tinyml.is_grad_enabled()
        return frozen(meet), (Value(1.0) * 2).requires_grad, tinyml.is_grad_enabled()

    for _ in range(10):
        assert in_threads(4, work) == [(False, i % 2 == 0, i % 2 == 0) for i in range(4)]
    assert tinyml.is_grad_enabled()


def test_large_products_from_several_threads():
    a = np.arange(300 * 300).reshape(300, 300) % 7
    x = tinyml.tensor(a.astype(np.float64), requires_grad=True)
    expected = (a @ a).tolist()
    results = in_threads(4, lambda _: [(x @ x).tolist() for _ in range(3)])
    assert all(r == expected for result in results for r in result)


# -- Processes


GRAPH = """
x = tinyml.Value(2.0)
y = x
for _ in range(10_000): y = y * 1.0001 + x
t = tinyml.ones(300, 300, requires_grad=True)
u = (t @ t).tanh().sum()
u.backward()
"""
EXITS = {
    "globals": GRAPH,
    "cycle": GRAPH + "class C: pass\nc = C(); c.self = c; c.y = y; c.u = u; del y, u",
    "thread": f"def work():\n    exec({GRAPH!r}, globals())\nt = threading.Thread(target=work)\nt.start()",
    "daemon": f"""
ready = threading.Event()
def work():
    exec({GRAPH!r}, {{'tinyml': tinyml}})
    ready.set()
    v = tinyml.Value(1.0)
    while True: v = v * 1.0; v.backward()
threading.Thread(target=work, daemon=True).start()
ready.wait()
""",
    "thread local": f"local = threading.local()\n{GRAPH}\ndef work(): local.y = y * 2\n"
    "t = threading.Thread(target=work); t.start(); t.join()",
    "atexit": f"import atexit\n{GRAPH}\n@atexit.register\ndef last():\n    (y * u).backward()\n    print(x.grad > 0)",
    "builtins": GRAPH + "import builtins; builtins.kept = [y, u]; sys.modules['kept'] = u",
    "array": GRAPH + "a = t.grad.numpy(); b = u.detach().numpy(); del t, u",
}


@pytest.mark.parametrize("name", EXITS)
def test_exit_with_live_graphs(name):
    run(EXITS[name])


def test_exit_in_the_middle():
    run(GRAPH + "sys.exit(3)", returncode=3)
    run(GRAPH + "os._exit(4)", returncode=4)


# Presses Ctrl-C once `go` is set, and again if the interrupt fell into a finalizer, where Python drops exceptions.
INTERRUPT = """
before = tinyml.live_nodes()
go, dropped = threading.Event(), threading.Event()
sys.unraisablehook = lambda ignored: dropped.set()
def press():
    go.wait()
    while True:
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        dropped.wait()
        dropped.clear()
threading.Thread(target=press, daemon=True).start()
def use():
    before = tinyml.live_nodes()
    a, b = tinyml.Value(2.0), tinyml.Value(3.0)
    (a * b + a).backward()
    t = tinyml.ones(200, 200, requires_grad=True)
    (t @ t).sum().backward()
    assert (a.grad, b.grad, t.grad.sum().item()) == (4, 2, 16e6)
    del a, b, t
    assert tinyml.live_nodes() == before
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_interrupt_in_a_long_sweep():
    run(f"""{INTERRUPT}
x = y = tinyml.Value(1.0)
for _ in range(500_000): y = y * 1.0
try:
    go.set()
    while True: y.backward()
except KeyboardInterrupt:
    pass
x.grad = 0.0
y.backward()  # no mark was left behind
assert x.grad == 1
use()
del y
assert tinyml.live_nodes() - before == 1
""")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_interrupt_in_a_long_build():
    """The call that the interrupt falls into may lose its result, and with it the chain: no other graph suffers."""
    run(f"""{INTERRUPT}
x = y = tinyml.Value(1.0)
try:
    go.set()
    for _ in range(10_000_000): y = y * 1.0
except KeyboardInterrupt:
    pass
else:
    sys.exit("not interrupted")
y.backward()
assert x.grad == 1
use()
""")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")
def test_fork_after_the_threads_were_used():
    out = run("""
import warnings, multiprocessing
warnings.simplefilter("ignore")
tinyml.set_num_threads(3)
a = tinyml.tensor(np.arange(90_000.0).reshape(300, 300) % 5, dtype="float64", requires_grad=True)
expected = (a @ a).tolist()
graph = (a @ a).sum()
def child(i):
    assert (a @ a).tolist() == expected
    graph.backward()
    (tinyml.Value(2.0) * 3).backward()
    assert a.grad.sum().item() > 0
    if i: # and once more, from the child
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(square, [1.0, 2.0]) == [1.0, 4.0]
def square(x):
    return (tinyml.Value(x) ** 2).data
context = multiprocessing.get_context("fork")
children = [context.Process(target=child, args=(i,)) for i in (0, 0, 1)]
for process in children: process.start()
assert (a @ a).tolist() == expected
for process in children: process.join()
print([process.exitcode for process in children])
assert a.grad is None
""")
    assert out == "[0, 0, 0]\n"


@pytest.mark.skipif("TINYML_SANITIZED" in os.environ, reason="a sanitizer's own locks do not survive such a fork")
def test_fork_while_other_threads_work():
    out = run("""
import warnings
warnings.simplefilter("ignore")
stop = threading.Event()
def work():
    while not stop.is_set():
        v = tinyml.Value(1.0)
        for _ in range(100): v = v * 1.0
        v.backward()
        m = tinyml.ones(200, 200); m @ m
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
codes = []
for _ in range(20):
    pid = os.fork()
    if not pid:
        v = tinyml.Value(3.0)
        (v * v).backward()
        m = tinyml.ones(200, 200)
        assert (m @ m).sum().item() == 8e6
        os._exit(0 if v.grad == 6 else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
stop.set()
for thread in threads: thread.join()
print(set(codes))
""")
    assert out == "{0}\n"
