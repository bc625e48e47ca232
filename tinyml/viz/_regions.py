"""What a classifier of points in the plane decides where: the numbers behind the pictures of its boundary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyml._dtypes import Array, DType, float32
from tinyml._node import Node, no_grad
from tinyml.errors import ArgumentError, ShapeError
from tinyml.nn import MLP, Layer, Neuron
from tinyml.nn._mode import mode
from tinyml.tensor import Tensor, tensor

_BATCH = 4096


class Regions(NamedTuple):
    """Decisions over a grid and for the samples. Classes are 0, 1, ...; `names` has what the targets call them.

    x: (columns,), y: (rows,) from the largest to the smallest; decided: (rows, columns), int; points: (n, 2);
    targets, seen: (n,), int, the samples' classes and what the model takes them for.
    """

    x: Array
    y: Array
    decided: Array
    points: Array
    targets: Array
    seen: Array
    names: list[str]


def regions(
    op: str, model: Callable[..., Any], inputs: Any, targets: Any, threshold: float, grid: tuple[int, int]
) -> Regions:
    """Asks the model about the middle of each cell of a grid (rows, columns) around the samples, and about these.

    Raises ShapeError where inputs are not (n, 2), targets not (n,) or (n, 1), or scores not one or k for each point,
    ArgumentError for no samples, samples that are not finite, or labels that are no class.
    """
    low, high = bounds(op, inputs)
    points, labels = numbers(inputs), numbers(targets)
    if labels.shape not in ((len(points),), (len(points), 1)):
        raise ShapeError(f"{op}: got targets of shape {labels.shape}, expected ({len(points)},), one for each input")
    labels = labels.reshape(-1)
    dtype = inputs.dtype if isinstance(inputs, Tensor) and inputs.dtype.is_floating_point else float32

    rows, columns = grid
    x = low[0] + (np.arange(columns) + 0.5) / columns * (high[0] - low[0])
    y = high[1] - (np.arange(rows) + 0.5) / rows * (high[1] - low[1])
    cells = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    scores = _scores(op, model, np.concatenate([cells, points]), dtype)

    if scores.shape[1] == 1:
        decided, classes = (scores[:, 0] > threshold).astype(int), (labels > 0).astype(int)
        distinct = np.unique(labels)
        names = [f"{value:g}" for value in distinct] if len(distinct) == 2 else ["negative", "positive"]
    else:
        decided, classes = scores.argmax(1), labels.astype(int)
        wrong = (classes != labels) | (classes < 0) | (classes >= scores.shape[1])
        if wrong.any():
            raise ArgumentError(
                f"{op}: got target {labels[wrong][0]:g}, expected classes 0 to {scores.shape[1] - 1}, as many as scores"
            )
        names = [str(i) for i in range(scores.shape[1])]
    on_grid, seen = decided[: len(cells)].reshape(grid), decided[len(cells) :]
    return Regions(x, y, on_grid, points, classes, seen, names)


def bounds(op: str, inputs: Any) -> tuple[Array, Array]:
    """The least and the largest (x, y) of the picture: those of the samples, and a tenth of the range around them."""
    points = numbers(inputs)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ShapeError(f"{op}: got inputs of shape {points.shape}, expected (n, 2), points in the plane")
    if not len(points) or not np.isfinite(points).all():
        raise ArgumentError(
            f"{op}: got {'inputs that are not finite' if len(points) else 'no inputs'}, expected points"
        )
    low, high = points.min(0), points.max(0)
    margin = np.where(high > low, 0.1 * (high - low), 1.0)
    return low - margin, high + margin


def numbers(x: Any) -> Array:
    """A tensor, an array, nodes or numbers in nested sequences, as an array."""
    if isinstance(x, Tensor):
        x = x.detach().numpy()
    elif isinstance(x, Node):
        x = float(x)  # type: ignore[arg-type]
    elif isinstance(x, Sequence):
        x = [numbers(each) for each in x]
    return np.asarray(x, dtype=np.float64)


def _scores(op: str, model: Callable[..., Any], points: Array, dtype: DType) -> Array:
    """The scores (n, k) of points (n, 2)."""
    of_values = isinstance(model, Neuron | Layer | MLP)  # whose inputs are columns
    parts = []
    with mode(model, training=False), no_grad():
        for start in range(0, len(points), _BATCH):
            batch = tensor(points[start : start + _BATCH], dtype=dtype)
            scores = numbers(model([batch[:, 0], batch[:, 1]]) if of_values else model(batch))
            if of_values and scores.ndim == 2:
                scores = scores.T
            if scores.ndim == 1:
                scores = scores[:, None]
            if scores.ndim != 2 or len(scores) != len(batch) or not scores.shape[1]:
                raise ShapeError(
                    f"{op}: got scores of shape {scores.shape} for {len(batch)} points, expected ({len(batch)},) or "
                    f"({len(batch)}, classes); the model is called with a tensor (n, 2)"
                )
            parts.append(scores)
    return np.concatenate(parts)
