"""Module.summary: the layers of a network, what shapes they give, and how many parameters they have."""

from __future__ import annotations

from typing import Any, NamedTuple

from tinyml import _core, _tree
from tinyml._creation import zeros
from tinyml._dtypes import DTypeLike
from tinyml._node import Node, no_grad
from tinyml.errors import DTypeError
from tinyml.nn._mode import mode
from tinyml.nn._module import Module
from tinyml.nn._watch import watched
from tinyml.tensor import Tensor


class Row(NamedTuple):
    """A line of a Summary. output: the shapes it gave, empty where it was not called; calls: how often it was.

    parameters: the numbers in its parameters, without those in rows of their own or counted in a row before.
    """

    name: str
    kind: str
    depth: int
    output: list[tuple[int, ...]]
    calls: int
    parameters: int


class Summary:
    """What Module.summary gives; its repr is the table. parameters, trainable, buffers: how many numbers in all."""

    def __init__(self, rows: list[Row], parameters: int, trainable: int, buffers: int, size: int) -> None:
        self.rows = rows
        self.parameters = parameters
        self.trainable = trainable
        self.buffers = buffers
        self._size = size

    def __repr__(self) -> str:
        table = [("layer", "output", "parameters")]
        for row in self.rows:
            shapes = ", ".join(map(str, row.output)) or "-"
            times = f" x {row.calls}" if row.calls > 1 else ""
            count = f"{row.parameters:,}" if row.parameters else "-"
            label = f"{row.name}: {row.kind}" if row.name else row.kind
            table.append(("  " * row.depth + label, shapes + times, count))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [f"{a:{widths[0]}}  {b:{widths[1]}}  {c:>{widths[2]}}".rstrip() for a, b, c in table]
        rule = "-" * (sum(widths) + 4)
        total = f"{self.parameters:,} parameters, {self.trainable:,} trainable, {_bytes(self._size)}"
        buffers = [f"{self.buffers:,} numbers in buffers"] if self.buffers else []
        return "\n".join([lines[0], rule, *lines[1:], rule, total, *buffers])


def summary(model: Module, *inputs: Any, dtype: DTypeLike = "float32") -> Summary:
    """Runs a model once, in eval mode and without gradients, and notes what its modules give; see Module.summary."""
    arguments = [_argument(each, dtype) for each in inputs]
    outputs: dict[int, list[list[tuple[int, ...]]]] = {}

    def before(_name: str, _module: Module, _arguments: Any) -> None:
        pass

    def after(_name: str, module: Module, result: Any) -> None:
        shapes = [_core.shape(leaf._ref) for leaf in _tree.flatten(result)[0] if isinstance(leaf, Node)]
        outputs.setdefault(id(module), []).append(shapes)

    with watched(model, before, after), mode(model, training=False), no_grad():
        model(*arguments)

    rows: list[Row] = []
    seen: set[Node] = set()  # a shared parameter is counted where it is met first

    def add(name: str, module: Module, depth: int) -> None:
        given = outputs.get(id(module), [])
        inside = any(id(each) in outputs for each in module.modules())  # else one row is all that can be said
        own = [node for _, node in module._own_parameters()] if inside else module.parameters()
        new = [node for node in dict.fromkeys(own) if node not in seen]
        seen.update(new)
        rows.append(
            Row(name, type(module).__name__, depth, given[0] if given else [], len(given), sum(map(_count, new)))
        )
        if inside:
            for child_name, child in module.named_children():
                add(child_name, child, depth + 1)

    add("", model, 0)
    parameters = model.parameters()
    trainable = sum(_count(node) for node in parameters if node.requires_grad)
    size = sum(_count(node) * (node.dtype.numpy.itemsize if isinstance(node, Tensor) else 8) for node in parameters)
    buffers = sum(_count(node) for _, node in model.named_buffers())
    return Summary(rows, sum(map(_count, parameters)), trainable, buffers, size)


def _argument(given: Any, dtype: DTypeLike) -> Any:
    if isinstance(given, Node):
        return given
    if isinstance(given, tuple | list) and all(isinstance(extent, int) for extent in given):
        return zeros(tuple(given), dtype=dtype)
    raise DTypeError(
        f"summary: got {given!r}, expected a shape with the batch in it, as (1, 784), or a tensor, for each input"
    )


def _count(node: Node) -> int:
    return _core.size(node._ref)


def _bytes(size: int) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.4g} {unit}"
        size = size / 1024  # type: ignore[assignment]
    return f"{size:,.4g} GiB"
