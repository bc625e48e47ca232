"""text_boundary: what a classifier decides where, with the samples, as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyml.errors import ArgumentError
from tinyml.viz._frame import columns, framed, number, only_ascii, wrapped
from tinyml.viz._regions import bounds, regions

# Of each class: how its region is filled, and how its samples are drawn, which are capitals where the model errs.
_FILLS, _ASCII_FILLS, _SAMPLES = " ·░▒", " .:-=+*%#@", "oxvszcwukp"


def text_boundary(
    model: Callable[..., Any],
    inputs: Any,
    targets: Any,
    *,
    threshold: float = 0.0,
    width: int | None = None,
    height: int = 20,
    ascii: bool | None = None,
) -> str:
    """The regions of a classifier of points in the plane, with the samples on them, as text to be printed.

    model: a function from a tensor (n, 2) to scores: (n,) or (n, 1), positive above `threshold`, or (n, k), of which
    the largest wins; a module is asked in eval mode; a network of Values will do. inputs: (n, 2), targets: n labels,
    for one score positive or not (0 and 1, or -1 and 1), else the numbers of classes. width, height, ascii: as for
    text_curve.

    Raises ShapeError and ArgumentError for what does not fit.

    >>> print(text_boundary(lambda x: x[:, 0] - x[:, 1], [[0, 0], [1, 0], [0, 1], [1, 1]], [0, 1, 0, 1],
    ...                     width=24, height=6, ascii=True))
      1.10 + o            X.
           |            ....
           |         .......
           |       .........
           |    ............
    -0.100 + o............x.
           +----------------
            -0.100      1.10
    o 0 (blank); x 1 (.);
    capitals: 1 of 4 on the
    wrong side
    """
    if height < 2:
        raise ArgumentError(f"text_boundary: got height {height}, expected at least 2")
    width, ascii = columns("text_boundary", width), only_ascii(ascii)
    (left, bottom), (right, top) = bounds("text_boundary", inputs)
    labels = {0: number(top, top - bottom), height - 1: number(bottom, top - bottom)}
    room = width - 2 - max(map(len, labels.values()))
    found = regions("text_boundary", model, inputs, targets, threshold, (height, room))
    classes = len(found.names)
    if classes > len(_SAMPLES):
        raise ArgumentError(f"text_boundary: got {classes} classes, expected at most {len(_SAMPLES)}")
    fills = _FILLS if classes <= len(_FILLS) and not ascii else _ASCII_FILLS
    cells = [[fills[decided] for decided in row] for row in found.decided]
    wrong = found.seen != found.targets
    rows = np.clip(((top - found.points[:, 1]) / (top - bottom) * height).astype(int), 0, height - 1)
    places = np.clip(((found.points[:, 0] - left) / (right - left) * room).astype(int), 0, room - 1)
    for i in np.argsort(wrong, kind="stable"):  # mistakes last, so that none is hidden
        sample = _SAMPLES[found.targets[i]]
        cells[rows[i]][places[i]] = sample.upper() if wrong[i] else sample
    ends = number(left, right - left), number(right, right - left)
    lines = framed(["".join(row) for row in cells], labels, ends, ascii)
    legend = [f"{_SAMPLES[i]} {name} ({fills[i].strip() or 'blank'})" for i, name in enumerate(found.names)]
    legend.append(f"capitals: {wrong.sum():,} of {len(wrong):,} on the wrong side")
    return "\n".join([*lines, *wrapped("; ".join(legend), width)])
