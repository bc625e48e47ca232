"""How fast are matrix products? Against NumPy's OpenBLAS, PyTorch's MKL and the FMA peak.

The products go through Python, as users call them, with gradients switched off: `x @ w`;
`x @ w.T`, for which tinyml and PyTorch have linear(x, w); `x.T @ y`, where tinyml copies the
transpose; and the gradient of a layer's weight, `g.T @ x`, which tinyml computes in backward()
without a copy. "of peak" compares tinyml with the cores in use: multiply-adds per second of a loop
over registers, compiled at run time for the instruction set that tinyml uses. At tiny sizes Python
takes most of the time, so a second table calls the engine from a loop in C (node, kernel, release),
beside three plain loops compiled for this processor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from _harness import Contestant, Grid, Run, compile_c, main, pointer
from _peak import peak

import tinyml
from tinyml import _core
from tinyml._engine import ffi, lib
from tinyml.nn import functional as F

Array = np.ndarray[Any, Any]

BACKWARD = "w.grad = None; out.backward(x)"
# How each library writes a form.
FORMS = {
    "x @ w": {"tinyml": "x @ y", "NumPy": "x @ y", "PyTorch": "x @ y"},
    "x @ w.T": {"tinyml": "linear(x, y)", "NumPy": "x @ y.T", "PyTorch": "linear(x, y)"},
    "x.T @ y": {"tinyml": "x.T @ y", "NumPy": "x.T @ y", "PyTorch": "x.T @ y"},
    "g.T @ x": {"tinyml": BACKWARD, "NumPy": "x.T @ y", "PyTorch": "x.T @ y"},
}


@dataclass(frozen=True)
class Product:
    """(m, k) times (k, n), in one of the forms."""

    m: int
    k: int
    n: int
    form: str = "x @ w"

    @property
    def case(self) -> str:
        """What the table calls it."""
        return f"{f'{self.m} x {self.k} x {self.n}':18} {self.form}"

    def operands(self, dtype: str) -> tuple[Array, Array, Array]:
        """Two arrays as they lie in memory, and their product."""
        draw = np.random.default_rng(0)
        a = draw.random((self.m, self.k)).astype(dtype)
        b = draw.random((self.k, self.n)).astype(dtype)
        first = a.T.copy() if self.form in ("x.T @ y", "g.T @ x") else a
        second = b.T.copy() if self.form == "x @ w.T" else b
        return first, second, a @ b


SQUARES = [Product(n, n, n) for n in (16, 32, 64, 100, 128, 256, 512, 1024)]
TRANSPOSED = [Product(n, n, n, form) for n in (64, 256, 1024) for form in list(FORMS)[1:]]
# 784-128-10: the layers' outputs, the gradient of the hidden layer, the weights' gradients.
MNIST = [
    product
    for batch in (1, 32, 64, 128, 1024)
    for product in (
        Product(batch, 784, 128, "x @ w.T"),
        Product(batch, 128, 10, "x @ w.T"),
        Product(batch, 10, 128),
        Product(128, batch, 784, "g.T @ x"),
        Product(10, batch, 128, "g.T @ x"),
    )
]
# A wider layer, 1024-1024: its output and both gradients.
WIDE = [Product(128, 1024, 1024, "x @ w.T"), Product(128, 1024, 1024), Product(1024, 128, 1024, "g.T @ x")]
PRODUCTS = [Product(4, 4, 2), Product(8, 8, 8), *SQUARES, *TRANSPOSED, *MNIST, *WIDE]
# XOR, 2-4-1, and the moons, 2-16-16-1, as layers.
TINY = [Product(m, k, n, "x @ w.T") for m, k, n in ((4, 2, 4), (4, 4, 1), (100, 2, 16), (100, 16, 16), (100, 16, 1))]
TINY += [Product(8, 8, 8), *SQUARES[:3]]
TINY += [product for product in MNIST if product.m <= 64 and product.form != "g.T @ x"]

LOOPS = """
#include <stdint.h>
typedef intptr_t ref;
/* n times the op on two nodes, through the engine's own functions. */
void apply_loop(long n, ref apply, ref release, ref op, ref a, ref b)
{
    for (long i = 0; i < n; i++)
        ((void (*)(ref))release)(((ref (*)(ref, ref, ref))apply)(op, a, b));
}

/* n times c (rows x columns) = a b; transposed: b lies as (columns x inner). */
void plain_loop(long n, int rows, int inner, int columns, int transposed, const float *a,
                const float *b, float *c)
{
    const int step = transposed ? 1 : columns, next = transposed ? inner : 1;
    for (long round = 0; round < n; round++)
        for (int i = 0; i < rows; i++) {
            float *row = c + i * columns;
            for (int j = 0; j < columns; j++)
                row[j] = 0;
            for (int k = 0; k < inner; k++)
                for (int j = 0; j < columns; j++)
                    row[j] += a[i * inner + k] * b[k * step + j * next];
            __asm__ volatile("" : : "r"(c) : "memory");
        }
}
"""


def contestants(product: Product, dtype: str, torch: Any) -> list[Contestant]:
    """The product in every library; the first result of each is compared."""
    a, b, expected = product.operands(dtype)
    x, y = tinyml.tensor(a), tinyml.tensor(b)
    libraries: dict[str, dict[str, Any]] = {
        "tinyml": {"x": x, "y": y, "linear": F.linear},
        "NumPy": {"x": a, "y": b},
    }
    if product.form == "g.T @ x":
        w = tinyml.zeros(product.m, product.n, dtype=dtype, requires_grad=True)
        with tinyml.enable_grad():
            libraries["tinyml"] = {"w": w, "out": F.linear(y, w), "x": x}
    if torch:
        linear = torch.nn.functional.linear
        tensors = (torch.from_numpy(array) for array in (a, b))
        libraries["PyTorch"] = dict(zip(("x", "y", "linear"), (*tensors, linear), strict=True))
    entered = []
    for name, names in libraries.items():
        code = FORMS[product.form][name]
        if code == BACKWARD:
            exec(code, names)
            result = names["w"].grad
        else:
            result = eval(code, names)
        names.pop("__builtins__", None)
        assert np.allclose(np.asarray(result), expected, rtol=1e-4), (name, product)
        entered.append(Contestant.statement(name, code, names))
    return entered


def from_python(run: Run, dtype: str, torch: Any) -> None:
    """The first table."""
    top = peak(dtype, run.threads)
    print(f"\n{dtype}, through Python; FMA peak {f'{top / 1e9:.0f} GFLOP/s' if top else 'unknown'}")
    grid = Grid(["tinyml", "NumPy", *(["PyTorch"] if torch else [])], 28, "GFLOP/s  of peak")
    shares, ratios = {}, {}
    for product in PRODUCTS[::6] if run.quick else PRODUCTS:
        rows = run.compare(f"{dtype} {product.case}", contestants(product, dtype, torch), seconds=1)
        speed = 2 * product.m * product.k * product.n / rows[0].median
        share = f"{speed / top:8.0%}" if top else "       -"
        grid.line(rows, product.case, f"{speed / 1e9:7.1f}  {share}")
        ratios[product.case] = rows[1].ratio
        if top and product.form == "x @ w" and min(product.m, product.k, product.n) >= 256:
            shares[product.case] = speed / top
    for what, cases, bound in (
        ("share of the FMA peak from 256 x 256 x 256 up", shares, 0.8),
        ("NumPy's time over tinyml's", ratios, 1.0),
    ):
        if cases:
            worst = min(cases, key=lambda case: cases[case])
            run.target(f"least {what} ({worst})", cases[worst], bound, at_most=False)


def in_loop(function: Any, *arguments: Any) -> Callable[[int], object]:
    """A C function that repeats its work itself, so many times."""
    return lambda n: function(n, *arguments)


def from_c(run: Run) -> None:
    """The second table."""
    declarations = """
    void apply_loop(long, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t);
    void plain_loop(long, int, int, int, int, float *, float *, float *);
    """
    library = compile_c(declarations, LOOPS)
    if library is None:
        return
    print("\nfloat32, from C")
    apply, release = (int(ffi.cast("intptr_t", ffi.addressof(lib, name))) for name in ("tm_apply2", "tm_release"))
    grid = Grid(["tinyml", "plain loops"], 28)
    for product in TINY[:2] if run.quick else TINY:
        a, b, c = product.operands("float32")
        x, y = tinyml.tensor(a), tinyml.tensor(b)
        transposed = product.form == "x @ w.T"
        refs = (apply, release, _core.op("linear" if transposed else "matmul"), x._ref, y._ref)
        sizes = (product.m, product.k, product.n, transposed)
        arrays = [pointer(array) for array in (a, b, c)]
        ways = [
            Contestant("tinyml", in_loop(library.apply_loop, *refs)),
            Contestant("plain loops", in_loop(library.plain_loop, *sizes, *arrays)),
        ]
        rows = run.compare(f"from C, {product.case}", ways, seconds=1)
        grid.line(rows, product.case)


def measure(run: Run) -> None:
    """Prints a table per dtype and the one from C."""
    torch = run.peer("torch")
    run.header("Matrix products, rows x inner x columns")
    if torch:
        torch.set_num_threads(run.threads)
        torch.set_grad_enabled(False)
    with tinyml.no_grad():
        for dtype in ("float32",) if run.quick else ("float32", "float64"):
            from_python(run, dtype, torch)
        if run.threads == 1:
            from_c(run)


if __name__ == "__main__":
    main(measure, threads=(1, 2))
