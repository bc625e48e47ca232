"""text_digit: a small grey image as text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyml._dtypes import Array
from tinyml.errors import ShapeError
from tinyml.viz._frame import columns, only_ascii
from tinyml.viz._regions import numbers

_SHADES, _ASCII_SHADES = " ░▒▓█", " .:-=+*#%@"


def text_digit(image: Any, width: int | None = None, ascii: bool | None = None) -> str:
    """A grey image, such as a digit of MNIST, as text to be printed; the larger a number, the fuller its character.

    image: (height, width), also with dimensions of 1 before, or a flat one of a square. It gets two characters for each
    pixel where that fits, else one for two, one above the other. width, ascii: as for text_curve.

    Raises ShapeError for other shapes and for images wider than the lines.

    >>> print(text_digit([[0, 9, 0], [9, 0, 9], [0, 9, 0]], ascii=True))
      @@
    @@  @@
      @@
    """
    width, ascii = columns("text_digit", width), only_ascii(ascii)
    pixels = as_image("text_digit", image)
    rows, across = pixels.shape
    if across > width:
        raise ShapeError(f"text_digit: got an image {across} pixels wide, expected at most {width}; take part of it")
    if 2 * across > width:
        pixels = np.concatenate([pixels, pixels[-1:]])[: rows + rows % 2].reshape(-1, 2, across).mean(1)
    finite = pixels[np.isfinite(pixels)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    shares = np.nan_to_num((pixels - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0) if high > low else pixels * 0
    shades = _ASCII_SHADES if ascii else _SHADES
    levels = np.round(shares * (len(shades) - 1)).astype(int)
    each = 2 if 2 * across <= width else 1
    return "\n".join("".join(shades[level] * each for level in row).rstrip() for row in levels)


def as_image(op: str, image: Any) -> Array:
    """The pixels (height, width) of an image that may be flat or have dimensions of 1 before."""
    pixels = numbers(image)
    side = math.isqrt(pixels.size)
    if pixels.size and pixels.shape[-1:] == (pixels.size,) and side * side == pixels.size:
        return pixels.reshape(side, side)
    if pixels.ndim < 2 or not pixels.size or pixels.size != pixels.shape[-1] * pixels.shape[-2]:
        raise ShapeError(f"{op}: got an image of shape {pixels.shape}, expected (height, width), or n * n flat")
    return pixels.reshape(pixels.shape[-2:])
