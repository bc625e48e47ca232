"""Ops that apply to each element."""

from __future__ import annotations

from cases._case import ONE, TWO, Case, F

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
    Case("silu", [lambda t, x: F(t).silu(x)], ONE),
    Case("gelu", [lambda t, x: F(t).gelu(x)], ONE),
    Case("gelu_tanh", [lambda t, x: F(t).gelu(x, approximate="tanh")], ONE),
    Case("logsigmoid", [lambda t, x: F(t).logsigmoid(x)], ONE),
    Case("elu", [lambda t, x: F(t).elu(x), lambda t, x: F(t).elu(x, 0.3)], ONE),
    Case(
        "softplus",
        [lambda t, x: F(t).softplus(x), lambda t, x: F(t).softplus(x, 3), lambda t, x: F(t).softplus(x, 2, 1)],
        ONE,
    ),
    Case("hardtanh", [lambda t, x: F(t).hardtanh(x), lambda t, x: F(t).hardtanh(x, -0.3, 1.2)], ONE),
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
    Case(
        "prelu",
        [lambda t, x, w: F(t).prelu(x, w)],
        [
            ((), (1,)),
            ((5,), (1,)),
            ((3, 4), (1,)),
            ((3, 4), (4,)),
            ((2, 3, 4), (3,)),
            ((2, 3, 4, 2), (3,)),
            ((0, 3), (3,)),
        ],
    ),
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
]
