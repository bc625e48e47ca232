"""Toy problems, small enough to look at."""

from __future__ import annotations

import math

import numpy as np

from tinyml import _random
from tinyml._dtypes import Array
from tinyml.errors import ArgumentError
from tinyml.tensor import Tensor, tensor


def xor() -> tuple[Tensor, Tensor]:
    """The exclusive or: four points (4, 2) and their targets (4, 1), float32 zeros and ones.

    >>> x, y = xor()
    >>> x.tolist(), y.flatten().tolist()
    ([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0.0, 1.0, 1.0, 0.0])
    """
    return (
        tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]),
        tensor([[0.0], [1.0], [1.0], [0.0]]),
    )


def moons(n: int = 100, noise: float = 0.1, seed: int | None = None) -> tuple[Tensor, Tensor]:
    """Two interleaving half circles of radius 1: points (n, 2) float32 and labels (n,) int64, 0 above and 1 below.

    noise: the deviation of normal noise on both coordinates. The points come in random order, n // 2 of them labelled
    0. The same seed gives the same points; without one they follow tinyml.manual_seed. As
    https://scikit-learn.org/stable/modules/generated/sklearn.datasets.make_moons.html, from other random numbers.

    For a hinge loss, `2 * y - 1` makes -1 and 1 of the labels, here and in the other problems. Raises ArgumentError for
    n below 1 or negative noise.

    >>> x, y = moons(100, seed=42)
    >>> x.shape, y.shape, y.sum().item()
    ((100, 2), (100,), 50)
    """
    random = _generator("moons", n, noise, seed)
    above = np.linspace(0, math.pi, n // 2)
    below = np.linspace(0, math.pi, n - n // 2)
    x = np.concatenate([np.cos(above), 1 - np.cos(below)])
    y = np.concatenate([np.sin(above), 0.5 - np.sin(below)])
    labels = np.repeat([0, 1], [n // 2, n - n // 2])
    return _shuffled(random, x, y, labels, noise)


def circle(n: int = 100, seed: int | None = None) -> tuple[Tensor, Tensor]:
    """Points inside and outside of a circle: points (n, 2) float32 and labels (n,) int64, 1 inside and 0 outside.

    The points are uniform in the square [-1, 1]^2. The circle lies around the origin and has radius sqrt(2 / pi), about
    0.8, so that it covers half of the square: on average each label has half of the points. Seed as in moons.

    Raises ArgumentError for n below 1.

    >>> x, y = circle(1000, seed=42)
    >>> bool((((x**2).sum(1) < 2 / 3.14159265).long() == y).all())
    True
    """
    points = _generator("circle", n, 0.0, seed).uniform(-1, 1, (n, 2)).astype(np.float32)
    inside = np.square(points, dtype=np.float64).sum(1) < 2 / math.pi
    return tensor(points), tensor(inside.astype(np.int64))


def spirals(
    n: int = 100, noise: float = 0.02, turns: float = 1.0, classes: int = 2, seed: int | None = None
) -> tuple[Tensor, Tensor]:
    """Interleaving spiral arms: points (n, 2) float32 and the number of their arm, (n,) int64 from 0 to classes - 1.

    Each arm goes from the origin to the unit circle in that many turns. The arms have equal numbers of points (or one
    more, the first of them). Noise, order and seed are as in moons.

    Raises ArgumentError for n below 1, negative noise, turns that are not finite or classes below 1.

    >>> x, y = spirals(90, classes=3, seed=42)
    >>> [(y == k).long().sum().item() for k in range(3)]
    [30, 30, 30]
    """
    random = _generator("spirals", n, noise, seed)
    if classes < 1:
        raise ArgumentError(f"spirals: got {classes} classes, expected at least 1")
    if not math.isfinite(turns):
        raise ArgumentError(f"spirals: got {turns} turns, expected a finite number")
    place, labels = np.divmod(np.arange(n), classes)
    radius = (place + 1) / (-(-n // classes))
    angle = 2 * math.pi * (turns * radius + labels / classes)
    return _shuffled(random, radius * np.cos(angle), radius * np.sin(angle), labels, noise)


def _generator(problem: str, n: int, noise: float, seed: int | None) -> np.random.Generator:
    """The generator for a problem, whose arguments are checked."""
    if n < 1:
        raise ArgumentError(f"{problem}: got {n} points, expected at least 1")
    if not (noise >= 0 and math.isfinite(noise)):
        raise ArgumentError(f"{problem}: got noise {noise}, expected a deviation of 0 or more")
    return _random.generator() if seed is None else np.random.default_rng(seed)


def _shuffled(random: np.random.Generator, x: Array, y: Array, labels: Array, noise: float) -> tuple[Tensor, Tensor]:
    """Points and labels in random order, the points moved by noise."""
    order = random.permutation(len(labels))
    points = np.stack([x, y], axis=1)[order] + noise * random.standard_normal((len(labels), 2))
    return tensor(points.astype(np.float32)), tensor(labels[order].astype(np.int64))
