"""What Python notes while a function is recorded: reads that no replay repeats, and what the recording relies on.

C records the steps (csrc/record.h); this module knows what C cannot see. `changes` counts what may make a recording
outdated: attributes of modules, hyperparameters. Whoever changes such a thing counts it up.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

from tinyml import _core
from tinyml.errors import FrozenWarning, GraphError

#: The recording under way in this process, if any; one at a time.
active: Recorder | None = None
#: How many changes there have been that a recording may not have seen.
changes = 0

_lock = threading.RLock()
_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Recorder:
    """The notes of one recording: `modules` that were called, `updates` that optimizers made, in order, `frozen` reads
    and `pinned` arguments: the numbers among them that the function looked at, by their places."""

    def __init__(self, strict: bool, numbers: set[int], report: Callable[[str, int, str], object]) -> None:
        self.strict = strict
        self.modules: dict[int, Any] = {}
        self.updates: list[tuple[Any, dict[str, Any], Any, Any, Any]] = []
        self.pinned: set[int] = set()
        self.frozen = 0
        self._numbers = numbers
        self._report = report
        self._thread = threading.get_ident()

    @property
    def here(self) -> bool:
        """Whether it is the calling thread that records."""
        return self._thread == threading.get_ident()

    def __enter__(self) -> Recorder:
        global active
        _lock.acquire()
        active = self
        return self

    def __exit__(self, *_: object) -> None:
        global active
        active = None
        _lock.release()

    def freeze(self, what: str) -> None:
        """Reports that the line being executed reads what replays will not read again."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
            frame = frame.f_back
        file, line = (frame.f_code.co_filename, frame.f_lineno) if frame is not None else ("<unknown>", 0)
        message = (
            f"compile: {what} while recording is frozen: replays do not run Python, and keep what was read now; "
            "return the tensor and look at it outside, or leave this function uncompiled"
        )
        self.frozen += 1
        if self.strict:
            raise GraphError(f"{message} ({file}, line {line})")
        self._report(file, line, message)

    def look(self, ref: int, what: str) -> None:
        """Notes that Python looks at the numbers of a node."""
        kind = _core.is_recorded(ref)
        if kind >= 2 and kind - 2 in self._numbers:
            self.pinned.add(kind - 2)
        elif kind:
            self.freeze(what)


def warn(file: str, line: int, message: str) -> None:
    """The ordinary report: a FrozenWarning at that line."""
    warnings.warn_explicit(message, FrozenWarning, file, line)


def look(ref: int, what: str) -> None:
    """To be called by whatever gives Python the numbers of a node, while a recording is under way."""
    if active is not None and active.here:
        active.look(ref, what)


def draw() -> None:
    """To be called by whatever draws random numbers with NumPy, while a recording is under way."""
    if active is not None and active.here:
        active.freeze("drawing random numbers with NumPy (rand, randn, an initialiser, a shuffle)")


def is_module(x: Any) -> bool:
    """Whether x is an nn.Module, told without importing these, which import this."""
    return hasattr(type(x), "named_modules")


def used(module: Any) -> None:
    """Notes that a module is called, while a recording is under way."""
    if active is not None and active.here:
        active.modules.setdefault(id(module), module)


def updated(optimizer: Any, group: dict[str, Any], rule: Any, states: list[Any]) -> None:
    """Notes that an optimizer has updated a group and its states, while a recording is under way."""
    if active is not None and active.here:
        active.updates.append((optimizer, group, rule, group["params"], states))


def changed(what: str = "") -> None:
    """Counts a change. what: names one that the function itself must not make, because replays would not."""
    global changes
    changes += 1
    if what and active is not None and active.here:
        active.freeze(what)
