"""detect_anomaly: raises where a nan is made, and names the op and the Python line.

C looks at each result and gradient (csrc/anomaly.c) and calls Python here, for a node that has just been made to note
the line that makes it, which is then on the stack.
"""

from __future__ import annotations

import linecache
import os
import sys
import threading
from contextlib import ContextDecorator
from types import FrameType
from typing import NamedTuple

import numpy as np

from tinyml import _core, _function, _recording
from tinyml._core import Event
from tinyml._dtypes import DTYPES
from tinyml.errors import AnomalyError, GraphError
from tinyml.tensor import Tensor

_NAN, _INFINITY = 1, 2  # as in csrc/anomaly.h
_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class _Line(NamedTuple):
    """A line of Python outside of tinyml."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        source = linecache.getline(self.file, self.line).strip()
        return f"{self.file}, line {self.line}, in {self.function}" + (f": {source}" if source else "")


#: The lines that made nodes within detect_anomaly(), by address: as nodes go, addresses are used again, and with them
#: the places here.
_lines: dict[int, _Line] = {}
_lock = threading.Lock()
_depth = 0  # how often the mode has been entered, in all threads


class detect_anomaly(ContextDecorator):
    """Within it, or within a function it decorates, the first op that makes a nan of numbers raises AnomalyError, as
    does in backward() the first one whose gradient does: with the op, shapes and dtypes, and the Python line that made
    the node.

    inf: looks for infinities too. It holds for the calling thread, and is slow: for finding an error, not for training.
    Functions made by tinyml.compile run their Python within it, without recording or replay; their repeat, over and
    profile raise GraphError. Entering it while a function is recorded raises GraphError.
    https://docs.pytorch.org/docs/stable/autograd.html#torch.autograd.detect_anomaly, which looks at gradients only.

    >>> import tinyml
    >>> x = tinyml.tensor([4.0, 0.0], requires_grad=True)
    >>> with detect_anomaly():
    ...     (x / x).log()
    Traceback (most recent call last):
    ...
    tinyml.errors.AnomalyError: div: made nan ...
    """

    def __init__(self, inf: bool = False) -> None:
        self._what = _NAN | (_INFINITY if inf else 0)
        self._before: list[int] = []

    def _recreate_cm(self) -> detect_anomaly:
        return type(self)(bool(self._what & _INFINITY))  # a decorated function may run in several threads at once

    def __enter__(self) -> None:
        global _depth
        if _recording.active is not None and _recording.active.here:
            raise GraphError("detect_anomaly: entered within a compiled function; put it around the call")
        with _lock:
            _depth += 1
        self._before.append(_core.set_anomaly(self._what))

    def __exit__(self, *_: object) -> None:
        global _depth
        _core.set_anomaly(self._before.pop())
        with _lock:
            _depth -= 1
            if not _depth:
                _lines.clear()


def _here() -> _Line:
    """The line being executed, of the innermost function outside of tinyml."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return _Line(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name) if frame else _Line("<unknown>", 0, "")


def _made(_: int, ref: int) -> None:
    _lines[ref] = _here()


def _op(ref: int) -> str:
    name = _core.op_of(ref)
    return f"{_function.name_of(ref)} (a Function)" if name == "function" else name


def _described(ref: int) -> str:
    return f"{DTYPES[_core.dtype_of(ref)].name} {_core.shape(ref)}"


def _inputs(ref: int) -> str:
    texts = [_described(x) for x in _core.borrowed_inputs(ref)]
    return ", ".join(texts[:8]) + (f" and {len(texts) - 8} more" if len(texts) > 8 else "")


def _held(ref: int) -> str:
    """A remark where it is no wonder."""
    inputs = [Tensor._wrap(x) for x in _core.inputs(ref)]
    return ", but of data with nan" if any(np.isnan(x._array()).any() for x in inputs) else ""


def _what(found: int) -> str:
    return " and ".join(name for bit, name in ((_NAN, "nan"), (_INFINITY, "inf")) if found & bit)


def _anomaly(found: int, ref: int) -> None:
    raise AnomalyError(
        f"{_op(ref)}: made {_what(found)} in a result {_described(ref)}, of inputs without: {_inputs(ref)}; "
        f"at {_here()}"
    )


def _anomaly_backward(found: int, ref: int) -> None:
    line = _lines.get(ref, "a line unknown, before detect_anomaly() began: put the forward within it, too")
    raise AnomalyError(
        f"{_op(ref)}: its backward made {_what(found)} in a gradient of its inputs, {_inputs(ref)}, of one without, "
        f"{_described(ref)}{_held(ref)}; the node was made at {line}"
    )


_core.handlers |= {Event.MADE: _made, Event.ANOMALY: _anomaly, Event.ANOMALY_BACKWARD: _anomaly_backward}
