"""A progress bar on stderr for work that turns out to take long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

_DELAY = 1.0  # seconds without a bar


class Progress:
    """Counts to `total`; shows nothing for the first second, nor ever where `shown` is False."""

    def __init__(self, total: int, unit: str, shown: bool = True) -> None:
        self._total = total
        self._unit = unit
        self._shown = shown
        self._start = time.perf_counter()
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def reach(self, done: int) -> None:
        """`done` of the total are done."""
        if self._bar is None and self._shown and time.perf_counter() - self._start > _DELAY:
            from tqdm import tqdm  # not at the top: its import costs as much as all of tinyml's

            self._bar = tqdm(total=self._total, unit=f" {self._unit}", unit_scale=True)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
