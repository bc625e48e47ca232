"""What do the value and the gradients of a scalar function cost? The expression of micrograd's README.

https://github.com/karpathy/micrograd: g(a, b), 25 operators. First one call from Python per point, each time another
point: tinyml compiled, given floats or Values; everybody else as usual; JAX given floats, or arrays of its own made
beforehand, which spares it the conversion. Then many evaluations in one call: `repeat` evaluates one point again and
again (each replay takes every step), JAX's scan and C go through the points. The C has the derivatives written out.
All values and gradients are compared before the clock starts; JAX computes in float32, the others in float64.

BurTorch, C++ for such graphs, is not run here: 0.27-0.49 us were measured for it on a processor of this kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
from _harness import Contestant, Run, compile_c, main, pointer, seconds_of, show, times_as_long

import tinyml
from tinyml import Value

_draw = np.random.default_rng(0)
POINTS = list(zip(_draw.uniform(-4.5, -3.5, 64).tolist(), _draw.uniform(1.5, 2.5, 64).tolist(), strict=True))

# Value and gradients at (a, b), in numbers or what float() turns into them.
Work = Callable[[Any, Any], tuple[Any, tuple[Any, Any]]]


def g(a: Any, b: Any, relu: Callable[[Any], Any] = lambda x: x.relu()) -> Any:
    """The expression."""
    c = a + b
    d = a * b + b**3
    c = c + (c + 1)
    c = c + (1 + c + (-a))
    d = d + (d * 2 + relu(b + a))
    d = d + (3 * d + relu(b - a))
    e = c - d
    f = e**2
    return f / 2.0 + 10.0 / f


def by_hand(a: float, b: float) -> tuple[float, tuple[float, float]]:
    """What the others must find."""
    up, down = max(b + a, 0.0), max(b - a, 0.0)
    e = 4 * (a + b) + 3 - a - (4 * (3 * (a * b + b**3) + up) + down)
    de = e - 20 / e**3
    da = 3 - (4 * (3 * b + (up > 0)) - (down > 0))
    db = 4 - (4 * (3 * (a + 3 * b * b) + (up > 0)) + (down > 0))
    return e * e / 2 + 10 / (e * e), (de * da, de * db)


C = """
/* n evaluations: out receives value and gradients for the points (a, b), again and again. */
void expression(long n, long points, const double *point, double *out)
{
    for (long i = 0, at = 0; i < n; i++, at = at + 1 < points ? at + 1 : 0) {
        const double a = point[2 * at], b = point[2 * at + 1];
        const double up = b + a > 0 ? b + a : 0, down = b - a > 0 ? b - a : 0;
        const double e = 4 * (a + b) + 3 - a - (4 * (3 * (a * b + b * b * b) + up) + down);
        const double square = e * e, inverse = 1 / square, de = e * (1 - 20 * inverse * inverse);
        out[3 * at] = 0.5 * square + 10 * inverse;
        out[3 * at + 1] = de * (3 - (4 * (3 * b + (up > 0)) - (down > 0)));
        out[3 * at + 2] = de * (4 - (4 * (3 * (a + 3 * b * b) + (up > 0)) + (down > 0)));
    }
}
"""


def check(name: str, results: Sequence[Any]) -> None:
    """Stops the benchmark unless these are the values and gradients at the points."""
    for (a, b), (value, (da, db)) in zip(POINTS, results, strict=False):
        assert np.allclose([float(value), float(da), float(db)], np.hstack(by_hand(a, b)), rtol=1e-4), (name, a, b)


def at_points(name: str, work: Work, points: Sequence[tuple[Any, Any]] = POINTS, collector: bool = True) -> Contestant:
    """A contestant that takes one point after the other."""
    check(name, [work(a, b) for a, b in points])
    feed = cycle(points)

    def run(n: int) -> Any:
        for a, b in islice(feed, n):
            result = work(a, b)
        return result

    return Contestant(name, run, collector=collector)


def of_values(value: Callable[[float], Any]) -> Work:
    """Eagerly: tinyml and micrograd look the same."""

    def work(x: float, y: float) -> Any:
        a, b = value(x), value(y)
        result = g(a, b)
        result.backward()
        return result.data, (a.grad, b.grad)

    return work


def of_torch(torch: Any) -> Work:
    """0-d float64 tensors."""

    def work(x: float, y: float) -> Any:
        a = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        b = torch.tensor(y, dtype=torch.float64, requires_grad=True)
        result = g(a, b)
        result.backward()
        return result.detach(), (a.grad, b.grad)

    return work


def jax_calls(jax: Any) -> list[Contestant]:
    """A jitted call per point; the results are waited for at the end of a block."""
    work = jax.jit(jax.value_and_grad(lambda a, b: g(a, b, jax.nn.relu), argnums=(0, 1)))

    def waiting(contestant: Contestant) -> Contestant:
        return Contestant(contestant.name, lambda n: jax.block_until_ready(contestant.run(n)))

    arrays = [(jax.numpy.float32(a), jax.numpy.float32(b)) for a, b in POINTS]
    return [waiting(at_points("JAX jit, floats", work)), waiting(at_points("JAX jit, arrays", work, arrays))]


def jax_scan(jax: Any) -> Contestant:
    """Rounds over the points in one call; they are so many that the call does not count."""
    work = jax.value_and_grad(lambda a, b: g(a, b, jax.nn.relu), argnums=(0, 1))
    rounds = jax.numpy.tile(jax.numpy.array(POINTS, jax.numpy.float32), (100, 1))
    scan = jax.jit(lambda rounds: jax.lax.scan(lambda _, point: (None, work(*point)), None, rounds)[1])
    values, (das, dbs) = scan(rounds)
    check("JAX scan", list(zip(values, zip(das, dbs, strict=True), strict=True))[: len(POINTS)])
    return Contestant("JAX scan", lambda n: [scan(rounds) for _ in range(n)][-1][0].block_until_ready())


def c_by_hand() -> Callable[[int], object] | None:
    """Any number of evaluations in one call: the floor."""
    library = compile_c("void expression(long, long, double *, double *);", C)
    if library is None:
        return None
    points, out = np.array(POINTS), np.empty((len(POINTS), 3))
    library.expression(len(POINTS), len(POINTS), pointer(points), pointer(out))
    check("C by hand", [(row[0], (row[1], row[2])) for row in out])
    return lambda n: library.expression(n, len(POINTS), pointer(points), pointer(out))


def measure(run: Run) -> None:
    """Prints both tables."""
    engine = run.peer("micrograd.engine", "micrograd")
    torch, jax = run.peer("torch"), run.peer("jax")
    run.header("micrograd's README expression: value and gradients")
    compiled = tinyml.compile(tinyml.func.value_and_grad(g, argnums=(0, 1)))
    values = [(Value(a), Value(b)) for a, b in POINTS]
    contestants = [
        at_points("tinyml compiled, floats", compiled),
        at_points("tinyml compiled, Values", compiled, values),
        at_points("tinyml", of_values(Value)),
    ]
    if engine:
        contestants.append(at_points("micrograd", of_values(engine.Value)))
        contestants.append(at_points("micrograd, no gc", of_values(engine.Value), collector=False))
    if torch:
        torch.set_num_threads(1)
        contestants.append(at_points("PyTorch", of_torch(torch)))
    if jax:
        contestants += jax_calls(jax)
    rows = run.compare("a call per point", contestants, seconds=20)
    show(rows)
    for kind, others in (("floats", "floats"), ("Values", "arrays")):
        faster = times_as_long(rows, f"JAX jit, {others}", f"tinyml compiled, {kind}")
        run.target(f"times as fast as JAX jit, {kind}", faster, 5, at_most=False)

    length = 6_400  # evaluations in one call
    compiled = tinyml.compile(tinyml.func.value_and_grad(g, argnums=(0, 1)))
    a, b = POINTS[0]
    stacked, (das, dbs) = compiled.repeat(2, a, b)
    check("tinyml, repeat", [(stacked[1], (das[1], dbs[1]))])
    contestants = [Contestant("tinyml, repeat", lambda n: [compiled.repeat(length, a, b) for _ in range(n)])]
    if jax:
        contestants.append(jax_scan(jax))
    if floor := c_by_hand():
        contestants.append(Contestant("C by hand", lambda n: floor(n * length)))
    rows = run.compare("many evaluations in one call", contestants, seconds=10, unit=length)
    show(rows)
    seconds = seconds_of(rows, "tinyml, repeat")
    run.target("us an evaluation within repeat", seconds and seconds * 1e6, 0.3)


if __name__ == "__main__":
    main(measure)
