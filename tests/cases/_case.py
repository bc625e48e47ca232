"""A row of the table of ops, and the shapes that rows share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Function = Callable[..., Any]


@dataclass
class Case:
    op: str
    functions: list[Function]  # each with every tuple of shapes
    shapes: list[tuple[Shape, ...]]
    low: float = -2.0
    high: float = 2.0
    integers: tuple[int, int] | None = None  # the last operand is int64 in this range
    mask: bool = False  # the last operand is bool
    differentiable: bool = True
    distinct: bool = False  # no ties: values are a shuffled grid
    tolerance: float = 1.0  # factor on the float32 comparison
    name: str = ""
    shapes_per_function: bool = field(default=False)  # function i goes with shapes i only

    def arrays(self, shapes: tuple[Shape, ...], dtype: str = "float64") -> list[np.ndarray]:
        rng = np.random.default_rng(hash_of(self.op, shapes))
        arrays: list[np.ndarray] = []
        for i, shape in enumerate(shapes):
            last = i == len(shapes) - 1
            if last and self.integers:
                arrays.append(rng.integers(*self.integers, shape))
            elif last and self.mask:
                arrays.append(rng.random(shape) < 0.5)
            elif self.distinct:
                size = int(np.prod(shape))
                grid = np.linspace(self.low, self.high, size + 2)[1:-1] + 0.01 * i
                arrays.append(np.asarray(rng.permutation(grid).reshape(shape), dtype=dtype))
            else:
                numbers = rng.uniform(self.low, self.high, shape)
                arrays.append(np.asarray(numbers, dtype=dtype))
        return arrays

    def runs(self) -> list[tuple[Function, tuple[Shape, ...]]]:
        if self.shapes_per_function:
            return list(zip(self.functions, self.shapes, strict=True))
        return [(function, shapes) for function in self.functions for shapes in self.shapes]


def hash_of(*parts: Any) -> int:
    """A seed that does not change from run to run."""
    return sum(ord(c) * 31**i for i, c in enumerate(repr(parts))) % 2**32


ONE: list[tuple[Shape, ...]] = [
    ((),),
    ((1,),),
    ((5,),),
    ((2, 3, 4),),
    ((0,),),
    ((3, 0, 2),),
    ((37,),),
]
SOME: list[tuple[Shape, ...]] = [((1,),), ((5,),), ((2, 3, 4),), ((2, 3, 4, 2),), ((37, 19),)]
TWO: list[tuple[Shape, ...]] = [
    ((), ()),
    ((5,), (5,)),
    ((3, 4), (4,)),
    ((4,), (3, 4)),
    ((3, 1), (1, 4)),
    ((2, 1, 4), (3, 1)),
    ((), (3, 2)),
    ((3, 2), ()),
    ((0, 3), (3,)),
    ((1, 600), (3, 1)),
]
MATRICES: list[tuple[Shape, ...]] = [
    ((4,), (4,)),
    ((3, 4), (4,)),
    ((4,), (4, 5)),
    ((3, 4), (4, 5)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (3, 4, 2)),
    ((4,), (2, 4, 3)),
    ((2, 3, 4), (4,)),
    ((0, 4), (4, 3)),
    ((3, 0), (0, 2)),
    ((1, 1), (1, 1)),
    ((17, 33), (33, 18)),
]


def F(t: Any) -> Any:
    return t.nn.functional
