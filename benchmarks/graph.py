"""What does a node of a large scalar graph cost? A million of them, built, swept and replayed; and their memory.

Four interleaved chains of (x * p + q).relu() + r over 64 leaves, summed in the end. Times are per node. The build is
Python's, operator by operator; the sweep is backward() on a graph just built, with the sort. Recorded by
tinyml.compile, forward and backward run without Python: the time of backward is that of both less that of forward.
micrograd and PyTorch do the same with fewer nodes, micrograd without Python's cyclic collector, which would only slow
it. Memory is what the process grows by, per node, while a graph is built. Gradients are compared before the clock
starts.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from _harness import Contestant, Row, Run, main, show

import tinyml
from tinyml import Value

LEAVES, CHAINS, NODES_OF_CELL = 64, 4, 4
_draw = np.random.default_rng(0)
# p below 1 and the rest positive: the numbers stay moderate, and no relu cuts a chain.
CELLS = [tuple(row) for row in _draw.uniform(0.2, 0.8, (LEAVES, 3)).tolist()]

Maker = Callable[[float], Any]


class Graph:
    """So many nodes over leaves of one library's making."""

    def __init__(self, maker: Maker, nodes: int) -> None:
        self.leaves = [tuple(map(maker, cell)) for cell in CELLS]
        self.start = [maker(0.5) for _ in range(CHAINS)]
        self.rounds = nodes // (CHAINS * NODES_OF_CELL)
        self.nodes = self.rounds * CHAINS * NODES_OF_CELL + CHAINS - 1
        self.root: Any = None

    def build(self) -> Any:
        """The root of a new graph."""
        a, b, c, d = self.start
        leaves = cycle(self.leaves)
        for _ in range(self.rounds):
            (p, q, r), (s, t, u), (v, w, x), (y, z, e) = islice(leaves, CHAINS)
            a = (a * p + q).relu() + r
            b = (b * s + t).relu() + u
            c = (c * v + w).relu() + x
            d = (d * y + z).relu() + e
        return a + b + c + d

    def keep(self, _: int = 1) -> None:
        """Builds a graph and keeps it."""
        self.root = self.build()

    def drop(self) -> None:
        """Lets go of the graph."""
        self.root = None

    def sweep(self, _: int = 1) -> None:
        """backward() on the graph that was kept."""
        self.root.backward()

    def gradients(self) -> list[float]:
        """The leaves' gradients after one sweep over a new graph."""
        self.keep()
        self.sweep()
        found = [float(leaf.grad) for cell in self.leaves for leaf in cell]
        self.drop()
        for cell in self.leaves:
            for leaf in cell:
                leaf.grad = None if hasattr(leaf, "numpy") else 0.0
        return found


def resident() -> int | None:
    """The bytes of memory that this process occupies; None where nobody says."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def bytes_of_node(graph: Graph) -> float | None:
    """What the process grows by while it builds a graph. To be called before anything was freed that may be reused."""
    gc.collect()
    before = resident()
    graph.keep()
    after = resident()
    graph.drop()
    return (after - before) / graph.nodes if before is not None and after is not None else None


def building(name: str, graph: Graph) -> Contestant:
    """Builds a graph; the one before is released untimed."""
    return Contestant(name, graph.keep, before=graph.drop, collector=name != "micrograd")


def sweeping(name: str, graph: Graph) -> Contestant:
    """Sweeps a graph that was built untimed."""
    return Contestant(name, graph.sweep, before=graph.keep, collector=name != "micrograd")


def measure(run: Run) -> None:
    """Prints the tables."""
    sys.setrecursionlimit(100_000)  # micrograd's sort recurses
    engine, torch = run.peer("micrograd.engine", "micrograd"), run.peer("torch")
    run.header("A large scalar graph, per node")
    many, few = (200_000, 4_000) if run.quick else (1_000_000, 20_000)
    graphs = {"tinyml": Graph(Value, many), "tinyml, fewer": Graph(Value, few)}
    if engine:
        graphs["micrograd"] = Graph(engine.Value, few)
    if torch:
        torch.set_num_threads(1)
        graphs["PyTorch"] = Graph(lambda x: torch.tensor(x, dtype=torch.float64, requires_grad=True), few)

    print("\nnodes, and bytes of a node")
    gc.disable()
    found = {name: bytes_of_node(graph) for name, graph in graphs.items()}
    gc.enable()
    for name, size in found.items():
        shown = "unknown" if size is None else f"{size:.0f} bytes"
        print(f"  {name:14} {graphs[name].nodes:>9,}  {shown if name != 'tinyml, fewer' else ''}".rstrip())
    run.target("bytes of a node", found["tinyml"], 66)  # 64, and the rest of the last block and page

    expected = graphs["tinyml, fewer"].gradients()
    for name, graph in graphs.items():
        if graph.nodes == graphs["tinyml, fewer"].nodes:
            assert np.allclose(graph.gradients(), expected, rtol=1e-9), name

    build: list[Row] = []
    for names in (["tinyml"], [name for name in graphs if name != "tinyml"]):
        nodes = graphs[names[0]].nodes
        for case, way in (("build from Python", building), ("backward(), with the sort", sweeping)):
            contestants = [way(name, graphs[name]) for name in names]
            # Each block is one graph.
            rows = run.compare(f"{case}, {nodes:,} nodes", contestants, seconds=10, block=1e-9, unit=nodes)
            show(rows)
            build = build or rows
    run.target("ns a node to build", build[0].median * 1e9, 450)
    for graph in graphs.values():
        graph.drop()

    replays(run, graphs["tinyml"])


def replays(run: Run, graph: Graph) -> None:
    """The recorded graph: forward, and forward with backward."""

    def both() -> Any:
        root = graph.build()
        root.backward()
        return root

    with tinyml.no_grad():
        forward = tinyml.compile(graph.build)
        expected = forward().data
    both = tinyml.compile(both)
    assert both().data == expected
    assert both().data == expected

    def forwards(n: int) -> None:
        with tinyml.no_grad():
            for _ in range(n):
                forward()

    contestants = [
        Contestant("forward", forwards),
        Contestant.calling("forward and backward", both),
    ]
    rows = run.compare(f"replay, {graph.nodes:,} nodes", contestants, seconds=10, unit=graph.nodes)
    show(rows)
    run.target("ns a node forward", rows[0].median * 1e9, 6)
    run.target("ns a node backward", (rows[1].median - rows[0].median) * 1e9, 8)


if __name__ == "__main__":
    main(measure)
