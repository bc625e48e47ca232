"""Function: an op with a gradient of its own, both written in Python.

To the engine an application is a node of the op "function", whose kernels are calls to Python (csrc/function.c). It
knows the object here by a number among its attributes, and says when it is gone.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinyml import _core, _recording
from tinyml._core import Event
from tinyml._dtypes import DTYPES, Array, as_dtype, as_supported, float32, float64
from tinyml._node import Node, _interrupt_again, is_grad_enabled, no_grad
from tinyml.errors import ArgumentError, DTypeError, GraphError, ShapeError
from tinyml.tensor import Tensor
from tinyml.value import Value

_FUNCTION, _SLICE, _RESHAPE, _TO = (_core.op(name) for name in ("function", "slice", "reshape", "to"))
_EXACT = 2**53  # integers up to there are doubles

_numbers = itertools.count()
#: The applications that nodes stand for, by number; until the node is gone.
_applications: dict[int, _Application] = {}


class FunctionContext:
    """What a Function's forward leaves for its backward: `save_for_backward`, and any attribute.

    needs_input_grad: for every argument of apply, whether its gradient will be asked for.
    """

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._saved: tuple[Any, ...] = ()

    def save_for_backward(self, *arrays: Any) -> None:
        """Keeps arrays for backward, where they are `saved_tensors`."""
        self._saved = arrays

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What save_for_backward was given."""
        return self._saved


class Function:
    """A custom op over NumPy arrays and floats: subclass it with static methods forward and backward, and call apply.

    https://docs.pytorch.org/docs/stable/autograd.html#function. Among the arguments Tensors arrive in forward as NumPy
    arrays over the tensor's own memory, which are read-only, and Values as floats; all else arrives as it is. forward
    returns an array or a number, or a tuple of them for several results. apply gives Tensors; a float from Values alone
    becomes a Value. backward gets a gradient for each result, an array or a float as that is (None where it has no
    floats), and returns one for each argument of apply: an array of its shape and dtype, or a number where it has no
    dimensions; None for no gradient.

    Both run without recording a graph, and may use tinyml themselves, as on copies made with tinyml.tensor. Exceptions
    come out as they are. In a compiled function both are called again in each replay; what they get is then valid until
    the replay ends, and forward must keep to the shapes and dtypes it gave. Differences to PyTorch: arrays instead of
    tensors; no backward of backward, setup_context, jvp or mark_ methods.

    apply raises DTypeError for results that are no numbers; backward() ArgumentError, ShapeError or DTypeError for
    gradients that do not fit the arguments.

    >>> import numpy as np
    >>> import tinyml
    >>> class Cube(tinyml.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x**3
    ...
    ...     @staticmethod
    ...     def backward(ctx, dy):
    ...         (x,) = ctx.saved_tensors
    ...         return 3 * x**2 * dy
    >>> x = tinyml.tensor([1.0, 2.0], requires_grad=True)
    >>> Cube.apply(x).sum().backward()
    >>> x.grad
    tensor([ 3., 12.])
    >>> Cube.apply(tinyml.Value(2.0))
    Value(data=8.0, grad=0.0)
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        """The results, from the arguments of apply. Every subclass defines it."""
        raise NotImplementedError("Function.forward: not defined; write it as a static method of the subclass")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """The gradients of the arguments, from those of the results. Every subclass defines it."""
        raise NotImplementedError("Function.backward: not defined; write it as a static method of the subclass")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Calls forward and puts the result into the graph."""
        nodes = [arg for arg in args if isinstance(arg, Node)]
        application = _Application(cls, args)
        with _aside():
            result = application.forward(nodes)
        if not nodes:
            nodes = [Tensor._wrap(_core.leaf(float32.code, (), None, False))]  # a step of a program has an input
        number = next(_numbers)
        _applications[number] = application
        application.result = result
        try:
            attributes = (number, as_dtype(result.dtype).code, *result.shape)
            ref = _core.apply(_FUNCTION, [node._ref for node in nodes], attributes)
        except BaseException:
            _applications.pop(number, None)
            raise
        if not _core.requires_grad(ref) and _recording.active is None:
            del _applications[number]  # nobody will ask again
        return application.wrap(ref)


class _Application:
    """One call of a Function's apply: its arguments but for nodes, and what is to be remembered of it."""

    __slots__ = ("args", "ctx", "dtypes", "flows", "function", "kinds", "places", "result", "several", "shapes")

    def __init__(self, function: type[Function], args: Sequence[Any]) -> None:
        self.function = function
        self.args = [None if isinstance(arg, Node) else arg for arg in args]
        self.places = [place for place, arg in enumerate(args) if isinstance(arg, Node)]
        self.kinds = [args[place]._kind for place in self.places]
        self.ctx: FunctionContext | None = None
        self.several = False
        self.shapes: list[tuple[int, ...]] | None = None  # of the results
        self.dtypes: list[Any] = []
        self.result: Array | None = None  # all results as one array; only until the node has it
        self.flows: list[bool] | None = None  # in a recording: which inputs get a gradient

    @property
    def name(self) -> str:
        return self.function.__name__

    def forward(self, nodes: Sequence[Node]) -> Array:
        """The results of forward on these nodes, as one array."""
        args, wanted = list(self.args), [False] * len(self.args)
        for place, node in zip(self.places, nodes, strict=True):
            args[place] = _lent(node)
            wanted[place] = is_grad_enabled() and node.requires_grad
        self.ctx = FunctionContext(tuple(wanted))
        with no_grad():
            results = self.function.forward(self.ctx, *args)
        several = isinstance(results, tuple)
        number_dtype = next((node for node in map(_dtype, nodes) if node.is_floating_point), float32).numpy
        arrays = [self._array(result, number_dtype) for result in (results if several else (results,))]
        if not arrays:
            raise ArgumentError(f"{self.name}.forward: got an empty tuple, expected at least one result")
        shapes, dtypes = [array.shape for array in arrays], [array.dtype for array in arrays]
        if self.shapes is None:
            self.several, self.shapes, self.dtypes = several, shapes, dtypes
        elif (several, shapes, dtypes) != (self.several, self.shapes, self.dtypes):
            raise ShapeError(
                f"{self.name}.forward: got {_described(shapes, dtypes)} in a replay, expected "
                f"{_described(self.shapes, self.dtypes)} as recorded; leave the function that calls it uncompiled"
            )
        return self._packed(arrays) if several else arrays[0]

    def _array(self, result: Any, number_dtype: Any) -> Array:
        """A result as an array; Python's numbers in the dtype of the arguments."""
        if isinstance(result, np.ndarray | np.generic):
            return as_supported(np.asarray(result), f"{self.name}.forward")
        if isinstance(result, bool):
            return np.array(result)
        if isinstance(result, int | float):
            return np.array(result, number_dtype)
        raise DTypeError(
            f"{self.name}.forward: got {type(result).__name__}, expected a NumPy array, a number, or a tuple of them"
        )

    def _packed(self, arrays: Sequence[Array]) -> Array:
        """Several results one after the other, in their dtype or else as float64."""
        dtype = self.dtypes[0] if len(set(self.dtypes)) == 1 else float64.numpy
        for array in arrays:
            if array.dtype.kind == "i" and dtype.kind == "f" and array.size and np.abs(array).max() > _EXACT:
                raise ArgumentError(
                    f"{self.name}.forward: got integers above 2**53 beside results of another dtype, which not every "
                    "one survives; return them from a Function of their own"
                )
        return np.concatenate([array.reshape(-1).astype(dtype) for array in arrays])

    def _pieces(self) -> Iterator[tuple[slice, tuple[int, ...], Any]]:
        """Where each result is in the packed array, its shape and dtype."""
        at = 0
        for shape, dtype in zip(self.shapes or (), self.dtypes, strict=True):
            size = int(np.prod(shape, dtype=np.int64))
            yield slice(at, at + size), shape, dtype
            at += size

    def _kind(self, i: int) -> type[Node]:
        """Whether result i is a Value or a Tensor."""
        assert self.shapes is not None
        scalar = self.shapes[i] == () and self.dtypes[i] == float64.numpy
        return Value if scalar and self.kinds and all(kind is Value for kind in self.kinds) else Tensor

    def wrap(self, ref: int) -> Any:
        """The results in Python, from the node that has them all."""
        if not self.several:
            return self._kind(0)._wrap(ref)
        packed, results = Tensor._wrap(ref), []
        for i, (piece, shape, dtype) in enumerate(self._pieces()):
            part = Tensor._wrap(_core.apply(_SLICE, (packed._ref,), (piece.start, 1, piece.stop - piece.start)))
            if dtype != packed.dtype.numpy:
                part = Tensor._wrap(_core.apply(_TO, (part._ref,), (as_dtype(dtype).code,)))
            results.append(self._kind(i)._wrap(_core.apply(_RESHAPE, (part._ref,), shape)))
        return tuple(results)

    def inputs(self, ref: int) -> list[Node]:
        """The nodes among the arguments, as inputs of the node that stands for them."""
        kinds = self.kinds or [Tensor]
        return [kind._wrap(x) for kind, x in zip(kinds, _core.inputs(ref), strict=True)][: len(self.kinds)]

    def backward(self, ref: int, recorded: bool) -> None:
        """Lets the gradient of the node flow on through the Function's backward."""
        gradient, gradients = _lent(Tensor._wrap(_core.grad(ref))), []
        for i, (piece, shape, dtype) in enumerate(self._pieces()):
            part = gradient[piece].reshape(shape).astype(dtype, copy=False) if self.several else gradient
            gradients.append(None if dtype.kind != "f" else part.item() if self._kind(i) is Value else part)
        with no_grad():
            results = self.function.backward(self.ctx, *gradients)
        results = self._checked(results if isinstance(results, tuple) else (results,))
        inputs = self.inputs(ref)
        self._check_flows([result is not None for result in results], inputs, recorded)
        arrays = [self._gradient(*each) for each in zip(self.places, results, inputs, strict=True)]
        for i, array in enumerate(arrays):  # all of which are known to fit by now
            if array is not None:
                _core.function_flow(ref, i, array)

    def _checked(self, results: Sequence[Any]) -> list[Any]:
        """What backward returned for each node among the arguments."""
        if len(results) != len(self.args):
            raise ArgumentError(
                f"{self.name}.backward: got {len(results)} gradients, expected {len(self.args)}, one for each argument "
                "of apply; return None for those that have none"
            )
        for place, result in enumerate(results):
            if result is not None and place not in self.places:
                raise ArgumentError(
                    f"{self.name}.backward: got a gradient for argument {place}, a {type(self.args[place]).__name__}, "
                    "expected None: only Tensors and Values have gradients"
                )
        return [results[place] for place in self.places]

    def _gradient(self, place: int, result: Any, node: Node) -> Array | None:
        """A gradient as an array that fits its argument."""
        if result is None or not node.requires_grad:
            return None
        what = f"{self.name}.backward: the gradient of argument {place}"
        shape, dtype = _core.shape(node._ref), _dtype(node)
        if not isinstance(result, np.ndarray | np.generic | int | float):
            raise DTypeError(f"{what} is a {type(result).__name__}, expected a NumPy array, a number or None")
        if np.shape(result) != shape:
            raise ShapeError(f"{what} has shape {np.shape(result)}, expected the argument's, {shape}")
        if not shape and not isinstance(result, np.ndarray):
            result = np.array(result, dtype.numpy)
        if result.dtype != dtype.numpy:
            raise DTypeError(
                f"{what} is {result.dtype}, expected the argument's {dtype.name}; convert it with .astype()"
            )
        return np.asarray(result, order="C")

    def _check_flows(self, flows: list[bool], inputs: Sequence[Node], recorded: bool) -> None:
        """A replay repeats the sweep that was recorded: what got a gradient then must get one now."""
        before, self.flows = self.flows, flows if recorded else self.flows
        if recorded or before is None:
            return
        if any(now is not then and x.requires_grad for now, then, x in zip(flows, before, inputs, strict=True)):
            raise GraphError(
                f"{self.name}.backward: in a replay other arguments get None as gradient than when recorded; return "
                "zeros, or leave the function that calls it uncompiled"
            )


def _dtype(node: Node) -> Any:
    return DTYPES[_core.dtype_of(node._ref)]


def _lent(node: Node) -> Any:
    """The data of a node: a float, or a read-only array."""
    if isinstance(node, Value):
        return node.data
    assert isinstance(node, Tensor)
    array = node._array() if node.ndim else node._array().copy()  # which is within the node
    array.flags.writeable = False
    return array


def _described(shapes: Sequence[tuple[int, ...]], dtypes: Sequence[Any]) -> str:
    return ", ".join(f"{dtype} {shape}" for shape, dtype in zip(shapes, dtypes, strict=True))


def name_of(ref: int) -> str:
    """The name of the Function behind a node of the op "function"."""
    application = _applications.get(_core.function_number(ref))
    return application.name if application else "function"


@contextmanager
def _aside() -> Iterator[bool]:
    """Code that is no part of the recording under way, if any: as it is called again in each replay. Gives whether
    there is one."""
    program = _core.record_switch_to(0)
    recorder = _recording.active if program else None  # another thread's is none of our business
    if recorder is not None:
        _recording.active = None
    try:
        yield bool(program)
    finally:
        _core.record_switch_to(program)
        if recorder is not None:
            _recording.active = recorder


def _forward(number: int, ref: int) -> None:
    """C wants the data of a node: what apply has just computed, or in a replay what forward gives now."""
    application = _applications[number]
    result, application.result = application.result, None
    with _aside():
        if result is None:
            result = application.forward(application.inputs(ref))
        _core.store(ref, result)


def _backward(number: int, ref: int) -> None:
    with _aside() as recorded:
        _applications[number].backward(ref, recorded)


class _Gone(threading.local):
    """The numbers of nodes that this thread has let go of, and whether it is looking after them."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.busy = False


_gone = _Gone()


def _let_go(number: int, _: int) -> None:
    """A node is gone, and so is its application. What that held may be graphs with such nodes in turn: a loop."""
    numbers = _gone.numbers
    numbers.append(number)
    if _gone.busy:
        return
    _gone.busy = True
    try:
        while numbers:
            _applications.pop(numbers.pop(), None)
    except KeyboardInterrupt:  # which C would not hand on
        _interrupt_again()
    finally:
        _gone.busy = False


_core.handlers |= {Event.FORWARD: _forward, Event.BACKWARD: _backward, Event.LET_GO: _let_go}
