"""The default random generator: NumPy's for initialisers and shuffles, and the seed from which C draws dropout
masks."""

from __future__ import annotations

import os

import numpy as np

from tinyml import _core, _recording
from tinyml._dtypes import int64

_generator: np.random.Generator | None = None  # made when it is needed: NumPy's random module is slow to import


def _counter(seed: int) -> int:
    """A node with the seed and the position of the C generator (csrc/random.h); kernels that draw move it on."""
    return _core.leaf(int64.code, (2,), np.array([seed, 0], dtype=np.int64), False)


_c_generator = _counter(int.from_bytes(os.urandom(8), "little") >> 1)


def manual_seed(seed: int) -> None:
    """Fixes every random number that tinyml draws from here on: initialisers, shuffles, rand, randn, dropout.

    >>> import tinyml
    >>> tinyml.manual_seed(0)
    >>> first = tinyml.rand(2).tolist()
    >>> tinyml.manual_seed(0)
    >>> tinyml.rand(2).tolist() == first
    True
    """
    global _generator
    _generator = np.random.default_rng(seed)
    fresh = _counter(int(_generator.integers(2**63)))
    try:
        _core.assign(_c_generator, fresh)  # in place, because recorded programs hold on to the node
    finally:
        _core.release(fresh)


def generator() -> np.random.Generator:
    """The generator in use. Do not keep it: manual_seed replaces it."""
    global _generator
    if _recording.active is not None:
        _recording.draw()
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator


def c_generator() -> int:
    """The node of the generator in C, which ops that draw take as an input. It belongs to this module."""
    return _c_generator
