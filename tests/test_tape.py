"""Tapes: what they compute is what the steps compute one by one, to the last bit."""

import math
import os
import random
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import tinyml
from tinyml import Value, _core, nn, optim
from tinyml.functions import dot, where

BITS = 1e-300, -0.0, 0.0, 0.5, 1.0, -1.0, 2.0, -3.0, 0.7, 19.5, 750.0, -750.0, math.inf, -math.inf, math.nan


def bits(number):
    """As written in memory; all nans are one."""
    return struct.pack("<d", math.nan if number != number else number)


def same(make, *, calls=3, passes=("tape",)):
    """Calls make()[0] as it is and compiled, and compares results, and data and gradients of the nodes in make()[1]."""
    seen, programs = [], []
    for compiled in (False, True):
        function, nodes = make()
        if compiled:
            function = tinyml.compile(function, passes=passes)
        rows = []
        for _ in range(calls):
            results = function()
            rows.append([bits(float(x)) for x in (results if isinstance(results, tuple) else (results,))])
            rows[-1] += [bits(float(x)) for x in nodes] + [bits(float(x.grad)) for x in nodes]
        seen.append(rows)
        if compiled:
            programs.append(function.program)
    assert seen[0] == seen[1]
    return repr(programs[0])


def op(name, *attributes):
    """What has no method."""
    row = _core.op(name)

    def apply(*operands):
        nodes = [x if isinstance(x, Value) else Value(x) for x in operands]
        return Value._wrap(_core.apply(row, [x._ref for x in nodes], attributes))

    return apply


UNARY = {
    "neg": lambda x: -x,
    "abs": abs,
    "exp": lambda x: x.exp(),
    "log": lambda x: x.log(),
    "sqrt": lambda x: x.sqrt(),
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: x.sigmoid(),
    "erf": lambda x: x.erf(),
    "relu": lambda x: x.relu(),
    "leaky_relu": lambda x: x.leaky_relu(0.1),
    "clamp": lambda x: x.clamp(-0.5, 0.7),
    "silu": lambda x: x.silu(),
    "gelu": lambda x: x.gelu(),
    "gelu tanh": lambda x: x.gelu("tanh"),
    "logsigmoid": lambda x: x.logsigmoid(),
    "elu": lambda x: x.elu(0.6),
    "softplus": lambda x: x.softplus(1.5, 10.0),
    "hardtanh": op("hardtanh", -0.5, 0.7),
    "huber": op("huber", 0.4),
}
BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "maximum": lambda a, b: a.maximum(b),
    "minimum": lambda a, b: a.minimum(b),
    "prelu": op("prelu"),
    "bce": op("bce"),
    "bce with logits": op("bce_with_logits"),
    "kl_div": op("kl_div"),
}


def points(rng):
    return [*BITS, *(rng.uniform(-2, 2) for _ in range(15))]


@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    def make():
        xs = [Value(x) for x in points(random.Random(name))]

        def step():
            ys = [UNARY[name](x) for x in xs]
            for y in ys:
                (y * 0.37).backward()
            return tuple(ys)

        return step, xs

    assert "tape" in same(make)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("constant", ["", "a", "b", "both are one"])
def test_binary(name, constant):
    def make():
        rng = random.Random(name)
        xs = [Value(x) for x in points(rng)]
        pairs = [(a, rng.choice(xs)) for a in xs for _ in range(4)]
        if constant == "a":
            pairs = [(a.data, b) for a, b in pairs]
        elif constant == "b":
            pairs = [(a, b.data) for a, b in pairs]
        elif constant:
            pairs = [(a, a) for a, _ in pairs]

        def step():
            with_numbers = [(Value(a) if isinstance(a, float) else a, b) for a, b in pairs]
            ys = [BINARY[name](a, b) for a, b in with_numbers]
            for y in ys:
                (y * 0.37).backward()
            return tuple(ys)

        return step, xs

    assert "tape" in same(make)


def graph(rng, leaves, n, *, wild=False):
    """A random expression of n results, the last of which depends on many; `wild` brings infinities and nans."""
    tame = {k: v for k, v in UNARY.items() if wild or k not in ("exp", "log", "sqrt")}
    binary = {k: v for k, v in BINARY.items() if wild or k not in ("div", "pow", "bce", "kl_div")}
    nodes = list(leaves)
    for _ in range(n):
        kind = rng.random()
        a, b = rng.choice(nodes[-20:]), rng.choice(nodes)
        if kind < 0.4:
            y = rng.choice(list(tame.values()))(a)
        elif kind < 0.8:
            y = rng.choice(list(binary.values()))(a, b)
        elif kind < 0.9:
            k = rng.randrange(0, 20)
            activation = rng.choice(["linear", "relu", "tanh", "sigmoid", "leaky_relu"])
            w = rng.choice([leaves[:k], [rng.choice(nodes) for _ in range(k)]])
            x = rng.choice([(nodes * 20)[-len(w) :] if w else [], [rng.choice(nodes) for _ in w], w])
            y = dot(w, x, rng.choice([None, a]) if w else a, activation)
        elif kind < 0.95:
            y = tinyml.sum([rng.choice(nodes) for _ in range(rng.randrange(1, 40))])
        else:
            y = a * rng.choice([0.0, -0.0, 2.0, -1.5])
        nodes.append(y if wild else y.clamp(-3.0, 3.0))
    return sum(nodes[-10:])


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed):
    def make():
        rng = random.Random(seed)
        leaves = [Value(rng.uniform(-2, 2)) for _ in range(rng.randrange(1, 30))]
        wild, clears, twice = seed % 3 == 0, seed % 2, seed % 5 == 0
        optimizer = rng.choice(
            [
                lambda ps: optim.SGD(ps, lr=0.01),
                lambda ps: optim.SGD(ps, lr=0.01, weight_decay=0.1, maximize=True),
                lambda ps: optim.SGD(ps, lr=0.01, momentum=0.9, nesterov=True),
                lambda ps: optim.Adam(ps, lr=0.01),
                lambda ps: optim.AdamW(ps, lr=0.01),
                lambda ps: optim.Adam(ps, lr=0.01, amsgrad=True),
                lambda ps: optim.RMSprop(ps, lr=0.01, weight_decay=0.1),
                lambda ps: optim.RMSprop(ps, lr=0.01, momentum=0.5, centered=True),
                lambda ps: optim.Adagrad(ps, lr=0.01, lr_decay=0.1, initial_accumulator_value=0.1),
            ]
        )(leaves)
        state = rng.getstate()

        def step():
            rng.setstate(state)
            y = graph(rng, leaves, 60, wild=wild)
            if clears:
                optimizer.zero_grad()
            y.backward()
            if twice:
                (y * y).backward()
            optimizer.step()
            return y

        return step, leaves

    listing = same(make, calls=4)
    assert "tape" in listing
    assert seed % 2 == 0 or "\n   1" not in listing  # all of it is one tape


def test_gradients_read_and_written():
    def make():
        a, b = Value(2.0), Value(-3.0)

        def step():
            c = a * b
            d = c.tanh() + c
            d.backward()
            e = (c * d).exp()
            e.backward()
            f = a * 2
            a.grad = 0.25
            (f * f).backward()
            return c, d, e, f

        return step, [a, b]

    same(make)


def test_gradients_as_tensors():
    """Tensors of no dimension are scalars, too."""

    def make():
        a, b = (tinyml.tensor(x, dtype=tinyml.float64, requires_grad=True) for x in (2.0, -3.0))

        def step():
            c = (a * b).tanh() + a
            c.backward()
            b.grad = a.grad * 2 + b.grad
            d = c * b.grad + a.grad
            a.grad = None
            d.backward(d.detach() * -0.0)
            e = a.grad + b.grad
            (e * a).backward()
            return c, d, e

        return step, [a, b]

    assert "read" in same(make)


def test_a_leaf_of_its_own_is_an_output():
    def make():
        a = Value(2.0)

        def step():
            b = Value(3.0)
            (a * b).backward()
            return b, a

        return step, [a]

    same(make)


def test_an_optimizer_counts_for_each_parameter():
    def make():
        a, b, c = Value(1.0), Value(2.0), Value(3.0)
        optimizer = optim.Adam([a, b, c], lr=0.1)
        (b * b).backward()
        optimizer.step()

        def step():
            optimizer.zero_grad()
            (a * b + c * c * a).backward()
            optimizer.step()

        def twice():
            step()
            return a * 1

        return twice, [a, b, c]

    same(make, calls=5)


def test_a_parameter_without_a_gradient_stays():
    def make():
        a, b, c = Value(1.0), Value(2.0), Value(3.0)
        optimizer = optim.SGD([a, b, c], lr=0.1)

        def step():
            optimizer.zero_grad()
            y = a * a + c * a
            y.backward()
            optimizer.step()
            return y

        return step, [a, b, c]

    same(make)


def test_beside_tensors():
    def make():
        a, b = Value(0.5), Value(-1.5)
        optimizer = optim.SGD([a, b], lr=0.1)
        x = tinyml.tensor([1.0, 2.0, 3.0], dtype=tinyml.float64)

        def step():
            s = (a * b + a).tanh() * b + a * a
            t = (x * s + b).sum() * a
            u = (t.tanh() + t * b) * where(t > 0, a, b) + a
            optimizer.zero_grad()
            u.backward()
            optimizer.step()
            return s, u

        return step, [a, b]

    assert same(make, calls=4).count("tape ") > 1


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "leaky_relu"])
def test_networks(activation):
    def make():
        tinyml.manual_seed(3)
        model = nn.MLP(2, [16, 17, 1], activation)
        rng = random.Random(1)
        xs = [[Value(rng.gauss(0, 1)), rng.gauss(0, 1)] for _ in range(8)]
        labels = [rng.choice([-1.0, 1.0]) for _ in xs]
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step():
            scores = [model(x) for x in xs]
            losses = [(1 + -y * s).relu() for y, s in zip(labels, scores, strict=True)]
            loss = sum(losses) * (1 / len(losses)) + 1e-4 * sum(p * p for p in model.parameters())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return step, model.parameters()

    same(make, calls=5)


def test_arguments_and_learning_rate():
    a = Value(1.0)
    optimizer = optim.SGD([a], lr=0.1)

    @tinyml.compile(passes=("tape",))
    def step(x):
        y = (a * x - 1.0) ** 2
        optimizer.zero_grad()
        y.backward()
        optimizer.step()
        return y

    expected = 1.0
    for lr, x in [(0.1, 2.0), (0.1, 3.0), (0.01, 4.0), (0.5, 0.5)]:
        optimizer.param_groups[0]["lr"] = lr
        step(x)
        expected -= lr * (2 * (expected * x - 1.0) * x)
        assert a.data == pytest.approx(expected)


def test_an_argument_gets_its_gradient():
    @tinyml.compile(passes=("tape",))
    def step(x):
        y = x * x * x + x
        y.backward()
        return y

    x, z = Value(2.0), Value(3.0)
    for _ in range(3):
        step(x)
        step(z)
    assert (x.grad, z.grad) == (3 * 13.0, 3 * 28.0)


def test_threads_share_leaves():
    a, b = Value(2.0), Value(3.0)

    def make(k):
        return tinyml.compile(lambda: (a * b * k + a).backward(), passes=("tape",))

    def run(step):
        for _ in range(20):
            step.repeat(500, progress=False)

    steps = [make(k) for k in (1.0, 2.0, 4.0)]
    threads = [threading.Thread(target=run, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (a.grad, b.grad) == (10_000 * (3 * 7.0 + 3), 10_000 * (2 * 7.0))


def test_steps_of_other_kinds_stay_between():
    def make():
        a, b = Value(2.0), Value(3.0)
        x = tinyml.tensor(0.5, dtype=tinyml.float32)

        def step():
            y = a * b + a
            z = (y * 2 + 1) * y
            t = x * z  # no part of a tape: not two float64 numbers
            u = z + y.tanh() * b - a
            (u * y).backward()
            nn.utils.clip_grad_norm_([a, b], 1.0)
            b.grad = 0.75
            v = (u * b + y) * a
            v.backward()
            return t, u, v

        return step, [a, b]

    same(make)


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
def test_instruction_sets(isa):
    if os.environ.get("TINYML_ISA"):
        pytest.skip("this is one of these runs")
    environment = os.environ | {"TINYML_ISA": isa}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", str(Path(__file__).resolve())],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "set one of these" in result.stdout + result.stderr:
        pytest.skip(f"this processor does not run {isa}")
    assert result.returncode == 0, result.stdout
