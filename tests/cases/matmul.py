"""Matrix products."""

from __future__ import annotations

from cases._case import MATRICES, Case, F

CASES = [
    Case("matmul", [lambda t, a, b: a @ b], MATRICES, tolerance=10),
    Case(
        "matmul",
        [lambda t, x: x @ x, lambda t, x: x.T @ x],
        [((3, 3),), ((20, 20),)],
        name="matmul_self",
        tolerance=10,
    ),
    Case(
        "linear",
        [lambda t, x, w, b: F(t).linear(x, w, b), lambda t, x, w, b: F(t).linear(x, w) * b],
        [
            ((2, 3), (4, 3), (4,)),
            ((3,), (4, 3), (4,)),
            ((2, 5, 3), (4, 3), (4,)),
            ((0, 3), (4, 3), (4,)),
            ((1, 3), (1, 3), (1,)),
        ],
        tolerance=10,
    ),
]
