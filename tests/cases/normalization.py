"""Normalisation; the last dimension of `x` is odd enough in some rows to leave ends beside whole vectors."""

from __future__ import annotations

from typing import Any

from cases._case import Case, F


def running(t: Any, x: Any) -> tuple[Any, Any]:
    """Statistics that are not the input's."""
    places = t.arange(x.shape[1]).to(x.dtype)
    return places * 0.25 - 0.5, places * 0.5 + 0.75


CASES = [
    Case(
        "layer_norm",
        [
            lambda t, x, w, b: F(t).layer_norm(x, w.shape, w, b),
            lambda t, x, w, b: F(t).layer_norm(x, w.shape, w, eps=0.1),
            lambda t, x, w, b: F(t).layer_norm(x, w.shape, bias=b),
            lambda t, x, w, b: F(t).layer_norm(x, list(w.shape)),
        ],
        [
            ((5,), (5,), (5,)),
            ((4, 1), (1,), (1,)),
            ((4, 6), (6,), (6,)),
            ((2, 2, 3, 4), (3, 4), (3, 4)),
            ((2, 37), (37,), (37,)),
            ((0, 3), (3,), (3,)),
            ((2, 0), (0,), (0,)),
            ((300, 33), (33,), (33,)),
            ((3, 2100), (2100,), (2100,)),
        ],
        tolerance=20,
    ),
    Case(
        "rms_norm",
        [
            lambda t, x, w: F(t).rms_norm(x, w.shape, w),
            lambda t, x, w: F(t).rms_norm(x, w.shape, w, 0.1),
            lambda t, x, w: F(t).rms_norm(x, w.shape, eps=1e-3),
        ],
        [
            ((5,), (5,)),
            ((4, 6), (6,)),
            ((2, 2, 3, 4), (3, 4)),
            ((0, 3), (3,)),
            ((300, 33), (33,)),
            ((3, 2100), (2100,)),
        ],
        tolerance=20,
    ),
    Case(
        "group_norm",
        [
            lambda t, x, w, b: F(t).group_norm(x, 2, w, b),
            lambda t, x, w, b: F(t).group_norm(x, 1, w, b, 0.1),
            lambda t, x, w, b: F(t).group_norm(x, 2, w),
            lambda t, x, w, b: F(t).group_norm(x, 2),
        ],
        [
            ((4, 6), (6,), (6,)),
            ((3, 4, 5), (4,), (4,)),
            ((2, 4, 3, 2), (4,), (4,)),
            ((2, 4, 35), (4,), (4,)),
            ((0, 4, 3), (4,), (4,)),
            ((40, 6, 9, 9), (6,), (6,)),
        ],
        tolerance=20,
    ),
    Case(
        "batch_norm",
        [
            lambda t, x, w, b: F(t).batch_norm(x, None, None, w, b, training=True),
            lambda t, x, w, b: F(t).batch_norm(x, None, None, w, training=True, eps=0.1),
            lambda t, x, w, b: F(t).batch_norm(x, None, None, bias=b, training=True),
            lambda t, x, w, b: F(t).batch_norm(x, None, None, training=True),
            lambda t, x, w, b: F(t).batch_norm(x, *running(t, x), w, b),
            lambda t, x, w, b: F(t).batch_norm(x, *running(t, x), eps=0.1),
        ],
        [
            ((4, 3), (3,), (3,)),
            ((2, 70), (70,), (70,)),
            ((4, 3, 5), (3,), (3,)),
            ((2, 3, 4, 2), (3,), (3,)),
            ((2, 2, 5, 7), (2,), (2,)),
            ((0, 3), (3,), (3,)),
            ((300, 65), (65,), (65,)),
            ((150, 9, 3, 3), (9,), (9,)),
            ((3, 4, 1100), (4,), (4,)),
        ],
        tolerance=20,
    ),
]
