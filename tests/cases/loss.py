"""Losses."""

from __future__ import annotations

from typing import Any

from cases._case import Case, F


def five(t: Any, x: Any) -> Any:
    """A weight for each of five classes, which x is of the dtype of."""
    return t.tensor([0.5, 1.0, 0.25, 2.0, 1.5], dtype=x.dtype)


PAIRS = [((), ()), ((5,), (5,)), ((2, 3), (2, 3)), ((1000,), (1000,)), ((0,), (0,))]
DISTRIBUTIONS = [((6, 5), (6, 5)), ((5,), (5,)), ((3, 5, 2), (3, 5, 2)), ((2, 5, 3, 2), (2, 5, 3, 2))]

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
        "nll_loss",
        [
            lambda t, x, y: F(t).nll_loss(x, y, weight=five(t, x)),
            lambda t, x, y: F(t).nll_loss(x, y, weight=five(t, x), reduction="sum", ignore_index=1),
            lambda t, x, y: F(t).cross_entropy(x, y, weight=five(t, x), ignore_index=1),
            lambda t, x, y: F(t).cross_entropy(x, y, weight=five(t, x), label_smoothing=0.1, ignore_index=3),
            lambda t, x, y: F(t).cross_entropy(x, y, weight=five(t, x), label_smoothing=0.3, reduction="sum"),
            lambda t, x, y: F(t).cross_entropy(x, y, weight=five(t, x), label_smoothing=1.0, reduction="none"),
        ],
        [((6, 5), (6,)), ((5,), ()), ((3, 5, 2), (3, 2)), ((3, 5, 2, 2), (3, 2, 2)), ((200, 5), (200,))],
        integers=(0, 5),
        name="weighted",
    ),
    Case(
        "probabilities",
        [
            lambda t, x, y: F(t).cross_entropy(x, y),
            lambda t, x, y: F(t).cross_entropy(x, y, reduction="sum", label_smoothing=0.2),
            lambda t, x, y: F(t).cross_entropy(x, y, reduction="none", weight=five(t, x)),
            lambda t, x, y: F(t).cross_entropy(x, y, label_smoothing=0.2, weight=five(t, x)),
        ],
        DISTRIBUTIONS,
        0.05,
        0.95,
        name="class_probabilities",
    ),
    Case(
        "bce",
        [
            lambda t, p, y: F(t).binary_cross_entropy(p, y, reduction="none"),
            lambda t, p, y: F(t).binary_cross_entropy(p, y, reduction="sum", weight=t.tensor(0.7, dtype=p.dtype)),
        ],
        PAIRS,
        0.05,
        0.95,
    ),
    Case(
        "bce_with_logits",
        [
            lambda t, x, y: F(t).binary_cross_entropy_with_logits(4 * x - 2, y, reduction="none"),
            lambda t, x, y: F(t).binary_cross_entropy_with_logits(
                2 - 4 * x,
                y,
                reduction="sum",
                weight=t.tensor(0.7, dtype=x.dtype),
                pos_weight=t.tensor(3, dtype=x.dtype),
            ),
        ],
        PAIRS,
        0.05,
        0.95,
    ),
    Case(
        "kl_div",
        [
            lambda t, x, y: F(t).kl_div(x.log(), y, reduction="none"),
            lambda t, x, y: F(t).kl_div(x.log(), y.log(), reduction="sum", log_target=True),
        ],
        PAIRS,
        0.05,
        0.95,
    ),
    Case(
        "huber",
        [
            lambda t, a, b: F(t).huber_loss(a, b, reduction="none"),
            lambda t, a, b: F(t).huber_loss(a, b, delta=0.3, reduction="sum"),
            lambda t, a, b: F(t).smooth_l1_loss(a, b, reduction="none"),
            lambda t, a, b: F(t).smooth_l1_loss(a, b, beta=0.3, reduction="sum"),
        ],
        PAIRS,
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
