"""Schedulers, which change an optimizer's learning rates by epoch, under torch.optim.lr_scheduler's names."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tinyml.errors import ArgumentError, DTypeError
from tinyml.optim._optimizer import Optimizer

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "SequentialLR",
    "StepLR",
]


class LRScheduler(ABC):
    """Base of all schedulers: calls `get_lr` in every step, for the rates of the epoch `last_epoch`.

    https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate. A new scheduler sets the rates of epoch
    0; each `step()`, after the optimizer's, goes on to the next epoch, which may as well be a batch. The rates before
    are kept in the groups as 'initial_lr', and in `base_lrs`. Steps recorded by tinyml.compile follow, as long as the
    scheduler's own steps are outside of the compiled function.

    last_epoch: -1 to begin; else the optimizer's groups, 'initial_lr' included, are taken as they are for the epoch
    after that one. (In PyTorch some schedulers then move on.)

    Raises DTypeError for what is no tinyml optimizer, ArgumentError for settings out of range.
    """

    last_epoch: int
    base_lrs: list[float]

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise DTypeError(f"{self._name}: got a {type(optimizer).__name__}, expected an optimizer of tinyml.optim")
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ArgumentError(
                    f"{self._name}: got last_epoch {last_epoch}, and a parameter group without 'initial_lr'; "
                    "load the optimizer's state first, or begin with last_epoch=-1"
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        if last_epoch == -1:
            self.step()
        else:
            self.last_epoch += 1
            self._note()

    @property
    def _name(self) -> str:
        return type(self).__name__

    @abstractmethod
    def get_lr(self) -> list[float]:
        """The rates of `last_epoch`, one for each group, which still has that of the epoch before."""

    def step(self) -> None:
        """Goes on to the next epoch and sets its rates."""
        groups = self.optimizer.param_groups
        if len(groups) != len(self.base_lrs):
            raise ArgumentError(
                f"{self._name}: the optimizer has {len(groups)} parameter groups, expected {len(self.base_lrs)}; "
                "make the scheduler after the last add_param_group"
            )
        self.last_epoch += 1
        for group, lr in zip(groups, self.get_lr(), strict=True):
            group["lr"] = lr
        self._note()

    def _note(self) -> None:
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _restart(self) -> None:
        """Begins again, from the initial rates."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self.last_epoch = -1
        self.step()

    def get_last_lr(self) -> list[float]:
        """The rates that this scheduler has set last, one for each group."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, whose state_dict has the rates themselves, and functions."""
        return {name: value for name, value in vars(self).items() if name not in ("optimizer", "lr_lambdas")}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what state_dict() gave; the rates come with the optimizer's.

        Raises ArgumentError, and changes nothing, when the names are not those of this kind of scheduler.
        """
        names = self.state_dict().keys()
        if names != state_dict.keys():
            raise ArgumentError(f"{self._name}: got a state of {sorted(state_dict)}, expected {sorted(names)}")
        vars(self).update(state_dict)

    def _require(self, condition: bool, name: str, value: Any, expected: str) -> None:
        if not condition:
            raise ArgumentError(f"{self._name}: {name} is {value}, expected {expected}")

    def _per_group(self, name: str, value: Any) -> list[Any]:
        """One value for each group, whether one was given or a list."""
        n = len(self.optimizer.param_groups)
        values = list(value) if isinstance(value, list | tuple) else [value] * n
        self._require(len(values) == n, name, value, f"one, or a list of {n}, one for each parameter group")
        return values


class _Chained(LRScheduler):
    """Schedulers that multiply the rates as they find them, so that several may work on one optimizer."""

    @abstractmethod
    def _factor(self) -> float:
        """What the arrival of `last_epoch` multiplies the rates by."""

    def get_lr(self) -> list[float]:
        """The rates of `last_epoch`."""
        factor = self._factor()
        return [group["lr"] * factor for group in self.optimizer.param_groups]


class StepLR(_Chained):
    """Multiplies the rates by gamma every step_size epochs.

    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.StepLR.html

    >>> import tinyml
    >>> optimizer = tinyml.optim.SGD([tinyml.Value(1.0)], lr=1.0)
    >>> scheduler = StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(4):
    ...     optimizer.step()
    ...     scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self._require(step_size >= 1, "step_size", step_size, "at least 1")
        self._require(gamma >= 0, "gamma", gamma, "0 or more")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        return self.gamma if self.last_epoch and self.last_epoch % self.step_size == 0 else 1.0


class MultiStepLR(_Chained):
    """Multiplies the rates by gamma at each of the milestones; one that is listed twice counts twice.

    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.MultiStepLR.html
    """

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self._require(gamma >= 0, "gamma", gamma, "0 or more")
        self.milestones = list(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        return float(self.gamma ** self.milestones.count(self.last_epoch))


class ExponentialLR(_Chained):
    """Multiplies the rates by gamma every epoch.

    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ExponentialLR.html
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self._require(gamma >= 0, "gamma", gamma, "0 or more")
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        return self.gamma if self.last_epoch else 1.0


class ConstantLR(_Chained):
    """The rates times factor, until after total_iters epochs they are back.

    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ConstantLR.html. A factor of 0, from which
    there is no way back by multiplication, is refused.
    """

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        self._require(0 < factor <= 1, "factor", factor, "a number above 0 and up to 1")
        self._require(total_iters >= 1, "total_iters", total_iters, "at least 1")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        if self.last_epoch == 0:
            return self.factor
        return 1 / self.factor if self.last_epoch == self.total_iters else 1.0


class LinearLR(_Chained):
    """A linear warm-up: the rates times a factor that goes from start_factor to end_factor within total_iters epochs.

    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.LinearLR.html

    >>> import tinyml
    >>> optimizer = tinyml.optim.SGD([tinyml.Value(1.0)], lr=0.8)
    >>> scheduler = LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> scheduler.get_last_lr()
    [0.4]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self._require(0 < start_factor <= 1, "start_factor", start_factor, "a number above 0 and up to 1")
        self._require(0 <= end_factor <= 1, "end_factor", end_factor, "a number from 0 to 1")
        self._require(total_iters >= 1, "total_iters", total_iters, "at least 1")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        if self.last_epoch > self.total_iters:
            return 1.0
        before, now = [
            self.start_factor + (self.end_factor - self.start_factor) * epoch / self.total_iters
            for epoch in (self.last_epoch - 1, self.last_epoch)
        ]
        return now / before if self.last_epoch else now


class CosineAnnealingLR(LRScheduler):
    """Half a wave of a cosine from the initial rates down to eta_min, in T_max epochs, then up again, and so on.

    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.CosineAnnealingLR.html, which is without
    warm restarts: Loshchilov and Hutter, https://arxiv.org/abs/1608.03983.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self._require(T_max >= 1, "T_max", T_max, "at least 1")
        self._require(eta_min >= 0, "eta_min", eta_min, "0 or more")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rates of `last_epoch`: as _Chained, but of what is above eta_min, and the way up needs a first step."""
        before, now = [1 + math.cos(math.pi * epoch / self.T_max) for epoch in (self.last_epoch - 1, self.last_epoch)]
        rates = [group["lr"] for group in self.optimizer.param_groups]
        if self.last_epoch == 0:
            return rates
        if (self.last_epoch - 1) % (2 * self.T_max) == self.T_max:  # has been at the lowest point
            return [lr + (base - self.eta_min) * now / 2 for lr, base in zip(rates, self.base_lrs, strict=True)]
        return [self.eta_min + (lr - self.eta_min) * now / before for lr in rates]


class LambdaLR(LRScheduler):
    """The initial rates times lr_lambda(epoch), a function, or a list with one for each parameter group.

    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.LambdaLR.html. Functions are no part of the
    state_dict.

    >>> import tinyml
    >>> optimizer = tinyml.optim.SGD([tinyml.Value(1.0)], lr=1.0)
    >>> scheduler = LambdaLR(optimizer, lambda step: 1.0 - 0.9 * step / 100)
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.991]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = optimizer
        self.lr_lambdas = self._per_group("lr_lambda", lr_lambda)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rates of `last_epoch`."""
        return [base * factor(self.last_epoch) for base, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class OneCycleLR(LRScheduler):
    """The rates go up from max_lr / div_factor to max_lr and down to a final_div_factor-th of where they began.

    Smith and Topin, https://arxiv.org/abs/1708.07120, as in
    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.OneCycleLR.html. To be stepped after every
    batch, of which there are total_steps, or epochs * steps_per_epoch. The way up takes the share pct_start of them;
    with three_phase so does a way down to where the rates began, before they fall to the end. anneal_strategy: "cos" or
    "linear". cycle_momentum: momentum, or Adam's first beta, moves the other way, between max_momentum and
    base_momentum. max_lr and both momenta may be lists, one number for each parameter group.

    step() raises ArgumentError when all steps have been made.

    >>> import tinyml
    >>> optimizer = tinyml.optim.SGD([tinyml.Value(1.0)], lr=1.0, momentum=0.9)
    >>> scheduler = OneCycleLR(optimizer, max_lr=0.5, total_steps=10, div_factor=10)
    >>> for _ in range(2):
    ...     scheduler.step()
    >>> scheduler.get_last_lr(), optimizer.param_groups[0]["momentum"]
    ([0.5], 0.85)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = optimizer
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ArgumentError("OneCycleLR: got neither total_steps nor both of epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        self._require(total_steps >= 1, "total_steps", total_steps, "at least 1")
        self._require(0 <= pct_start <= 1, "pct_start", pct_start, "a share from 0 to 1")
        self._require(anneal_strategy in ("cos", "linear"), "anneal_strategy", anneal_strategy, "'cos' or 'linear'")
        self._require(div_factor > 0, "div_factor", div_factor, "a number above 0")
        self._require(final_div_factor > 0, "final_div_factor", final_div_factor, "a number above 0")
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        high = self._per_group("max_lr", max_lr)
        first = [lr / div_factor for lr in high]
        last = [lr / final_div_factor for lr in first]
        slow, fast = self._per_group("max_momentum", max_momentum), self._per_group("base_momentum", base_momentum)
        top = pct_start * total_steps - 1
        #: The ways of the cycle: the step each ends with, and the rates and momenta it ends at. The first is no way.
        self.ways: list[tuple[float, list[float], list[float]]] = [(0, first, slow), (top, high, fast)]
        if three_phase:
            self.ways.append((2 * top, first, slow))
        self.ways.append((total_steps - 1, last, slow))
        self.momentum_name = self._momentum_name() if cycle_momentum else None
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, first, strict=True):
                group["initial_lr"] = lr
        super().__init__(optimizer, last_epoch)

    def _momentum_name(self) -> str:
        for name in ("betas", "momentum"):
            if name in self.optimizer.defaults:
                return name
        raise ArgumentError(
            f"OneCycleLR: {type(self.optimizer).__name__} has neither momentum nor betas; pass cycle_momentum=False"
        )

    def get_lr(self) -> list[float]:
        """The rates of `last_epoch`; sets the momenta."""
        step = self.last_epoch
        if step > self.total_steps:
            raise ArgumentError(f"OneCycleLR: got step {step}, expected at most total_steps {self.total_steps}")
        way = next((i for i in range(1, len(self.ways)) if step <= self.ways[i][0]), len(self.ways) - 1)
        start, rates, momenta = self.ways[way - 1]
        end, next_rates, next_momenta = self.ways[way]
        share = min(1.0, (step - start) / (end - start)) if end > start else 1.0
        if self.momentum_name:
            for i, group in enumerate(self.optimizer.param_groups):
                momentum = self._between(momenta[i], next_momenta[i], share)
                betas = self.momentum_name == "betas"
                group[self.momentum_name] = (momentum, *group["betas"][1:]) if betas else momentum
        return [self._between(a, b, share) for a, b in zip(rates, next_rates, strict=True)]

    def _between(self, a: float, b: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return a + (b - a) * share
        return b + (a - b) / 2 * (1 + math.cos(math.pi * share))


class SequentialLR(LRScheduler):
    """Schedulers of one optimizer one after the other: each milestone is the epoch at which the next one begins.

    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.SequentialLR.html

    >>> import tinyml
    >>> optimizer = tinyml.optim.SGD([tinyml.Value(1.0)], lr=1.0)
    >>> warmup, rest = LinearLR(optimizer, 0.5, total_iters=2), CosineAnnealingLR(optimizer, T_max=10)
    >>> scheduler = SequentialLR(optimizer, [warmup, rest], milestones=[2])
    >>> rates = [scheduler.get_last_lr()[0]]
    >>> for _ in range(2):
    ...     scheduler.step()
    ...     rates += scheduler.get_last_lr()
    >>> rates
    [0.5, 0.75, 1.0]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        if len(milestones) != len(schedulers) - 1:
            raise ArgumentError(
                f"SequentialLR: got {len(schedulers)} schedulers and {len(milestones)} milestones, "
                "expected a milestone less than schedulers"
            )
        for i, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise DTypeError(f"SequentialLR: scheduler {i} is a {type(scheduler).__name__}, expected a scheduler")
            if scheduler.optimizer is not optimizer:
                raise ArgumentError(f"SequentialLR: scheduler {i} has another optimizer; make all of them for one")
        self._schedulers = list(schedulers)
        self.milestones = list(milestones)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rates that the scheduler in charge has set."""
        return self._in_charge().get_last_lr()

    def step(self) -> None:
        """A step of the scheduler in charge."""
        self.last_epoch += 1
        if self.last_epoch in (0, *self.milestones):
            self._in_charge()._restart()
        else:
            self._in_charge().step()
        self._note()

    def _in_charge(self) -> LRScheduler:
        return self._schedulers[bisect_right(self.milestones, self.last_epoch)]

    def state_dict(self) -> dict[str, Any]:
        """As for the others, with the states of the schedulers."""
        return {**super().state_dict(), "_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As for the others."""
        schedulers = self._schedulers
        super().load_state_dict(state_dict)
        self._schedulers = schedulers
        for scheduler, state in zip(schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)
