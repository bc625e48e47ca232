"""Checks gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyml._dtypes import Array, float64
from tinyml._node import Node, no_grad
from tinyml.errors import ArgumentError, GraphError
from tinyml.tensor import Tensor, tensor
from tinyml.value import Value


class GradcheckError(GraphError):
    """A gradient differs from its finite difference."""


def _nodes(result: Any) -> list[Any]:
    results = list(result) if isinstance(result, tuple | list) else [result]
    return [x for x in results if isinstance(x, Node)]


def _numbers(node: Any) -> Array:
    """A copy of a node's data, flat."""
    return np.array([node.data]) if isinstance(node, Value) else node.detach().numpy().reshape(-1).copy()


def _write(node: Any, position: int, number: float) -> None:
    if isinstance(node, Value):
        node.data = number
    elif node.ndim:
        node.detach().numpy().reshape(-1)[position] = number
    else:
        node.data = tensor(number, dtype=node.dtype)


def _gradient(node: Any) -> Array:
    """A copy of a leaf's gradient, flat; zeros where none arrived."""
    if isinstance(node, Value):
        return np.array([node.grad])
    return np.zeros(node.numel()) if node.grad is None else node.grad.numpy().reshape(-1).copy()


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Whether the gradients of func(*inputs) agree with central differences, element by element.

    inputs: float64 Tensors or Values, one or a tuple; those that require a gradient are checked and must be leaves;
    their `grad` is left as it was. func returns one node or several, of any shape, and gives the same result every
    time. An entry passes when |analytic - numeric| <= atol + rtol * |numeric|. Raises GradcheckError for the first that
    does not, or returns False without raise_exception; ArgumentError for inputs that cannot be checked.
    https://docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradcheck.html

    >>> import tinyml
    >>> x = tinyml.tensor([0.3, -1.2], dtype="float64", requires_grad=True)
    >>> gradcheck(lambda x: (x * x).exp(), x)
    True
    """
    inputs = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    checked = [x for x in inputs if isinstance(x, Node) and x.requires_grad]
    if not checked:
        raise ArgumentError("gradcheck: no input requires a gradient; make one with requires_grad=True")
    for x in checked:
        if not x.is_leaf:
            raise ArgumentError("gradcheck: an input is a result, expected leaves; use .detach().requires_grad_()")
        if isinstance(x, Tensor) and x.dtype is not float64:
            raise ArgumentError(f"gradcheck: an input is {x.dtype}, too coarse for differences; expected float64")
    outputs = {o: node for o, node in enumerate(_nodes(func(*inputs))) if node.requires_grad}
    if not outputs:
        raise ArgumentError("gradcheck: no output of func requires a gradient")
    for o, output in outputs.items():
        jacobian = _analytic(output, checked)
        for i, x in enumerate(checked):
            numeric = _numeric(func, inputs, o, x, eps)
            wrong = np.abs(jacobian[i] - numeric) > atol + rtol * np.abs(numeric)
            wrong |= np.isnan(jacobian[i]) != np.isnan(numeric)
            if wrong.any():
                row, column = np.argwhere(wrong)[0]
                if not raise_exception:
                    return False
                raise GradcheckError(
                    f"gradcheck: output {o} element {row} by input {i} element {column}: "
                    f"backward gives {jacobian[i][row, column]:.10g}, differences give {numeric[row, column]:.10g}"
                )
    return True


def _analytic(output: Any, inputs: Sequence[Any]) -> list[Array]:
    """One backward per output element: a row of each input's Jacobian."""
    kept = [x.grad.clone() if isinstance(x, Tensor) and x.grad is not None else x.grad for x in inputs]
    size = 1 if isinstance(output, Value) else output.numel()
    jacobian = [np.zeros((size, len(_numbers(x)))) for x in inputs]
    for row in range(size):
        for x in inputs:
            x.grad = 0.0 if isinstance(x, Value) else None
        if isinstance(output, Value):
            output.backward()
        else:
            seed = np.zeros(size)
            seed[row] = 1
            output.backward(tensor(seed.reshape(output.shape), dtype=output.dtype))
        for i, x in enumerate(inputs):
            jacobian[i][row] = _gradient(x)
    for x, gradient in zip(inputs, kept, strict=True):
        x.grad = gradient
    return jacobian


def _numeric(func: Callable[..., Any], inputs: Sequence[Any], o: int, x: Any, eps: float) -> Array:
    """Central differences of output o by input x; its data is restored exactly."""

    def output() -> Array:
        return _numbers(_nodes(func(*inputs))[o])

    columns = []
    numbers = _numbers(x)
    with no_grad():
        for position, number in enumerate(numbers):
            _write(x, position, number + eps)
            above = output()
            _write(x, position, number - eps)
            below = output()
            _write(x, position, number)
            columns.append((above - below) / (2 * eps))
    rows = len(output()) if not columns else len(columns[0])
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0))
