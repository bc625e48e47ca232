"""Value: a float64 scalar with micrograd's surface."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyml import _core, _recording
from tinyml._core import item
from tinyml._node import Arithmetic, Node
from tinyml.errors import DTypeError

_REAL = float | int | np.integer | np.floating | np.bool_

_new = object.__new__

# What micrograd calls the ops.
_SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "relu": "ReLU"}


def _number(name: str, x: Any) -> float:
    if isinstance(x, _REAL) or (isinstance(x, Node) and _core.size(x._ref) == 1):
        return float(x)  # type: ignore[arg-type]
    raise DTypeError(f"{name}: got {type(x).__name__}, expected a number; for arrays use tinyml.tensor")


class Value(Arithmetic):
    """A scalar that remembers how it was made, so that `backward()` can find its gradient.

    https://github.com/karpathy/micrograd. Differences: data is always a float64; the second `backward()` on a graph is
    right (results start from zero, leaves add up); `a - b` and `a / b` are one node each; the exponent of `**` may be a
    Value and is a node of its own; comparisons give bools.

    >>> a = Value(2.0)
    >>> b = Value(-3.0)
    >>> c = (a * b + a**2).relu() + 1
    >>> c
    Value(data=1.0, grad=0.0)
    >>> d = a * b - 3
    >>> d.backward()
    >>> a.grad, b.grad
    (-3.0, 2.0)
    """

    __slots__ = ()
    __array_ufunc__ = None  # NumPy leaves operators with arrays to Value's reflected ones

    def __new__(cls, data: float = 0.0) -> Value:  # noqa: D102
        ref = _core.value(data if type(data) is float else _number("Value", data))
        if not ref:
            _core.fail()
        value = _new(cls)
        value._ref = ref
        return value

    @property
    def data(self) -> float:
        """The number. Assignable; graphs already built see the new number in their next backward."""
        if _recording.active is not None:
            _recording.look(self._ref, "reading a Value's number (.data, float(), a comparison, printing)")
        return item(self._ref)

    @data.setter
    def data(self, data: float) -> None:
        if _core.set_item(self._ref, _number("data", data)):
            _core.fail()

    @property
    def grad(self) -> float:
        """The gradient that backward() left here; 0.0 before. Assignable."""
        if _recording.active is not None:
            _recording.look(self._ref, "reading a Value's .grad as a number")
        return _core.grad_item(self._ref)

    @grad.setter
    def grad(self, grad: float) -> None:
        if _core.set_grad_item(self._ref, _number("grad", grad)):
            _core.fail()

    def backward(self) -> None:
        """Finds the gradient of this value by every Value it was made from.

        Raises GraphError when it needs none, as under no_grad().
        """
        _core.backward(self._ref)

    def item(self) -> float:
        """The number."""
        return self.data

    @property
    def _prev(self) -> set[Value]:
        """The values this one was made from."""
        return {Value._wrap(ref) for ref in _core.inputs(self._ref)}

    @property
    def _op(self) -> str:
        """The op that made this value, by micrograd's symbols; empty for a leaf."""
        name = _core.op_of(self._ref)
        return _SYMBOLS.get(name, name)

    def __float__(self) -> float:
        return self.data

    def __int__(self) -> int:
        return int(self.data)

    def __bool__(self) -> bool:
        return self.data != 0

    # Equality is identity, as in micrograd: values are members of sets and keys of dicts.
    def __eq__(self, other: object) -> bool:
        return self._ref == other._ref if isinstance(other, Value) else NotImplemented

    __hash__ = Node.__hash__

    def __lt__(self, other: Any) -> Any:
        return self.data < float(other) if isinstance(other, Value | _REAL) else NotImplemented

    def __le__(self, other: Any) -> Any:
        return self.data <= float(other) if isinstance(other, Value | _REAL) else NotImplemented

    def __gt__(self, other: Any) -> Any:
        return self.data > float(other) if isinstance(other, Value | _REAL) else NotImplemented

    def __ge__(self, other: Any) -> Any:
        return self.data >= float(other) if isinstance(other, Value | _REAL) else NotImplemented

    def __repr__(self) -> str:
        return f"Value(data={self.data}, grad={self.grad})"


Value._kind = Value
