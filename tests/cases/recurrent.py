"""Recurrent layers over gates that are projected already: with PyTorch, the unit matrix projects them."""

from __future__ import annotations

from typing import Any

from cases._case import Case, Function, Shape
from tinyml import Tensor, _core

Shapes = list[tuple[Shape, ...]]


def ours(op: str, operands: tuple[Any, ...], *attributes: float) -> Any:
    return Tensor._wrap(_core.apply(_core.op(op), [x._ref for x in operands], attributes))


def theirs(t: Any, op: str, x: Any, w: Any, states: tuple[Any, ...], bias: Any, reverse: bool) -> Any:
    unit = t.eye(x.shape[2], dtype=x.dtype)
    biases = () if bias is None else (t.zeros_like(bias), bias)
    hx = tuple(state.unsqueeze(0) for state in states)
    x = x.flip(0) if reverse else x
    weights = [unit, w, *biases]
    result = getattr(t, op)(x, hx if len(hx) > 1 else hx[0], weights, bias is not None, 1, 0.0, True, False, False)
    output = result[0].flip(0) if reverse else result[0]
    return t.cat([output, result[2]]) if len(hx) > 1 else output


def lstm(reverse: bool, biased: bool) -> Function:
    def run(t: Any, x: Any, w: Any, h0: Any, c0: Any, *bias: Any) -> Any:
        bias = bias if biased else ()
        if t.__name__ == "tinyml":
            return ours("lstm", (x, w, h0, c0, *bias), reverse)
        return theirs(t, "lstm", x, w, (h0, c0), *(bias or (None,)), reverse)

    return run


def gru(reverse: bool, biased: bool) -> Function:
    def run(t: Any, x: Any, w: Any, h0: Any, *bias: Any) -> Any:
        bias = bias if biased else ()
        if t.__name__ == "tinyml":
            return ours("gru", (x, w, h0, *bias), reverse)
        return theirs(t, "gru", x, w, (h0,), *(bias or (None,)), reverse)

    return run


def rnn(nonlinearity: str, reverse: bool, biased: bool) -> Function:
    def run(t: Any, x: Any, w: Any, h0: Any, *bias: Any) -> Any:
        bias = bias if biased else ()
        if t.__name__ == "tinyml":
            return ours("rnn", (x, w, h0, *bias), reverse, nonlinearity == "relu")
        return theirs(t, f"rnn_{nonlinearity}", x, w, (h0,), *(bias or (None,)), reverse)

    return run


def shapes(gates: int, states: int) -> Shapes:
    """Steps, batch, hidden: small ones, one step, one row, and parts of a batch that are not full."""
    return [
        ((steps, batch, gates * n), (gates * n, n), *[(batch, n)] * states, (gates * n,))
        for steps, batch, n in [(3, 2, 4), (1, 3, 2), (4, 1, 5), (5, 37, 19), (2, 70, 33)]
    ]


OPTIONS = [(False, True), (True, True), (True, False)]
CASES = [
    Case("lstm", [lstm(*options) for options in OPTIONS], shapes(4, 2), tolerance=100),
    Case("gru", [gru(*options) for options in OPTIONS], shapes(3, 1), tolerance=100),
    Case("rnn", [rnn("tanh", *options) for options in OPTIONS], shapes(1, 1), tolerance=100),
    Case(
        "rnn", [rnn("relu", *options) for options in OPTIONS], shapes(1, 1), -0.5, 0.5, tolerance=100, name="rnn_relu"
    ),
]
