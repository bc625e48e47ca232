"""Functions of nodes under torch's names: tinyml.exp(x), tinyml.where(c, a, b), tinyml.sum(values)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, TypeAlias

from tinyml import _core
from tinyml._node import Node
from tinyml.errors import ArgumentError, DTypeError, ShapeError
from tinyml.tensor import Dims, Tensor, _apply, _beside, _operand
from tinyml.value import Value

_WHERE, _ADD_N, _DOT = _core.op("where"), _core.op("add_n"), _core.op("dot")

#: Activations that a neuron ends in, in the order of csrc/ops/scalars.h.
ACTIVATIONS = ("linear", "relu", "tanh", "sigmoid", "leaky_relu")


def _function(name: str) -> Callable[[Any], Any]:
    def function(input: Any) -> Any:
        return getattr(_operand(name, input), name)()

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"x.{name}() of a Tensor, a Value or anything that tinyml.tensor takes."
    return function


abs = _function("abs")
exp = _function("exp")
log = _function("log")
sqrt = _function("sqrt")
sin = _function("sin")
cos = _function("cos")
tanh = _function("tanh")
sigmoid = _function("sigmoid")
relu = _function("relu")
erf = _function("erf")


def where(condition: Any, input: Any, other: Any) -> Tensor:
    """input where the condition holds, other elsewhere; all three broadcast. No gradient flows to what was not picked.

    >>> import tinyml
    >>> where(tinyml.tensor([True, False]), 1.0, 2.0)
    tensor([1., 2.])
    """
    a, b = _beside("where", input, [other]), _beside("where", other, [input])
    return _apply(_WHERE, (a, b, _operand("where", condition)))


def maximum(input: Any, other: Any) -> Any:
    """The larger of each pair of elements; equal ones share the gradient."""
    return _beside("maximum", input, [other]).maximum(other)


def minimum(input: Any, other: Any) -> Any:
    """The smaller of each pair of elements; equal ones share the gradient."""
    return _beside("minimum", input, [other]).minimum(other)


def clamp(input: Any, min: float | None = None, max: float | None = None) -> Any:
    """Every element brought into [min, max]."""
    return _operand("clamp", input).clamp(min, max)


def matmul(input: Any, other: Any) -> Tensor:
    """The matrix product input @ other."""
    return _beside("matmul", input, [other]) @ other  # type: ignore[no-any-return]


def sum(input: Any, dim: Dims = None, keepdim: bool = False) -> Any:
    """The sum of a tensor over some dimensions; of a list of nodes, in one node, what + between them gives.

    Such a list holds Values, Tensors of one shape and numbers; the sum is a Value, or a Tensor of that shape. Raises
    ShapeError for Tensors of different shapes.

    >>> sum([Value(1.0), Value(2.0), Value(3.0)])
    Value(data=6.0, grad=0.0)
    """
    if isinstance(input, list | tuple) and any(isinstance(x, Node) for x in input):
        nodes = _nodes("sum", input)
        return _result(_core.apply(_ADD_N, [x._ref for x in nodes]))
    return _operand("sum", input).sum(dim, keepdim)


def dot(weights: Any, inputs: Any, bias: Any = None, activation: str = "linear") -> Any:
    """The inner product of two vectors. Of sequences of nodes: one node, plus a bias, through an activation.

    Such sequences hold Values, numbers, which count as constants, and Tensors of one shape (B,), whose elements are
    independent computations side by side: then the result is a Tensor (B,), else a Value. Raises ShapeError when
    lengths or shapes differ, ArgumentError for an activation other than linear, relu, tanh, sigmoid or leaky_relu.

    >>> dot([Value(1.0), Value(2.0)], [3.0, 4.0], bias=Value(-1.0))
    Value(data=10.0, grad=0.0)
    >>> import tinyml
    >>> dot([Value(1.0), Value(2.0)], [tinyml.tensor([3.0, 0.0]), tinyml.tensor([4.0, 1.0])])
    tensor([11.,  2.], op=dot)
    """
    if isinstance(weights, Tensor) or isinstance(inputs, Tensor):
        return _beside("dot", weights, [inputs]) @ inputs
    biases = [bias] if bias is not None else [] if len(inputs) else [0.0]  # an op needs an input
    return dots(inputs, [([weights], biases, activation, Weights())])[0]


class Weights:
    """Rows of weights as C takes them, whose references are converted again only when they have changed."""

    def __init__(self) -> None:
        self._last: tuple[list[int], list[int], Any] = ([], [], _core.refs([]))

    def array(self, rows: Sequence[Sequence[Any]], biases: Sequence[Any]) -> Any:
        """The references of the rows, all of one length, one after the other, each with its bias if there are any.

        Raises AttributeError where a weight is a number.
        """
        refs, ends = [x._ref for row in rows for x in row], [x._ref for x in biases]
        before, ends_before, array = self._last
        if refs != before or ends != ends_before:
            n = len(refs) // len(rows)
            pieces = [refs[i * n : (i + 1) * n] + ends[i : i + 1] for i in range(len(rows))]
            array = _core.refs(list(chain.from_iterable(pieces)))
            self._last = refs, ends, array
        return array


#: A layer of neurons: a row of weights for each, a bias for each or none at all, the activation of all, and the Weights
#: that the caller keeps from call to call.
DotLayer: TypeAlias = tuple[Sequence[Sequence[Any]], Sequence[Any], str, Weights]


def dots(inputs: Sequence[Any], layers: Sequence[DotLayer]) -> list[Any]:
    """The dot of each row of weights with the same inputs, of the next layer's with those results, and so on.

    All in one C call, and Python objects only for the last results. Raises as dot does.

    >>> [y.data for y in dots([3.0, 4.0], [([[1.0, 2.0], [0.0, 1.0]], [0.5, 0.0], "linear", Weights())])]
    [11.5, 4.0]
    """
    nodes = _nodes("dot", inputs)
    constants: list[Any] = []  # kept until the call
    own, n_own, counts, attributes = [], [], [], []
    n = len(nodes)
    for rows, biases, activation, weights in layers:
        if activation not in ACTIVATIONS:
            raise ArgumentError(f"dot: got activation {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
        if not set(map(len, rows)) <= {n}:
            m = next(len(row) for row in rows if len(row) != n)
            raise ShapeError(f"dot: got {m} weights and {n} inputs, expected as many of each")
        try:
            own.append(weights.array(rows, biases))
        except AttributeError:
            rows, biases = [_nodes("dot", row) for row in rows], _nodes("dot", biases)
            constants += [rows, biases]
            own.append(weights.array(rows, biases))
        # A product has no order: the inputs, which the rows share, stand where the op has the weights.
        n_own.append(n + (len(biases) > 0))
        attributes += [n, ACTIVATIONS.index(activation)]
        n = len(rows)
        counts.append(n)
    refs, rank = _core.apply_layers(_DOT, [x._ref for x in nodes], own, n_own, counts, attributes)
    return [_result(ref) for ref in refs] if rank else [Value._wrap(ref) for ref in refs]


def _nodes(op: str, sequence: Iterable[Any]) -> list[Node]:
    """The nodes of a sequence, with numbers as nodes that need no gradient."""
    return [x if isinstance(x, Node) else _constant(op, i, x) for i, x in enumerate(sequence)]


def _constant(op: str, place: int, x: Any) -> Value:
    try:
        constant = Value(x)
    except DTypeError:
        got = type(x).__name__
        raise DTypeError(f"{op}: element {place} is {got}, expected a Value, a Tensor or a number") from None
    constant.requires_grad = False
    return constant


def _result(ref: int) -> Any:
    return (Tensor if _core.rank(ref) else Value)._wrap(ref)
