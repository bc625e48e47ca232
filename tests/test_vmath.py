"""exp, log, tanh, sigmoid, erf and what else csrc/vmath.h has: the error bounds that it states and edges, exactly."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

import tinyml

inf, nan = math.inf, math.nan
FLOATS = [np.float32, np.float64]
RNG = np.random.default_rng(1)


def apply(name, x):
    return getattr(tinyml.tensor(x), name)().numpy()


def exact_erf(x):
    """math.erf, whose error of an ulp of double is nothing beside float32's."""
    return np.array([math.erf(z) for z in x])


#: name: (bound in ulp, reference in a wider type, where the error is largest, where something happens)
FUNCTIONS = {
    "exp": (1.0, np.exp, [(-31, -29), (29, 31)], (-746, 710)),
    "log": (1.0, np.log, [(0.69, 0.72), (0.98, 1.02)], (0, 1000)),
    "tanh": (1.5, np.tanh, [(0.53, 0.63), (-0.63, -0.53)], (-21, 21)),
    "sigmoid": (2.0, lambda x: 1 / (1 + np.exp(-x)), [(-1.3, -1)], (-746, 40)),
    "erf": (2.0, exact_erf, [(0.17, 0.27)], (-6, 6)),
    "logsigmoid": (2.0, lambda x: np.minimum(x, 0) - np.log1p(np.exp(-abs(x))), [(-1, 1)], (-40, 110)),
    "elu": (2.0, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), [(-0.8, -0.2)], (-42, 1)),
}


def points(dtype, worst, middle, n):
    """Random bit patterns, the whole range where something happens, and where the error is largest."""
    bits = np.uint32 if dtype == np.float32 else np.uint64
    anything = RNG.integers(0, np.iinfo(bits).max, n, dtype=bits).view(dtype)
    dense = [RNG.uniform(*interval, n) for interval in worst]
    x = np.concatenate([anything[np.isfinite(anything)], RNG.uniform(*middle, n), *dense])
    return x.astype(dtype)


def errors(y, exact):
    """|y - exact| in units in the last place of exact, which is in a wider type."""
    info = np.finfo(y.dtype)
    with np.errstate(all="ignore"):
        rounded = exact.astype(y.dtype)
        exponent = np.clip(np.frexp(exact)[1] - 1, info.minexp, info.maxexp)
        error = np.abs(y.astype(exact.dtype) - exact) / np.ldexp(1.0, exponent - info.nmant)
    edge = ~np.isfinite(rounded) & (y == rounded) | np.isnan(y) & np.isnan(rounded)
    return np.where(edge, 0, np.where(np.isnan(error), np.inf, error))


def errors_at(name, x):
    _, reference, *_ = FUNCTIONS[name]
    wide = np.float64 if name == "erf" else np.longdouble
    with np.errstate(all="ignore"):
        exact = np.asarray(reference(x.astype(wide)), wide)
    return errors(apply(name, x), exact)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_bounds(name, dtype):
    bound, _, worst, middle = FUNCTIONS[name]
    if dtype == np.float64 and name == "erf":
        pytest.skip("needs more digits than NumPy has: see test_error_bound_of_erf")
    if dtype == np.float64 and np.finfo(np.longdouble).nmant < 63:
        pytest.skip("long double is no wider than double here")
    x = points(dtype, worst, middle, 20_000 if name == "erf" else 100_000)
    error = errors_at(name, x)
    assert error.max() <= bound, f"{error.max()} ulp at {float(x[error.argmax()]).hex()}"
    assert error.max() > 0.5  # or the measure is at fault


def test_error_bound_of_erf():
    mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")
    x = points(np.float64, [(0.17, 0.27)], (-6, 6), 700)
    y = apply("erf", x)
    with mpmath.workprec(120):
        for a, b in zip(x.tolist(), y.tolist(), strict=True):
            exact = mpmath.erf(a)
            ulp = math.ldexp(1, max(mpmath.frexp(exact)[1] - 1, -1022) - 52)
            assert abs(b - exact) <= 2 * ulp, a.hex()


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_measure_sees_an_ulp(dtype):
    y = np.array([1.0, 3.0, 0.75, np.finfo(dtype).smallest_subnormal, np.inf], dtype)
    exact = y.astype(np.longdouble)
    assert errors(y, exact).tolist() == [0] * 5
    assert errors(np.nextafter(y, dtype(0)), exact).tolist()[1:4] == [1, 1, 1]
    assert errors(np.nextafter(y[:4], dtype(np.inf)), exact[:4]).tolist() == [1] * 4


EDGES = {
    "exp": [(0.0, 1.0), (-0.0, 1.0), (inf, inf), (-inf, 0.0), (nan, nan)],
    "log": [
        (0.0, -inf),
        (-0.0, -inf),
        (1.0, 0.0),
        (inf, inf),
        (-inf, nan),
        (-1.0, nan),
        (nan, nan),
    ],
    "tanh": [
        (0.0, 0.0),
        (-0.0, -0.0),
        (inf, 1.0),
        (-inf, -1.0),
        (30.0, 1.0),
        (-1e30, -1.0),
        (nan, nan),
    ],
    "sigmoid": [
        (0.0, 0.5),
        (-0.0, 0.5),
        (inf, 1.0),
        (-inf, 0.0),
        (1e30, 1.0),
        (-1e30, 0.0),
        (nan, nan),
    ],
    "erf": [
        (0.0, 0.0),
        (-0.0, -0.0),
        (inf, 1.0),
        (-inf, -1.0),
        (6.0, 1.0),
        (-1e30, -1.0),
        (nan, nan),
    ],
    "logsigmoid": [(inf, -0.0), (1e30, -0.0), (-inf, -inf), (-1000.0, -1000.0), (nan, nan)],
    "elu": [(0.0, 0.0), (inf, inf), (-inf, -1.0), (-1e30, -1.0), (3.5, 3.5), (nan, nan)],
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("copies", [0, 1, 40])
def test_edges(name, dtype, copies):
    """Of 0-d tensors (copies 0) and of vectors; the sign of 0 counts."""
    for x, expected in EDGES[name]:
        y = apply(name, np.full((copies,) if copies else (), x, dtype))
        np.testing.assert_array_equal(y, np.full_like(y, expected))
        assert (np.isnan(y) | (np.signbit(y) == np.signbit(dtype(expected)))).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_subnormal_numbers(name, dtype):
    """Neither taken for 0 on the way in, nor rounded to 0 on the way out."""
    info = np.finfo(dtype)
    tiny = np.array([1, 2, 3, 1000, 2**22 - 1, 2**22, 2**23 - 1]) * float(info.smallest_subnormal)
    x = np.concatenate([tiny, -tiny]).astype(dtype)
    if name == "log":
        x = x[:7]
    assert errors_at(name, x).max() <= FUNCTIONS[name][0]
    if name in ("exp", "sigmoid"):
        low = math.log(float(info.smallest_normal))
        x = np.linspace(low - info.nmant * 0.69, low, 1000).astype(dtype)
        y = apply(name, x)
        assert (y > 0).all()
        assert (np.diff(y) >= 0).all()
        assert errors_at(name, x).max() <= FUNCTIONS[name][0]


def neighbours(x, dtype, n=50):
    """The numbers around x, in order."""
    bits = np.int32 if dtype == np.float32 else np.int64
    around = dtype(x).view(bits) + np.arange(-n, n + 1, dtype=bits)
    return np.sort(around.view(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_where_exp_overflows_and_underflows(dtype):
    info = np.finfo(dtype)
    tops = neighbours(np.log(np.longdouble(info.max)), dtype)
    bottoms = neighbours(np.log(np.longdouble(info.smallest_subnormal) / 2), dtype)
    for x in (tops, bottoms):
        y = apply("exp", x)
        with np.errstate(over="ignore", under="ignore"):
            expected = np.exp(x.astype(np.longdouble)).astype(dtype)
        assert (np.diff(y) >= 0).all() if np.isfinite(y).all() else np.isinf(y[-1])
        # The place where it turns may be off by the error bound, the values not.
        wrong = (y != expected) & (np.abs(np.arange(101) - 50) > 2)
        np.testing.assert_allclose(y[wrong], expected[wrong], rtol=2 * info.eps)
    far = np.array([-1e30, -1000, 1000, 1e30], dtype)
    assert apply("exp", far).tolist() == [0, 0, inf, inf]
    assert apply("sigmoid", far).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_scalars_and_tails_equal_vectors(name, dtype):
    """The same bits whatever the length: in the body of a loop, in its tail, alone and as a Value; but for sigmoid,
    whose last product and difference are fused in some of them."""
    ulps = 1 if name == "sigmoid" else 0
    x = points(dtype, *FUNCTIONS[name][2:], 40)
    x = x[x > 0] if name == "log" else x
    y = apply(name, x)
    for n in range(1, 40):
        np.testing.assert_array_max_ulp(apply(name, x[n:]), y[n:], ulps)
    np.testing.assert_array_max_ulp(np.array([apply(name, a) for a in x]), y, ulps)
    if dtype == np.float64:
        values = [getattr(tinyml.Value(a), name)().data for a in x]
        np.testing.assert_array_max_ulp(np.array(values), y, ulps)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_odd_functions_are_odd(name, dtype):
    x = points(dtype, *FUNCTIONS[name][2:], 1000)
    np.testing.assert_array_equal(apply(name, -x), -apply(name, x))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_growing(name, dtype):
    """Where neighbouring results are further apart than the bounds: at a coarse grid."""
    x = np.linspace(-3, 3, 4000).astype(dtype)
    y = apply(name, x[x > 0] if name == "log" else x)
    assert (np.diff(y) > 0).all()


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512", "neon"])
def test_every_instruction_set(isa):
    """This file, in a process of its own that is told which instruction set to use."""
    if os.environ.get("TINYML_ISA"):
        pytest.skip("already within such a process")
    environment = os.environ | {"TINYML_ISA": isa}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    if "but this processor runs" in run("-c", "import tinyml").stderr:
        pytest.skip(f"this processor has no {isa}")
    tests = run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__)
    assert tests.returncode == 0, tests.stdout[-3000:] + tests.stderr[-2000:]
