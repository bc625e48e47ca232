"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tinyml.optim._optimizer import Optimizer, Parameters, UpdateRule

_PLAIN = UpdateRule("adam", "step", "exp_avg", "exp_avg_sq")
_AMSGRAD = UpdateRule("adam_amsgrad", "step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")


class Adam(Optimizer):
    """Steps of lr * m / (sqrt(v) + eps), where m and v are running means of the gradient and of its
    square.

    Kingma and Ba, https://arxiv.org/abs/1412.6980, as in
    https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html, with its default values:
    betas are the weights of the past in m and v, whose bias to 0 is corrected; weight_decay * p is
    added to the gradient; amsgrad divides by the largest v so far (https://arxiv.org/abs/1904.09237); maximize climbs
    instead.

    Raises ArgumentError when lr, eps or weight_decay is negative or a beta is not in [0, 1); and as
    Optimizer does for the parameters.

    >>> import tinyml
    >>> w = tinyml.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([ 0.9, -1.9])
    """

    _DECOUPLED: ClassVar[bool] = False

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "eps", "weight_decay"):
            self._require(group[name] >= 0, group, name, "0 or more")
        betas = group["betas"]
        self._require(
            len(betas) == 2 and all(0 <= beta < 1 for beta in betas),
            group,
            "betas",
            "two numbers from 0 to below 1",
        )

    def _update(self, group: dict[str, Any]) -> tuple[UpdateRule, Sequence[float]]:
        hyper = [group["lr"], group["weight_decay"], group["maximize"], *group["betas"], group["eps"], self._DECOUPLED]
        return _AMSGRAD if group["amsgrad"] else _PLAIN, hyper


class AdamW(Adam):
    """Adam with decoupled weight decay: each step first shrinks the parameter by the factor 1 - lr
    * weight_decay.

    Loshchilov and Hutter, https://arxiv.org/abs/1711.05101, as in
    https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html, with its default values.
    Raises as Adam does.

    >>> import tinyml
    >>> w = tinyml.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = AdamW([w], lr=0.1, weight_decay=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([ 0.85, -1.8 ])
    """

    _DECOUPLED: ClassVar[bool] = True

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
