"""Functions of nodes under torch's names: tinyml.exp(x), tinyml.where(c, a, b), tinyml.sum(values)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinyml import _core
from tinyml._node import Node
from tinyml.errors import ArgumentError, DTypeError, ShapeError
from tinyml.tensor import Dims, Tensor, _apply, _beside, _operand
from tinyml.value import Value

_WHERE, _ADD_N, _DOT = _core.op("where"), _core.op("add_n"), _core.op("dot")

#: Activations that a neuron ends in, in the order of csrc/ops/scalars.h.
ACTIVATIONS = ("linear", "relu", "tanh", "sigmoid")


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
    """The sum of a tensor over some dimensions; of a sequence of Values, in one node, as a Value.

    >>> sum([Value(1.0), Value(2.0), Value(3.0)])
    Value(data=6.0, grad=0.0)
    """
    if isinstance(input, Node | int | float) or not _all_values(input):
        return _operand("sum", input).sum(dim, keepdim)
    return Value._wrap(_core.apply(_ADD_N, _refs("sum", input)))


def dot(weights: Any, inputs: Any, bias: Value | None = None, activation: str = "linear") -> Any:
    """The inner product of two vectors. Of sequences of Values: one node, plus a bias, through an activation.

    A number among the Values counts as a constant. Raises ShapeError when the lengths differ, ArgumentError for an
    activation other than linear, relu, tanh or sigmoid.

    >>> dot([Value(1.0), Value(2.0)], [3.0, 4.0], bias=Value(-1.0))
    Value(data=10.0, grad=0.0)
    """
    if isinstance(weights, Tensor) or isinstance(inputs, Tensor):
        return _beside("dot", weights, [inputs]) @ inputs
    return dots([weights], inputs, None if bias is None else [bias], activation)[0]


def dots(
    rows: Sequence[Sequence[Any]],
    inputs: Sequence[Any],
    biases: Sequence[Any] | None = None,
    activation: str = "linear",
) -> list[Value]:
    """The dot of each row of weights with the same inputs, all in one C call: a layer of neurons.

    Raises as dot does.

    >>> [y.data for y in dots([[Value(1.0), Value(2.0)], [Value(0.0), Value(1.0)]], [3.0, 4.0])]
    [11.0, 4.0]
    """
    if activation not in ACTIVATIONS:
        raise ArgumentError(f"dot: got activation {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    if biases is not None and len(biases) != len(rows):
        raise ShapeError(f"dot: got {len(biases)} biases for {len(rows)} rows of weights, expected as many of each")
    xs = _constants(inputs)
    if not xs and biases is None:
        biases = [0.0] * len(rows)  # the op needs an input
    nodes: list[Node] = []
    for i, row in enumerate(rows):
        if len(row) != len(xs):
            raise ShapeError(f"dot: got {len(row)} weights and {len(xs)} inputs, expected as many of each")
        nodes += _constants(row)
        nodes += xs
        if biases is not None:
            nodes += _constants(biases[i : i + 1])
    if not rows:
        return []
    attributes = (len(xs), ACTIVATIONS.index(activation))
    return [Value._wrap(ref) for ref in _core.apply_rows(_DOT, [node._ref for node in nodes], len(rows), attributes)]


def _constants(sequence: Sequence[Any]) -> list[Node]:
    """The nodes of a sequence, with numbers as nodes that need no gradient."""
    return [x if isinstance(x, Node) else _constant(x) for x in sequence]


def _constant(x: Any) -> Value:
    constant = Value(x)
    constant.requires_grad = False
    return constant


def _all_values(sequence: Any) -> bool:
    return len(sequence) > 0 and all(isinstance(x, Value) for x in sequence)


def _refs(op: str, values: Sequence[Any]) -> list[int]:
    for i, x in enumerate(values):
        if not isinstance(x, Value):
            raise DTypeError(f"{op}: element {i} is {type(x).__name__}, expected a Value")
    return [x._ref for x in values]
