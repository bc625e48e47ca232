"""Convolutions: strides, paddings, dilations, groups, empty batches, kernels of one tap, images of several blocks."""

from __future__ import annotations

import warnings
from typing import Any

from cases._case import Case, F, Function


def conv(n: int, **options: Any) -> Function:
    def call(t: Any, x: Any, w: Any, b: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using padding='same' with even kernel lengths")  # PyTorch's
            return getattr(F(t), f"conv{n}d")(x, w, b, **options)

    return call


ONE_DIMENSION: list[tuple[dict[str, Any], Any]] = [
    ({}, ((2, 3, 9), (4, 3, 3), (4,))),
    ({}, ((3, 9), (4, 3, 3), (4,))),
    ({}, ((0, 3, 9), (4, 3, 3), (4,))),
    ({"stride": 4, "padding": 3}, ((2, 2, 7), (3, 2, 2), (3,))),
    ({"padding": "same", "dilation": 3}, ((2, 2, 8), (2, 2, 4), (2,))),
    ({"groups": 4, "padding": (1,)}, ((2, 4, 40), (4, 1, 3), (4,))),
]
TWO_DIMENSIONS: list[tuple[dict[str, Any], Any]] = [
    ({}, ((2, 3, 5, 6), (4, 3, 3, 2), (4,))),
    ({}, ((3, 5, 6), (4, 3, 3, 2), (4,))),
    ({}, ((0, 3, 5, 6), (4, 3, 3, 2), (4,))),
    ({}, ((2, 3, 4, 5), (5, 3, 1, 1), (5,))),
    ({"groups": 3}, ((2, 3, 4, 5), (6, 1, 1, 1), (6,))),
    ({"stride": 2}, ((2, 3, 4, 5), (5, 3, 1, 1), (5,))),
    ({"stride": 3}, ((2, 2, 8, 9), (2, 2, 2, 2), (2,))),
    ({"stride": (2, 1), "padding": (3, 4)}, ((2, 2, 3, 4), (3, 2, 2, 3), (3,))),
    ({"padding": 5}, ((1, 1, 1, 2), (2, 1, 2, 2), (2,))),
    ({"dilation": (2, 3), "padding": 2, "stride": (1, 2)}, ((2, 2, 6, 7), (2, 2, 3, 3), (2,))),
    ({"padding": "same"}, ((2, 2, 5, 4), (2, 2, 4, 2), (2,))),
    ({"padding": "same", "dilation": 2}, ((1, 2, 5, 4), (2, 2, 2, 3), (2,))),
    ({"padding": "valid"}, ((1, 1, 5, 4), (2, 1, 5, 4), (2,))),
    ({"groups": 2, "padding": 1}, ((2, 4, 4, 5), (6, 2, 3, 3), (6,))),
    ({"groups": 4, "padding": 1}, ((2, 4, 5, 4), (4, 1, 3, 3), (4,))),
    ({"padding": 2}, ((5, 1, 28, 28), (6, 1, 5, 5), (6,))),
    ({}, ((5, 6, 14, 14), (16, 6, 5, 5), (16,))),
    ({"padding": 1}, ((2, 20, 40, 33), (17, 20, 3, 3), (17,))),
    ({"stride": 2, "padding": 1}, ((20, 16, 13, 13), (33, 16, 3, 3), (33,))),
]

CASES = [
    Case(
        "conv",
        [conv(n, **options) for options, _ in runs],
        [shapes for _, shapes in runs],
        shapes_per_function=True,
        tolerance=30,
        name=f"conv{n}d",
    )
    for n, runs in ((1, ONE_DIMENSION), (2, TWO_DIMENSIONS))
] + [
    Case(
        "conv",
        [lambda t, x, w: F(t).conv2d(x, w) * 2, lambda t, x, w: F(t).conv2d(x, w) + w.sum() + x.sum()],
        [((2, 3, 5, 6), (4, 3, 3, 2))],
        tolerance=30,
        name="conv2d_without_bias",
    ),
    Case("conv", [lambda t, x: F(t).conv2d(x, x, padding=1)], [((1, 1, 3, 4),)], tolerance=30, name="conv2d_self"),
]
