"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyml.errors import ArgumentError
from tinyml.optim._optimizer import Optimizer, Parameters, UpdateRule

_PLAIN = UpdateRule("sgd")
_MOMENTUM = UpdateRule("sgd_momentum", "step", "momentum_buffer")


class SGD(Optimizer):
    """Gradient descent, with momentum where it is not 0: p -= lr * v, where v = momentum * v + (1 -
    dampening) * g.

    https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html, with its default values. g
    is the gradient plus weight_decay * p; nesterov takes g + momentum * v instead of v; the first
    step sets v = g; maximize climbs instead.

    Raises ArgumentError when lr, momentum or weight_decay is negative, or nesterov comes without
    momentum or with dampening; and as Optimizer does for the parameters.

    >>> import tinyml
    >>> w = tinyml.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.1, momentum=0.9)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     loss = (w * w).sum()
    ...     loss.backward()
    ...     optimizer.step()
    >>> loss.item() < 1e-3
    True
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            self._require(group[name] >= 0, group, name, "0 or more")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ArgumentError(
                f"SGD: nesterov with momentum {group['momentum']} and dampening "
                f"{group['dampening']}; it requires a momentum above 0 and no dampening"
            )

    def _update(self, group: dict[str, Any]) -> tuple[UpdateRule, Sequence[float]]:
        hyper = [group["lr"], group["weight_decay"], group["maximize"]]
        if group["momentum"] == 0:
            return _PLAIN, hyper
        return _MOMENTUM, [*hyper, group["momentum"], group["dampening"], group["nesterov"]]
