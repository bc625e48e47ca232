"""Losses."""

from __future__ import annotations

from cases._case import Case, F

CASES = [
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
]
