"""dot: graphs in DOT, the language of Graphviz."""

from __future__ import annotations

import textwrap
from typing import Any, TypeAlias

from tinyml._graph import check_most, facts, graph_behind, names_of
from tinyml._node import Node
from tinyml.errors import DTypeError
from tinyml.viz._trace import Call, Graph

#: What is drawn: a node, by its reference, or a call of a module as a box.
Item: TypeAlias = "int | Call"

_STYLE = """\
    graph [fontname="Helvetica", fontsize=10, color="#9aa5b1", fontcolor="#52606d", style=rounded]
    node [fontname="Helvetica", fontsize=10, shape=box, style="rounded,filled", fillcolor=white, color="#52606d"]
    edge [color="#7b8794", arrowsize=0.7]"""
_LEAF, _CONSTANT, _MODULE = "#d9f2d9", "#eeeeee", "#d6e6f9"


def dot(
    root: Node | Graph,
    *,
    names: Any = None,
    max_nodes: int = 300,
    collapse: bool | int = True,
    rankdir: str | None = None,
) -> str:
    """The graph behind a node in DOT, the language of Graphviz.

    Every node has its op, shape, dtype and gradient, small ones their data; leaves are filled: green those with a
    gradient, grey constants. names: a Module, whose parameters get their dotted names, or a dict from name to node.
    max_nodes: how many there may be; those fewest steps from the root are drawn, and one says how many are missing.

    root may be what `trace` gives. Then collapse tells which calls of modules become boxes without their inside: True,
    those that call no other module; an int, besides these all at that depth (0 is the model itself); False, none. The
    others are frames. rankdir: where the graph runs, by default "LR", and "TB" where there are modules.

    Raises ArgumentError for max_nodes below 1, DTypeError for what is no node.

    >>> from tinyml import Value
    >>> a, b = Value(2.0), Value(-3.0)
    >>> print(dot(a * b, names={"a": a}))
    digraph {
        rankdir=LR
    ...
        n1 [label="mul\\ndata -6", penwidth=2]
        n2 [label="a\\ndata 2", style=filled, fillcolor="#d9f2d9"]
        n3 [label="leaf\\ndata -3", style=filled, fillcolor="#d9f2d9"]
        n2 -> n1
        n3 -> n1
    }
    """
    if isinstance(root, Node):
        root = Graph(root, {})
    if not isinstance(root, Graph):
        raise DTypeError(f"dot: got {type(root).__name__}, expected a Value, a Tensor or what viz.trace gives")
    check_most("dot", max_nodes)
    return _Writer(root, {**root.names, **names_of("dot", names)}, max_nodes, collapse).text(rankdir)


class _Writer:
    def __init__(self, graph: Graph, names: dict[int, str], most: int, collapse: bool | int) -> None:
        self._graph, self._names, self._collapse = graph, names, collapse
        behind = graph_behind(node._ref for node in graph.roots)
        items = {ref: self._item(ref) for ref in behind}
        self._roots = {items[node._ref] for node in graph.roots}
        every = list(dict.fromkeys(items.values()))
        self._ids: dict[Item, str] = {item: f"n{i}" for i, item in enumerate(every[:most], 1)}
        self._missing = len(every) - len(self._ids)
        edges = []
        for ref, inputs in behind.items():
            if items[ref] in self._ids:
                edges += [(items[each], items[ref]) for each in inputs if items[each] is not items[ref]]
        between = [edge for edge in edges if all(isinstance(end, int) for end in edge)]
        self._edges = [*between, *dict.fromkeys(edge for edge in edges if not all(isinstance(x, int) for x in edge))]

    def _item(self, ref: int) -> Item:
        """The box that a node is in, or itself."""
        item: Item = ref
        call = self._graph.owners.get(ref)
        while call:
            if self._closed(call):
                item = call
            call = call.outer
        return item

    def _closed(self, call: Call) -> bool:
        if self._collapse is False:
            return False
        return not call.has_inner or (self._collapse is not True and call.depth >= self._collapse)

    def text(self, rankdir: str | None) -> str:
        """All of it."""
        members: dict[Call | None, list[Item]] = {}  # of each frame; None: of none
        for item in self._ids:
            frame = item.outer if isinstance(item, Call) else self._graph.owners.get(item)
            members.setdefault(frame, []).append(item)
            while frame:  # an outer one that has nothing of its own
                frame = frame.outer
                members.setdefault(frame, [])
        direction = rankdir or ("TB" if any(self._graph.owners.values()) else "LR")
        lines = ["digraph {", f"    rankdir={direction}", _STYLE, *self._frame(None, members, "    ")]
        missing = {end for start, end in self._edges if start not in self._ids}
        if self._missing:
            text = f"... and {self._missing:,} more {'node' if self._missing == 1 else 'nodes'}"
            lines.append(f"    more [label={_quoted(text)}, shape=plaintext, style=solid]")
        lines += [f"    {self._ids[a]} -> {self._ids[b]}" for a, b in self._edges if a in self._ids]
        lines += [f"    more -> {self._ids[item]} [style=dashed]" for item in self._ids if item in missing]
        return "\n".join([*lines, "}"])

    def _frame(self, frame: Call | None, members: dict[Call | None, list[Item]], margin: str) -> list[str]:
        """The nodes in a frame and the frames within. It calls itself only as deep as modules called each other."""
        lines = [f"{margin}{self._ids[item]} [{self._attributes(item)}]" for item in members.get(frame, [])]
        for inner in members:
            if inner is not None and inner.outer is frame:
                lines.append(f"{margin}subgraph cluster_{id(inner)} {{")
                lines.append(f"{margin}    label={_quoted(_title(inner))}")
                lines += self._frame(inner, members, margin + "    ")
                lines.append(f"{margin}}}")
        return lines

    def _attributes(self, item: Item) -> str:
        if isinstance(item, Call):
            attributes = f"label={_quoted(_box(item))}, style=filled, fillcolor={_quoted(_MODULE)}"
        else:
            known = facts(item)
            name = self._names.get(item)
            lines = [f"{name}: {known.kind}" if name and known.op else name or known.kind]
            if known.shape or known.dtype != "float64":
                lines.append(f"{known.shape} {known.dtype}" if known.shape else known.dtype)
            lines += [f"data {known.data}"] if known.data else []
            lines += [f"grad {known.grad}"] if known.grad else []
            attributes = f"label={_quoted(chr(10).join(lines))}"
            if not known.op:
                attributes += f", style=filled, fillcolor={_quoted(_LEAF if known.requires_grad else _CONSTANT)}"
        return f"{attributes}, penwidth=2" if item in self._roots else attributes


def _title(call: Call) -> str:
    kind = type(call.module).__name__
    return f"{call.name}: {kind}" if call.name else kind


def _box(call: Call) -> str:
    """The lines in a box: the module, its settings, what came out, and how many parameters it has."""
    settings = "" if list(call.module.children()) else call.module.extra_repr()
    shapes = ", ".join(str(node.shape) if hasattr(node, "shape") else "a number" for node in call.results[:3])
    more = ", ..." if len(call.results) > 3 else ""
    lines = [_title(call), *textwrap.wrap(settings, 40), f"gives {shapes}{more}"]
    if count := call.module.num_parameters():
        lines.append(f"{count:,} parameters")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """A text as a string of DOT."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "\\n")
    return f'"{escaped}"'
