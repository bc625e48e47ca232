"""Ops of many scalars in one node."""

from __future__ import annotations

from typing import Any

from cases._case import Case


def dot(t: Any, weights: list[Any], inputs: list[Any], bias: Any, activation: str) -> Any:
    """tinyml.dot of lists, which PyTorch lacks."""
    if t.__name__ == "tinyml":
        return t.dot(weights, inputs, bias, activation)
    total = bias + add_n(t, [w * x for w, x in zip(weights, inputs, strict=True)])
    return total if activation == "linear" else getattr(t.nn.functional, activation)(total)


def add_n(t: Any, terms: list[Any]) -> Any:
    return t.sum(terms) if t.__name__ == "tinyml" else sum(terms)


CASES = [
    Case(
        "dot",
        [
            lambda t, w, x, b: dot(t, [w, b], [x, w], b, "linear"),
            lambda t, w, x, b: dot(t, [w, w], [x, b], b, "relu"),
            lambda t, w, x, b: dot(t, [w, b], [x, x], b, "tanh"),
            lambda t, w, x, b: dot(t, [w, x], [x, x], b, "sigmoid"),
            lambda t, w, x, b: dot(t, [w, w], [b, x], b, "leaky_relu"),
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
