"""trace: the graph that a call makes, with the modules that made its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

from tinyml import _core, _tree
from tinyml._graph import names_of
from tinyml._node import Node, enable_grad
from tinyml.errors import DTypeError
from tinyml.nn import Module
from tinyml.nn._watch import watched
from tinyml.tensor import Tensor


class Call:
    """A call of a module: by which name, how deep within other calls (0: in none), and what came out."""

    def __init__(self, name: str, module: Module, outer: Call | None) -> None:
        self.name = name
        self.module = module
        self.outer = outer
        self.depth: int = outer.depth + 1 if outer else 0
        self.has_inner = False
        self.results: list[Node] = []


class Graph:
    """A graph to look at: in a notebook, which shows it as SVG, or with dot and draw.

    result: what the traced function gave; calling backward() on it puts gradients into the picture.
    """

    def __init__(self, result: Any, names: dict[int, str], owners: dict[int, Call | None] | None = None) -> None:
        self.result = result
        self.roots = _nodes(result)
        self.names = names
        self.owners = owners or {}

    def __repr__(self) -> str:
        calls = len({id(call) for call in self.owners.values() if call})
        return f"<Graph: results: {len(self.roots)}, calls of modules: {calls}; see it with viz.draw>"

    def _repr_svg_(self) -> str | None:
        from tinyml.viz._draw import svg_or_none

        return svg_or_none(self)


def trace(function: Callable[..., Any], *inputs: Any, model: Module | None = None) -> Graph:
    """Calls function(*inputs) and notes which modules make which nodes, for pictures with a box for each module.

    function: a Module, or one that calls `model`, as a function that computes a loss. It is called once, in the mode it
    is in; tensors of floats among the inputs are replaced by copies that require a gradient, so that the graph reaches
    them.

    Raises DTypeError when the result has no Value or Tensor in it.

    >>> import tinyml
    >>> from tinyml import nn, viz
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> graph = viz.trace(model, tinyml.ones(5, 2))
    >>> graph.result.shape, graph
    ((5, 1), <Graph: results: 1, calls of modules: 3; see it with viz.draw>)
    """
    if model is None and isinstance(function, Module):
        model = function
    owners: dict[int, Call | None] = {}
    calls: list[Call] = []  # those under way
    kept: list[Any] = []  # so that no address is used again

    def claim(nodes: Iterable[Node], call: Call | None) -> None:
        """What is behind these nodes and not known yet has been made in that call."""
        waiting = [node._ref for node in nodes]
        while waiting:
            ref = waiting.pop()
            if ref not in owners:
                owners[ref] = call
                waiting.extend(_core.borrowed_inputs(ref))

    def before(name: str, module: Module, arguments: Any) -> None:
        outer = calls[-1] if calls else None
        kept.append(arguments)
        claim(_nodes(arguments), outer)
        if outer:
            outer.has_inner = True
        calls.append(Call(name, module, outer))

    def after(name: str, module: Module, result: Any) -> None:
        call = calls.pop()
        call.results = _nodes(result)
        claim(call.results, call)

    def reached(x: Any) -> Any:
        is_float = isinstance(x, Tensor) and x.dtype.is_floating_point
        return x.detach().requires_grad_() if is_float and not x.requires_grad else x

    leaves, form = _tree.flatten(inputs)
    leaves = [reached(leaf) for leaf in leaves]
    with watched(model, before, after) if model is not None else nullcontext(), enable_grad():
        result = function(*_tree.build(form, iter(leaves)))
    if not _nodes(result):
        raise DTypeError(f"trace: got {type(result).__name__} from the function, expected Values or Tensors")
    claim(_nodes(result), None)
    names = {
        node._ref: "input" if len(inputs) == 1 else f"input {i}"
        for i, tree in enumerate(_tree.build(form, iter(leaves)), 1)
        for node in _nodes(tree)
    }
    return Graph(result, {**names, **names_of("trace", model)}, owners)


def _nodes(tree: Any) -> list[Node]:
    return [leaf for leaf in _tree.flatten(tree)[0] if isinstance(leaf, Node)]
