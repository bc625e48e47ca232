"""The table of ops: one row each, run by test_ops.py against finite differences and against PyTorch.

A row's functions are written once and get the library as their first argument: `t` is tinyml or torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Function = Callable[..., Any]


@dataclass
class Case:
    op: str
    functions: list[Function]  # each with every tuple of shapes
    shapes: list[tuple[Shape, ...]]
    low: float = -2.0
    high: float = 2.0
    integers: tuple[int, int] | None = None  # the last operand is int64 in this range
    mask: bool = False  # the last operand is bool
    differentiable: bool = True
    distinct: bool = False  # no ties: values are a shuffled grid
    tolerance: float = 1.0  # factor on the float32 comparison
    name: str = ""
    shapes_per_function: bool = field(default=False)  # function i goes with shapes i only

    def arrays(self, shapes: tuple[Shape, ...], dtype: str = "float64") -> list[np.ndarray]:
        rng = np.random.default_rng(hash_of(self.op, shapes))
        arrays: list[np.ndarray] = []
        for i, shape in enumerate(shapes):
            last = i == len(shapes) - 1
            if last and self.integers:
                arrays.append(rng.integers(*self.integers, shape))
            elif last and self.mask:
                arrays.append(rng.random(shape) < 0.5)
            elif self.distinct:
                size = int(np.prod(shape))
                grid = np.linspace(self.low, self.high, size + 2)[1:-1] + 0.01 * i
                arrays.append(np.asarray(rng.permutation(grid).reshape(shape), dtype=dtype))
            else:
                numbers = rng.uniform(self.low, self.high, shape)
                arrays.append(np.asarray(numbers, dtype=dtype))
        return arrays

    def runs(self) -> list[tuple[Function, tuple[Shape, ...]]]:
        if self.shapes_per_function:
            return list(zip(self.functions, self.shapes, strict=True))
        return [(function, shapes) for function in self.functions for shapes in self.shapes]


def hash_of(*parts: Any) -> int:
    """A seed that does not change from run to run."""
    return sum(ord(c) * 31**i for i, c in enumerate(repr(parts))) % 2**32


ONE: list[tuple[Shape, ...]] = [
    ((),),
    ((1,),),
    ((5,),),
    ((2, 3, 4),),
    ((0,),),
    ((3, 0, 2),),
    ((37,),),
]
SOME: list[tuple[Shape, ...]] = [((1,),), ((5,),), ((2, 3, 4),), ((2, 3, 4, 2),), ((37, 19),)]
TWO: list[tuple[Shape, ...]] = [
    ((), ()),
    ((5,), (5,)),
    ((3, 4), (4,)),
    ((4,), (3, 4)),
    ((3, 1), (1, 4)),
    ((2, 1, 4), (3, 1)),
    ((), (3, 2)),
    ((3, 2), ()),
    ((0, 3), (3,)),
    ((1, 600), (3, 1)),
]
MATRICES: list[tuple[Shape, ...]] = [
    ((4,), (4,)),
    ((3, 4), (4,)),
    ((4,), (4, 5)),
    ((3, 4), (4, 5)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (3, 4, 2)),
    ((4,), (2, 4, 3)),
    ((2, 3, 4), (4,)),
    ((0, 4), (4, 3)),
    ((3, 0), (0, 2)),
    ((1, 1), (1, 1)),
    ((17, 33), (33, 18)),
]


def F(t: Any) -> Any:
    return t.nn.functional


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


def dot(t: Any, weights: list[Any], inputs: list[Any], bias: Any, activation: str) -> Any:
    """tinyml.dot of lists, which PyTorch lacks."""
    if t.__name__ == "tinyml":
        return t.dot(weights, inputs, bias, activation)
    total = bias + add_n(t, [w * x for w, x in zip(weights, inputs, strict=True)])
    return total if activation == "linear" else getattr(total, activation)()


def add_n(t: Any, terms: list[Any]) -> Any:
    return t.sum(terms) if t.__name__ == "tinyml" else sum(terms)


CASES = [
    Case("neg", [lambda t, x: -x], ONE),
    Case("abs", [lambda t, x: x.abs(), lambda t, x: abs(x)], ONE),
    Case("exp", [lambda t, x: x.exp()], ONE),
    Case("log", [lambda t, x: x.log()], ONE, 0.1, 3),
    Case("sqrt", [lambda t, x: x.sqrt()], ONE, 0.1, 3),
    Case("sin", [lambda t, x: x.sin()], ONE),
    Case("cos", [lambda t, x: x.cos()], ONE),
    Case("tanh", [lambda t, x: x.tanh()], ONE),
    Case("sigmoid", [lambda t, x: x.sigmoid()], ONE),
    Case("erf", [lambda t, x: x.erf()], ONE),
    Case("relu", [lambda t, x: x.relu(), lambda t, x: F(t).relu(x)], ONE),
    Case("leaky_relu", [lambda t, x: F(t).leaky_relu(x), lambda t, x: F(t).leaky_relu(x, 0.3)], ONE),
    Case(
        "clamp",
        [
            lambda t, x: x.clamp(-0.7, 1.1),
            lambda t, x: x.clamp(min=0.2),
            lambda t, x: x.clamp(max=0.4),
        ],
        ONE,
    ),
    Case("add", [lambda t, a, b: a + b], TWO),
    Case("sub", [lambda t, a, b: a - b], TWO),
    Case("mul", [lambda t, a, b: a * b], TWO),
    Case("div", [lambda t, a, b: a / b], TWO, 0.3, 2),
    Case("pow", [lambda t, a, b: a**b], TWO, 0.3, 2),
    Case("pow", [lambda t, x: x**2, lambda t, x: x**3, lambda t, x: x**1], ONE, name="pow_constant"),
    Case("pow", [lambda t, x: x**-1.5, lambda t, x: 2.0**x], ONE, 0.3, 2, name="pow_real"),
    Case(
        "add",
        [lambda t, x: x + 1, lambda t, x: 2.5 - x, lambda t, x: 3 / (x + 5)],
        ONE,
        name="numbers",
    ),
    Case("maximum", [lambda t, a, b: t.maximum(a, b)], TWO, distinct=True),
    Case("minimum", [lambda t, a, b: t.minimum(a, b)], TWO, distinct=True),
    *(
        Case(op, [function], TWO, differentiable=False)
        for op, function in {
            "eq": lambda t, a, b: a == b,
            "ne": lambda t, a, b: a != b,
            "lt": lambda t, a, b: a < b,
            "le": lambda t, a, b: a <= b,
            "gt": lambda t, a, b: a > b,
            "ge": lambda t, a, b: a >= b,
        }.items()
    ),
    Case(
        "where",
        [lambda t, a, b, c: t.where(c, a, b)],
        [
            ((), (), ()),
            ((5,), (5,), (5,)),
            ((3, 4), (4,), (3, 1)),
            ((1,), (3, 4), (4,)),
            ((0,), (1,), (0,)),
        ],
        mask=True,
    ),
    Case("to", [lambda t, x: x.float().double(), lambda t, x: x.float() * 2], ONE, tolerance=10),
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
        "reshape",
        [
            lambda t, x: x.reshape(-1),
            lambda t, x: x.reshape(2, -1),
            lambda t, x: x.reshape(3, 2, 2, 2),
        ],
        [((2, 3, 4),), ((24,),)],
    ),
    Case(
        "reshape",
        [
            lambda t, x: x.reshape(1, 1),
            lambda t, x: x.reshape(()),
            lambda t, x: x.unsqueeze(0) * 2,
            lambda t, x: x.squeeze(),
        ],
        [((),), ((1,),)],
        name="reshape_0d",
    ),
    Case(
        "reshape",
        [
            lambda t, x: x.flatten(),
            lambda t, x: x.unsqueeze(-1),
            lambda t, x: x.flatten(0, 1),
            lambda t, x: x.squeeze(1),
        ],
        [((2, 1, 4),), ((2, 3, 4),)],
        name="reshape_others",
    ),
    Case(
        "permute",
        [
            lambda t, x: x.permute(2, 0, 1),
            lambda t, x: x.transpose(0, -1),
            lambda t, x: x.permute(0, 2, 1),
            lambda t, x: x.mT,
        ],
        [((2, 3, 4),), ((2, 0, 4),), ((17, 2, 33),)],
    ),
    Case(
        "permute",
        [lambda t, x: x.T, lambda t, x: x.t()],
        [((3, 4),), ((40, 70),), ((1, 5),)],
        name="transpose",
    ),
    Case(
        "expand",
        [lambda t, x: x.expand(5, 2, 3, 4), lambda t, x: x.expand(2, 3, 4)],
        [((2, 3, 4),), ((1, 3, 1),), ((3, 1),), ((1,),)],
    ),
    Case("expand", [lambda t, x: x.expand(2, 3)], [((),)], name="expand_0d"),
    Case(
        "slice",
        [
            lambda t, x: x[0],
            lambda t, x: x[-1, 1],
            lambda t, x: x[:, 1:3],
            lambda t, x: x[..., -1],
            lambda t, x: x[None, 1, ..., 1:],
            lambda t, x: x[1:, :, ::2],
            lambda t, x: x[5:, 0],
            lambda t, x: x[1, 2, 3] * x[0, 0, 0],
        ],
        [((2, 3, 4),), ((3, 4, 5),)],
    ),
    Case(
        "slice",
        [
            lambda t, x: t.cat([piece * (i + 1) for i, piece in enumerate(x.split(2))]),
            lambda t, x: t.cat([piece * (i + 1) for i, piece in enumerate(x.split([1, 4], dim=0))]),
            lambda t, x: t.stack(list(x.chunk(5))),
        ],
        [((5, 3),), ((5,),)],
        name="split",
    ),
    Case(
        "concat",
        [lambda t, a, b: t.cat([a, b]), lambda t, a, b: t.cat([a, b, a * 2], dim=-1)],
        [((2, 3), (2, 3)), ((5,), (5,)), ((2, 0, 3), (2, 0, 3))],
    ),
    Case(
        "concat",
        [lambda t, a, b: t.cat([a, b], dim=1)],
        [((2, 3), (2, 1)), ((2, 3, 2), (2, 0, 2))],
        name="cat_dim",
    ),
    Case(
        "stack",
        [lambda t, a, b: t.stack([a, b]), lambda t, a, b: t.stack([a, b, a], dim=-1)],
        [((), ()), ((3,), (3,)), ((2, 3), (2, 3))],
    ),
    Case(
        "take",
        [
            lambda t, x, i: x[i],
            lambda t, x, i: x[:, i],
            lambda t, x, i: x[i, i],
            lambda t, x, i: x[i, 1:],
            lambda t, x, i: x[..., i],
            lambda t, x, i: x[i, None],
        ],
        [((4, 3), (5,)), ((4, 3, 2), (2, 2)), ((4, 3), (0,))],
        integers=(0, 2),
    ),
    Case(
        "take",
        [lambda t, x, m: x[m]],
        [((5,), (5,)), ((3, 4), (3, 4)), ((3, 4), (3,))],
        mask=True,
        name="mask",
    ),
    Case(
        "take",
        [lambda t, w, i: F(t).embedding(i, w)],
        [((7, 3), (5,)), ((7, 3), (2, 2)), ((7, 3), ()), ((7, 3), (0,))],
        integers=(0, 7),
        name="embedding",
    ),
    Case(
        "gather",
        [lambda t, x, i: x.gather(0, i), lambda t, x, i: x.gather(-1, i)],
        [((3, 4), (2, 4)), ((3, 3, 3), (3, 2, 1)), ((4,), (6,)), ((3, 4), (0, 2))],
        integers=(0, 3),
    ),
    Case(
        "one_hot",
        [lambda t, x, i: F(t).one_hot(i, 5), lambda t, x, i: F(t).one_hot(i)],
        [((), (4,)), ((), (2, 3))],
        integers=(0, 5),
        differentiable=False,
    ),
    Case("matmul", [lambda t, a, b: a @ b], MATRICES, tolerance=10),
    Case(
        "matmul",
        [lambda t, x: x @ x, lambda t, x: x.T @ x],
        [((3, 3),), ((20, 20),)],
        name="matmul_self",
        tolerance=10,
    ),
    Case(
        "linear",
        [lambda t, x, w, b: F(t).linear(x, w, b), lambda t, x, w, b: F(t).linear(x, w) * b],
        [
            ((2, 3), (4, 3), (4,)),
            ((3,), (4, 3), (4,)),
            ((2, 5, 3), (4, 3), (4,)),
            ((0, 3), (4, 3), (4,)),
            ((1, 3), (1, 3), (1,)),
        ],
        tolerance=10,
    ),
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
    Case(
        "cross_entropy",
        [
            lambda t, x, y: F(t).cross_entropy(x, y),
            lambda t, x, y: F(t).cross_entropy(x, y, reduction="sum"),
            lambda t, x, y: F(t).cross_entropy(x, y, reduction="none"),
            lambda t, x, y: F(t).cross_entropy(x, y, label_smoothing=0.1),
            lambda t, x, y: F(t).cross_entropy(x, y, ignore_index=1),
            lambda t, x, y: F(t).cross_entropy(x, y, ignore_index=1, label_smoothing=0.2, reduction="sum"),
        ],
        [
            ((6, 5), (6,)),
            ((5,), ()),
            ((3, 5, 2), (3, 2)),
            ((3, 5, 2, 2), (3, 2, 2)),
            ((40, 20), (40,)),
        ],
        integers=(0, 5),
    ),
    Case(
        "nll_loss",
        [
            lambda t, x, y: F(t).nll_loss(x, y),
            lambda t, x, y: F(t).nll_loss(x, y, reduction="sum"),
            lambda t, x, y: F(t).nll_loss(x, y, reduction="none", ignore_index=2),
        ],
        [((6, 5), (6,)), ((5,), ()), ((3, 5, 2), (3, 2))],
        integers=(0, 5),
    ),
    Case(
        "mse_loss",
        [
            lambda t, a, b: F(t).mse_loss(a, b),
            lambda t, a, b: F(t).mse_loss(a, b, reduction="sum"),
            lambda t, a, b: F(t).mse_loss(a, b, reduction="none"),
        ],
        [((), ()), ((5,), (5,)), ((2, 3), (2, 3)), ((1000,), (1000,))],
    ),
    Case(
        "dot",
        [
            lambda t, w, x, b: dot(t, [w, b], [x, w], b, "linear"),
            lambda t, w, x, b: dot(t, [w, w], [x, b], b, "relu"),
            lambda t, w, x, b: dot(t, [w, b], [x, x], b, "tanh"),
            lambda t, w, x, b: dot(t, [w, x], [x, x], b, "sigmoid"),
        ],
        [
            ((), (5,), ()),
            ((5,), (), ()),
            ((5,), (5,), (5,)),
            ((), (37,), (37,)),
            ((), (2, 3), ()),
            ((), (0,), ()),
            ((), (1100,), ()),
        ],
        name="dot_lanes",
        tolerance=10,
    ),
    Case(
        "add_n",
        [lambda t, a, b: add_n(t, [a, b, a])],
        [((5,), ()), ((), (37,)), ((2, 3), (2, 3)), ((0,), ()), ((1100,), ())],
        name="add_n_lanes",
    ),
]

#: Ops whose test is elsewhere, because PyTorch has no counterpart to compare with or numbers are drawn.
ELSEWHERE = {
    "add_n": "test_value.py::test_sum_is_one_node",
    "dot": "test_value.py::test_dot_is_one_node",
    "dropout": "test_random.py::test_dropout",
}
