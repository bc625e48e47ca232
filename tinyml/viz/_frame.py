"""What the text pictures share: how wide they may be, which characters there are, numbers, and labelled axes."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence

from tinyml.errors import ArgumentError

_NARROWEST, _WIDEST = 20, 80


def columns(op: str, width: int | None) -> int:
    """How many characters a line may have: `width`, by default 80, but no more than the terminal has."""
    if width is not None and width < _NARROWEST:
        raise ArgumentError(f"{op}: got width {width}, expected at least {_NARROWEST}")
    terminal = max(_NARROWEST, shutil.get_terminal_size().columns)
    return min(terminal, _WIDEST if width is None else width)


def only_ascii(ascii: bool | None) -> bool:
    """Whether to use ASCII characters alone; None: where stdout does not say that it takes UTF-8."""
    if ascii is not None:
        return ascii
    return "utf" not in (getattr(sys.stdout, "encoding", None) or "").lower()


def number(x: float, step: float = math.inf, least: float = 3, most: int = 10) -> str:
    """A number with `least` significant digits, or with as many more, up to `most`, as tell it from x + step."""
    if not math.isfinite(x):
        return str(x)
    exponent = math.floor(math.log10(abs(x))) if x else 0
    needed = exponent - math.floor(math.log10(step)) + 2 if 0 < step < math.inf else 0
    digits = int(min(max(needed, least), most))
    if x and not -4 <= exponent < 6 and digits > 0:
        mantissa, power = f"{x:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(power)}"
    text = f"{x:.{max(0, digits - 1 - exponent)}f}"
    return text if float(text) else text.lstrip("-")


def place(x: float) -> str:
    """A number on the x axis: a count with its commas, anything else with three digits."""
    return f"{int(x):,}" if math.isfinite(x) and x == int(x) and abs(x) < 1e15 else number(x)


def framed(rows: Sequence[str], labels: Mapping[int, str], ends: tuple[str, str], ascii: bool) -> list[str]:
    """Rows of one length with a y axis, labelled at some rows, and an x axis, labelled at its ends."""
    margin = max(map(len, labels.values()))
    tick, side, corner, dash = "+|+-" if ascii else "┤│└─"
    lines = [f"{labels.get(i, ''):>{margin}} {tick if i in labels else side}{row}" for i, row in enumerate(rows)]
    width = len(rows[0])
    gap = width - sum(map(len, ends))
    below = (" " * gap).join(ends) if gap > 0 else ends[0][:width]
    blank = " " * (margin + 1)
    return [line.rstrip() for line in [*lines, f"{blank}{corner}{dash * width}", f"{blank} {below}"]]


def wrapped(caption: str, width: int) -> list[str]:
    """A caption in as many lines as it takes."""
    return textwrap.wrap(caption, width)
