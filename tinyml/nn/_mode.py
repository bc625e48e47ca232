"""The mode of a network, changed for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tinyml.nn._module import Module


@contextmanager
def mode(model: Any, *, training: bool) -> Iterator[None]:
    """Puts a module into a mode, and each module within it back into the one it had; does nothing to functions."""
    modules = list(model.modules()) if isinstance(model, Module) else []
    before = [module.training for module in modules]
    try:
        for module in modules:
            module.training = training
        yield
    finally:
        for module, had in zip(modules, before, strict=True):
            module.training = had
