"""Recurrent layers and cells, and Embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity._row import Row, Run, layer, numbers

OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "bias": False},
    {"batch_first": True},
    {"num_layers": 2, "dropout": 1.0},  # the one dropout that draws alike in both libraries
]
X = numbers((6, 5, 3))


class WithStates:
    """A module whose states are separate arguments, so that they too get gradients."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def double(self) -> WithStates:
        self.module.double()
        return self

    def train(self, mode: bool) -> WithStates:
        self.module.train(mode)
        return self

    def __call__(self, x: Any, h: Any, c: Any) -> Any:
        return self.module(x, (h, c))


def layers(name: str, **more: Any) -> list[Run]:
    """All options, from zeros and from other states, with a batch and without."""

    states: list[np.ndarray] = []
    runs = [layer(lambda t, o=o: getattr(t.nn, name)(3, 4, **o, **more), X) for o in OPTIONS]
    runs.append(layer(lambda t: getattr(t.nn, name)(3, 4, **more), X[:, 0]))
    for options in OPTIONS[2:5]:
        number = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
        batch = 6 if options.get("batch_first") else 5
        states = [numbers((number, batch, 4), i) for i in range(2 if name == "LSTM" else 1)]
        runs.append(layer(lambda t, o=options: with_states(getattr(t.nn, name)(3, 4, **o, **more)), X, *states))
    runs.append(layer(lambda t: with_states(getattr(t.nn, name)(3, 4, **more)), X[:, 0], *[s[:1, 0] for s in states]))
    return runs


def with_states(module: Any) -> Any:
    return WithStates(module) if "LSTM" in type(module).__name__ else module


def cells(name: str, **more: Any) -> list[Run]:
    states = [numbers((6, 4), i) for i in range(2 if name == "LSTMCell" else 1)]
    return [
        layer(lambda t: getattr(t.nn, name)(3, 4, **more), X[:, 0]),
        layer(lambda t: getattr(t.nn, name)(3, 4, bias=False, **more), X[0, 0]),
        layer(lambda t: with_states(getattr(t.nn, name)(3, 4, **more)), X[:, 0], *states),
        layer(lambda t: with_states(getattr(t.nn, name)(3, 4, **more)), X[0, 0], *[s[0] for s in states]),
    ]


TOKENS = np.array([[1, 4, 0], [2, 2, 6]])

ROWS = [
    Row("nn.RNN", layers("RNN") + layers("RNN", nonlinearity="relu"), note="no packed sequences"),
    Row("nn.LSTM", layers("LSTM"), note="no packed sequences, no proj_size"),
    Row("nn.GRU", layers("GRU"), note="no packed sequences"),
    Row("nn.RNNCell", cells("RNNCell") + cells("RNNCell", nonlinearity="relu")),
    Row("nn.LSTMCell", cells("LSTMCell")),
    Row("nn.GRUCell", cells("GRUCell")),
    Row(
        "nn.Embedding",
        [layer(lambda t, p=p: t.nn.Embedding(7, 3, padding_idx=p), TOKENS) for p in (None, 2, -1)],
        note="no max_norm, scale_grad_by_freq, sparse",
    ),
]
