"""Adagrad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyml.optim._optimizer import Optimizer, Parameters, UpdateRule

_RULE = UpdateRule("adagrad", "step", "sum")


class Adagrad(Optimizer):
    """Steps of lr * g / (sqrt(v) + eps), where v is the sum of g^2 over all steps.

    Duchi, Hazan and Singer, https://jmlr.org/papers/v12/duchi11a.html, as in
    https://docs.pytorch.org/docs/stable/generated/torch.optim.Adagrad.html, with its default values. g is the gradient
    plus weight_decay * p; v starts at initial_accumulator_value; in step t, lr is divided by 1 + (t - 1) * lr_decay;
    maximize climbs instead.

    Raises ArgumentError when one of these numbers is negative; and as Optimizer does for the parameters.

    >>> import tinyml
    >>> w = tinyml.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = Adagrad([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([ 0.9, -1.9])
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "eps": eps,
                "maximize": maximize,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"):
            self._require(group[name] >= 0, group, name, "0 or more")

    def _initial(self, group: dict[str, Any], state: str) -> float:
        return float(group["initial_accumulator_value"]) if state == "sum" else 0.0

    def _update(self, group: dict[str, Any]) -> tuple[UpdateRule, Sequence[float]]:
        hyper = [group["lr"], group["weight_decay"], group["maximize"]]
        return _RULE, [*hyper, group["lr_decay"], group["eps"]]
