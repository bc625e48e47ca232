"""What bounds gradients between backward() and step(): clip_grad_norm_ and clip_grad_value_."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tinyml import _core
from tinyml._node import Node
from tinyml.errors import DTypeError, GraphError
from tinyml.tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def _refs(function: str, parameters: Node | Iterable[Node]) -> Any:
    nodes = [parameters] if isinstance(parameters, Node) else list(parameters)
    for node in nodes:
        if not isinstance(node, Node):
            raise DTypeError(
                f"{function}: got a {type(node).__name__}, expected Tensors or Values; pass model.parameters()"
            )
    return _core.refs([node._ref for node in nodes])


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
