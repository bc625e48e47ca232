"""What stands behind a node: its graph, walked without recursion, facts about its nodes, and all that as text."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyml import _core
from tinyml._dtypes import DTYPES, Array
from tinyml._node import Node
from tinyml.errors import ArgumentError, DTypeError

_FEW = 4  # elements: arrays with more are described, not shown
_MOST_INPUTS = 8  # that a line names

#: Nodes by reference, each with the references of its inputs.
Graph = dict[int, list[int]]


class Facts(NamedTuple):
    """What there is to show of a node. op: empty for leaves; data, grad: empty where missing, data also where long."""

    op: str
    shape: tuple[int, ...]
    dtype: str
    requires_grad: bool
    data: str
    grad: str

    @property
    def kind(self) -> str:
        """The op; of a leaf whether it has a gradient."""
        return self.op or ("leaf" if self.requires_grad else "constant")


def graph_behind(roots: Iterable[int]) -> Graph:
    """All nodes behind some, those first that are fewest steps away. It holds while the roots live."""
    graph: Graph = {}
    queue = deque(roots)
    while queue:
        ref = queue.popleft()
        if ref not in graph:
            graph[ref] = _core.borrowed_inputs(ref)
            queue.extend(graph[ref])
    return graph


def in_order(graph: Graph, shown: Collection[int]) -> list[int]:
    """Some nodes of a graph, each after all that were made from it."""
    waiting = dict.fromkeys(shown, 0)
    for ref in shown:
        for each in graph[ref]:
            if each in waiting:
                waiting[each] += 1
    ready = [ref for ref, users in reversed(waiting.items()) if not users]
    order = []
    while ready:
        ref = ready.pop()
        order.append(ref)
        for each in reversed(graph[ref]):
            if each in waiting:
                waiting[each] -= 1
                if not waiting[each]:
                    ready.append(each)
    return order


def names_of(op: str, names: Any) -> dict[int, str]:
    """Names by reference, from a Module, whose parameters and buffers have dotted names, or a mapping name: node."""
    if names is None:
        return {}
    if hasattr(names, "named_parameters"):
        pairs = [*names.named_parameters(), *names.named_buffers()]
    elif isinstance(names, Mapping):
        pairs = list(names.items())
    else:
        raise DTypeError(f"{op}: got names in a {type(names).__name__}, expected a Module or a dict from name to node")
    for name, node in pairs:
        if not isinstance(node, Node):
            raise DTypeError(f"{op}: got a {type(node).__name__} named {name!r}, expected a Value or a Tensor")
    return {node._ref: str(name) for name, node in pairs}


def facts(ref: int) -> Facts:
    """The facts about a node. Of a long gradient there is the norm."""
    gradient = _core.grad(ref) if _core.requires_grad(ref) else 0
    return Facts(
        _core.op_of(ref),
        _core.shape(ref),
        DTYPES[_core.dtype_of(ref)].name,
        bool(_core.requires_grad(ref)),
        _short(_core.detach(ref)),
        _short(gradient, long="norm ") if gradient else "",
    )


def _short(ref: int, long: str = "") -> str:
    """The numbers of a node, where they are few, else `long` with their norm; takes the reference over."""
    array: Array = Node._array_kind._wrap(ref)._array()  # type: ignore[attr-defined]
    if array.size <= _FEW:
        return _text(array.tolist())
    return f"{long}{_text(float(np.linalg.norm(array)))}" if long else ""


def _text(data: Any) -> str:
    if isinstance(data, list):
        return f"[{', '.join(map(_text, data))}]"
    return f"{data:.5g}" if isinstance(data, float) else str(data)


def check_most(op: str, max_nodes: int) -> None:
    """Raises ArgumentError for a limit that leaves nothing."""
    if max_nodes < 1:
        raise ArgumentError(f"{op}: got max_nodes {max_nodes}, expected at least 1")


def text_graph(root: Node, *, names: Any = None, max_nodes: int = 100) -> str:
    """The graph behind a Value or a Tensor as text: a line for each node, the root first, each after all made from it.

    A line has the op with its inputs, by their numbers, and what there is of shape and dtype, data, and gradient, which
    Values and leaves keep, others after retain_grad(). Arrays of more than four elements have no data here, and their
    gradient's norm. Constants without dimensions, such as the 2 in x**2, have no lines of their own.

    names: a Module, whose parameters get their dotted names, or a dict from name to node. max_nodes: how many lines
    there may be; those fewest steps from the root are shown.

    Raises ArgumentError for max_nodes below 1, DTypeError for what is no node.

    >>> from tinyml import Value
    >>> a, b = Value(2.0), Value(-3.0)
    >>> c = a * b + b**2
    >>> c.backward()
    >>> print(text_graph(c, names={"a": a, "b": b}))
    node              data  grad
    #1 = add(#2, #4)     3     1
    #2 = mul(#3, #5)    -6     1
    #3 = a               2    -3
    #4 = pow(#5, 2)      9     1
    #5 = b              -3    -4
    """
    if not isinstance(root, Node):
        raise DTypeError(f"text_graph: got {type(root).__name__}, expected a Value or a Tensor")
    check_most("text_graph", max_nodes)
    graph, named = graph_behind([root._ref]), names_of("text_graph", names)

    def is_number(ref: int) -> bool:
        plain = not (_core.op_of(ref) or _core.rank(ref) or _core.requires_grad(ref))
        return plain and ref not in named and ref != root._ref

    nodes = [ref for ref in graph if not is_number(ref)]
    order = in_order(graph, nodes[:max_nodes])
    numbers = {ref: f"#{i}" for i, ref in enumerate(order, 1)}

    def operand(ref: int) -> str:
        return numbers.get(ref) or (facts(ref).data if is_number(ref) else "...")

    table = [("node", "shape", "dtype", "data", "grad")]
    for ref in order:
        known, inputs = facts(ref), graph[ref]
        text = named.get(ref, known.kind if not inputs else "")
        if inputs:
            listed = [operand(each) for each in inputs[:_MOST_INPUTS]]
            more = [f"... {len(inputs):,} in all"] if len(inputs) > _MOST_INPUTS else []
            text += f"{': ' if text else ''}{known.op}({', '.join([*listed, *more])})"
        table.append((f"{numbers[ref]} = {text}", str(known.shape), known.dtype, known.data, known.grad))
    lines = _columns(table)
    if len(nodes) > max_nodes:
        lines.append(f"... and {len(nodes) - max_nodes:,} more nodes")
    return "\n".join(lines)


def _columns(table: Sequence[tuple[str, ...]]) -> list[str]:
    """A table's lines, without columns that tell nothing: empty ones, and shape and dtype where all are numbers."""
    columns = list(zip(*table, strict=True))
    if set(columns[1][1:]) == {"()"} and set(columns[2][1:]) == {"float64"}:
        del columns[1:3]
    columns = [column for column in columns if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    right = [
        column[0] in ("data", "grad") and not any(cell.startswith(("[", "n")) for cell in column[1:])
        for column in columns
    ]
    rows = zip(*columns, strict=True)
    cells = [
        [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        for row in rows
    ]
    return ["  ".join(row).rstrip() for row in cells]
