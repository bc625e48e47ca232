"""RMSprop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyml.optim._optimizer import Optimizer, Parameters, UpdateRule

# By centered, then by whether there is momentum.
_RULES = [
    [
        UpdateRule("rmsprop", "step", "square_avg"),
        UpdateRule("rmsprop_momentum", "step", "square_avg", "momentum_buffer"),
    ],
    [
        UpdateRule("rmsprop_centered", "step", "square_avg", "grad_avg"),
        UpdateRule("rmsprop_centered_momentum", "step", "square_avg", "grad_avg", "momentum_buffer"),
    ],
]


class RMSprop(Optimizer):
    """Steps of lr * g / (sqrt(v) + eps), where v is a running mean of g^2 with weight alpha of the past.

    Tieleman and Hinton, 2012, as in https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html, with its
    default values. g is the gradient plus weight_decay * p; centered subtracts the square of the mean gradient from v,
    which makes it a variance; momentum adds up the steps before they are multiplied by lr; maximize climbs instead.

    Raises ArgumentError when lr, alpha, eps, weight_decay or momentum is negative; and as Optimizer does for the
    parameters.

    >>> import tinyml
    >>> w = tinyml.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = RMSprop([w], lr=0.1, alpha=0.75)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([ 0.8, -1.8])
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
                "maximize": maximize,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "alpha", "eps", "weight_decay", "momentum"):
            self._require(group[name] >= 0, group, name, "0 or more")

    def _update(self, group: dict[str, Any]) -> tuple[UpdateRule, Sequence[float]]:
        rule = _RULES[bool(group["centered"])][group["momentum"] > 0]
        hyper = [group["lr"], group["weight_decay"], group["maximize"]]
        return rule, [*hyper, group["alpha"], group["eps"], group["momentum"]]
