"""What Value and Tensor share: a handle on a C node, the operators, the gradient switch.

An operator is one Python frame and one C call: `a * b` looks up nothing and goes to apply2 with the address of the op's
row.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from contextlib import ContextDecorator
from typing import Any, ClassVar, TypeVar, cast

import numpy as np

from tinyml import _core
from tinyml._core import apply1, apply2, apply_number, fail
from tinyml._dtypes import Array, as_dtype, as_supported
from tinyml.errors import ArgumentError, DTypeError

_new = object.__new__
_NUMBER_KIND = {float: 0, int: 1, bool: 2}

N = TypeVar("N", bound="Node")


def _interrupt_again() -> None:
    """Sends Ctrl-C once more, in a moment: it fell into __del__, where Python would print it and go on."""
    threading.Timer(0.001, _thread.interrupt_main).start()


class Node:
    """A node of the graph. Its subclasses are Value, a float64 scalar, and Tensor, an array."""

    __slots__ = ("_ref",)

    _ref: int
    #: The class of results: Value or Tensor, also for their subclasses.
    _kind: ClassVar[type[Node]]
    #: The class of results that are arrays; tensor.py fills it in, so that nothing here imports it.
    _array_kind: ClassVar[type[Node]]

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Any:
        raise DTypeError(f"{cls.__name__}: make one with tinyml.tensor(data) or tinyml.Value(data)")

    def __del__(self, _release: Callable[[int], None] = _core.release) -> None:
        try:
            _release(self._ref)
        except KeyboardInterrupt:
            _interrupt_again()

    @classmethod
    def _wrap(cls: type[N], ref: int) -> N:
        """The Python object for a reference that it takes over."""
        node = _new(cls)
        node._ref = ref
        return node

    def __hash__(self) -> int:
        return hash(self._ref)

    def __reduce__(self) -> Any:
        raise DTypeError(
            f"{type(self).__name__}: a node lives in one process and cannot be pickled; "
            "save its numbers (.data, .numpy(), state_dict())"
        )

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to this node. Assignable on leaves; GraphError on results."""
        return bool(_core.requires_grad(self._ref))

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        _core.set_requires_grad(self._ref, requires_grad)

    @property
    def is_leaf(self) -> bool:
        """Whether no graph stands behind this node: it was made, not computed, or needs no gradient."""
        return bool(_core.is_leaf(self._ref))


def _array_ref(array: Array) -> int:
    """A leaf with a copy of a NumPy array."""
    array = as_supported(array)
    return _core.leaf(as_dtype(array.dtype).code, array.shape, array, False)


def _mixed(op: int, node: Node, other: Any, reverse: bool) -> Any:
    """node op other (reverse: other op node), where other is not of node's class."""
    kind = node._kind
    if isinstance(other, Node):
        if other._kind is not kind:
            kind = Node._array_kind
    elif isinstance(other, np.ndarray):
        kind = Node._array_kind
        other = kind._wrap(_array_ref(other))
    elif isinstance(other, float | int | np.number | np.bool_) and not isinstance(other, np.complexfloating):
        number = other.item() if isinstance(other, np.generic) else other
        number_kind = 2 if isinstance(number, bool) else 1 if isinstance(number, int) else 0
        return kind._wrap(apply_number(op, node._ref, number, number_kind, reverse) or fail())
    else:
        return NotImplemented
    first, second = (other, node) if reverse else (node, other)
    return kind._wrap(apply2(op, first._ref, second._ref) or fail())


def binary(name: str) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """The operator of an op of two operands, and its reflection for what stands on the left without knowing nodes."""
    op = _core.op(name)

    def forward(self: Node, other: Any) -> Any:
        kind = self._kind
        other_type = type(other)
        if other_type is kind:
            ref = apply2(op, self._ref, other._ref)
        elif other_type in _NUMBER_KIND:
            ref = apply_number(op, self._ref, other, _NUMBER_KIND[other_type], False)
        else:
            return _mixed(op, self, other, False)
        if not ref:
            fail()
        result = _new(kind)
        result._ref = ref
        return result

    def reflected(self: Node, other: Any) -> Any:
        other_type = type(other)
        if other_type not in _NUMBER_KIND:
            return _mixed(op, self, other, True)
        ref = apply_number(op, self._ref, other, _NUMBER_KIND[other_type], True)
        if not ref:
            fail()
        result = _new(self._kind)
        result._ref = ref
        return result

    forward.__name__ = forward.__qualname__ = name
    reflected.__name__ = reflected.__qualname__ = f"r{name}"
    return forward, reflected


def method(name: str, doc: str) -> Callable[[Any, Any], Any]:
    """The same by name, a.maximum(b): where an operator would leave the other operand a try, it raises DTypeError."""
    forward = binary(name)[0]

    def called(self: Node, other: Any) -> Any:
        result = forward(self, other)
        if result is NotImplemented:
            raise DTypeError(f"{name}: got {type(other).__name__}, expected a tensor, a NumPy array or a number")
        return result

    called.__name__ = called.__qualname__ = name
    called.__doc__ = doc
    return called


def unary(name: str, doc: str | None = None) -> Callable[[N], N]:
    """The method of an op of one operand."""
    op = _core.op(name)

    def called(self: Any) -> Any:
        kind = self._kind
        ref = apply1(op, self._ref)
        if not ref:
            fail()
        result = _new(kind)
        result._ref = ref
        return result

    called.__name__ = called.__qualname__ = name
    called.__doc__ = doc
    return called


_LEAKY_RELU, _ELU, _CLAMP, _SOFTPLUS = (_core.op(name) for name in ("leaky_relu", "elu", "clamp", "softplus"))
_GELU = {"none": _core.op("gelu"), "tanh": _core.op("gelu_tanh")}


class Arithmetic(Node):
    """The operators and functions that Value and Tensor have in common, one line each."""

    __slots__ = ()

    __add__, __radd__ = binary("add")
    __sub__, __rsub__ = binary("sub")
    __mul__, __rmul__ = binary("mul")
    __truediv__, __rtruediv__ = binary("div")
    __pow__, __rpow__ = binary("pow")

    __neg__ = unary("neg")
    __abs__ = unary("abs")

    abs = unary("abs", "The magnitude; its derivative at 0 is 0.")
    exp = unary("exp", "e to the power of each element.")
    log = unary("log", "The natural logarithm; -inf at 0, nan below.")
    sqrt = unary("sqrt", "The square root; nan below 0.")
    sin = unary("sin", "The sine, in radians.")
    cos = unary("cos", "The cosine, in radians.")
    tanh = unary("tanh", "The hyperbolic tangent.")
    sigmoid = unary("sigmoid", "1 / (1 + exp(-x)).")
    relu = unary("relu", "max(x, 0); its derivative at 0 is 0.")
    erf = unary("erf", "The error function.")
    silu = unary("silu", "x * sigmoid(x), which is also called Swish.")
    logsigmoid = unary("logsigmoid", "log(sigmoid(x)), stable for large x.")
    maximum = method("maximum", "The larger of each pair; equal ones share the gradient.")
    minimum = method("minimum", "The smaller of each pair; equal ones share the gradient.")

    def leaky_relu(self: N, negative_slope: float = 0.01) -> N:
        """x where positive, negative_slope * x elsewhere."""
        ref = _core.apply(_LEAKY_RELU, (self._ref,), (negative_slope,))
        return cast(N, self._kind._wrap(ref))

    def elu(self: N, alpha: float = 1.0) -> N:
        """x where positive, alpha * (exp(x) - 1) elsewhere."""
        return cast(N, self._kind._wrap(_core.apply(_ELU, (self._ref,), (alpha,))))

    def gelu(self: N, approximate: str = "none") -> N:
        """x times the normal distribution up to x: by erf, or with approximate="tanh" by the tanh near it."""
        op = _GELU.get(approximate)
        if op is None:
            raise ArgumentError(f"gelu: got approximate={approximate!r}, expected 'none' or 'tanh'")
        return cast(N, self._kind._wrap(_core.apply(op, (self._ref,), ())))

    def softplus(self: N, beta: float = 1.0, threshold: float = 20.0) -> N:
        """log(1 + exp(beta * x)) / beta, and x itself where beta * x is above the threshold."""
        return cast(N, self._kind._wrap(_core.apply(_SOFTPLUS, (self._ref,), (beta, threshold))))

    def clamp(self: N, min: float | None = None, max: float | None = None) -> N:
        """Every element brought into [min, max]; the gradient passes where it was inside or on a bound."""
        if min is None and max is None:
            raise ArgumentError("clamp: got neither min nor max; give at least one")
        low, high = -np.inf if min is None else min, np.inf if max is None else max
        return cast(N, self._kind._wrap(_core.apply(_CLAMP, (self._ref,), (low, high))))

    def print_graph(self, *, names: Any = None, max_nodes: int = 100, file: Any = None) -> None:
        """Prints the graph behind this node: viz.text_graph(self, names=names, max_nodes=max_nodes)."""
        from tinyml._graph import text_graph  # which imports this module

        print(text_graph(self, names=names, max_nodes=max_nodes), file=file)


class _GradMode(ContextDecorator):
    _mode: ClassVar[bool]

    def __init__(self) -> None:
        self._before: list[bool] = []

    def _recreate_cm(self) -> _GradMode:
        return type(self)()  # a decorated function may run in several threads at once

    def __enter__(self) -> None:
        self._before.append(bool(_core.set_grad_enabled(self._mode)))

    def __exit__(self, *_: object) -> None:
        _core.set_grad_enabled(self._before.pop())


class no_grad(_GradMode):
    """Within it, or within a function it decorates, results keep no graph. It holds for the calling thread.

    >>> import tinyml
    >>> x = tinyml.ones(2, requires_grad=True)
    >>> with tinyml.no_grad():
    ...     (x * 2).requires_grad
    False
    """

    _mode = False


class enable_grad(_GradMode):
    """Switches recording on again within no_grad."""

    _mode = True


def is_grad_enabled() -> bool:
    """Whether the calling thread records graphs.

    >>> is_grad_enabled()
    True
    """
    return bool(_core.grad_enabled())
