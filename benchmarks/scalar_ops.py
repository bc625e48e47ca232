"""What does an operation on scalars cost from Python? Values against micrograd and PyTorch.

First single operators, made and dropped, beside a bare call through cffi with two ints:
tm_set_requires_grad, the cheapest function of that kind in the engine's own binding. Then whole
graphs, built, swept and released, per operator: a chain, the expression of micrograd's README and
a random expression. Every contestant makes its own leaves; all gradients are compared before the
clock starts. micrograd's graphs contain reference cycles, which only Python's cyclic collector
frees: it is measured with the collector and without, where its garbage just piles up. PyTorch
works on 0-d float64 tensors.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

from _harness import Contestant, Grid, Row, Run, main, show

from tinyml import Value
from tinyml._engine import lib

Maker = Callable[[float], Any]
CHAIN, RANDOM = 400, 400


def chain(value: Maker) -> tuple[Any, ...]:
    """x * b + a again and again: as deep as it is long."""
    a, b = value(0.5), value(-0.9)
    x = a
    for _ in range(CHAIN // 2):
        x = x * b + a
    x.backward()
    return a, b


def readme(value: Maker) -> tuple[Any, ...]:
    """The example of https://github.com/karpathy/micrograd: 25 operators."""
    a, b = value(-4.0), value(2.0)
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    g.backward()
    return a, b


def random_expression() -> Callable[[Maker], tuple[Any, ...]]:
    """A function of 8 leaves: 400 operators in straight-line code, every result used somewhere."""
    draw = random.Random(0)
    lines = [f"    x{i} = value({draw.uniform(0.5, 1.0):.3f})" for i in range(8)]
    forms = ("{a} + {leaf}", "{a} * {leaf}", "{a} - {b}", "{a} * 0.5", "{a}.relu()", "{a} + {b}")
    unused = [f"x{i}" for i in range(8)]
    for i in range(8, 8 + RANDOM):
        a = unused.pop(draw.randrange(len(unused)))
        b, leaf = f"x{draw.randrange(max(0, i - 12), i)}", f"x{draw.randrange(8)}"
        lines.append(f"    x{i} = {draw.choice(forms).format(a=a, b=b, leaf=leaf)}")
        unused.append(f"x{i}")
    lines.append(f"    ({' + '.join(unused)}).backward()")
    lines.append(f"    return {', '.join(f'x{i}' for i in range(8))}")
    scope: dict[str, Any] = {}
    exec("def expression(value):\n" + "\n".join(lines), scope)
    expression: Callable[[Maker], tuple[Any, ...]] = scope["expression"]
    return expression


def check(expression: Callable[[Maker], tuple[Any, ...]], makers: dict[str, Maker]) -> None:
    """Stops the benchmark unless all contestants find the same gradients."""
    expected = [float(x.grad) for x in expression(Value)]
    for name, maker in makers.items():
        for x, grad in zip(expression(maker), expected, strict=True):
            assert abs(float(x.grad) - grad) <= 1e-9 * max(1.0, abs(grad)), (name, x.grad, grad)


def measure(run: Run) -> None:
    """Prints both tables and the targets."""
    sys.setrecursionlimit(10_000)  # micrograd's sort recurses
    engine, torch = run.peer("micrograd.engine", "micrograd"), run.peer("torch")
    makers: dict[str, Maker] = {}
    if engine:
        makers["micrograd"] = engine.Value
    if torch:
        torch.set_num_threads(1)
        makers["torch"] = lambda x: torch.tensor(x, dtype=torch.float64, requires_grad=True)
    run.header("Scalar operators from Python: one, made and dropped")

    leaf = Value(1.0)
    bare_names = {"call": lib.tm_set_requires_grad, "node": leaf._ref}
    bare = Contestant.statement("bare cffi call", "call(node, 1)", bare_names)
    grid = Grid(["bare cffi call", "tinyml", *makers])
    for code in ("a * b", "a + b", "a * 2.0", "a.relu()"):
        contestants = [bare]
        for name, maker in {"tinyml": Value, **makers}.items():
            operands = {"a": maker(1.5), "b": maker(-0.7)}
            contestants.append(Contestant.statement(name, code, operands))
        rows = run.compare(code, contestants, seconds=5)
        grid.line(rows, code)
        if code == "a * b":
            product = rows[1].ratio
    run.target("a * b in bare cffi calls", product, 5)

    for title, expression, operators in (
        (f"chain of {CHAIN} operators, per operator", chain, CHAIN),
        ("micrograd's README expression, per operator (25)", readme, 25),
        (f"random expression of {RANDOM} operators, per operator", random_expression(), RANDOM + 7),
    ):
        check(expression, makers)
        show(rows := graphs(run, title, expression, operators, makers))
        for row in rows:
            if row.name == "micrograd, no gc":
                run.target("times as fast as micrograd without gc", row.ratio, 4, at_most=False)
            elif row.name == "torch":
                run.target("times as fast as PyTorch", row.ratio, 10, at_most=False)


def graphs(
    run: Run,
    title: str,
    expression: Callable[[Maker], tuple[Any, ...]],
    operators: int,
    makers: dict[str, Maker],
) -> list[Row]:
    """Build, backward and release, per operator."""

    def contestant(name: str, maker: Maker, collector: bool = True) -> Contestant:
        return Contestant.calling(name, lambda: expression(maker), collector=collector)

    contestants = [contestant("tinyml", Value), contestant("tinyml, no gc", Value, False)]
    for name, maker in makers.items():
        contestants.append(contestant(name, maker))
        if name == "micrograd":
            contestants.append(contestant("micrograd, no gc", maker, False))
    # Long blocks: what micrograd leaves to the collector, or to nobody, must have time to pile up.
    return run.compare(title, contestants, seconds=15, block=0.2, unit=operators)


if __name__ == "__main__":
    main(measure)
