"""Calls of a network's modules, watched from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tinyml.nn._module import Module


@contextmanager
def watched(
    model: Module,
    before: Callable[[str, Module, Any], object],
    after: Callable[[str, Module, Any], object],
) -> Iterator[None]:
    """Calls before(name, module, arguments) and after(name, module, result) at each call of a module in a model.

    The modules get a `forward` of their own for the time, so that calls which nobody watches cost nothing.
    """

    def watch(name: str, module: Module) -> None:
        forward = module.forward

        def watched_forward(*args: Any, **kwargs: Any) -> Any:
            before(name, module, (args, kwargs))
            result = forward(*args, **kwargs)
            after(name, module, result)
            return result

        vars(module)["forward"] = watched_forward  # past __setattr__, which would have programs recorded again

    modules = list(model.named_modules())
    own = [vars(module).get("forward") for _, module in modules]
    try:
        for name, module in modules:
            watch(name, module)
        yield
    finally:
        for (_, module), had in zip(modules, own, strict=True):
            if had is None:
                vars(module).pop("forward", None)
            else:
                vars(module)["forward"] = had
