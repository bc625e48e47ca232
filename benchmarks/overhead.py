"""What does an operation on a tiny array cost? Against PyTorch and NumPy, op by op.

Arrays of 4 x 4 float32: there is next to nothing to compute, so the table shows what each library
adds. "recorded" columns build the graph for a later backward(), and drop it.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
from _harness import Contestant, Grid, Run, main

import tinyml
from tinyml.nn import functional as F

# The op as tinyml and PyTorch write it, and as NumPy does (None: it takes several operations).
OPS: tuple[tuple[str, str | None], ...] = (
    ("x + y", "x + y"),
    ("x - y", "x - y"),
    ("x * y", "x * y"),
    ("x / y", "x / y"),
    ("x * 2.0", "x * two"),
    ("x ** 2", "x ** two"),
    ("-x", "-x"),
    ("x + row", "x + row"),
    ("x.exp()", "np.exp(x)"),
    ("x.log()", "np.log(x)"),
    ("x.sqrt()", "np.sqrt(x)"),
    ("x.tanh()", "np.tanh(x)"),
    ("x.sigmoid()", None),
    ("x.relu()", "np.maximum(x, zero)"),
    ("x.sum()", "x.sum()"),
    ("x.mean(1)", "x.mean(1)"),
    ("x.argmax(1)", "x.argmax(1)"),
    ("x @ y", "x @ y"),
    ("F.linear(x, y, row)", "x @ y.T + row"),
    ("x.T", None),
    ("x.reshape(2, 8)", "x.reshape(2, 8)"),
    ("x[1:3]", "x[1:3]"),
    ("x[1, 2]", "x[1, 2]"),
    ("x > y", "x > y"),
    ("F.softmax(x, 1)", None),
    ("F.log_softmax(x, 1)", None),
    ("F.cross_entropy(x, classes)", None),
    ("F.mse_loss(x, y)", None),
    ("(x * y).sum().backward()", None),
)


def operands(library: Any, record: bool) -> dict[str, Any]:
    """The arrays of a contestant, by the names in OPS."""
    draw = np.random.default_rng(0)
    x, y = (draw.uniform(0.5, 1.5, (4, 4)).astype(np.float32) for _ in range(2))
    names: dict[str, Any] = {"x": x, "y": y, "row": x[0].copy(), "classes": np.arange(4)}
    if library is np:
        return {**names, "np": np, "two": np.float32(2), "zero": np.float32(0)}
    make = library.tensor if library is tinyml else library.from_numpy
    nodes = {name: make(array) for name, array in names.items()}
    for name in ("x", "y", "row"):
        nodes[name].requires_grad = record
    return {**nodes, "F": F if library is tinyml else library.nn.functional}


def operations(run: Run, torch: Any) -> None:
    """The table of ops."""
    libraries: dict[str, tuple[Any, bool]] = {"tinyml": (tinyml, False), "NumPy": (np, False)}
    if torch:
        libraries["PyTorch"] = (torch, False)
    libraries["tinyml, recorded"] = (tinyml, True)
    if torch:
        libraries["PyTorch, recorded"] = (torch, True)
    names = {name: operands(*library) for name, library in libraries.items()}
    grid = Grid(list(libraries), 26)
    ratios: dict[str, list[float]] = {name: [] for name in libraries}
    for code, in_numpy in OPS[::5] if run.quick else OPS:
        contestants = []
        for name, (library, record) in libraries.items():
            statement = in_numpy if library is np else code
            if statement and (record or "backward" not in statement):
                contestants.append(Contestant.statement(name, statement, names[name]))
        rows = run.compare(code, contestants, seconds=1.5)
        grid.line(rows, code)
        for row in rows:
            ratios[row.name].append(row.ratio)
    print("  geometric means of the ratios:", end=" ")
    means = {name: statistics.geometric_mean(found) for name, found in ratios.items() if found}
    print(", ".join(f"{name} {mean:.2f}" for name, mean in means.items()))


def measure(run: Run) -> None:
    """Prints the table."""
    torch = run.peer("torch")
    if torch:
        torch.set_num_threads(run.threads)
    run.header("Operations on 4 x 4 arrays")
    operations(run, torch)


if __name__ == "__main__":
    main(measure)
