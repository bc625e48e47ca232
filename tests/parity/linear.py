"""Linear."""

from __future__ import annotations

from parity._row import Row, layer, numbers

ROWS = [
    Row(
        "nn.Linear",
        [
            layer(lambda t: t.nn.Linear(3, 4), numbers((5, 3))),
            layer(lambda t: t.nn.Linear(3, 4, bias=False), numbers((2, 5, 3))),
        ],
    ),
]
