"""Pictures by matplotlib: of a history, of a decision boundary, of digits."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyml._dtypes import Array
from tinyml.errors import ArgumentError, MissingError
from tinyml.viz._curve import series
from tinyml.viz._digit import as_image
from tinyml.viz._regions import numbers, regions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = (
    "#1f77b4",
    "#e4572e",
    "#2a9d4a",
    "#8e5ea2",
    "#e9a23b",
    "#6b4f3a",
    "#d16ba5",
    "#7f7f7f",
    "#a3a635",
    "#17a2b8",
)
_POINTS = 200  # of a curve: it is the mean over so many steps that about as many are left
_GRID = 200


def _figure(op: str, width: float, height: float) -> Figure:
    """An empty figure that belongs to no window and no pyplot, so that it works without a display."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingError(
            f"{op}: matplotlib is not installed; pip install 'tinyml-engine[plot]', or see viz.text_curve, "
            "viz.text_boundary and viz.text_digit, which need nothing"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def _saved(figure: Figure, path: str | os.PathLike[str] | None) -> Figure:
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def plot_history(history: Any, path: str | os.PathLike[str] | None = None) -> Figure:
    """The losses of a train.History by step, smoothed on a logarithmic axis, and by epoch the metric if there is one.

    history: a History, or numbers, which are taken for losses. path: a file to write. Returns matplotlib's Figure.
    Raises MissingError (an ImportError) without matplotlib, ArgumentError when there is nothing to draw.
    """
    losses, unit = series("plot_history", history)
    if not np.isfinite(losses).any():
        raise ArgumentError(f"plot_history: got {len(losses)} losses, none of them finite, expected at least one")
    epochs = list(history) if hasattr(history, "losses") else []
    metrics = {
        "train, during the epoch": [epoch.metric for epoch in epochs],
        "validation": [epoch.validation_metric for epoch in epochs],
    }
    metrics = {name: values for name, values in metrics.items() if np.isfinite(values).any()}
    figure = _figure("plot_history", 9 if metrics else 5.5, 3.5)
    from matplotlib.ticker import LogLocator, NullFormatter

    left, *rest = figure.subplots(1, 2 if metrics else 1, squeeze=False)[0]

    window = max(1, len(losses) // _POINTS)
    if window > 1:
        left.plot(np.arange(len(losses)) + 1, losses, color=_COLOURS[0], alpha=0.15, linewidth=0.5)
    smooth = _means(losses, window)
    left.plot(np.arange(len(smooth)) + window, smooth, "o-" if len(smooth) == 1 else "-", color=_COLOURS[0])
    validation = [epoch.validation_loss for epoch in epochs]
    if np.isfinite(validation).any():
        steps = (np.arange(len(epochs)) + 1) * (len(losses) / len(epochs))
        left.plot(steps, validation, "o-", color=_COLOURS[1], label="validation")
        left.legend()
    left.set(xlabel=unit, ylabel="loss" if window == 1 else f"loss (mean of {window} {unit}s)")
    if (losses[np.isfinite(losses)] > 0).all():
        left.set_yscale("log")
        left.yaxis.set_major_formatter("{x:g}")
        low, high = left.get_ylim()
        if high < 100 * low:  # few powers of ten, or none
            left.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        left.yaxis.set_minor_formatter("{x:g}" if high < 100 * low else NullFormatter())
    left.grid(alpha=0.3)

    if rest:
        name = history._titles[1]
        percent = 100 if name == "accuracy" else 1
        for (label, values), colour in zip(metrics.items(), _COLOURS, strict=False):
            rest[0].plot(np.arange(len(epochs)) + 1, percent * np.array(values), "o-", color=colour, label=label)
        rest[0].set(xlabel="epoch", ylabel=f"{name} in %" if percent == 100 else name)
        rest[0].xaxis.get_major_locator().set_params(integer=True)
        rest[0].legend()
        rest[0].grid(alpha=0.3)
    return _saved(figure, path)


def _means(losses: Array, window: int) -> Array:
    """The mean of every run of `window` losses, or of those of them that are finite."""
    finite = np.isfinite(losses)
    sums = np.convolve(np.where(finite, losses, 0.0), np.ones(window), "valid")
    counts = np.convolve(finite, np.ones(window), "valid")
    means: Array = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0.5)
    return means


def plot_boundary(
    model: Callable[..., Any],
    inputs: Any,
    targets: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    threshold: float = 0.0,
) -> Figure:
    """The regions of a classifier of points in the plane, with the samples on them, its mistakes with a black rim.

    model, inputs, targets, threshold: as for text_boundary. path: a file to write. Returns matplotlib's Figure. Raises
    MissingError (an ImportError) without matplotlib.
    """
    figure = _figure("plot_boundary", 5.5, 4.5)
    from matplotlib.colors import ListedColormap

    found = regions("plot_boundary", model, inputs, targets, threshold, (_GRID, _GRID))
    if len(found.names) > len(_COLOURS):
        raise ArgumentError(f"plot_boundary: got {len(found.names)} classes, expected at most {len(_COLOURS)}")
    axes = figure.subplots()
    last = len(found.names) - 1
    across, down = (found.x[1] - found.x[0]) / 2, (found.y[0] - found.y[1]) / 2
    extent = (found.x[0] - across, found.x[-1] + across, found.y[-1] - down, found.y[0] + down)
    colours = ListedColormap(_COLOURS[: last + 1])
    axes.imshow(found.decided, extent=extent, aspect="auto", cmap=colours, vmin=0, vmax=last, alpha=0.3)
    wrong = found.seen != found.targets
    for i, name in enumerate(found.names):
        for mistaken, rim in ((False, "white"), (True, "black")):
            points = found.points[(found.targets == i) & (wrong == mistaken)]
            label = None if mistaken else name
            axes.scatter(points[:, 0], points[:, 1], color=_COLOURS[i], s=28, edgecolors=rim, linewidths=1, label=label)
    axes.legend(title=f"{wrong.sum():,} of {len(wrong):,} wrong", loc="best")
    return _saved(figure, path)


def plot_digits(
    images: Any,
    titles: Sequence[Any] | None = None,
    path: str | os.PathLike[str] | None = None,
    columns: int = 10,
) -> Figure:
    """A sheet of grey images, such as digits that were mistaken, each under its title.

    images: any number, each (height, width), also with dimensions of 1 before, or a flat one of a square. titles: as
    many. path: a file to write. Returns matplotlib's Figure. Raises MissingError (an ImportError) without matplotlib,
    ShapeError for other images, ArgumentError for another number of titles.
    """
    pixels: list[Array] = [as_image("plot_digits", image) for image in numbers(images)]
    if columns < 1:
        raise ArgumentError(f"plot_digits: got {columns} columns, expected at least 1")
    if titles is not None and len(titles) != len(pixels):
        raise ArgumentError(f"plot_digits: got {len(titles)} titles for {len(pixels)} images, expected one for each")
    columns = max(1, min(columns, len(pixels)))
    rows = max(1, -(-len(pixels) // columns))
    figure = _figure("plot_digits", columns, rows * (1.2 if titles is not None else 1))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for i, (axis, image) in enumerate(zip(axes, pixels, strict=False)):
        axis.imshow(image, cmap="gray_r")
        if titles is not None:
            axis.set_title(str(titles[i]), fontsize=8)
    return _saved(figure, path)
