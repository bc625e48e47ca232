"""Reductions, and what runs along a dimension."""

from __future__ import annotations

from cases._case import SOME, Case, F, Function


def reductions(name: str) -> list[Function]:
    return [
        lambda t, x: getattr(x, name)(),
        lambda t, x: getattr(x, name)(dim=0),
        lambda t, x: getattr(x, name)(dim=-1, keepdim=True),
    ]


def several_axes(name: str) -> list[Function]:
    return [
        lambda t, x: getattr(x, name)(dim=(0, 2)),
        lambda t, x: getattr(x, name)(dim=(-1, 1), keepdim=True),
        lambda t, x: getattr(x, name)(dim=(0, 1, 2)),
    ]


CASES = [
    Case("sum", reductions("sum"), [*SOME, ((3, 0, 2),), ((0,),)]),
    Case("sum", several_axes("sum"), [((2, 3, 4),), ((2, 3, 4, 2),), ((2, 0, 4),)], name="sum_axes"),
    Case("sum", [lambda t, x: x.sum(), lambda t, x: x.sum(dim=0)], [((),)], name="sum_0d"),
    Case("mean", reductions("mean"), SOME),
    Case("mean", several_axes("mean"), [((2, 3, 4),), ((2, 3, 4, 2),)], name="mean_axes"),
    Case("prod", reductions("prod"), [*SOME[:3], ((0, 2),)], 0.5, 1.5),
    Case("max", reductions("amax"), SOME, distinct=True),
    Case("max", several_axes("amax"), [((2, 3, 4),), ((2, 3, 4, 2),)], distinct=True, name="max_axes"),
    Case(
        "max",
        [
            lambda t, x: x.max(dim=0).values,
            lambda t, x: x.max(dim=-1, keepdim=True).values,
            lambda t, x: x.max(),
        ],
        SOME,
        distinct=True,
        name="max_dim",
    ),
    Case("min", reductions("amin"), SOME, distinct=True),
    Case(
        "min",
        [lambda t, x: x.min(dim=1).values],
        [((2, 3),), ((2, 3, 4),)],
        distinct=True,
        name="min_dim",
    ),
    Case(
        "var",
        [
            lambda t, x: x.var(),
            lambda t, x: x.var(dim=0, correction=0),
            lambda t, x: x.var(dim=-1, keepdim=True, correction=0),
        ],
        [((5,),), ((2, 3, 4),), ((37, 19),)],
    ),
    Case(
        "var",
        [lambda t, x: x.var(dim=(0, 2)), lambda t, x: x.std(dim=(1, 2))],
        [((2, 3, 4),)],
        name="var_axes",
    ),
    Case(
        "argmax",
        [
            lambda t, x: x.argmax(),
            lambda t, x: x.argmax(dim=0),
            lambda t, x: x.argmax(dim=-1, keepdim=True),
        ],
        SOME,
        differentiable=False,
    ),
    Case(
        "argmin",
        [lambda t, x: x.argmin(), lambda t, x: x.argmin(dim=0)],
        SOME,
        differentiable=False,
    ),
    Case("cumsum", [lambda t, x: x.cumsum(0), lambda t, x: x.cumsum(-1)], [*SOME, ((0,),), ((3, 0),)]),
    Case(
        "softmax",
        [lambda t, x: x.softmax(0), lambda t, x: F(t).softmax(x, -1)],
        [((5,),), ((2, 3, 4),), ((3, 0),), ((37, 19),)],
    ),
    Case(
        "log_softmax",
        [lambda t, x: x.log_softmax(0), lambda t, x: F(t).log_softmax(x, -1)],
        [((5,),), ((2, 3, 4),), ((3, 0),), ((37, 19),)],
    ),
    Case(
        "logsumexp",
        [lambda t, x: x.logsumexp(0), lambda t, x: x.logsumexp(-1, keepdim=True)],
        [((5,),), ((2, 3, 4),), ((37, 19),)],
    ),
    Case("logsumexp", [lambda t, x: x.logsumexp((0, 2))], [((2, 3, 4),)], name="logsumexp_axes"),
]
