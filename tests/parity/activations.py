"""Activations, as modules and as functions."""

from __future__ import annotations

import numpy as np

from parity._row import Row, function, layer, numbers

#: Both tails, everything between, and 0.
X = np.concatenate([numbers((4, 6), low=-30, high=30), numbers((3, 6)), [[-1000, 1000, -100, 100, 0.0, -20.5]]])

ROWS = [
    Row("nn.ReLU", [layer(lambda t: t.nn.ReLU(), X)]),
    Row("nn.ReLU6", [layer(lambda t: t.nn.ReLU6(), X)]),
    Row(
        "nn.LeakyReLU",
        [layer(lambda t: t.nn.LeakyReLU(), X), layer(lambda t: t.nn.LeakyReLU(negative_slope=0.3), X)],
    ),
    Row(
        "nn.PReLU",
        [
            layer(lambda t: t.nn.PReLU(), X),
            layer(lambda t: t.nn.PReLU(), numbers(())),
            layer(lambda t: t.nn.PReLU(6), X),
            layer(lambda t: t.nn.PReLU(3, init=0.1), numbers((2, 3, 4, 5))),
            function(lambda t, x: t.nn.PReLU(1, init=0.4).double()(x), X),
        ],
    ),
    Row("nn.ELU", [layer(lambda t: t.nn.ELU(), X), layer(lambda t: t.nn.ELU(alpha=0.3), X)]),
    Row("nn.GELU", [layer(lambda t: t.nn.GELU(), X), layer(lambda t: t.nn.GELU(approximate="tanh"), X)]),
    Row("nn.SiLU", [layer(lambda t: t.nn.SiLU(), X)]),
    Row(
        "nn.Softplus",
        [layer(lambda t: t.nn.Softplus(), X), layer(lambda t: t.nn.Softplus(beta=2.5, threshold=4.0), X)],
    ),
    Row(
        "nn.Hardtanh",
        [layer(lambda t: t.nn.Hardtanh(), X), layer(lambda t: t.nn.Hardtanh(min_val=-0.3, max_val=20.0), X)],
    ),
    Row("nn.Tanh", [layer(lambda t: t.nn.Tanh(), X)]),
    Row("nn.Sigmoid", [layer(lambda t: t.nn.Sigmoid(), X)]),
    Row("nn.LogSigmoid", [layer(lambda t: t.nn.LogSigmoid(), X)]),
    Row(
        "nn.Softmax",
        [layer(lambda t: t.nn.Softmax(dim=1), X), layer(lambda t: t.nn.Softmax(dim=-3), numbers((2, 3, 4)))],
        note="`dim` has to be given.",
    ),
    Row(
        "nn.LogSoftmax",
        [layer(lambda t: t.nn.LogSoftmax(dim=1), X), layer(lambda t: t.nn.LogSoftmax(dim=0), numbers((2, 3, 4)))],
        note="`dim` has to be given.",
    ),
]
