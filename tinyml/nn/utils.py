"""What keeps parameters in bounds: penalties for the loss, and clipping of gradients between backward() and step()."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tinyml import _core
from tinyml._node import Node
from tinyml.errors import ArgumentError, DTypeError, GraphError
from tinyml.functions import dot, sum
from tinyml.tensor import Tensor, _apply
from tinyml.value import Value

__all__ = ["clip_grad_norm_", "clip_grad_value_", "l1_penalty", "l2_penalty"]

_ADD_N = _core.op("add_n")


def _nodes(function: str, parameters: Node | Iterable[Node]) -> list[Any]:
    nodes = [parameters] if isinstance(parameters, Node) else list(parameters)
    for node in nodes:
        if not isinstance(node, Node):
            raise DTypeError(
                f"{function}: got a {type(node).__name__}, expected Tensors or Values; pass model.parameters()"
            )
    return nodes


def _refs(function: str, parameters: Node | Iterable[Node]) -> Any:
    return _core.refs([node._ref for node in _nodes(function, parameters)])


def _split(function: str, parameters: Node | Iterable[Node]) -> tuple[list[Value], list[Tensor]]:
    """The Values and the Tensors among parameters."""
    nodes = _nodes(function, parameters)
    if not nodes:
        raise ArgumentError(f"{function}: got no parameters; pass model.parameters()")
    return [x for x in nodes if isinstance(x, Value)], [x for x in nodes if not isinstance(x, Value)]


def l1_penalty(parameters: Node | Iterable[Node]) -> Any:
    """The sum of |w| over every number w in the parameters, to be added to a loss; its derivative at 0 is 0.

    Tensors and Values in any mixture; of Values alone it is a Value, else a 0-d Tensor. PyTorch has none by this name.
    Raises ArgumentError for no parameters at all.

    >>> import tinyml
    >>> w = tinyml.tensor([3.0, -4.0], requires_grad=True)
    >>> (10 * l1_penalty([w, tinyml.Value(-2.0)])).item()
    90.0
    """
    values, tensors = _split("l1_penalty", parameters)
    terms = [x.abs().sum() for x in tensors] + ([sum([x.abs() for x in values])] if values else [])
    return terms[0] if len(terms) == 1 else _apply(_ADD_N, terms)


def l2_penalty(parameters: Node | Iterable[Node]) -> Any:
    """The sum of w * w over every number w in the parameters, to be added to a loss.

    As l1_penalty; many Values make one node. SGD's weight_decay=2 * c does what adding c times this to the loss does.

    >>> import tinyml
    >>> w = tinyml.tensor([3.0, -4.0], requires_grad=True)
    >>> l2_penalty(w).backward()
    >>> w.grad
    tensor([ 6., -8.])
    >>> l2_penalty([tinyml.Value(3.0), tinyml.Value(-4.0)])
    Value(data=25.0, grad=0.0)
    """
    values, tensors = _split("l2_penalty", parameters)
    terms = [(x * x).sum() for x in tensors] + ([dot(values, values)] if values else [])
    return terms[0] if len(terms) == 1 else _apply(_ADD_N, terms)


def clip_grad_norm_(
    parameters: Node | Iterable[Node],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scales all gradients by min(1, max_norm / (norm + 1e-6)), where norm is that of all of them
    as one vector.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html. Returns the
    norm before, as a 0-d float64 tensor, added up in double precision. norm_type: any
    positive number, or inf for the largest magnitude. Parameters without a gradient do not count.
    max_norm=inf only measures.

    Raises ArgumentError for a negative max_norm or a norm_type that is not positive, GraphError for
    a norm of nan or inf if error_if_nonfinite is set (then no gradient has changed), DTypeError for
    what is no Tensor or Value.

    >>> import tinyml
    >>> x = tinyml.tensor([3.0, 4.0], requires_grad=True)
    >>> (x * x / 2).sum().backward()
    >>> clip_grad_norm_([x], max_norm=1.0)
    tensor(5., dtype=tinyml.float64)
    >>> x.grad
    tensor([0.6, 0.8])
    """
    refs = _refs("clip_grad_norm_", parameters)
    if error_if_nonfinite:
        norm = Tensor._wrap(_core.clip_grad_norm(refs, math.inf, norm_type)).item()
        if not math.isfinite(norm):
            raise GraphError(
                f"clip_grad_norm_: the gradients have norm {norm}, which no factor makes finite; "
                "look for the first loss that is not finite, or pass error_if_nonfinite=False"
            )
    return Tensor._wrap(_core.clip_grad_norm(refs, max_norm, norm_type))


def clip_grad_value_(parameters: Node | Iterable[Node], clip_value: float) -> None:
    """Brings every element of every gradient into [-clip_value, clip_value]; a nan stays.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_value_.html. Raises
    ArgumentError for a negative clip_value, DTypeError for what is no Tensor or Value.

    >>> import tinyml
    >>> x = tinyml.tensor([3.0, -0.5], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> clip_grad_value_([x], 2.0)
    >>> x.grad
    tensor([ 2., -1.])
    """
    _core.clip_grad_value(_refs("clip_grad_value_", parameters), clip_value)
