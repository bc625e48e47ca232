"""Gradients of functions, under torch.func's names: grad, value_and_grad, vjp, jacrev.

Where PyTorch's leaves collect gradients in .grad, these return them: the function gets fresh leaves in place of the
arguments it is differentiated by, and copies without a gradient in place of others. Arguments to differentiate by are
Tensors, Values, numbers (the function gets a Value), NumPy arrays (a Tensor), and tuples, lists or dicts of these;
gradients come in the same structure, Values for Values and Tensors for Tensors, 0 where nothing flowed.

First order only: gradients are constants, and to differentiate them raises GraphError. A leaf that the function does
not get as an argument collects its gradient in .grad, as in any backward(); pass it to keep it untouched.

https://docs.pytorch.org/docs/stable/func.api.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from tinyml import _core
from tinyml._creation import stack
from tinyml._dtypes import DTYPES
from tinyml._node import Node, _array_ref
from tinyml._tree import LEAF, Form, build, builder, flatten
from tinyml.errors import ArgumentError, DTypeError, GraphError, ShapeError
from tinyml.tensor import Tensor, _operand
from tinyml.value import Value

__all__ = ["grad", "jacrev", "value_and_grad", "vjp"]

_Function = Callable[..., Any]
_Argnums = int | Sequence[int]

_NUMBER = float | int | np.integer | np.floating


def grad(f: _Function, argnums: _Argnums = 0, has_aux: bool = False) -> _Function:
    """The function that returns the gradient of f, which returns a Value or a Tensor of one element.

    argnums: the positional argument to differentiate by, or several, which makes the gradient a tuple. has_aux: f
    returns (result, anything), and the new function (gradient, anything), its nodes detached.

    The gradient of a Tensor has its shape and dtype. Calls raise DTypeError for results and arguments of other kinds,
    ShapeError for a result of several elements, GraphError for one that needs no gradient, and ArgumentError for
    argnums that are not there.

    >>> grad(lambda x: x**3)(2.0)
    Value(data=12.0, grad=0.0)
    >>> import tinyml
    >>> grad(lambda w, x: (w * x).sum(), argnums=(0, 1))(tinyml.ones(2), tinyml.tensor([3.0, 4.0]))
    (tensor([3., 4.]), tensor([1., 1.]))
    """

    @wraps(f, updated=())
    def gradient_of(*args: Any, **kwargs: Any) -> Any:
        _, gradients, aux = _differentiate("grad", f, argnums, has_aux, args, kwargs)
        return (gradients, aux) if has_aux else gradients

    return gradient_of


def value_and_grad(f: _Function, argnums: _Argnums = 0, has_aux: bool = False) -> _Function:
    """The function that returns (value, gradient) of f, in one evaluation; the value comes detached.

    With has_aux it returns ((value, anything), gradient). All else is as in grad. JAX's function; PyTorch has
    grad_and_value. https://docs.jax.dev/en/latest/_autosummary/jax.value_and_grad.html

    >>> value, gradient = value_and_grad(lambda p: p["a"] * p["b"])({"a": 2.0, "b": 5.0})
    >>> value.data, gradient["a"].data, gradient["b"].data
    (10.0, 5.0, 2.0)
    """

    @wraps(f, updated=())
    def value_and_gradient_of(*args: Any, **kwargs: Any) -> Any:
        result, gradients, aux = _differentiate("value_and_grad", f, argnums, has_aux, args, kwargs)
        value = _detached(result)
        return ((value, aux) if has_aux else value), gradients

    return value_and_gradient_of


def vjp(f: _Function, *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """(output, vjp_fn): what f returns at the primals, and the product of any vector with the Jacobian there.

    f may return a Tensor of any shape, a Value, or tuples, lists or dicts of these; the output comes detached. vjp_fn
    takes cotangents in the output's structure and shapes, as often as wanted, and returns a tuple of gradients, one for
    each primal. It raises ArgumentError for another structure and ShapeError for another shape, vjp itself what grad
    does.

    >>> import tinyml
    >>> output, vjp_fn = vjp(lambda x: x * x, tinyml.tensor([1.0, 2.0, 3.0]))
    >>> output, vjp_fn(tinyml.tensor([1.0, 0.0, 10.0]))
    (tensor([1., 4., 9.]), (tensor([ 2.,  0., 60.]),))
    """
    result, leaves, form = _call("vjp", f, range(len(primals)), primals, {})
    outputs, output_form = _outputs("vjp", result)

    def vjp_fn(cotangents: Any) -> tuple[Any, ...]:
        given, given_form = flatten(cotangents)
        if given_form != output_form:
            raise ArgumentError("vjp: the cotangents differ in structure from the output; expected the same nesting")
        _clear(leaves)
        for output, cotangent in zip(outputs, given, strict=True):
            _sweep(output, _operand("vjp", cotangent, DTYPES[_core.dtype_of(output._ref)]))
        return _gradients(form, leaves)  # type: ignore[no-any-return]

    return build(output_form, map(_detached, outputs)), vjp_fn


def jacrev(f: _Function, argnums: _Argnums = 0) -> _Function:
    """The function that returns the Jacobian of f, a sweep for each element of what f returns.

    For a result of shape (r...) and an argument of shape (a...) it has shape (r..., a...), and is a Tensor; of a Value
    by a Value, a Value. Where results or arguments come in tuples, lists or dicts, it comes in the results' structure,
    and within in the arguments'. argnums and errors are grad's.

    >>> import tinyml
    >>> jacrev(lambda x: x * x)(tinyml.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    >>> [y.data for y in jacrev(lambda x: [x * x, x + 1])(3.0)]
    [6.0, 1.0]
    """

    @wraps(f, updated=())
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        result, leaves, form = _call("jacrev", f, argnums, args, kwargs)
        outputs, output_form = _outputs("jacrev", result)
        return build(output_form, (build(form, iter(_jacobians(output, leaves))) for output in outputs))

    return jacobian_of


# -- arguments


def _fresh(name: str, x: Any) -> Node:
    """A leaf of its own for an argument to differentiate by."""
    if isinstance(x, Node):
        leaf: Node = x._kind._wrap(_core.detach(x._ref))
    elif isinstance(x, _NUMBER):
        return Value(float(x))  # which requires a gradient
    elif isinstance(x, np.ndarray):
        leaf = _operand(name, x)
    else:
        raise DTypeError(
            f"{name}: got {type(x).__name__} to differentiate by, expected Tensors, Values, numbers or NumPy arrays, "
            "or tuples, lists or dicts of these; choose the argument with argnums"
        )
    try:
        _core.set_requires_grad(leaf._ref, True)
    except DTypeError as error:
        raise DTypeError(f"{name}: an argument to differentiate by does not take a gradient: {error}") from None
    return leaf


def _detached(x: Any) -> Any:
    """x such that nothing flows to it: nodes that require a gradient as copies without, alone or in containers."""
    if isinstance(x, Node):
        return x._kind._wrap(_core.detach(x._ref)) if _core.requires_grad(x._ref) else x
    if isinstance(x, tuple | list | dict):
        leaves, form = flatten(x)
        if any(isinstance(leaf, Node) for leaf in leaves):
            return build(form, map(_detached, leaves))
    return x


def _take(name: str, x: Any, leaves: list[Node]) -> tuple[Any, Form]:
    """What f gets for an argument to differentiate by, whose leaves join the others, and the form they are in."""
    if not isinstance(x, tuple | list | dict):
        leaf = _fresh(name, x)
        leaves.append(leaf)
        return leaf, LEAF
    given, form = flatten(x)
    fresh = [_fresh(name, leaf) for leaf in given]
    leaves += fresh
    return build(form, iter(fresh)), form


def _call(
    name: str, f: _Function, argnums: _Argnums, args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Any, list[Any], Form]:
    """What f returns for fresh leaves in the places of argnums; those leaves, and the form they are in."""
    n = len(args)
    taken: list[Any] = [None] * n
    leaves: list[Node] = []
    forms: dict[int, Form] = {}
    for argnum in (argnums,) if isinstance(argnums, int) else argnums:
        if not -n <= argnum < n or argnum % n in forms:
            raise ArgumentError(
                f"{name}: got argnums {argnums} and {n} positional arguments, expected the places of some of them, "
                "each once; pass what to differentiate by in its place, not by name"
            )
        place = argnum % n
        taken[place], forms[place] = _take(name, args[place], leaves)
    for i in range(n):
        if i not in forms:
            taken[i] = _detached(args[i])
    if kwargs:
        kwargs = {key: _detached(x) for key, x in kwargs.items()}
    form = forms[place] if isinstance(argnums, int) else (tuple, None, tuple(forms.values()))
    enabled = _core.set_grad_enabled(True)
    try:
        return f(*taken, **kwargs), leaves, form
    finally:
        _core.set_grad_enabled(bool(enabled))


# -- results


def _differentiate(
    name: str, f: _Function, argnums: _Argnums, has_aux: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Node, Any, Any]:
    """(result, gradients, aux)"""
    result, leaves, form = _call(name, f, argnums, args, kwargs)
    aux = None
    if has_aux:
        if not (isinstance(result, tuple) and len(result) == 2):
            raise DTypeError(f"{name}: has_aux=True, but the function returned {type(result).__name__}, not a pair")
        result, aux = result[0], _detached(result[1])
    if not isinstance(result, Node):
        raise DTypeError(
            f"{name}: the function returned {type(result).__name__}, expected a Value or a Tensor of one element"
            + ("; has_aux=True lets it return a pair" if isinstance(result, tuple) else "")
        )
    if _core.size(result._ref) != 1:
        raise ShapeError(
            f"{name}: the function returned shape {_core.shape(result._ref)}, expected one element; reduce it (.sum(), "
            ".mean()), or use vjp or jacrev"
        )
    try:
        _core.backward(result._ref)
    except GraphError:
        raise _no_gradient(name) from None
    return result, _gradients(form, leaves), aux


def _no_gradient(name: str) -> GraphError:
    return GraphError(
        f"{name}: no gradient flows from what the function returned; it is a constant, or was cut off (detach(), "
        "numpy(), no_grad(), or a gradient taken within: first order only)"
    )


def _outputs(name: str, result: Any) -> tuple[list[Any], Form]:
    """The nodes that a function returned, and the form they are in."""
    outputs, form = flatten(result)
    for output in outputs:
        if not isinstance(output, Node):
            raise DTypeError(
                f"{name}: the function returned {type(output).__name__}, expected Tensors or Values, or tuples, lists "
                "or dicts of them"
            )
    if outputs and not any(_core.requires_grad(output._ref) for output in outputs):
        raise _no_gradient(name)
    return outputs, form


def _sweep(output: Node, cotangent: Node) -> None:
    if _core.requires_grad(output._ref):
        _core.backward(output._ref, cotangent._ref)


def _clear(leaves: Sequence[Node]) -> None:
    _core.zero_grad(_core.refs([leaf._ref for leaf in leaves]))


def _zeros(dtype: int, shape: Sequence[int]) -> int:
    return _core.leaf(dtype, shape, None, False)


def _gradient(leaf: Any) -> Any:
    """The gradient of a leaf as a node: a recording sees nodes, not numbers."""
    ref = leaf._ref
    return leaf._kind._wrap(_core.grad(ref) or _zeros(_core.dtype_of(ref), _core.shape(ref)))


def _gradients(form: Form, leaves: Sequence[Any]) -> Any:
    return builder(form)([_gradient(leaf) for leaf in leaves])


def _jacobians(output: Any, leaves: Sequence[Any]) -> list[Any]:
    """The Jacobian of one output by each leaf."""
    shape = _core.shape(output._ref)
    rows = []
    for i in range(_core.size(output._ref)):
        cotangent = np.zeros(shape, DTYPES[_core.dtype_of(output._ref)].numpy)
        cotangent.reshape(-1)[i] = 1
        _clear(leaves)
        _sweep(output, Tensor._wrap(_array_ref(cotangent)))
        rows.append([_gradient(leaf) for leaf in leaves])
    if isinstance(output, Value):
        return rows[0]
    return [
        stack([row[k] for row in rows]).reshape(*shape, *_core.shape(leaf._ref))
        if rows
        else Tensor._wrap(_zeros(_core.dtype_of(leaf._ref), (*shape, *_core.shape(leaf._ref))))
        for k, leaf in enumerate(leaves)
    ]
