"""The exceptions of tinyml: each is a TinymlError and the builtin a caller would expect."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyml.train import History


class TinymlError(Exception):
    """Base of all exceptions that tinyml raises of its own."""


class ArgumentError(TinymlError, ValueError):
    """A value that the operation cannot take."""


class ShapeError(TinymlError, ValueError):
    """Shapes that do not fit."""


class DTypeError(TinymlError, TypeError):
    """A dtype, or a type, that the operation cannot take."""


class AxisError(TinymlError, IndexError):
    """An axis, index or label outside its range."""


class OutOfMemoryError(TinymlError, MemoryError):
    """An allocation failed."""


class GraphError(TinymlError, RuntimeError):
    """A request that this graph cannot answer, such as a gradient of a node that has none."""


class AnomalyError(TinymlError, RuntimeError):
    """A nan, or an infinity, that detect_anomaly() or fit has found. history: that of fit until then."""

    history: History | None = None


class FrozenWarning(UserWarning):
    """Something read while a function was being recorded, which its replays will not read again."""


class DataError(TinymlError, ValueError):
    """A data file that is corrupt, truncated or of another kind."""


class MissingError(TinymlError, ImportError):
    """An optional package or program that is not installed."""
