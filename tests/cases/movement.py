"""Ops that move elements: shapes, slices, rows by index."""

from __future__ import annotations

from cases._case import Case, F

CASES = [
    Case(
        "reshape",
        [
            lambda t, x: x.reshape(-1),
            lambda t, x: x.reshape(2, -1),
            lambda t, x: x.reshape(3, 2, 2, 2),
        ],
        [((2, 3, 4),), ((24,),)],
    ),
    Case(
        "reshape",
        [
            lambda t, x: x.reshape(1, 1),
            lambda t, x: x.reshape(()),
            lambda t, x: x.unsqueeze(0) * 2,
            lambda t, x: x.squeeze(),
        ],
        [((),), ((1,),)],
        name="reshape_0d",
    ),
    Case(
        "reshape",
        [
            lambda t, x: x.flatten(),
            lambda t, x: x.unsqueeze(-1),
            lambda t, x: x.flatten(0, 1),
            lambda t, x: x.squeeze(1),
        ],
        [((2, 1, 4),), ((2, 3, 4),)],
        name="reshape_others",
    ),
    Case(
        "permute",
        [
            lambda t, x: x.permute(2, 0, 1),
            lambda t, x: x.transpose(0, -1),
            lambda t, x: x.permute(0, 2, 1),
            lambda t, x: x.mT,
        ],
        [((2, 3, 4),), ((2, 0, 4),), ((17, 2, 33),)],
    ),
    Case(
        "permute",
        [lambda t, x: x.T, lambda t, x: x.t()],
        [((3, 4),), ((40, 70),), ((1, 5),)],
        name="transpose",
    ),
    Case(
        "expand",
        [lambda t, x: x.expand(5, 2, 3, 4), lambda t, x: x.expand(2, 3, 4)],
        [((2, 3, 4),), ((1, 3, 1),), ((3, 1),), ((1,),)],
    ),
    Case("expand", [lambda t, x: x.expand(2, 3)], [((),)], name="expand_0d"),
    Case(
        "slice",
        [
            lambda t, x: x[0],
            lambda t, x: x[-1, 1],
            lambda t, x: x[:, 1:3],
            lambda t, x: x[..., -1],
            lambda t, x: x[None, 1, ..., 1:],
            lambda t, x: x[1:, :, ::2],
            lambda t, x: x[5:, 0],
            lambda t, x: x[1, 2, 3] * x[0, 0, 0],
        ],
        [((2, 3, 4),), ((3, 4, 5),)],
    ),
    Case(
        "slice",
        [
            lambda t, x: t.cat([piece * (i + 1) for i, piece in enumerate(x.split(2))]),
            lambda t, x: t.cat([piece * (i + 1) for i, piece in enumerate(x.split([1, 4], dim=0))]),
            lambda t, x: t.stack(list(x.chunk(5))),
        ],
        [((5, 3),), ((5,),)],
        name="split",
    ),
    Case(
        "concat",
        [lambda t, a, b: t.cat([a, b]), lambda t, a, b: t.cat([a, b, a * 2], dim=-1)],
        [((2, 3), (2, 3)), ((5,), (5,)), ((2, 0, 3), (2, 0, 3))],
    ),
    Case(
        "concat",
        [lambda t, a, b: t.cat([a, b], dim=1)],
        [((2, 3), (2, 1)), ((2, 3, 2), (2, 0, 2))],
        name="cat_dim",
    ),
    Case(
        "stack",
        [lambda t, a, b: t.stack([a, b]), lambda t, a, b: t.stack([a, b, a], dim=-1)],
        [((), ()), ((3,), (3,)), ((2, 3), (2, 3))],
    ),
    Case(
        "take",
        [
            lambda t, x, i: x[i],
            lambda t, x, i: x[:, i],
            lambda t, x, i: x[i, i],
            lambda t, x, i: x[i, 1:],
            lambda t, x, i: x[..., i],
            lambda t, x, i: x[i, None],
        ],
        [((4, 3), (5,)), ((4, 3, 2), (2, 2)), ((4, 3), (0,))],
        integers=(0, 2),
    ),
    Case(
        "take",
        [lambda t, x, m: x[m]],
        [((5,), (5,)), ((3, 4), (3, 4)), ((3, 4), (3,))],
        mask=True,
        name="mask",
    ),
    Case(
        "take",
        [lambda t, w, i: F(t).embedding(i, w)],
        [((7, 3), (5,)), ((7, 3), (2, 2)), ((7, 3), ()), ((7, 3), (0,))],
        integers=(0, 7),
        name="embedding",
    ),
    Case(
        "gather",
        [lambda t, x, i: x.gather(0, i), lambda t, x, i: x.gather(-1, i)],
        [((3, 4), (2, 4)), ((3, 3, 3), (3, 2, 1)), ((4,), (6,)), ((3, 4), (0, 2))],
        integers=(0, 3),
    ),
    Case(
        "one_hot",
        [lambda t, x, i: F(t).one_hot(i, 5), lambda t, x, i: F(t).one_hot(i)],
        [((), (4,)), ((), (2, 3))],
        integers=(0, 5),
        differentiable=False,
    ),
]
