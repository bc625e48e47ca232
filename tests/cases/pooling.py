"""Pooling: overlapping windows and gaps, padding, dilation, ceil_mode, extents that windows do not divide."""

from __future__ import annotations

from typing import Any

from cases._case import Case, F, Function

PLANES: list[Any] = [((2, 3, 4, 6),), ((3, 5, 7),), ((0, 3, 4, 6),), ((1, 1, 37, 70),)]
ROWS: list[Any] = [((2, 3, 6),), ((3, 7),), ((0, 3, 6),)]


def pool(name: str, *arguments: Any, **options: Any) -> Function:
    return lambda t, x: getattr(F(t), name)(x, *arguments, **options)


CASES = [
    Case(
        "max_pool",
        [
            pool("max_pool2d", 2),
            lambda t, x: F(t).max_pool2d(x, 2) + x.sum(),
            pool("max_pool2d", 3, 1, 1),
            pool("max_pool2d", (2, 3), (1, 4), ceil_mode=True),
            pool("max_pool2d", 2, dilation=(2, 3)),
            pool("max_pool2d", 3, 2, 1, 2, True),
            pool("max_pool2d", (4, 5)),
        ],
        PLANES,
        distinct=True,
    ),
    Case(
        "max_pool",
        [pool("max_pool1d", 2), pool("max_pool1d", 3, 2, 1, 1, True)],
        ROWS[:2],
        distinct=True,
        name="max_pool1d",
    ),
    Case(
        "avg_pool",
        [
            pool("avg_pool2d", 2),
            lambda t, x: F(t).avg_pool2d(x, 2) + x.sum(),
            pool("avg_pool2d", 3, 1, 1),
            pool("avg_pool2d", 3, 2, 1, True, False),
            pool("avg_pool2d", (2, 3), (1, 4), ceil_mode=True),
            pool("avg_pool2d", 3, 2, 1, True),
            pool("avg_pool2d", 3, 2, divisor_override=5),
            pool("avg_pool2d", (4, 5)),
        ],
        PLANES,
    ),
    Case("avg_pool", [pool("avg_pool1d", 2), pool("avg_pool1d", 3, 2, 1, True, False)], ROWS, name="avg_pool1d"),
    Case(
        "adaptive_avg_pool",
        [
            pool("adaptive_avg_pool2d", 1),
            pool("adaptive_avg_pool2d", (3, 2)),
            pool("adaptive_avg_pool2d", (None, 9)),
        ],
        PLANES,
    ),
]
