"""What several test files do: running a function in threads, comparing arrays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def in_threads(n: int, function: Callable[[int], Any]) -> list[Any]:
    """Runs function(i) in n threads that start together; what they returned."""
    results: list[Any] = [None] * n
    barrier = threading.Barrier(n)

    def target(i: int) -> None:
        barrier.wait()
        results[i] = function(i)

    threads = [threading.Thread(target=target, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def same(these: Sequence[Any], those: Sequence[Any]) -> None:
    """Asserts that two lists of arrays are equal."""
    assert len(these) == len(those)
    for a, b in zip(these, those, strict=True):
        np.testing.assert_array_equal(a, b)
