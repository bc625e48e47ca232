"""Ctrl-C for long work that must not stop in the middle of a step."""

from __future__ import annotations

import signal


class CtrlC:
    """Holds Ctrl-C back until a step is complete; the second one raises at once.

    A KeyboardInterrupt out of nowhere could leave half the parameters updated, and would be lost where Python ignores
    exceptions, such as in the release of a tensor. Where somebody else handles the signal already, that stays so.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._installed = False

    def __enter__(self) -> CtrlC:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            try:
                signal.signal(signal.SIGINT, self._press)
                self._installed = True
            except ValueError:  # not the main thread, which alone receives signals
                pass
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _press(self, *_: object) -> None:
        self.pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def check(self) -> None:
        """Raises the KeyboardInterrupt that was held back."""
        if self.pressed:
            raise KeyboardInterrupt
