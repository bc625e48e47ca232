"""Initialisers without chance; those with it are tested by their distributions, see test_nn.py and test_init.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity._row import Row, Run, array


def filled(name: str, *args: Any) -> Run:
    """A tensor after an initialiser."""
    return lambda t: [array(getattr(t.nn.init, name)(t.zeros(3, 4, dtype=t.float64), *args))]


def gain(*args: Any) -> Run:
    """A gain."""
    return lambda t: [np.array(t.nn.init.calculate_gain(*args))]


ROWS = [
    Row("nn.init.constant_", [filled("constant_", 2.5)]),
    Row("nn.init.zeros_", [filled("zeros_")]),
    Row("nn.init.ones_", [filled("ones_")]),
    Row("nn.init.eye_", [filled("eye_")]),
    Row(
        "nn.init.calculate_gain",
        [gain(name) for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu")]
        + [gain("leaky_relu", 0.3)],
    ),
]
