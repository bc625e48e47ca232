"""Optimizers, the schedulers of their learning rates, and what bounds gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity._row import Array, Row, Run, array, numbers, optimizer, tensor


def of(name: str, *options: dict[str, Any]) -> Row:
    """A row of an optimizer, one run for each set of options."""
    runs = [optimizer(lambda t, p, o=each: getattr(t.optim, name)(p, **o)) for each in options]
    return Row(f"optim.{name}", runs)


def schedule(name: str, *makers: Callable[[Any, Any], Any]) -> Row:
    """A row of a scheduler, over SGD with momentum and over Adam with two parameter groups.

    A maker gets the schedulers of a library and an optimizer.
    """

    def momentum(t: Any, p: list[Any]) -> Any:
        return t.optim.SGD(p, lr=0.005, momentum=0.9)

    def groups(t: Any, p: list[Any]) -> Any:
        return t.optim.Adam([{"params": p[:1]}, {"params": p[1:], "lr": 0.02}], lr=0.01)

    runs: list[Run] = [
        optimizer(make, lambda t, o, maker=maker: maker(t.optim.lr_scheduler, o))
        for maker in makers
        for make in (momentum, groups)
    ]
    return Row(f"optim.lr_scheduler.{name}", runs)


def chain(*schedulers: Any) -> Any:
    """Schedulers that are stepped one after the other."""

    class Both:
        def step(self) -> None:
            for each in schedulers:
                each.step()

    return Both()


def clip(name: str, *options: dict[str, Any]) -> Row:
    """A row of a function that bounds gradients: they, and what it returns."""

    def run(t: Any, o: dict[str, Any]) -> list[Array]:
        leaves = [tensor(t, numbers(shape, 3)) for shape in ((4, 5), (7,), ())]
        for x in leaves[1:]:
            (x**3).sum().backward()
        norm = getattr(t.nn.utils, name)(leaves, **o)
        return [*(array(x.grad) for x in leaves), np.zeros(0) if norm is None else array(norm)]

    return Row(f"nn.utils.{name}", [lambda t, o=each: run(t, o) for each in options])


ROWS = [
    clip("clip_grad_value_", {"clip_value": 0.5}),
    clip(
        "clip_grad_norm_",
        {"max_norm": 1.0},
        {"max_norm": 100.0},
        {"max_norm": 0.1, "norm_type": 1.0},
        {"max_norm": 0.1, "norm_type": float("inf")},
        {"max_norm": 0.1, "norm_type": 3.0},
    ),
    of(
        "SGD",
        {"lr": 0.01},
        {"lr": 0.01, "weight_decay": 0.1},
        {"lr": 0.01, "momentum": 0.8},
        {"lr": 0.01, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1},
        {"lr": 0.005, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        {"lr": 1e-5, "momentum": 0.5, "maximize": True},
    ),
    of(
        "Adam",
        {},
        {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6},
        {"lr": 0.01, "weight_decay": 0.1},
        {"lr": 0.05, "amsgrad": True},
        {"lr": 0.001, "maximize": True, "amsgrad": True, "weight_decay": 0.1},
    ),
    of(
        "AdamW",
        {},
        {"lr": 0.01, "weight_decay": 0.3},
        {"lr": 0.05, "betas": (0.5, 0.9), "amsgrad": True},
        {"lr": 0.001, "maximize": True},
    ),
    of(
        "RMSprop",
        {},
        {"lr": 0.003, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1},
        {"lr": 0.002, "momentum": 0.9},
        {"lr": 0.005, "centered": True},
        {"lr": 0.001, "centered": True, "momentum": 0.7, "weight_decay": 0.01},
        {"lr": 0.001, "maximize": True},
    ),
    of(
        "Adagrad",
        {},
        {"lr": 0.1, "lr_decay": 0.05, "weight_decay": 0.1},
        {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-6},
        {"lr": 0.01, "maximize": True},
    ),
    schedule(
        "StepLR",
        lambda s, o: s.StepLR(o, 30),
        lambda s, o: s.StepLR(o, step_size=7, gamma=0.8),
    ),
    schedule("MultiStepLR", lambda s, o: s.MultiStepLR(o, [20, 50, 50, 80], gamma=0.5)),
    schedule("ConstantLR", lambda s, o: s.ConstantLR(o), lambda s, o: s.ConstantLR(o, 0.2, 40)),
    schedule(
        "LinearLR",
        lambda s, o: s.LinearLR(o),
        lambda s, o: s.LinearLR(o, 1.0, 0.0, 60),
        lambda s, o: s.LinearLR(o, start_factor=0.1, end_factor=0.7, total_iters=20),
    ),
    schedule("ExponentialLR", lambda s, o: s.ExponentialLR(o, gamma=0.97)),
    schedule(
        "CosineAnnealingLR",
        lambda s, o: s.CosineAnnealingLR(o, 99),
        lambda s, o: s.CosineAnnealingLR(o, T_max=15, eta_min=1e-3),
        lambda s, o: s.CosineAnnealingLR(o, 1),
    ),
    schedule("LambdaLR", lambda s, o: s.LambdaLR(o, lambda epoch: 1 - 0.9 * epoch / 100)),
    schedule(
        "OneCycleLR",
        lambda s, o: s.OneCycleLR(o, max_lr=0.005, total_steps=100),
        lambda s, o: s.OneCycleLR(o, 0.005, epochs=10, steps_per_epoch=10, anneal_strategy="linear", three_phase=True),
        lambda s, o: s.OneCycleLR(
            o, [0.004] * len(o.param_groups), 130, pct_start=0.6, div_factor=5.0, final_div_factor=10.0
        ),
        lambda s, o: s.OneCycleLR(o, 0.005, 100, base_momentum=0.7, max_momentum=0.8, three_phase=True),
        lambda s, o: s.OneCycleLR(o, 0.005, 100, cycle_momentum=False, pct_start=0.0),
    ),
    schedule(
        "SequentialLR",
        lambda s, o: s.SequentialLR(o, [s.LinearLR(o, 0.1, total_iters=10), s.CosineAnnealingLR(o, 90)], [10]),
        lambda s, o: s.SequentialLR(
            o, [s.ConstantLR(o, 0.5, 100), s.ExponentialLR(o, 0.95), s.StepLR(o, 5, 0.5)], milestones=[20, 60]
        ),
        lambda s, o: s.SequentialLR(o, [s.LinearLR(o, 0.1), s.OneCycleLR(o, 0.005, 80)], milestones=[20]),
        lambda s, o: s.SequentialLR(o, [s.StepLR(o, 2), s.LambdaLR(o, lambda epoch: 0.9**epoch)], milestones=[5]),
    ),
    schedule(
        "LRScheduler",
        lambda s, o: chain(s.ExponentialLR(o, 0.99), s.StepLR(o, 20, 0.5)),
        lambda s, o: chain(s.LinearLR(o, 0.1, total_iters=20), s.MultiStepLR(o, [50], 0.1), s.ConstantLR(o, 0.5, 7)),
        lambda s, o: chain(s.CosineAnnealingLR(o, 40, 1e-3), s.StepLR(o, 30, 0.5)),
    ),
]
