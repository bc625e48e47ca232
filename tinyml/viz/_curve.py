"""text_curve: a curve, such as of losses, for any terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinyml._dtypes import Array
from tinyml.errors import ArgumentError, DTypeError, ShapeError
from tinyml.tensor import Tensor
from tinyml.viz._frame import columns, framed, number, only_ascii, place, wrapped

# A character shows several dots: braille 4 rows of 2, ASCII 3 rows of 1. _BRAILLE[i][j]: the bit of a dot.
_BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_ASCII = " '-|.|||"


def text_curve(
    history: Any,
    width: int | None = None,
    height: int = 12,
    label: str = "loss",
    log: bool = False,
    unit: str | None = None,
    span: tuple[float, float] | None = None,
    ascii: bool | None = None,
) -> str:
    """A curve as text, with labelled axes, to be printed.

    history: a train.History, of which it takes the loss of every step, or numbers: a list, an array or a tensor of one
    dimension. Where there are more than fit, a point is the mean of several. What is not finite, and with log=True what
    is not positive, leaves a gap and is counted below the curve.

    width, height: characters per line, by default 80 and never more than the terminal has, and rows of the curve.
    label: what the numbers are; log: a logarithmic axis. unit: what there is a number for, by default "step"; span: the
    first and the last one's place on the x axis, by default 1 and how many there are. ascii: whether to use ASCII
    characters alone, by default where stdout does not take others.

    Raises ArgumentError for a width below 20 or a height below 2, DTypeError for what are not numbers, ShapeError for
    more than one dimension.

    >>> print(text_curve([4.0, 2.0, 1.0, 0.5, 0.25], width=40, height=5, ascii=True))
    loss
     4.00 +'-.
          |   '-.
          |      '--..
          |           ''--...
    0.250 +                  ''''------.....
          +---------------------------------
           1                               5
    5 steps; last 0.250; lowest 0.250 at
    step 5; highest 4.00 at step 1
    """
    if height < 2:
        raise ArgumentError(f"text_curve: got height {height}, expected at least 2")
    width, ascii = columns("text_curve", width), only_ascii(ascii)
    numbers, counted = series("text_curve", history)
    unit = unit or counted
    drawn = np.isfinite(numbers) & (numbers > 0 if log else True)
    title = f"{label}, log scale" if log else label
    if not drawn.any():
        return "\n".join(wrapped(f"{title}: nothing to draw, {_counts(numbers, unit, log)}", width))

    # What is drawn: logarithms, or shares of the largest number, so that neither sums nor differences overflow.
    scale = 1.0 if log else float(np.abs(numbers[drawn]).max()) or 1.0
    known = np.where(drawn, numbers, np.nan)
    known = np.log(known) if log else known / scale
    most = max(2, min(10, width // 3 - 3))
    margin = 0
    while True:  # how many points there are depends on the labels' width, and they on the points
        points = _points(known, max(1, width - margin - 2) * (1 if ascii else 2))
        low, high = float(np.nanmin(points)), float(np.nanmax(points))
        labels = _labels(low, high, (lambda y: math.exp(y)) if log else (lambda y: y * scale), height, most)
        needed = max(map(len, labels.values()))
        if needed <= margin:
            break
        margin = needed
    depth = (high - points) / (high - low) if high > low else np.where(np.isnan(points), np.nan, 0.5)
    rows = _rows(depth, height, ascii)

    first, last = span or (1, len(numbers))
    ends = (place(first), place(last)) if len(numbers) > 1 else (place(first), "")

    def bound(name: str, value: float) -> str:
        at = int((numbers == value).argmax())
        return f"{name} {number(value)} at {unit} {place(first + (last - first) * at / max(1, len(numbers) - 1))}"

    notes = [_counts(numbers, unit, log), f"last {number(numbers[-1])}"]
    if numbers[drawn].min() < numbers[drawn].max():
        notes += [bound("lowest", numbers[drawn].min()), bound("highest", numbers[drawn].max())]
    if len(numbers) > len(points):
        each = len(numbers) / len(points)
        notes.append(f"a point is the mean of {each:,.{int(each < 10)}f}")
    below = wrapped("; ".join(notes), width)
    return "\n".join([*wrapped(title, width), *framed(rows, labels, ends, ascii), *below])


def series(op: str, history: Any) -> tuple[Array, str]:
    """The numbers of a History, a sequence, a tensor or an array, in float64, and what there is one for."""
    unit = "step"
    losses = getattr(history, "losses", None)
    if losses is not None:
        if not losses and len(history):
            losses, unit = [epoch.loss for epoch in history], "epoch"
        history = losses
    if isinstance(history, Tensor):
        history = history.detach().numpy()
    if isinstance(history, str | bytes) or not isinstance(history, Iterable):
        raise DTypeError(f"{op}: got {type(history).__name__}, expected a History or a sequence of numbers")
    if isinstance(history, np.ndarray) and history.ndim != 1:
        raise ShapeError(f"{op}: got shape {np.shape(history)}, expected one dimension; draw one row or column of it")
    try:
        return np.array([float(x) for x in history], dtype=np.float64), unit
    except (TypeError, ValueError) as error:
        raise DTypeError(f"{op}: got what is not a number ({error}), expected a sequence of numbers") from None


def _counts(numbers: Array, unit: str, log: bool) -> str:
    """How many numbers there are, and how many of them cannot be drawn."""
    text = f"{len(numbers):,} {unit}{'s' * (len(numbers) != 1)}"
    missing = {
        "nan": np.isnan(numbers),
        "infinite": np.isinf(numbers),
        "not positive": np.isfinite(numbers) & (numbers <= 0) & log,
    }
    shown = [f"{np.count_nonzero(mask):,} {what}" for what, mask in missing.items() if mask.any()]
    return f"{text}, of which {', '.join(shown)}" if shown else text


def _labels(low: float, high: float, value: Callable[[float], float], height: int, most: int) -> dict[int, str]:
    """The labels of the y axis by row: the bounds, and what stands in the middle of some rows between."""
    if low == high:
        return {(height - 1) // 2: number(value(low), most=most)}
    between = max(1, round((height - 1) / 4))
    rows = [round(i * (height - 1) / between) for i in range(between + 1)]
    shares = [0.0, *((row + 0.5) / height for row in rows[1:-1]), 1.0]
    ticks = [value(high * (1 - share) + low * share) for share in shares]
    labels = {}
    for i, row in enumerate(rows):
        step = min(abs(ticks[i] - other) for other in ticks[max(0, i - 1) : i + 2] if other is not ticks[i])
        labels[row] = number(ticks[i], step, -math.inf if 0 < i < between else 3, most)
    return labels


def _points(numbers: Array, n: int) -> Array:
    """The curve at n places: means where there are more numbers, straight lines between them where there are fewer."""
    count = len(numbers)
    if count >= n:
        starts = np.linspace(0, count, n, endpoint=False).astype(int)
        known = ~np.isnan(numbers)
        sums = np.add.reduceat(np.where(known, numbers, 0.0), starts)
        counts = np.add.reduceat(known.astype(int), starts)
        means = np.divide(sums, counts, out=np.full(n, np.nan), where=counts > 0)
        clipped: Array = np.clip(means, np.nanmin(numbers), np.nanmax(numbers))  # rounding leaves equal numbers equal
        return clipped
    places = np.linspace(0, count - 1, n)
    before = places.astype(int)
    share = places - before
    points: Array = numbers[before] + share * (numbers[np.minimum(before + 1, count - 1)] - numbers[before])
    own = np.round(np.arange(count) * ((n - 1) / max(1, count - 1))).astype(int)
    if count == 1:
        points[:] = np.nan
    points[own] = numbers
    return points


def _rows(depth: Array, height: int, ascii: bool) -> list[str]:
    """The curve as rows of characters. depth: from 0, at the top, to 1, for every column of dots; nan: no dot."""
    down, across = (3, 1) if ascii else (4, 2)
    grid = np.zeros((height * down, -(-len(depth) // across) * across), dtype=bool)
    shown = ~np.isnan(depth)
    places = np.round(np.where(shown, depth, 0) * (height * down - 1)).astype(int)
    single = []
    for column in np.flatnonzero(shown):
        here = places[column]
        grid[here, column] = True
        joined = False
        for other in (column - 1, column + 1):  # each column's dots go half the way to its neighbours
            if 0 <= other < len(depth) and shown[other]:
                joined = True
                way = places[other] - here
                half = int(np.sign(way)) * ((abs(way) - (other > column)) // 2)
                grid[min(here, here + half) : max(here, here + half) + 1, column] = True
        if not joined:
            single.append((here // down, column // across))
    cells = grid.reshape(height, down, -1, across)
    bits = np.array([1, 2, 4]).reshape(3, 1) if ascii else np.array(_BRAILLE)
    codes = (cells * bits[:, None, :]).sum(axis=(1, 3))
    rows = [[_ASCII[code] if ascii else chr(0x2800 + code) if code else " " for code in line] for line in codes]
    for row, column in single:  # a lone dot is easily overlooked
        rows[row][column] = "*" if ascii else "•"
    return ["".join(row) for row in rows]
